"""Packages: complete, equal to the weights they were made from, loaded by a fresh process, or not there at all."""

import io
import json
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from components import package as package_module
from components.evaluate import evaluate
from components.lineage import _seal, mermaid, read_lineage
from components.loadback import difference
from components.manifest import read_manifest, tree_hash
from components.modalities import modality
from components.outcomes import Refused
from components.package import package
from components.paths import layout, payload, state
from components.recipes import Library
from components.sections import section_hashes
from models.gpt import convert
from models.gpt import release as gpt_release
from models.gpt.schema import LAYOUTS
from tests.components.small_release import make_project, make_weights


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which `tiny` is packaged, by a real fresh process."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project(root)
        evaluate("tiny")
        package("tiny")
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may break."""
    root = tmp_path / "project"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def _no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load back in this process: what a fresh one adds is tested once, by `made`."""

    def here(family: str, folder: Path, probes: list[str], workspace: Path, example: str = "") -> tuple[dict, str]:
        return gpt_release.answer_of_folder(folder, probes), "printed"

    monkeypatch.setattr(package_module, "load_back", here)


def change_recipe(project: Path, name: str, **sections) -> None:
    path = project / "recipes" / f"{name}.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, keys in sections.items():
        recipe[section] |= keys
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")


def assert_untouched(project: Path, before: str) -> None:
    assert tree_hash(project / state("package", "tiny")) == before
    assert [path.name for path in (project / "artifacts" / "packaged").iterdir()] == ["tiny"]


# ---- our own ---------------------------------------------------------------------------------------------------------


def test_a_package_holds_every_file_of_its_layout_and_no_pickle(project: Path) -> None:
    names = {path.name for path in layout("tiny", "transformers").iterdir()}
    assert names == {*LAYOUTS["transformers"], "README.md", "curve.svg", "lineage.json"}


def test_transformers_computes_from_the_package_what_the_weights_do(project: Path) -> None:
    folder = layout("tiny", "transformers")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("太郎は公園で3回本を読んだ。", return_tensors="pt")["input_ids"]
    expected = modality("text").open_encoder(payload("fit", "town-spm")).encode(["太郎は公園で3回本を読んだ。"])[0]
    assert ids[0].tolist() == expected.tolist()
    with torch.no_grad():
        released = AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids).logits
        trained = convert.load(payload("pretrain", "tiny"))(input_ids=ids).logits
    assert torch.equal(released, trained)
    assert released.std() > 0.1


def test_the_program_of_the_card_prints_what_the_card_says(project: Path, monkeypatch) -> None:
    card = (layout("tiny", "transformers") / "README.md").read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    said = re.search(r"fresh process without a Hub:\n\n(`{3,})\n(.*?)\n\1", card, re.DOTALL)[2]
    (project / "tiny").symlink_to(layout("tiny", "transformers").resolve())
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(program, {})
    assert printed.getvalue().rstrip() == said.rstrip()
    assert said.startswith("太郎は")


def test_the_card_tells_the_exact_number_of_parameters(project: Path) -> None:
    tensors = load_file(layout("tiny", "transformers") / "model.safetensors")
    count = sum(tensor.numel() for tensor in tensors.values())
    assert read_manifest("package", "tiny").counts["num_parameters"] == count
    assert f"| Parameters | {count:,} |" in (layout("tiny", "transformers") / "README.md").read_text(encoding="utf-8")


def test_the_card_tells_how_sure_its_scores_are_and_what_training_takes(project: Path) -> None:
    card = (layout("tiny", "transformers") / "README.md").read_text(encoding="utf-8")
    bits, error = map(float, re.search(r"\| Bits per character \| ([\d.]+) ± ([\d.]+) \|", card).groups())
    rows = pq.read_table(payload("evaluate", "tiny") / "items.parquet").to_pylist()
    each = [row["value"] for row in rows if row["metric"] == "bits_per_character"]
    assert bits == pytest.approx(
        json.loads((payload("evaluate", "tiny") / "scores.json").read_text())["tasks"]["town-held-out"][
            "bits_per_character"
        ],
        rel=0.01,
    )
    assert 0 < error < max(each) - min(each)
    assert re.search(r"Training is 448 tokens seen and [\d.e+]+ FLOPs", card)


