"""A corpus without the pairs that a packaged pair of towers finds far apart."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components import paths
from components.calibration import Calibration, auc, threshold_of
from components.filtering import scores_of
from components.fit import fit
from components.ingest import ingest
from components.manifest import Manifest, read_manifest, writing
from components.modalities import modality
from components.modalities.image.similarity import Pair
from components.outcomes import Refused
from components.records import iterate_records
from components.reports import validation_page
from components.shard import shard
from components.weights import weights_hash
from models.clip import convert
from models.clip.network import build
from models.clip.schema import Dual, ImageTower
from tests.components.image.small_squares import COLUMNS, CORPUS, TOWER, small_records, write_tower
from tests.components.speech.small_speech import write_records, write_yaml
from tests.models.clip_small import write_encoder

TEXT = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "num_positions": 80}
KEPT = ["picture", "captions", "label"]
FOREIGN = {
    "family": "clip", "description": "A pair.", "language": "ja", "licence": "CC0-1.0", "source": "path:pair",
    "layout": "transformers",
}  # fmt: skip


def near(**source):
    columns = {key: COLUMNS[key] for key in KEPT} | {"score": {"modality": "image", "form": "score"}}
    kept = {"kind": "filtered", "corpus": "squares", "model": "pair"} | source
    return CORPUS | {"source": kept, "columns": columns, "max_reject_share": 0.9}


def write_corpus(name="near", **source):
    write_yaml(paths.RECIPES / "corpora" / f"{name}.yaml", near(**source))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("filter")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        records = small_records()
        write_yaml(paths.RECIPES / "corpora" / "squares.yaml", CORPUS)
        write_records(records, "squares")
        encoder = write_encoder(root / "captions")
        torch.manual_seed(0)
        network = build(Dual(kind="dual", tower="small", tower_width=16, text=TEXT, projection_size=8), encoder.facts)
        network.tower = build(ImageTower(**TOWER), {"num_labels": 2, "labels": ["a", "b"]}).vit
        network.contrast = {"kind": "clip"}
        convert.save(network.eval(), root / "weights")
        write_yaml(paths.RECIPES / "pair.yaml", FOREIGN)
        with writing(Manifest("package", "pair", {}, licence="CC0-1.0")) as folder:
            convert.write_layout("transformers", root / "weights", root / "captions", {}, folder / "transformers")
    return SimpleNamespace(root=root, records=records)


@pytest.fixture(autouse=True)
def _inside(project, monkeypatch):
    monkeypatch.chdir(project.root)


def read(name="near"):
    return {each["id"]: each for each in iterate_records(name, [*KEPT, "score"], accepted_only=False)}


def report(name="near"):
    return json.loads((paths.state("ingest", name) / "report.json").read_text())


def test_the_nearest_pairs_stay_with_their_scores(project):
    write_corpus(keep_share=0.4)
    ingest("near")
    pair = modality("image").open_pair("clip", paths.layout("pair", "transformers"), 64)
    scores = {
        record["id"]: [
            round(float(pair.of_texts([text])[0] @ pair.of_pictures([record["picture"]])[0]), 6)
            for _, text in json.loads(record["captions"])
        ]
        for record in project.records
    }
    whole = np.sort(np.concatenate(list(scores.values())))
    threshold = whole[len(whole) - round(0.4 * len(whole))]
    found, filtered = read(), report()["filter"]
    assert filtered["threshold"] == pytest.approx(threshold, abs=2e-6)
    assert filtered["quantile"] == pytest.approx(0.6, abs=0.05)
    for record in project.records:
        pairs = json.loads(record["captions"])
        kept = [each for each, score in zip(pairs, scores[record["id"]], strict=True) if score >= threshold]
        if record["id"] not in found:
            continue
        mine = found[record["id"]]
        assert json.loads(mine["captions"]) == kept
        assert mine["picture"] == record["picture"]
        judged = json.loads(mine["score"])
        assert judged["model"] == weights_hash(paths.layout("pair", "transformers"), "clip")
        wanted = [score for score in scores[record["id"]] if score >= threshold]
        assert scores_of(mine["score"]) == pytest.approx(wanted, abs=2e-6)
        for _, score, quantile in judged["captions"]:
            assert quantile == pytest.approx((whole < score).mean(), abs=0.02)
    gone = {record["id"] for record in project.records if max(scores[record["id"]]) < threshold}
    assert gone
    assert not gone & set(found)
    rejects = report()["rejects"]
    assert rejects["no caption near enough to its picture (source.keep_share, source.min_score)"] == len(gone)


def test_the_report_calibrates_and_shows_what_lies_at_the_threshold(project):
    write_corpus(keep_share=0.4)
    ingest("near")
    filtered = report()["filter"]
    assert filtered["pairs"] == 3 * len(project.records)
    profile = {"num_records": 1, "splits": {}, "facts": {}, "licences": {}, "sources": {}, "categories": {}}
    page = validation_page("near", "Near ones.", [], profile, report())
    assert f"AUC {filtered['auc']:.3f} against" in page
    assert "Filter by characters of a caption" in page
    assert 0.3 < filtered["auc"] < 0.7  # the towers have random weights
    rows = {row["keep_share"]: row for row in filtered["thresholds"]}
    assert rows[0.5]["true_kept"] == pytest.approx(0.5, abs=0.05)
    assert rows[0.1]["threshold"] > rows[0.9]["threshold"]
    assert sum(row["pairs"] for row in filtered["by_length"].values()) == filtered["pairs"]
    assert filtered["by_source"]["squares"]["kept"] == pytest.approx(0.4, abs=0.03)
    svg = (paths.state("ingest", "near") / "threshold.svg").read_text()
    assert svg.count("<image") == 24
    assert svg.count("kept: ") == svg.count("left out: ") == 12
    assert (paths.journal("ingest", "near") / "threshold.svg").read_text() == svg
    assert read_manifest("ingest", "near").details["engines"] == {"judged by pair": "CC0-1.0"}


def test_a_second_run_scores_nothing_again(project, monkeypatch):
    write_corpus(keep_share=0.7)
    ingest("near")
    before = read_manifest("ingest", "near").payload_hash

    def broken(*_):
        raise AssertionError("a network was opened")

    monkeypatch.setattr(modality("image"), "open_pair", broken)
    ingest("near")
    assert read_manifest("ingest", "near").payload_hash == before


def test_scoring_holds_the_gpus_of_its_machine(project, monkeypatch):
    entered = []
    monkeypatch.setattr("components.ingest.gpu_held", lambda: nullcontext(entered.append("held")))
    write_corpus(keep_share=0.7)
    ingest("near")
    assert entered == ["held"]


def test_features_that_are_computed_already_score_as_their_pictures_do(project, monkeypatch):
    section = {"kind": "tower", "model": "pair", "size_px": 24, "dtype": "fp32"}
    write_yaml(paths.RECIPES / "encoders" / "tower.yaml", section)
    fit("tower")
    shard("squares+tower")
    write_corpus(keep_share=0.4)
    ingest("near")
    write_corpus("by-features", keep_share=0.4, features="squares+tower")
    monkeypatch.setattr(Pair, "of_pictures", None)
    ingest("by-features")
    pictures, features = read(), read("by-features")
    assert list(pictures) == list(features)
    for name, record in features.items():
        assert record["captions"] == pictures[name]["captions"]
        assert scores_of(record["score"]) == pytest.approx(scores_of(pictures[name]["score"]), abs=2e-6)
    shards = paths.payload("shard", "squares+tower").as_posix()
    assert (
        read_manifest("ingest", "by-features").parents[shards] == read_manifest("shard", "squares+tower").payload_hash
    )


def test_features_of_another_tower_and_of_other_pictures_are_refused(project):
    write_tower("small-vit", seed=1)
    write_yaml(paths.RECIPES / "encoders" / "other.yaml", {"kind": "tower", "model": "small-vit", "size_px": 24})
    fit("other")
    shard("squares+other")
    write_corpus(keep_share=0.4, features="squares+other")
    with pytest.raises(Refused, match=r"'squares\+other' are another tower's, .* Change or remove the key 'source.fea"):
        ingest("near")
    write_corpus(keep_share=0.4, features="circles+other")
    with pytest.raises(Refused, match=r"'features' is circles\+other, expected shards of the corpus 'squares'"):
        ingest("near")


def test_a_cosine_may_be_given_and_one_that_none_reaches_is_refused(project):
    write_corpus(min_score=-1.0)
    ingest("near")
    assert report()["filter"]["quantile"] == 0.0
    write_corpus(min_score=1.0)
    with pytest.raises(Refused, match=r"The nearest of 144 pairs has a cosine of 0\.[0-9]+, but source.min_score is 1"):
        ingest("near")


def test_a_corpus_without_a_column_of_scores_is_refused(project):
    content = near(keep_share=0.5)
    content["columns"] = {key: COLUMNS[key] for key in KEPT}
    write_yaml(paths.RECIPES / "corpora" / "near.yaml", content)
    with pytest.raises(Refused, match="has 0 columns of form 'score', expected one"):
        ingest("near")


@pytest.mark.parametrize("source", [{}, {"keep_share": 0.5, "min_score": 0.1}])
def test_a_threshold_is_given_once(project, source):
    write_corpus(**source)
    with pytest.raises(Refused, match="exactly one of 'keep_share' and 'min_score' must be there"):
        ingest("near")


def test_auc_and_thresholds_are_those_that_are_counted():
    rng = np.random.default_rng(0)
    true, shuffled = rng.normal(1, 1, 200).round(1), rng.normal(0, 1, 150).round(1)
    wins = [(one > other) + 0.5 * (one == other) for one in true for other in shuffled]
    assert auc(true, shuffled) == pytest.approx(np.mean(wins))
    assert threshold_of(np.sort(true), 0.25) == np.sort(true)[150]


def test_a_single_source_of_long_captions_is_seen():
    found = Calibration(0.5, None)
    for number in range(100):
        found.add([number / 100], [70 if number < 50 else 5], "web" if number < 50 else "books", None)
    found.settle()
    said = found.report()
    assert said["by_length"]["64-127"]["kept"] == 0.0
    assert said["by_length"]["0-7"]["kept"] == 1.0
    assert said["by_source"]["books"] == {"pairs": 50, "mean_score": pytest.approx(0.745), "kept": 1.0}
    assert "auc" not in said
