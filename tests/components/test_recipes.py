"""Recipes are strict, and a bad one is answered with every problem and the way out."""

from pathlib import Path

import pytest
import yaml

from components.outcomes import Refused
from components.recipes import Library, read_section, references
from tests.conftest import ROOT


@pytest.fixture
def raw() -> dict:
    """The shipped demo recipe as plain values, to be spoilt."""
    return yaml.safe_load((ROOT / "recipes/gpt-demo.yaml").read_text())


def refusal(tmp_path: Path, raw: object, kind: str = "recipe") -> str:
    path = tmp_path / "spoilt.yaml"
    path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw))
    with pytest.raises(Refused) as caught:
        read_section(path, kind)
    return str(caught.value)


def test_every_shipped_file_parses_and_every_reference_in_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    library = Library()
    found = [(kind, name) for kind in library.files for name in library.files[kind]]
    assert ("recipe", "gpt-demo") in found
    for kind, name in found:
        for reference_kind, reference in references(library.read(kind, name)):
            where = {"shards": "corpus", "weights": "recipe", "package": "recipe"}.get(reference_kind, reference_kind)
            assert library.path(where, reference.split("+")[0]).is_file()


def test_all_problems_of_a_file_are_told_at_once_each_with_the_nearest_key(tmp_path: Path, raw: dict) -> None:
    raw["pretrain"]["num_step"] = 3
    raw["network"]["n_layers"] = 3
    raw["pretrain"]["samples"]["window"] = 5
    raw["licens"] = "x"
    del raw["description"]
    message = refusal(tmp_path, raw)
    assert "spoilt.yaml has 5 problems" in message
    assert "key 'description' is missing" in message
    assert "unknown key 'network.n_layers'. Did you mean 'num_layers'?" in message
    assert "unknown key 'pretrain.samples.window'. Did you mean 'window_tokens'?" in message
    assert "unknown key 'pretrain.num_step'. Did you mean 'num_steps'?" in message
    assert "unknown key 'licens'. Did you mean 'licence'?" in message


def test_a_misspelt_family_gets_the_nearest_one(tmp_path: Path, raw: dict) -> None:
    raw["family"] = "gtp"
    assert "No family named 'gtp'. Did you mean 'gpt'? Change the key 'family'." in refusal(tmp_path, raw)


def test_sizes_that_do_not_divide_are_refused_with_both_numbers(tmp_path: Path, raw: dict) -> None:
    raw["pretrain"]["samples"] = {"window_tokens": 64, "batch_tokens": 5000, "micro_batch_tokens": 4096}
    assert "batch_tokens 5000 is not a multiple of micro_batch_tokens 4096" in refusal(tmp_path, raw)


def test_a_recipe_is_either_pretrained_or_aligned(tmp_path: Path, raw: dict) -> None:
    del raw["pretrain"]
    assert "exactly one of the sections 'pretrain' and 'align' must be there" in refusal(tmp_path, raw)


def test_a_file_that_is_not_yaml_names_the_line(tmp_path: Path) -> None:
    assert "line 2" in refusal(tmp_path, "family: gpt\n  network: [\n")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sjis.yaml"
    path.write_bytes("description: 日本語".encode("shift_jis"))
    with pytest.raises(Refused, match="not UTF-8"):
        read_section(path, "recipe")


def test_an_unknown_recipe_gets_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(Refused, match=r"No recipe named 'gpt-dmeo'\. Did you mean 'gpt-demo'\?"):
        Library().read("recipe", "gpt-dmeo")


def test_references_are_found_at_any_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = list(references(Library().read("recipe", "gpt-demo")))
    tasks = [("task", f"demo-{name}") for name in ("held-out", "samples", "choices")]
    assert found == [("encoder", "demo-spm"), ("shards", "demo-text+demo-spm"), *tasks]


@pytest.mark.parametrize("name", ["id", "split", "licence", "source", "file", "Text", "a-b", "1st", "text\n"])
def test_a_column_that_would_overwrite_a_field_of_the_records_is_refused(tmp_path: Path, name: str) -> None:
    corpus = yaml.safe_load((ROOT / "recipes/corpora/demo-text.yaml").read_text())
    corpus["columns"] = {name: {"modality": "text"}}
    message = refusal(tmp_path, corpus, "corpus")
    assert "'columns'" in message
    assert "not id, split, licence, source, file" in message
