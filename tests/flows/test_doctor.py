"""The doctor's findings come from facts, not from wishes."""

import pytest

from components import devices
from components.cost import cost_of
from components.recipes import Library
from components.settings import settings
from flows import command_line, doctor
from tests.flows.conftest import RECIPE, Project


def test_bf16_instructions_are_read_as_the_kernel_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16\nbugs\t: none\n"
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_args, **_kwargs: text)
    assert devices.bf16_instructions() == ["amx_bf16", "avx512_bf16"]


@pytest.mark.parametrize(("flags", "expected"), [([], "use precision fp32"), (["avx512_bf16"], "bf16 or fp32")])
def test_the_precision_to_use_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], expected: str
) -> None:
    monkeypatch.setattr(doctor, "bf16_instructions", lambda: flags)
    (finding,) = doctor._processor(None)
    assert expected in finding.text


def test_a_disk_too_small_for_a_recipe_is_bad(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = cost_of(Library(), RECIPE, on_gpu=False)
    assert cost is not None
    raw = (project.folder / "data/smoke/a.jsonl").stat().st_size
    needed = doctor.needed_bytes(Library(), RECIPE)
    # Four bytes a number: the weights in a state and in a package, three checkpoints of them with both moments.
    assert needed == 4 * raw + cost.num_parameters * 4 * (2 + 3 * 3)
    usage = type("Usage", (), {"free": needed - 1})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: usage)
    (finding,) = doctor._disk(Library(), RECIPE)
    assert finding.level == "bad"


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
    try:
        found = {finding.topic: finding for finding in doctor.examine(RECIPE)}
    finally:
        settings.cache_clear()
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