def test_a_published_score_beside_no_task_of_the_recipe_is_refused(project: Path) -> None:
    row = {"model": "a/b", "score": "perplexity", "value": 1, "source": "x", "task": "twon-held-out"}
    change_recipe(project, "tiny", package={"published_scores": [row]})
    with pytest.raises(Refused, match="names the task 'twon-held-out', expected one of town-held-out"):
        package("tiny")


def test_the_lineage_goes_back_to_the_raw_file(project: Path) -> None:
    lineage = json.loads((layout("tiny", "transformers") / "lineage.json").read_text(encoding="utf-8"))
    assert lineage["inputs"] == [{"path": "data/town.txt", "content_hash": tree_hash(Path("data/town.txt"))}]
    assert [row["verb"] for row in lineage["states"]][-1] == "package"
    assert {row["verb"] for row in lineage["states"]} >= {"ingest", "validate", "fit", "shard", "pretrain", "evaluate"}


def test_a_published_folder_alone_tells_its_lineage_and_its_card_draws_it(project: Path, tmp_path: Path) -> None:
    alone = tmp_path / "downloaded"
    shutil.copytree(layout("tiny", "transformers"), alone)
    before = section_hashes(Library(), "tiny")
    raw = tree_hash(Path("data/town.txt"))
    for gone in ("artifacts", "data", "recipes"):
        shutil.rmtree(gone)
    lineage = read_lineage(alone)
    assert [(each.path, each.content_hash) for each in lineage.inputs] == [("data/town.txt", raw)]
    assert lineage.licences() == ["CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0"]
    assert lineage.obstacles == ()
    assert lineage.sections == before
    assert set(lineage.sections["pretrain", "tiny"]) == {"recipes/tiny.yaml"}
    assert set(lineage.sections["ingest", "town"]) == {"recipes/corpora/town.yaml"}
    drawn = mermaid(lineage)
    assert f"```mermaid\n{drawn}\n```" in (alone / "README.md").read_text(encoding="utf-8")
    (raw_line,) = (line for line in drawn.splitlines() if "data/town.txt" in line)
    assert raw[:12] in raw_line
    assert f"  {raw_line.split('[')[0].strip()} --> s0" in drawn.splitlines()
    assert len(drawn.splitlines()) < 40


@pytest.mark.parametrize("what", ["hash", "weights", "chain"])
def test_a_lineage_that_was_changed_is_refused(project: Path, tmp_path: Path, what: str) -> None:
    folder = layout("tiny", "transformers")
    path = folder / "lineage.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    if what == "hash":
        rows["inputs"][0]["content_hash"] = "0" * 64
        says = "its seal is"
    elif what == "chain":  # with a seal that fits: the states contradict each other
        rows["states"][0]["payload_hash"] = "0" * 64
        rows["seal"] = _seal(rows)
        says = "was made from another ingest town"
    else:
        (folder / "model.safetensors").write_bytes(b"other weights")
        says = "model.safetensors is not the file it tells of"
    path.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(Refused, match=says):
        read_lineage(folder)


def test_a_section_that_a_stage_reads_has_another_hash_when_it_is_edited_and_others_keep_theirs(project: Path) -> None:
    before = section_hashes(Library(), "tiny")
    path = Path("recipes/corpora/town.yaml")
    path.write_text(path.read_text(encoding="utf-8").replace("Sentences of a town.", "Other words."), encoding="utf-8")
    assert section_hashes(Library(), "tiny") == before
    path.write_text(path.read_text(encoding="utf-8") + "min_records: 2\n", encoding="utf-8")
    after = section_hashes(Library(), "tiny")
    changed = {node for node in before if before[node] != after[node]}
    assert changed == {("ingest", "town"), ("validate", "town"), ("package", "tiny")}


@pytest.mark.usefixtures("_no_process")
def test_the_same_inputs_give_the_same_bytes(project: Path) -> None:
    package("tiny")
    first = tree_hash(state("package", "tiny"))
    package("tiny")
    assert tree_hash(state("package", "tiny")) == first


