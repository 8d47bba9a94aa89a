"""Samples of pictures and captions: which caption, which batch, and what does not fit."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components import paths
from components.batches import BatchPlan, BatchStream, Feed, valid_batches, whole_order
from components.distinct import TooFew, distinct_batches
from components.fit import fit
from components.modalities import modality
from components.modalities.image.cutting import normalised, pixels_of
from components.outcomes import Refused
from components.shard import shard
from models.pixels import MEAN, STD
from tests.components.image.small_squares import CORPUS, ENCODERS, small_records, write_project
from tests.components.sharded import sharded
from tests.components.speech.small_speech import write_records, write_yaml

NAMES = ("squares+pixels", "squares+tower", "squares+captions", "squares+labels", "squares+marks")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return sharded(tmp_path_factory.mktemp("samples"), small_records(), write_project, NAMES)


@pytest.fixture(autouse=True)
def _inside(project, monkeypatch):
    monkeypatch.chdir(project.root)


def spec(**keys):
    found = {"form": "pairs", "features": ["squares+tower"], "pictures": None, "batch_samples": 8, "caption_shares": {}}
    return SimpleNamespace(**(found | keys))


def opened(split="train", weight=1.0, words="squares+captions", **keys):
    return modality("image").open_samples([(paths.payload("shard", words), weight)], split, spec(**keys))


def texts_of(samples, epoch, numbers=None):
    encoder = modality("image").open_encoder(paths.payload("fit", "captions"))
    batch = samples.batch(np.arange(len(samples)) if numbers is None else numbers, epoch)
    return [line.partition(": ")[2] for line in modality("image").describe(batch, encoder)]


def captions_of(project, split="train"):
    return [dict_of(record["captions"]) for record in project.records if record["split"] == split]


def dict_of(value):
    return {text: kind for kind, text in json.loads(value)}


# ---- pairs -----------------------------------------------------------------------------------------------------------


def test_every_sample_has_one_of_its_captions_and_another_one_in_later_epochs(project):
    samples, captions = opened(), captions_of(project)
    seen = [set() for _ in captions]
    for epoch in range(30):
        for number, text in enumerate(texts_of(samples, epoch)):
            assert text in captions[number]
            seen[number].add(text)
    assert all(found == set(known) for found, known in zip(seen, captions, strict=True))


@pytest.mark.parametrize("shares", [{}, {"web": 1, "generated": 3}, {"generated": 1}])
def test_kinds_come_as_often_as_their_shares_say(project, shares):
    samples, captions = opened(caption_shares=shares), captions_of(project)
    kinds = [captions[number][text] for epoch in range(60) for number, text in enumerate(texts_of(samples, epoch))]
    expected = shares.get("web", 0) / sum(shares.values()) if shares else 0.5
    assert kinds.count("web") / len(kinds) == pytest.approx(expected, abs=0.04)


def test_features_and_pictures_stand_beside_their_captions(project):
    records = [record for record in project.records if record["split"] == "train"]
    numbers = np.array([5, 0, 17])
    plain = opened(features=None, pictures=["squares+pixels"]).batch(numbers, 2)
    cached = opened().batch(numbers, 2)
    assert torch.equal(plain["ids"], cached["ids"])
    chosen = [records[number]["picture"] for number in numbers]
    assert torch.equal(plain["pixels"], normalised(pixels_of(chosen, 24, "bilinear"), MEAN, STD))
    assert cached["features"].shape == (3, 16)
    assert cached["mask"].sum(dim=1).max() == cached["ids"].shape[1]
    assert (cached["ids"][cached["mask"] == 0] == 3).all()


def test_a_batch_has_no_caption_and_no_picture_twice_and_none_is_lost(project):
    samples = opened()
    plan = BatchPlan(len(samples), 8, 3, order=samples.order)
    for epoch in range(4):
        captions, pictures = samples.digests(epoch)
        numbers = []
        for place in range(plan.epoch_batches):
            found, indices = plan.indices(epoch * plan.epoch_batches + place)
            assert found == epoch
            assert len(set(captions[indices])) == len(set(pictures[indices])) == 8
            numbers += indices.tolist()
        assert len(set(numbers)) == len(numbers) == len(samples) // 8 * 8
    assert len(set(captions)) < len(samples)
    assert len(set(pictures)) < len(samples)


def test_batches_are_the_same_for_workers_and_ranks_and_from_anywhere(project, monkeypatch):
    samples = opened()
    plan = BatchPlan(len(samples), 8, 3, order=samples.order)
    stream = iter(BatchStream(samples, plan, 0, frozenset()))
    whole = [next(stream) for _ in range(9)]
    feed = Feed(opened(), plan, 2, False)
    feed.go_to(5, [])
    for number, batch in whole[5:]:
        again, found = feed.next()
        assert again == number
        assert all(torch.equal(found[key], batch[key]) for key in batch)
    shares = []
    for rank in range(2):
        part = BatchStream(samples, plan, 3, frozenset())
        part.share = slice(rank, None, 2)
        shares.append(next(iter(part))[1])
    assert torch.equal(torch.stack([each["features"] for each in shares], 1).flatten(0, 1), whole[3][1]["features"])


def test_held_out_pairs_are_the_same_every_time_and_differ_within_a_batch(project):
    samples = opened("valid")
    training = SimpleNamespace(samples=SimpleNamespace(micro_batch_samples=8), valid_samples=5)
    once, again = (list(valid_batches(training, samples)) for _ in range(2))
    assert [len(each["ids"]) for each in once] == [5]
    assert torch.equal(once[0]["ids"], again[0]["ids"])
    assert texts_of(samples, 0) == texts_of(samples, 7)


@pytest.mark.parametrize(("weight", "expected"), [(0.5, 18), (2.0, 72)])
def test_a_weight_is_how_often_an_epoch_reads_a_corpus(project, weight, expected):
    samples = opened(weight=weight)
    assert len(samples) == expected
    turns = [samples.sources[0].taken(np.arange(len(samples)), epoch)[0] for epoch in range(2)]
    counts = np.bincount(np.concatenate(turns), minlength=36)
    assert set(counts) == {round(2 * weight)}


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_labelled_pictures_have_the_number_of_their_class(project):
    keys = {"form": "labelled", "features": None, "pictures": ["squares+pixels"]}
    samples = opened(words="squares+labels", **keys)
    records = [record for record in project.records if record["split"] == "train"]
    batch = samples.batch(np.arange(7), 0)
    names = modality("image").open_encoder(paths.payload("fit", "labels"))
    assert modality("image").describe(batch, names) == [record["label"] for record in records[:7]]
    assert batch["pixels"].shape == (7, 3, 24, 24)
    many = opened(words="squares+marks", **keys).batch(np.arange(7), 0)
    names = modality("image").open_encoder(paths.payload("fit", "marks"))
    assert many["labels"].dtype == torch.float32
    assert modality("image").describe(many, names) == [", ".join(json.loads(each["marks"])) for each in records[:7]]


# ---- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"caption_shares": {"blip": 1.0}}, "captions of the kind blip, but 'squares\\+captions' has web, generated"),
        ({"batch_samples": 40}, "There are 36 training samples, but a batch takes 40"),
        ({"batch_samples": 35}, "only [0-9]+ differ in caption and picture, but a contrast takes 35"),
        ({"batch_samples": 1}, "samples.batch_samples is 1, but a pair alone has nothing to differ from"),
        ({"features": ["squares+pixels"]}, "holds pixels, expected tower. Change the key 'samples.features'"),
        ({"features": ["squares+tower"] * 2}, "There are 1 shards of words and 2 of pictures"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(keys, words):
    with pytest.raises(Refused, match=words):
        opened(**keys)


def test_labels_are_no_captions():
    with pytest.raises(Refused, match="holds labels, expected captions"):
        opened(words="squares+labels")


def test_pictures_of_other_records_are_refused(project):
    write_yaml(paths.RECIPES / "corpora" / "other.yaml", CORPUS)
    write_records(project.records[:20], "other")
    shard("other+tower")
    with pytest.raises(Refused, match="were not made from the same accepted records"):
        opened(features=["other+tower"])


def test_features_of_two_towers_are_not_mixed(project):
    write_yaml(paths.RECIPES / "encoders" / "half.yaml", ENCODERS["half"])
    fit("half")
    shard("squares+half")
    folders = [(paths.payload("shard", "squares+captions"), 1.0)] * 2
    with pytest.raises(Refused, match="'squares\\+half' and 'squares\\+tower' were made with different encoders"):
        modality("image").open_samples(folders, "train", spec(features=["squares+tower", "squares+half"]))


# ---- batches in which nothing comes twice ----------------------------------------------------------------------------


def distinct(keys, batch, seed=0):
    order = whole_order(len(keys[0]), seed, 0)
    found = distinct_batches(order, keys, batch).reshape(-1, batch)
    for key in keys:
        assert all(len(set(key[row])) == batch for row in found)
    return order, found


def test_without_likeness_the_order_stays():
    order, found = distinct([np.arange(100)], 8)
    assert found.flatten().tolist() == order[:96].tolist()


@pytest.mark.parametrize("batch", [2, 7, 64])
def test_samples_that_wait_come_as_soon_as_they_can(batch):
    rng = np.random.default_rng(0)
    keys = [rng.integers(0, 700, 2000), rng.integers(0, 1500, 2000)]
    order, found = distinct(keys, batch)
    assert len(np.unique(found)) == found.size
    places = np.empty(2000, np.int64)
    places[order] = np.arange(2000)
    late = places[found].reshape(-1) - np.arange(found.size)
    assert np.abs(late).mean() < 3 * batch


def test_where_half_of_all_are_alike_others_come_again():
    keys = [np.where(np.arange(400) % 2, -1, np.arange(400))]
    _, found = distinct(keys, 10)
    assert found.shape == (40, 10)
    assert (keys[0][found] == -1).sum(axis=1).max() == 1


def test_too_few_that_differ_are_counted():
    with pytest.raises(TooFew) as few:
        distinct_batches(np.arange(10), [np.arange(10) % 3], 4)
    assert few.value.found == 3
