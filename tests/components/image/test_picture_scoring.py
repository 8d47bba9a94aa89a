"""Scores of pairs of towers, against numbers that are counted by hand."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import label_ranking_average_precision_score

from components.grids import matrix
from components.modalities import modality
from components.modalities.image.schema import TASKS
from components.modalities.image.similarity import Pair, ranks
from components.modalities.image.templates import JA_37
from components.outcomes import Refused
from models.clip.network import build
from models.clip.schema import Dual, ImageTower
from tests.components.image.small_squares import TOWER, small_records
from tests.models.clip_small import write_encoder

TEXT = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "num_positions": 80}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A pair of towers with random weights."""
    encoder = write_encoder(tmp_path_factory.mktemp("pair") / "encoder")
    torch.manual_seed(0)
    section = Dual(kind="dual", tower="small", tower_width=16, text=TEXT, projection_size=8)
    network = build(section, encoder.facts)
    network.tower = build(ImageTower(**TOWER), {"num_labels": 2, "labels": ["a", "b"]}).vit
    return SimpleNamespace(network=network.eval(), encoder=encoder)


def reader(records):
    def read(corpus, columns, splits):
        return ({key: each[key] for key in ["id", "split", *columns]} for each in records if each["split"] in splits)

    return read


def scored(kind, model, records=None, **keys):
    task = TASKS[kind](kind=kind, corpus="squares", **({"split": "train"} | keys))
    told = []
    records = small_records() if records is None else records
    rows = list(modality("image").score(task, model, reader(records), lambda *each: told.append(each)))
    totals = {row["metric"]: row["value"] for row in rows if row["item"] is None and "metric" in row}
    items = {(row["item"], row["metric"]): row["value"] for row in rows if row["item"] is not None}
    pictures = {row["picture"]: row["svg"] for row in rows if "picture" in row}
    assert told[-1][0] == told[-1][1]
    return totals, items, pictures


def train_records():
    return [record for record in small_records() if record["split"] == "train"]


def captions_of(record):
    return [text for _, text in json.loads(record["captions"])]


# ---- ranks -----------------------------------------------------------------------------------------------------------


def test_ranks_are_those_that_are_counted_one_by_one():
    rng = np.random.default_rng(0)
    queries, candidates = (torch.from_numpy(rng.normal(size=(60, 5))).float() for _ in range(2))
    keys = [rng.integers(0, 40, 60), rng.integers(0, 50, 60)]
    found = ranks(queries, candidates, keys)
    for row in range(60):
        near = (candidates @ queries[row]).tolist()
        right = [any(key[row] == key[other] for key in keys) for other in range(60)]
        best = max(value for value, fits in zip(near, right, strict=True) if fits)
        assert found[row] == 1 + sum(value > best for value, fits in zip(near, right, strict=True) if not fits)


def test_without_twins_the_mean_reciprocal_rank_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    queries, candidates = (torch.from_numpy(rng.normal(size=(40, 4))).float() for _ in range(2))
    found = ranks(queries, candidates, [np.arange(40)])
    wanted = label_ranking_average_precision_score(np.eye(40), (queries @ candidates.T).numpy())
    assert (1 / found).mean() == pytest.approx(wanted)


def test_features_that_are_all_alike_stand_last():
    same = torch.ones(10, 4)
    assert ranks(same, same, [np.arange(10)]).tolist() == [10] * 10


# ---- tasks -----------------------------------------------------------------------------------------------------------