@pytest.mark.usefixtures("_no_process")
def test_a_neox_is_packaged_with_its_generation_settings(project: Path) -> None:
    change_recipe(project, "tiny-neox", package={"generation": {"do_sample": True, "top_p": 0.9}})
    evaluate("tiny-neox")
    package("tiny-neox")
    folder = layout("tiny-neox", "transformers")
    settings = json.loads((folder / "generation_config.json").read_text())
    assert (settings["do_sample"], settings["top_p"]) == (True, 0.9)
    assert "torch.manual_seed(0)" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("_no_process")
def test_a_package_that_computes_something_else_is_refused_and_the_old_one_stays(project: Path, monkeypatch) -> None:
    before = tree_hash(state("package", "tiny"))
    write_layout = convert.write_layout

    def damaging(layout, weights, encoder, generation, folder) -> None:
        write_layout(layout, weights, encoder, generation, folder)
        tensors = load_file(folder / "model.safetensors")
        tensors["transformer.ln_f.bias"][0] += 1e-3
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(convert, "write_layout", damaging)
    with pytest.raises(Refused, match=r"logits of 0 '太郎は' differ by up to \d"):
        package("tiny")
    assert_untouched(project, before)


def test_a_package_that_does_not_load_is_refused_with_the_process_own_words(project: Path, monkeypatch) -> None:
    before = tree_hash(state("package", "tiny"))
    write_layout = convert.write_layout

    def forgetting(layout, weights, encoder, generation, folder) -> None:
        write_layout(layout, weights, encoder, generation, folder)
        (folder / "model.safetensors").unlink()

    monkeypatch.setattr(convert, "write_layout", forgetting)
    with pytest.raises(Refused, match=r"does not load.*model\.safetensors"):
        package("tiny")
    assert_untouched(project, before)


@pytest.mark.usefixtures("_no_process")
def test_a_missing_file_of_the_layout_is_refused(project: Path, monkeypatch) -> None:
    before = tree_hash(state("package", "tiny"))
    write_layout = convert.write_layout

    def forgetting(layout, weights, encoder, generation, folder) -> None:
        write_layout(layout, weights, encoder, generation, folder)
        (folder / "spiece.model").unlink()

    monkeypatch.setattr(convert, "write_layout", forgetting)
    with pytest.raises(Refused, match=r"spiece\.model"):
        package("tiny")
    assert_untouched(project, before)


@pytest.mark.usefixtures("_no_process")
def test_a_file_that_is_not_of_the_layout_is_refused(project: Path, monkeypatch) -> None:
    before = tree_hash(project / state("package", "tiny"))
    write_layout = convert.write_layout

    def adding(layout, weights, encoder, generation, folder) -> None:
        write_layout(layout, weights, encoder, generation, folder)
        (folder / "training_args.bin").write_bytes(b"pickle")

    monkeypatch.setattr(convert, "write_layout", adding)
    with pytest.raises(Refused, match=r"has training_args\.bin besides"):
        package("tiny")
    assert_untouched(project, before)


def test_an_unknown_generation_setting_is_answered_with_the_nearest(project: Path) -> None:
    change_recipe(project, "tiny", package={"generation": {"temprature": 0.7}})
    with pytest.raises(Refused, match="Did you mean 'temperature'"):
        package("tiny")


def test_a_generation_setting_that_another_one_makes_idle_is_refused(project: Path) -> None:
    change_recipe(project, "tiny", package={"generation": {"do_sample": False, "temperature": 0.7}})
    with pytest.raises(Refused, match="temperature"):
        package("tiny")


def test_scores_of_other_weights_are_refused(project: Path) -> None:
    make_weights("tiny", modality("text").open_encoder(payload("fit", "town-spm")).facts, seed=1)
    with pytest.raises(Refused, match="Run: hiraku evaluate tiny"):
        package("tiny")


def test_weights_changed_behind_their_manifest_are_refused(project: Path) -> None:
    path = payload("pretrain", "tiny") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(Refused, match="was changed after it was made"):
        package("tiny")


