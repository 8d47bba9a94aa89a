"""Scores of a recipe: what is read, what is written, what is refused."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from components.evaluate import evaluate
from components.manifest import read_manifest, tree_hash
from components.outcomes import Refused
from components.paths import journal, payload
from components.scoring import require_finite
from tests.components.small_release import REJECTED_ID, make_project, text_of


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project(root)
        evaluate("tiny")
        yield root


@pytest.fixture(autouse=True)
def _in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def scores_of(name: str) -> dict[str, float]:
    return json.loads((payload("evaluate", name) / "scores.json").read_text())["tasks"]["town-held-out"]


def items_of(name: str) -> list[dict]:
    return pq.read_table(payload("evaluate", name) / "items.parquet").to_pylist()


def test_only_accepted_documents_of_the_split_are_scored() -> None:
    scored = sorted({row["item"] for row in items_of("tiny")})
    assert scored == [f"doc-{number}" for number in range(35, 40)]
    assert REJECTED_ID not in scored
    assert scores_of("tiny")["num_characters"] == sum(len(text_of(number)) for number in range(35, 40))


def test_totals_are_the_sums_of_the_items() -> None:
    rows = items_of("tiny")
    bits = sum(row["value"] for row in rows if row["metric"] == "bits")
    scores = scores_of("tiny")
    assert scores["bits_per_character"] == pytest.approx(bits / scores["num_characters"])
    assert {row["task"] for row in rows} == {"town-held-out"}
    assert {row["metric"] for row in rows} >= {
        "bits",
        "num_characters",
        "num_bytes",
        "num_tokens",
        "bits_per_character",
    }


def test_the_same_weights_give_the_same_bytes() -> None:
    first = tree_hash(payload("evaluate", "tiny"))
    evaluate("tiny")
    assert tree_hash(payload("evaluate", "tiny")) == first


def test_the_manifest_names_weights_encoder_and_records() -> None:
    manifest = read_manifest("evaluate", "tiny")
    found = {("pretrain", "tiny"), ("fit", "town-spm"), ("ingest", "town"), ("validate", "town")}
    expected = {payload(*node).as_posix(): read_manifest(*node).payload_hash for node in found}
    assert manifest.parents == expected
    assert set(manifest.revisions) == {"components.evaluate", "models.gpt", "components.modalities.text"}


def test_the_journal_tells_the_totals_under_the_task() -> None:
    (line,) = (journal("evaluate", "tiny") / "metrics.jsonl").read_text().splitlines()
    metrics = json.loads(line)["metrics"]
    assert metrics["evaluate/town-held-out/perplexity"] == scores_of("tiny")["perplexity"]


def test_a_neox_is_scored_too() -> None:
    evaluate("tiny-neox")
    assert scores_of("tiny-neox")["bits_per_character"] != scores_of("tiny")["bits_per_character"]


def test_somebody_elses_model_has_nothing_to_evaluate(project: Path) -> None:
    other = {"family": "gpt", "description": "x", "language": "ja", "licence": "MIT", "source": "path:elsewhere"}
    (project / "recipes" / "other.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(Refused, match="hiraku package other"):
        evaluate("other")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("HIRAKU_ACCELERATOR", "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Refused, match="HIRAKU_ACCELERATOR"):
        evaluate("tiny")


def test_weights_that_compute_no_number_get_no_scores() -> None:
    from safetensors.torch import load_file, save_file

    place = payload("pretrain", "tiny-neox") / "model.safetensors"
    good = load_file(place)
    save_file({name: tensor * float("nan") for name, tensor in good.items()}, place, {"format": "pt"})
    try:
        with pytest.raises(Refused, match="document doc-35 a likelihood of nan"):
            evaluate("tiny-neox")
    finally:
        save_file(good, place, {"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_an_item_whose_score_is_no_number_is_refused_in_every_modality(value: float) -> None:
    require_finite("listening", {"item": "clip-1", "metric": "loss", "value": 0.5})
    with pytest.raises(Refused, match=r"'listening' gives item 'clip-1' the loss (nan|-inf), expected a finite number"):
        require_finite("listening", {"item": "clip-1", "metric": "loss", "value": value})


def test_missing_weights_are_refused_and_nothing_is_left(project: Path, tmp_path, monkeypatch) -> None:
    (tmp_path / "recipes").symlink_to(project / "recipes")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="hiraku pretrain tiny"):
        evaluate("tiny")
    assert not list(tmp_path.glob("artifacts/evaluated/*"))