def test_retrieval_counts_twins_as_right_and_shows_what_it_found(model):
    totals, items, pictures = scored("retrieval", model)
    records = train_records()
    pair = Pair(model, "clip", 64)
    near = (
        pair.of_texts([captions_of(each)[0] for each in records])
        @ pair.of_pictures([each["picture"] for each in records]).T
    )
    for row, record in enumerate(records):
        right = [
            captions_of(other)[0] == captions_of(record)[0] or other["picture"] == record["picture"]
            for other in records
        ]
        best = max(float(near[row, column]) for column, fits in enumerate(right) if fits)
        rank = 1 + sum(float(near[row, column]) >= best for column, fits in enumerate(right) if not fits)
        assert items[record["id"], "text_to_image_reciprocal_rank"] == pytest.approx(1 / rank)
        assert items[record["id"], "text_to_image_r5"] == (rank <= 5)
    assert totals["text_to_image_r10"] == np.mean([items[each["id"], "text_to_image_r10"] for each in records])
    assert totals["num_twins"] > 0
    assert set(pictures) == {"retrieval.svg", "similarities.svg"}
    assert pictures["retrieval.svg"].count("<image") == 12 * 6
    assert captions_of(records[0])[0][:10] in pictures["retrieval.svg"]


def test_only_captions_of_a_kind_are_searched(model):
    records = small_records()
    for number, record in enumerate(records):
        if number % 2:
            record["captions"] = json.dumps([["generated", "丸"]])
    totals, _, _ = scored("retrieval", model, records, caption_kind="web")
    assert totals["num_pictures"] + totals["num_left_out"] == len(train_records())
    assert totals["num_left_out"] > 0
    with pytest.raises(Refused, match=r"0 pictures in the split 'train'.*have a caption of the kind 'blip'"):
        scored("retrieval", model, caption_kind="blip")


def test_zero_shot_takes_the_mean_of_unit_vectors_over_templates(model):
    totals, items, pictures = scored("zero-shot-classification", model, templates="ja-37")
    pair, records = Pair(model, "clip", 7), train_records()
    labels = sorted({record["label"] for record in records})
    classes = []
    for label in labels:
        rows = pair.of_texts([template.format(label) for template in JA_37])
        rows = rows / rows.norm(dim=1, keepdim=True)
        mean = rows.mean(dim=0)
        classes.append(mean / mean.norm())
    near = pair.of_pictures([record["picture"] for record in records]) @ torch.stack(classes).T
    said = [labels[each] for each in near.argmax(dim=1).tolist()]
    right = [name == record["label"] for name, record in zip(said, records, strict=True)]
    assert [items[record["id"], "is_right"] for record in records] == right
    assert totals["top_1"] == pytest.approx(np.mean(right))
    assert totals["top_5"] == 1.0
    assert totals["num_classes"] == 5
    assert "confusion.svg" in pictures


def test_classes_may_have_names_of_another_column(model):
    records = [record | {"sign": f"n{number % 3}"} for number, record in enumerate(small_records())]
    for record in records:
        record["name"] = {"n0": "丸", "n1": "星", "n2": "丸"}[record["sign"]]
    totals, items, _ = scored("zero-shot-classification", model, records, label="sign", name="name")
    assert totals["num_classes"] == 3
    twins = [each["id"] for each in records if each["sign"] in ("n0", "n2") and each["split"] == "train"]
    assert not any(items[each, "is_right"] for each in twins)  # two classes that are as near: neither is told


def test_a_probe_asks_whether_the_caption_is_nearer_than_the_foil(model):
    records = small_records()
    records[0]["foils"] = "[]"
    totals, items, _ = scored("caption-probe", model, records, foil_kind="colour")
    pair = Pair(model, "clip", 64)
    for record in train_records()[1:5]:
        picture = pair.of_pictures([record["picture"]])[0]
        true, false = pair.of_texts([captions_of(record)[0], json.loads(record["foils"])[0][1]])
        assert items[record["id"], "is_right"] == float(picture @ true > picture @ false)
    assert totals["num_left_out"] == 1
    with pytest.raises(Refused, match=r"has a false caption of the kind 'order' in the column 'foils'"):
        scored("caption-probe", model, foil_kind="order")


def test_a_network_that_cannot_tell_caption_and_foil_is_not_right(model):
    records = small_records()
    for record in records:
        record["foils"] = json.dumps([["same", captions_of(record)[0]]], ensure_ascii=False)
    assert scored("caption-probe", model, records)[0]["accuracy"] == 0.0