def test_answers_that_differ_are_told_apart() -> None:
    def answer(ids: list[int], logits: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"ids": torch.tensor(ids), "logits": logits}

    expected = answer([5, 6], torch.zeros(2, 3))
    assert difference(expected, answer([5, 6], torch.zeros(2, 3))) is None
    assert "ids are [5, 7], expected [5, 6]" in difference(expected, answer([5, 7], torch.zeros(2, 3)))
    assert "bfloat16" in difference(expected, answer([5, 6], torch.zeros(2, 3, dtype=torch.bfloat16)))
    assert "up to 0.5" in difference(expected, answer([5, 6], torch.full((2, 3), 0.5)))
    assert "up to nan" in difference(expected, answer([5, 6], torch.full((2, 3), float("nan"))))


def test_a_pixel_between_two_levels_is_no_difference() -> None:
    picture = torch.tensor([[0, 254], [127, 1]], dtype=torch.uint8)
    step = torch.tensor([[1, 1], [0, 0]], dtype=torch.uint8)
    assert difference({"the picture": picture}, {"the picture": picture + step}) is None
    assert difference({"the picture": picture + step}, {"the picture": picture}) is None
    said = difference({"the picture": picture}, {"the picture": picture + 2 * step.flip(0)})
    assert said == "the picture differ by up to 2, expected at most 1"


def test_sums_in_another_order_are_no_difference() -> None:
    values = torch.linspace(-2, 2, 6)
    assert difference({"logits": values}, {"logits": values + 2e-7 * torch.tensor([1, -1, 1, 0, 1, -1])}) is None
    assert "expected at most 2e-05" in difference({"logits": values}, {"logits": values + 5e-5})


# ---- somebody else's -------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(project: Path) -> Path:
    """A folder such as save_pretrained leaves, and a recipe that names it."""
    folder = project / "elsewhere"
    shutil.copytree(layout("tiny", "transformers"), folder)
    for name in ("README.md", "curve.svg", "lineage.json", "generation_config.json"):
        (folder / name).unlink()
    recipe = {
        "family": "gpt",
        "description": "A neighbour's model.",
        "language": "ja",
        "licence": "MIT",
        "source": "path:elsewhere",
        "layout": "transformers",
    }
    (project / "recipes" / "other.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def test_somebody_elses_folder_becomes_a_package_that_a_fresh_process_has_loaded(foreign: Path) -> None:
    (foreign / "notes.txt").write_text("not of the layout")
    package("other")
    folder = layout("other", "transformers")
    assert {path.name for path in folder.iterdir()} == {*LAYOUTS["transformers"], "README.md"}
    assert (folder / "model.safetensors").read_bytes() == (foreign / "model.safetensors").read_bytes()
    manifest = read_manifest("package", "other")
    assert manifest.licence == "MIT"
    assert manifest.parents == {"elsewhere": tree_hash(foreign)}
    assert "MIT" in (folder / "README.md").read_text()


def test_somebody_elses_folder_that_a_fresh_process_cannot_load_is_refused(foreign: Path) -> None:
    path = foreign / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Refused, match=r"does not load in a fresh process"):
        package("other")
    assert not state("package", "other").exists()


def test_a_pickle_is_refused_with_how_to_convert_it(foreign: Path) -> None:
    (foreign / "model.safetensors").rename(foreign / "pytorch_model.bin")
    with pytest.raises(Refused, match=r"pytorch_model\.bin.*save_pretrained"):
        package("other")
    assert not state("package", "other").exists()


def test_a_folder_that_is_not_there_is_refused(foreign: Path) -> None:
    shutil.rmtree(foreign)
    with pytest.raises(Refused, match="elsewhere' is no folder"):
        package("other")


def test_a_folder_without_its_tokenizer_is_refused(foreign: Path) -> None:
    (foreign / "tokenizer.json").unlink()
    with pytest.raises(Refused, match=r"holds no tokenizer\.json"):
        package("other")


def test_a_configuration_of_no_known_kind_is_refused(foreign: Path) -> None:
    (foreign / "config.json").write_text('{"model_type": "town-model"}')
    with pytest.raises(Refused, match=r"config\.json"):
        package("other")
