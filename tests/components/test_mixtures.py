"""Mixtures by shares, what a schedule asks for of the data, and weights that do not add up."""

from types import SimpleNamespace

import pytest
import yaml

from components import mixtures, paths
from components.manifest import Manifest, writing
from components.mixtures import demand_of, demands_on, weighted_folders
from components.outcomes import Refused
from components.recipes import Library
from components.training_schema import WeightedShards
from tests.conftest import ROOT


class Windows:
    """A modality whose shards have as many samples as their name says."""

    @staticmethod
    def open_samples(folders, _split, _spec):
        return range(int(folders[0][0].parent.name.partition("+")[0].rpartition("-")[2]))


def section(**shares):
    shards = [WeightedShards(shards=f"{name.replace('_', '-')}+spm", share=share) for name, share in shares.items()]
    return SimpleNamespace(shards=shards, samples=None)


def test_shares_become_the_numbers_of_times_that_an_epoch_reads_each():
    folders = weighted_folders(section(ja_900=0.5, en_100=0.5), Windows)
    assert [weight for _, weight in folders] == pytest.approx([500 / 900, 500 / 100])
    samples = [weight * size for (_, weight), size in zip(folders, (900, 100), strict=True)]
    assert samples == pytest.approx([500, 500])  # half of each, and the epoch is as long as all shards together


def recipe_with(tmp_path, monkeypatch, shards, name="mix"):
    monkeypatch.chdir(tmp_path)
    raw = yaml.safe_load((ROOT / "recipes" / "gpt-ja-mini.yaml").read_text(encoding="utf-8"))
    raw["pretrain"]["shards"] = shards
    raw["pretrain"]["num_steps"] = 100
    (tmp_path / "recipes").mkdir(exist_ok=True)
    (tmp_path / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return Library()


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        (
            [0.5, 0.4],
            r"the values of 'share' add up to 0\.9, expected 1; in these proportions: a\+s 0\.5556, b\+s 0\.4444",
        ),
        ([0.7, 0.6], r"the values of 'share' add up to 1\.3, expected 1"),
        ([1.0, None], r"'share' belongs to all shards of a mixture"),
    ],
)
def test_a_mixture_whose_shares_do_not_add_up_is_refused_with_the_proportions(tmp_path, monkeypatch, shares, said):
    shards = [
        {"shards": f"{name}+s"} | ({"share": share} if share else {}) for name, share in zip("ab", shares, strict=True)
    ]
    with pytest.raises(Refused, match=said):
        recipe_with(tmp_path, monkeypatch, shards).read("recipe", "mix")


def write_shards(name, num_tokens):
    with writing(Manifest("shard", name, {}, counts={"train/tokens": num_tokens})) as folder:
        (folder / paths.PAYLOAD["shard"]).mkdir()


def test_a_schedule_that_sees_more_tokens_than_there_are_is_told(tmp_path, monkeypatch):
    library = recipe_with(tmp_path, monkeypatch, [{"shards": "a+s", "share": 0.25}, {"shards": "b+s", "share": 0.75}])
    write_shards("a+s", 100_000)
    demand = demand_of(library, "mix")
    assert demand is not None
    assert demand.num_tokens == 100 * 4_096
    assert not demand.is_short
    assert "not sharded yet: b+s" in demand.words()
    write_shards("b+s", 50_000)
    (demand,) = demands_on(library, "b+s")
    assert demand.is_short
    assert demand.passes == pytest.approx(409_600 / 150_000)
    assert "reads 409,600 tokens in its schedule, and its shards hold 150,000: 2.73 epochs" in demand.words()
    assert "Ways out: more data or a lower pretrain.num_steps" in demand.words()
    write_shards("b+s", 500_000)
    (demand,) = demands_on(library, "a+s")
    assert demand.is_short  # all together are enough, and a+s is read more than once
    assert "Text of a+s comes 1.02 times" in demand.words()
    write_shards("a+s", 110_000)
    (demand,) = demands_on(library, "a+s")
    assert not demand.is_short


def test_the_seven_models_say_how_many_tokens_their_schedules_see():
    library = Library(ROOT / "recipes")
    expected = {
        "japanese-gpt2-xsmall": None,
        "japanese-gpt2-small": None,
        "japanese-gpt2-medium": 319.0,
        "japanese-gpt-1b": 312.5,
        "japanese-gpt-neox-small": 167.8,
        "japanese-gpt-neox-3.6b": 312.5,
        "bilingual-gpt-neox-4b": 524.3,
    }
    for name, billions in expected.items():
        demand = mixtures.demand_of(library, name)
        assert demand is not None
        assert demand.num_tokens > 1e11
        assert billions is None or demand.num_tokens / 1e9 == pytest.approx(billions, abs=0.6)
