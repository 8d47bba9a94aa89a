"""The doctor's findings come from facts, not from wishes."""

import pytest

from components import devices
from flows import doctor
from tests.flows.conftest import RECIPE, Project


def test_bf16_instructions_are_read_as_the_kernel_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16\nbugs\t: none\n"
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_args, **_kwargs: text)
    assert devices.bf16_instructions() == ["amx_bf16", "avx512_bf16"]


@pytest.mark.parametrize(("flags", "expected"), [([], "fp32"), (["avx512_bf16"], "bf16 or fp32")])
def test_the_precision_to_use_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], expected: str
) -> None:
    monkeypatch.setattr(doctor, "bf16_instructions", lambda: flags)
    (finding,) = doctor._processor(None)
    assert expected in finding.text


def test_a_disk_too_small_for_a_recipe_is_bad(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.recipes import Library

    monkeypatch.setattr("models.gpt.network.num_parameters", lambda _section, _facts: 1000)
    raw = (project.folder / "data/smoke/a.jsonl").stat().st_size
    needed = doctor.needed_bytes(Library(), RECIPE)
    assert needed == 4 * raw + 1000 * 4 * 12
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
