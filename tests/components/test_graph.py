"""The renderer knows types and no key names: the hardest chains to come are walked here before their code exists."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Literal

import pytest
import yaml

from components import PURE_VERBS, recipes
from components.graph import Stage, plan, render, stages
from components.modalities import MODALITIES
from components.outcomes import Refused
from components.recipes import Library
from models import FAMILIES
from models.schema import CorpusRef, PackageRef, Strict
from tests.conftest import ROOT

FILES = {
    # HuBERT: units of MFCCs -> iteration 1 -> units of its features -> iteration 2
    "corpora/speech.yaml": """
        description: recordings
        language: ja
        licence: CC0-1.0
        source: {kind: files, paths: [speech]}
        columns: {audio: {modality: speech}}
        """,
    "encoders/units-mfcc.yaml": "{kind: units, corpora: [speech], num_clusters: 100}",
    "encoders/units-hubert.yaml": "{kind: units, corpora: [speech], model: hubert-iteration-1, num_clusters: 500}",
    "encoders/waveform.yaml": "{kind: waveform}",
    "hubert-iteration-1.yaml": "hubert pretrain speech+units-mfcc waveform nothing",
    "hubert.yaml": "hubert pretrain speech+units-hubert waveform nothing",
    "tasks/nothing.yaml": "{kind: held-out-bits, corpus: text}",
    # Language: base -> SFT -> reward -> PPO, whose parents are the SFT policy and the reward model
    "corpora/text.yaml": """
        description: text
        language: ja
        licence: CC0-1.0
        source: {kind: files, paths: [text]}
        columns: {text: {modality: text}, audio: {modality: speech}}
        """,
    "encoders/spm.yaml": "{kind: sentencepiece, corpora: [{corpus: text}], vocab_size: 400}",
    "base.yaml": "chat pretrain text+spm spm nothing",
    "sft.yaml": "chat align:base text+spm spm nothing",
    "reward.yaml": "chat align:sft:=reward text+spm spm nothing",
    "ppo.yaml": "chat align:sft:reward text+spm spm nothing",
    # Images: CLIP and CLOOB; a corpus filtered by the packaged CLOOB; Stable Diffusion from somebody else's model,
    # judged by the packaged CLIP
    "corpora/pictures.yaml": """
        description: pictures
        language: ja
        licence: CC0-1.0
        source: {kind: files, paths: [pictures]}
        columns: {image: {modality: image}, text: {modality: text}}
        """,
    "corpora/pictures-filtered.yaml": """
        description: pictures that fit their captions
        language: ja
        licence: CC0-1.0
        source: {kind: filtered, corpus: pictures, by: cloob}
        columns: {image: {modality: image}, text: {modality: text}}
        """,
    "stable-diffusion-v1-4.yaml": """
        {family: diffusion, description: theirs, language: en, licence: openrail, source: "path:theirs/sd",
         layout: diffusers}
        """,
    "encoders/latents.yaml": "{kind: latents, model: stable-diffusion-v1-4}",
    "clip.yaml": "clip pretrain pictures+latents spm nothing",
    "cloob.yaml": "clip pretrain pictures+latents spm nothing",
    "tasks/judged.yaml": "{kind: judged-pictures, judge: clip}",
    "sd-stage-1.yaml": "diffusion align:stable-diffusion-v1-4 pictures-filtered+latents spm judged",
    "sd.yaml": "diffusion align:sd-stage-1 pictures-filtered+latents spm judged",
}


class Filtered(Strict):
    """A corpus derived from another by a packaged model."""

    kind: Literal["filtered"]
    corpus: CorpusRef
    by: PackageRef


def recipe_text(short: str) -> str:
    """A whole recipe from `family how shards encoder task`, where how is pretrain or align:parent[:reward or =kind]."""
    family, how, shards, encoder, task = short.split()
    verb, *parents = how.split(":")
    objective = {"kind": "ppo", "reward": parents[1]} if len(parents) > 1 else {"kind": "loss"}
    if parents[1:] and parents[1].startswith("="):
        objective = {"kind": parents[1].removeprefix("=")}
    recipe = {
        "family": family,
        "description": "a link of a chain",
        "language": "ja",
        "licence": "CC0-1.0",
        "network": {},
        "encoder": encoder,
        verb: {
            "shards": [{"shards": shards}],
            "num_steps": 1,
            "optimizer": {"learning_rate": 0.1},
            "objective": objective,
            "samples": {},
        },
        "evaluate": {"tasks": [task]},
        "package": {
            "layouts": ["diffusers" if family == "diffusion" else "transformers"],
            "title": "t",
            "summary": "s",
            "limits": "l",
            "example_prompt": "p",
        },
    }
    if parents:
        recipe["starts_from"] = parents[0]
    return yaml.safe_dump(recipe)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """The chains above, with tables that know their modalities and families."""
    for name in ("speech", "image"):
        monkeypatch.setitem(MODALITIES, name, f"tests.chains.{name}")
    for name in ("hubert", "chat", "clip", "diffusion"):
        monkeypatch.setitem(FAMILIES, name, f"tests.chains.{name}")
    monkeypatch.setitem(recipes.SOURCES, "filtered", Filtered)
    for cached in (recipes._corpus_type, recipes._recipe_type):
        cached.cache_clear()
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        write(name, text)
    yield Library()
    for cached in (recipes._corpus_type, recipes._recipe_type):
        cached.cache_clear()


def write(name: str, text: str) -> None:
    path = Path("recipes") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    is_short = "/" not in name and not text.strip().startswith("{")
    path.write_text(recipe_text(text) if is_short else textwrap.dedent(text))


def order(rows: list[Stage]) -> list[str]:
    return [row.key for row in rows]


def test_the_second_iteration_of_hubert_waits_for_units_of_the_first(library: Library) -> None:
    keys = order(plan(library, "hubert"))
    chain = [
        "fit-units-mfcc",
        "shard-speech+units-mfcc",
        "pretrain-hubert-iteration-1",
        "fit-units-hubert",
        "shard-speech+units-hubert",
        "pretrain-hubert",
        "evaluate-hubert",
        "package-hubert",
    ]
    assert [key for key in keys if key in chain] == chain
    rows = {row.key: row for row in plan(library, "hubert")}
    assert "artifacts/pretrained/hubert-iteration-1/weights" in rows["fit-units-hubert"].deps


def test_whoever_encodes_with_a_network_depends_on_its_weights_and_code(library: Library) -> None:
    write("hubert.yaml", "hubert pretrain speech+units-hubert units-hubert nothing")
    rows = {row.key: row for row in plan(Library(), "hubert")}
    for key in ("fit-units-hubert", "shard-speech+units-hubert", "evaluate-hubert"):
        assert "artifacts/pretrained/hubert-iteration-1/weights" in rows[key].deps, key
        assert ("pretrain", "hubert-iteration-1") in rows[key].parents, key
        assert ("tests/chains/hubert/__init__.py", ("REVISION",)) in rows[key].params, key
    for key in ("fit-units-mfcc", "shard-speech+units-mfcc", "pretrain-hubert"):
        assert "artifacts/pretrained/hubert-iteration-1/weights" not in rows[key].deps, key


def test_a_ppo_policy_has_two_parents(library: Library) -> None:
    rows = plan(library, "ppo")
    policy = next(row for row in rows if row.key == "align-ppo")
    assert {"artifacts/aligned/sft/weights", "artifacts/aligned/reward/weights"} <= set(policy.deps)
    keys = order(rows)
    assert keys.index("pretrain-base") < keys.index("align-sft") < keys.index("align-reward") < keys.index("align-ppo")
    assert "package-sft" not in keys, "alignment needs weights, so no parent is evaluated or packaged for it"


def test_stable_diffusion_starts_from_a_foreign_model_is_filtered_by_cloob_and_judged_by_clip(
    library: Library,
) -> None:
    rows = {row.key: row for row in plan(library, "sd")}
    keys = list(rows)
    assert rows["package-stable-diffusion-v1-4"].deps == ("theirs/sd",)
    assert "artifacts/packaged/stable-diffusion-v1-4/diffusers/model.safetensors" in rows["align-sd-stage-1"].deps
    assert "artifacts/packaged/cloob/transformers/model.safetensors" in rows["ingest-pictures-filtered"].deps
    assert "artifacts/packaged/clip/transformers/model.safetensors" in rows["evaluate-sd"].deps
    assert "artifacts/aligned/sd-stage-1/weights" in rows["align-sd"].deps
    for first, second in [
        ("package-cloob", "ingest-pictures-filtered"),
        ("ingest-pictures-filtered", "shard-pictures-filtered+latents"),
        ("align-sd-stage-1", "align-sd"),
        ("package-clip", "evaluate-sd"),
    ]:
        assert keys.index(first) < keys.index(second)


def test_every_stage_comes_after_its_parents_in_every_plan(library: Library) -> None:
    for recipe in library.files["recipe"]:
        done = set()
        for row in plan(library, recipe):
            assert set(row.parents) <= done, f"{row.key} of {recipe} comes before a parent"
            done.add((row.verb, row.name))


def test_the_rendered_graph_names_every_output_once_and_every_dependency_has_a_maker(library: Library) -> None:
    (text,) = render(library).values()
    entries = yaml.safe_load(text)["stages"]
    outs = [out for entry in entries.values() for out in entry["outs"]]
    assert len(outs) == len(set(outs)) == len(stages(library))
    for key, entry in entries.items():
        assert entry["params"]
        assert entry["cmd"].split()[:3] == ["python", "-m", "components"]
        assert entry["cmd"].split()[3] in PURE_VERBS
        for dep in entry["deps"]:
            if dep.startswith("artifacts/"):
                assert any(dep == out or dep.startswith(out + "/") for out in outs), f"{key} needs {dep}, made by none"


def test_no_stage_depends_on_a_card_or_a_report(library: Library) -> None:
    for row in stages(library):
        if row.verb != "package":
            assert not [dep for dep in row.deps if dep.endswith((".html", "README.md", "manifest.json"))]


def test_a_circle_is_refused_with_the_circle_and_the_way_out(library: Library) -> None:
    write("encoders/units-mfcc.yaml", "{kind: units, corpora: [speech], model: hubert, num_clusters: 9}")
    with pytest.raises(Refused, match=r"circle: .*fit units-mfcc needs pretrain hubert needs.*Let one of them"):
        stages(Library())


def test_an_unknown_reference_gets_the_nearest_name(library: Library) -> None:
    write("hubert.yaml", "hubert pretrain speech+units-huber waveform nothing")
    with pytest.raises(Refused, match=r"No encoder named 'units-huber'. Did you mean 'units-hubert'"):
        stages(Library())


def test_two_recipes_of_one_name_are_refused(library: Library) -> None:
    write("mine/ppo.yaml", (Path("recipes") / "ppo.yaml").read_text())
    Path("recipes/mine/ppo.yaml").write_text(Path("recipes/ppo.yaml").read_text())
    with pytest.raises(Refused, match=r"Two files make recipe 'ppo': .*recipes/ppo.yaml.*mine/ppo.yaml. Rename one"):
        stages(Library())


def test_shards_of_a_column_that_the_corpus_lacks_are_refused(library: Library) -> None:
    write("hubert.yaml", "hubert pretrain pictures+units-mfcc waveform nothing")
    with pytest.raises(Refused, match=r"reads the column 'audio', but corpus 'pictures' has none of modality 'speech'"):
        stages(Library())


def test_a_persons_own_recipes_have_a_graph_of_their_own_that_works_from_the_root(library: Library) -> None:
    Path("recipes/mine").mkdir()
    Path("recipes/mine/own.yaml").write_text(Path("recipes/base.yaml").read_text())
    rendered = render(Library())
    own = yaml.safe_load(rendered[Path("recipes/mine/dvc.yaml")])["stages"]
    assert set(own) == {"pretrain-own", "evaluate-own", "package-own"}
    assert {entry["wdir"] for entry in own.values()} == {"../.."}
    assert "pretrain-own" not in yaml.safe_load(rendered[Path("dvc.yaml")])["stages"]


def test_editing_an_expectation_is_no_reason_to_ingest_again(library: Library) -> None:
    rows = {row.key: row for row in stages(library)}
    keys = dict(rows["ingest-text"].params)["recipes/corpora/text.yaml"]
    assert "columns.text.modality" in keys
    assert not [key for key in keys if key == "columns" or key.endswith("expectations")]


def test_saying_how_large_a_corpus_is_makes_nothing_stale(library: Library) -> None:
    before = render(library)
    path = Path("recipes/corpora/text.yaml")
    path.write_text(path.read_text() + "\nexpected_gigabytes: 3\n")
    grown = Library()
    assert grown.read("corpus", "text").expected_gigabytes == 3
    assert render(grown) == before


def test_a_key_taken_out_of_a_yaml_makes_its_stage_stale_through_real_dvc(library: Library, tmp_path: Path) -> None:
    """DVC notices a parameter that changes, and none that is no longer listed."""
    spm = {"kind": "sentencepiece", "corpora": [{"corpus": "text"}], "vocab_size": 400, "algorithm": "unigram"}
    corpus = yaml.safe_load(Path("recipes/corpora/text.yaml").read_text()) | {"splits": {"valid": 0.1}}

    def entries() -> dict:
        Path("recipes/encoders/spm.yaml").write_text(yaml.safe_dump(spm))
        Path("recipes/corpora/text.yaml").write_text(yaml.safe_dump(corpus))
        (rendered,) = render(Library()).values()
        made = {}
        for key in ("ingest-text", "fit-spm"):
            entry = yaml.safe_load(rendered)["stages"][key]
            # The stages' code is not here; what makes them stale is: parameters, and the comment of the command.
            params = [row for row in entry["params"] if not next(iter(row)).endswith(".py")]
            comment = entry["cmd"].partition("  #")[2]
            made[key] = {"cmd": f"touch {key}  #{comment}", "params": params, "outs": [key]}
        return made

    def dvc(*words: str) -> str:
        done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True, check=True)
        return done.stdout

    dvc("init", "--no-scm", "--quiet")
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": entries()}))
    dvc("repro", "--quiet")
    assert json.loads(dvc("status", "--json")) == {}
    del spm["algorithm"], corpus["splits"]
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": entries()}))
    assert set(json.loads(dvc("status", "--json"))) == {"ingest-text", "fit-spm"}


def test_the_committed_graph_is_what_the_recipes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for path, text in render(Library()).items():
        if path.parts[:2] != ("recipes", "mine"):
            assert path.read_text() == text, f"{path} is stale. Run: hiraku graph"
