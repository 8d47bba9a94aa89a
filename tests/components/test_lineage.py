"""The way back from a state to the raw bytes."""

from pathlib import Path

import pytest

from components import paths
from components.lineage import (
    WEIGHTS_HASH,
    Lineage,
    lineage_of,
    merged,
    mermaid,
    nearest_parents,
    spellings,
    state_of,
)
from components.manifest import Manifest, writing
from components.outcomes import Refused


def make(verb: str, name: str, parents: dict[str, str], payload: str, licence: str = "") -> str:
    """A state with one file; returns its hash."""
    manifest = Manifest(verb=verb, name=name, revisions={}, parents=parents, licence=licence)
    with writing(manifest) as folder:
        inner = {"ingest": "records", "fit": "encoder", "shard": "shards", "pretrain": "weights"}[verb]
        (folder / inner).mkdir()
        (folder / inner / "file").write_text(payload)
    return manifest.payload_hash


@pytest.fixture
def _diamond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights from shards and an encoder, which both come from one corpus."""
    monkeypatch.chdir(tmp_path)
    records = {"artifacts/ingested/wiki/records": make("ingest", "wiki", {"data/wiki": "raw"}, "a", "CC-BY-SA-4.0")}
    encoder = {"artifacts/fitted/spm-8k/encoder": make("fit", "spm-8k", records, "b", "CC-BY-SA-4.0")}
    shards = make("shard", "wiki+spm-8k", records | encoder, "c")
    shard = {"artifacts/sharded/wiki+spm-8k/shards": shards}
    make("pretrain", "gpt", encoder | shard | {"recipes/gpt.yaml": "section"}, "d", "MIT")


@pytest.mark.usefixtures("_diamond")
def test_ancestors_come_once_each_and_before_their_descendants() -> None:
    found = [(state.verb, state.name) for state in lineage_of("pretrain", "gpt").states]
    assert found == [("ingest", "wiki"), ("fit", "spm-8k"), ("shard", "wiki+spm-8k"), ("pretrain", "gpt")]


@pytest.mark.usefixtures("_diamond")
def test_the_way_ends_at_what_no_stage_made() -> None:
    lineage = lineage_of("pretrain", "gpt")
    assert [vars(each) for each in lineage.inputs] == [
        {"path": "data/wiki", "content_hash": "raw"},
        {"path": "recipes/gpt.yaml", "content_hash": "section"},
    ]
    assert lineage.licences() == ["CC-BY-SA-4.0", "MIT"]
    rows = lineage.as_rows()["states"]
    assert rows[1]["parents"] == {"artifacts/ingested/wiki/records": rows[0]["payload_hash"]}


@pytest.mark.usefixtures("_diamond")
def test_what_is_drawn_leaves_out_the_edges_that_others_tell() -> None:
    lineage = lineage_of("pretrain", "gpt")
    assert nearest_parents(lineage) == {
        ("ingest", "wiki"): [],
        ("fit", "spm-8k"): [("ingest", "wiki")],
        ("shard", "wiki+spm-8k"): [("fit", "spm-8k")],
        ("pretrain", "gpt"): [("shard", "wiki+spm-8k")],
    }
    edges = [line.strip() for line in mermaid(lineage).splitlines() if "-->" in line]
    assert edges == ["i0 --> s0", "s0 --> s1", "s1 --> s2", "i1 --> s3", "s2 --> s3"]


@pytest.mark.parametrize(
    ("licences", "shown"),
    [
        (["CC BY-SA 4.0", "CC-BY-SA-4.0", "cc-by-sa-4.0"], "CC-BY-SA-4.0"),
        (["CC BY-SA 4.0"], "CC BY-SA 4.0"),
    ],
)
def test_licences_that_are_spelt_alike_are_shown_as_one(licences: list[str], shown: str) -> None:
    assert spellings([*licences, "MIT"]) == dict.fromkeys(licences, shown) | {"MIT": "MIT"}
    assert merged(dict.fromkeys(licences, 2)) == {shown: 2 * len(licences)}


@pytest.mark.usefixtures("_diamond")
def test_a_state_made_from_another_content_than_there_is_now_is_refused_with_the_command() -> None:
    make("ingest", "wiki", {"data/wiki": "newer"}, "other")
    with pytest.raises(Refused, match=r"artifacts/fitted/spm-8k was made from .*\n?.*Run: hiraku fit spm-8k"):
        lineage_of("pretrain", "gpt")


def test_of_somebody_elses_package_the_files_of_its_layout_count_or_what_was_told_of_it_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = Manifest("package", "theirs", {}, details={WEIGHTS_HASH: "files"})
    with writing(manifest) as folder:
        (folder / "causal-lm").mkdir()
    place = paths.layout("theirs", "causal-lm").as_posix()
    for told in ("files", manifest.payload_hash):
        make("pretrain", "gpt", {place: told}, "d")
        assert [state.verb for state in lineage_of("pretrain", "gpt").states] == ["package", "pretrain"]
    make("pretrain", "gpt", {place: "others"}, "d")
    with pytest.raises(Refused, match=rf"was made from {place} with the content others, which is files now"):
        lineage_of("pretrain", "gpt")


def test_a_missing_ancestor_is_refused_with_the_command_that_makes_it(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    make("pretrain", "gpt", {"artifacts/fitted/spm-8k/encoder": "hash"}, "d")
    with pytest.raises(Refused, match="Run: hiraku fit spm-8k"):
        lineage_of("pretrain", "gpt")


@pytest.mark.parametrize(
    ("path", "node"),
    [
        ("artifacts/sharded/wiki+spm/shards", ("shard", "wiki+spm")),
        ("artifacts/packaged/gpt/transformers/config.json", ("package", "gpt")),
        ("artifacts/outcomes/fit/spm.json", None),
        ("artifacts/fitted", None),
        ("data/fitted/spm/encoder", None),
    ],
)
def test_a_path_tells_which_stage_left_it(path: str, node: tuple[str, str] | None) -> None:
    assert state_of(path) == node


def test_a_card_does_not_tell_of_what_a_judge_was_made_from() -> None:
    def state(verb: str, name: str, *parents: tuple[str, str]) -> Manifest:
        return Manifest(verb, name, {}, {paths.payload(*each).as_posix(): "0" * 64 for each in parents})

    own = (
        state("ingest", "words"),
        state("pretrain", "model", ("ingest", "words")),
        state("evaluate", "model", ("pretrain", "model"), ("package", "judge"), ("ingest", "words")),
        state("package", "model", ("pretrain", "model"), ("evaluate", "model")),
    )
    theirs = (
        state("ingest", "pictures"),
        state("pretrain", "judge", ("ingest", "pictures")),
        state("evaluate", "judge", ("pretrain", "judge")),
        state("package", "judge", ("pretrain", "judge"), ("evaluate", "judge")),
    )
    assert Lineage((*theirs, *own), ()).without_judges().states == own