@pytest.mark.parametrize("many", [False, True])
def test_a_tower_is_asked_for_its_names(many):
    records = train_records()
    column = "marks" if many else "label"
    known = [json.loads(each["marks"]) if many else [each["label"]] for each in records]
    names = sorted({name for each in known for name in each})
    encoder = modality("image")
    from components.modalities.image.labels import LabelEncoder

    torch.manual_seed(0)
    network = build(ImageTower(**TOWER), {"num_labels": len(names), "labels": names, "many": many}).eval()
    model = SimpleNamespace(network=network, encoder=LabelEncoder(names, many))
    totals, items, _ = scored("labelling", model, label=column)
    errors = [items[record["id"], "errors"] for record in records]
    sizes = [items[record["id"], "num_labels"] for record in records]
    assert sizes == [len(each) for each in known]
    assert totals["error_rate"] == pytest.approx(sum(errors) / sum(sizes))
    assert max(errors) <= (len(names) if many else 1)
    assert encoder.REVISION


# ---- what does not fit -----------------------------------------------------------------------------------------------


def test_a_damaged_network_is_refused(model):
    weight = model.network.visual_projection.weight.data
    kept = weight.clone()
    weight.fill_(float("nan"))
    with pytest.raises(Refused, match=r"The network computes no numbers of some pictures"):
        scored("caption-probe", model)
    weight.copy_(kept)


def test_tasks_say_which_model_they_score(model):
    with pytest.raises(
        Refused, match=r"scores pairs of towers with an encoder of captions; found an encoder of labels"
    ):
        scored("retrieval", SimpleNamespace(network=model.network, encoder=SimpleNamespace(kind="labels")))
    with pytest.raises(Refused, match="'labelling' scores image towers whose encoder is of kind 'labels'"):
        scored("labelling", model)


def test_an_empty_split_is_named(model):
    with pytest.raises(Refused, match="Split 'train' of corpus 'squares' has no accepted picture"):
        scored("retrieval", model, records=[])


def test_templates_have_one_place():
    with pytest.raises(ValueError, match=r"a template has one \{\} for the name of a class"):
        TASKS["zero-shot-classification"](kind="zero-shot-classification", corpus="a", templates=["写真"])
    assert len(set(JA_37)) == 37


def test_a_sample_is_chosen_by_ids(model):
    totals, items, _ = scored("caption-probe", model, max_pictures=9)
    again, others, _ = scored("caption-probe", model, list(reversed(small_records())), max_pictures=9)
    assert totals["num_pictures"] == 9
    assert totals == pytest.approx(again)
    assert {key[0] for key in items} == {key[0] for key in others}


def test_drawings_are_plain_and_hold_their_words():
    svg = matrix("<a & b>", [[0.0, 1.0], [0.5, 0.0]], ["赤", "<i>"], ["x", "y"])
    assert "&lt;a &amp; b&gt;" in svg
    assert len(re.findall("<title>", svg)) == 2
    assert "<i>" not in svg


# ---- other people's --------------------------------------------------------------------------------------------------


def test_somebody_elses_tokenizer_is_read_by_transformers_and_says_how_pictures_are_prepared(model, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((model.encoder.folder / name).read_bytes())
    said = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    theirs = modality("image").open_encoder(tmp_path)
    texts = ["赤い丸", "左に青い四角、右に黄色い星がある", "丸" * 200]
    for ours, ids in zip(model.encoder.ids_of(texts), theirs.ids_of(texts), strict=True):
        assert ours.tolist() == ids.tolist()
    assert theirs.facts["pad"] == model.encoder.facts["pad"]
    assert theirs.preparation.resample == "bicubic"
    assert theirs.preparation.mean == (0.5, 0.5, 0.5)
    totals, _, _ = scored("caption-probe", SimpleNamespace(network=model.network, encoder=theirs))
    assert totals["num_pictures"] == 36
