"""The doctor's findings come from facts, not from wishes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
import yaml
from torch import nn

from components import devices, paths
from components.blocks import Compiled
from components.cost import cost_of
from components.manifest import Manifest, writing
from components.recipes import Library
from components.settings import settings
from flows import command_line, doctor
from flows.room import fit_bytes, room, text_bytes
from tests.conftest import ROOT
from tests.flows.conftest import RECIPE, Project

RAW_BYTES = len('{"text": "a"}\n')


def test_bf16_instructions_are_read_as_the_kernel_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16\nbugs\t: none\n"
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_args, **_kwargs: text)
    assert devices.bf16_instructions() == ["amx_bf16", "avx512_bf16"]


@pytest.mark.parametrize("section", ["pretrain", "align"])
def test_a_recipe_in_bf16_is_told_of_a_processor_without_it(monkeypatch: pytest.MonkeyPatch, section: str) -> None:
    monkeypatch.setattr(doctor, "bf16_instructions", list)
    recipe = SimpleNamespace(pretrain=None, align=None)
    setattr(recipe, section, SimpleNamespace(precision="bf16"))
    (finding,) = doctor._processor(recipe)
    assert (finding.level, "this recipe says bf16" in finding.text) == ("note", True)


@pytest.mark.parametrize("wanted", ["auto", "on", "off"])
def test_layers_are_compiled_where_the_trainer_compiles_them(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("HIRAKU_COMPILE", wanted)
    monkeypatch.setattr(torch, "compile", lambda forward: forward)
    for kind in ("cpu", "cuda"):
        compiled = Compiled([nn.Linear(1, 1)], torch.device(kind))
        assert devices.compiles_layers(kind == "cuda") == compiled.is_on


@pytest.mark.parametrize(("flags", "expected"), [([], "use precision fp32"), (["avx512_bf16"], "bf16 or fp32")])
def test_the_precision_to_use_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], expected: str
) -> None:
    monkeypatch.setattr(doctor, "bf16_instructions", lambda: flags)
    (finding,) = doctor._processor(None)
    assert expected in finding.text


def test_a_disk_too_small_for_a_recipe_is_bad(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = cost_of(Library(), RECIPE, on_gpu=False, is_compiled=False)
    assert cost is not None
    needed = room(Library(), RECIPE).total
    # States, and the remote's copies of them and of the raw files, which are here. Four bytes a number: the weights in
    # a state and in a package, three checkpoints of them with both moments.
    assert needed == 3 * RAW_BYTES + cost.num_parameters * 4 * (2 + 3 * 3)
    usage = type("Usage", (), {"free": needed - 1})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: usage)
    (finding,) = doctor._disk(Library(), RECIPE)
    assert finding.level == "bad"
    assert "dvc cache dir FOLDER" in finding.text


def change_corpus(**keys: Any) -> None:
    path = Path("recipes/corpora/smoke-text.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))


def test_raw_data_that_are_still_to_come_are_counted_by_the_size_that_their_corpus_states(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = cost_of(Library(), RECIPE, on_gpu=False, is_compiled=False)
    assert cost is not None
    (project.folder / "data" / "smoke" / "a.jsonl").unlink()
    usage = type("Usage", (), {"free": 10**12})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: usage)
    (finding,) = doctor._disk(Library(), RECIPE)
    assert finding.level == "note"
    assert (
        "not counting smoke-text (say how large: expected_gigabytes in recipes/corpora/smoke-text.yaml)" in finding.text
    )
    change_corpus(expected_gigabytes=75)
    needed = room(Library(), RECIPE)
    assert needed.total == 4 * 75e9 + cost.num_parameters * 4 * (2 + 3 * 3)
    (finding,) = doctor._disk(Library(), RECIPE)
    assert finding.level == "note"
    assert "takes about 300 GB more, 1.0 TB are free. Raw data of smoke-text are not here" in finding.text
    usage.free = 10**11
    (finding,) = doctor._disk(Library(), RECIPE)
    assert finding.level == "bad"


def test_data_that_a_generator_makes_are_not_missed(project: Project) -> None:
    (project.folder / "data" / "smoke" / "a.jsonl").unlink()
    change_corpus(source={"kind": "files", "paths": ["smoke"], "generator": "world"})
    (finding,) = doctor._disk(Library(), RECIPE)
    assert finding.level == "good"
    assert "not here" not in finding.text


def test_compressed_files_hold_more_text_than_their_bytes(project: Project) -> None:
    corpus = Library().read("corpus", "smoke-text")
    assert text_bytes(corpus) == RAW_BYTES
    (project.folder / "data" / "smoke" / "b.jsonl.gz").write_bytes(b"x" * 100)
    assert text_bytes(corpus) == RAW_BYTES + 300


def test_the_memory_of_a_fit_follows_from_the_shares_of_its_text(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "data" / "smoke" / "a.jsonl").unlink()
    assert fit_bytes(Library(), "smoke-spm") is None
    assert list(doctor._fit(Library(), RECIPE)) == []
    change_corpus(expected_gigabytes=10)
    path = Path("recipes/encoders/smoke-spm.yaml")
    path.write_text("kind: sentencepiece\ncorpora: [{corpus: smoke-text, share: 0.1}]\nvocab_size: 1200\n")
    assert fit_bytes(Library(), "smoke-spm") == (10**9, 20 * 10**9)
    for free, level in ((30e9, "good"), (21e9, "bad")):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        (finding,) = doctor._fit(Library(), RECIPE)
        assert finding.level == level
        assert "reads about 1.0 GB of text, which takes about 20.0 GB of memory" in finding.text
    assert (
        "a lower share of its corpora in recipes/encoders/smoke-spm.yaml or a machine with more memory" in finding.text
    )
    with writing(Manifest("fit", "smoke-spm", revisions={})) as folder:
        (folder / paths.PAYLOAD["fit"]).mkdir()
    assert list(doctor._fit(Library(), RECIPE)) == []
    path.write_text(path.read_text() + "algorithm: unigram\n")  # of which it has not been measured
    assert fit_bytes(Library(), "smoke-spm") is None


def test_a_broken_fastapi_is_bad_and_names_the_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "0.165.0" if name == "fastapi" else real(name))
    found = {finding.topic: finding for finding in doctor._python()}
    assert found["fastapi"].level == "bad"
    assert "pip install" in found["fastapi"].text


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [("HIRAKU_NUM_WORKER", "2", "HIRAKU_NUM_WORKERS"), ("HIRAKU_NUM_THREADS", "many", "valid integer")],
)
def test_a_setting_that_stops_every_stage_is_bad_and_hides_nothing_else(
    project: Project, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    settings.cache_clear()
    found = {finding.topic: finding for finding in doctor.examine(RECIPE)}
    assert found["settings"].level == "bad"
    assert said in found["settings"].text
    assert found["disk"].level == "good"


def test_a_broken_recipe_is_bad_and_the_rest_is_looked_at_all_the_same(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "recipes" / "mine").mkdir()
    (project.folder / "recipes" / "mine" / "own.yaml").write_text("family: gpt\n[/INST]: 1\n")
    monkeypatch.setattr(command_line.console, "width", 200)
    assert command_line.run(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "recipes/mine/own.yaml is not YAML" in said
    assert "port 4200" in said


def test_a_password_in_the_address_of_a_server_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://anna:secret@127.0.0.1:5000/api"
    finding = doctor._server("Prefect", lambda: None, url)
    assert finding.text == "http://127.0.0.1:5000/api answers"


def test_a_character_of_a_sample_has_the_bytes_of_its_language() -> None:
    """0.3 of 1.28 G characters are Japanese, of three bytes each; BPE takes twenty times its text."""
    library = Library(ROOT / "recipes")
    assert fit_bytes(library, "web-ja-en-spm-65536") == pytest.approx((2.048e9, 40.96e9))
