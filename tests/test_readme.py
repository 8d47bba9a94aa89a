"""The README names only what is there."""

import re
from pathlib import Path

import yaml

from components import VERBS
from components.recipes import Library
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_of_the_readme_is_a_word_of_the_command_line() -> None:
    from flows.command_line import app

    words = set(re.findall(r"(?:^|`|/)hiraku ([a-z]+)", README, re.MULTILINE))
    assert {"release", "collect", "doctor", "ui"} <= words
    assert words <= {name for name in app if not name.startswith("-")}


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE))
    assert named
    assert named <= targets


def test_the_table_of_verbs_is_the_one_of_the_code_as_far_as_it_is_built() -> None:
    rows = dict(re.findall(r"^\| `([a-z]+)` \|.*\| `([a-z]+)/", README, re.MULTILINE))
    assert rows == {verb: VERBS[verb] for verb in VERBS if (ROOT / "components" / f"{verb}.py").is_file()}


def test_the_table_of_recipes_is_what_is_shipped(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    families = "GPT|Llama|HuBERT|CTC|ViT|CLIP|CLOOB|BLIP|Stable Diffusion|an autoencoder"
    named = set(re.findall(rf"^\| `([a-z0-9.-]+)` \| (?:{families})", README, re.MULTILINE))
    shipped = {name for name in Library().files["recipe"] if not Library().is_mine("recipe", name)}
    assert named == shipped


def test_every_file_that_the_readme_links_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_order_of_the_path_in_ci_is_check_then_test() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert script.index("make check") < script.index("make test")
    hooks = yaml.safe_load(Path(ROOT / ".pre-commit-config.yaml").read_text())
    assert hooks["repos"][0]["hooks"][0]["entry"] == "make check"
