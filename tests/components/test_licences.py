"""Licences of data: what forbids a release, how it is inherited, and that it is never lost on the way to the card."""

import json
from pathlib import Path

import pytest
import yaml

from components import paths
from components.ingest import ingest
from components.licences import hand_on, inherited, judged, obstacle, require_releasable, require_text
from components.lineage import Lineage, lineage_from, write_lineage
from components.manifest import Manifest, read_manifest, writing
from components.outcomes import Refused
from components.recipes import Library

NC = "CC BY-NC-SA 4.0"


@pytest.mark.parametrize(
    ("licence", "reason"),
    [
        ("MIT", ""),
        ("CC BY-SA 4.0", ""),
        ("cc0-1.0", ""),
        ("MIT OR CC-BY-NC-4.0", ""),
        ("CC BY-SA 3.0 and GFDL", ""),
        (NC, "forbids commercial use"),
        ("Apache-2.0 AND CC-BY-NC-4.0", "forbids commercial use"),
        ("Town Licence (non-commercial)", "forbids commercial use"),
        ("CC-BY-ND-4.0", "forbids derivatives"),
        ("CC-BY-NC-ND-4.0", "forbids derivatives"),
        ("cc", "is not known to allow a release"),
        ("Common Crawl terms of use", "is not known to allow a release"),
        ("", "is not known to allow a release"),
    ],
)
def test_a_licence_is_judged_by_its_name(licence: str, reason: str) -> None:
    assert obstacle(licence, "MIT") == reason
    assert obstacle(licence, "MIT", [licence.upper()]) == ""


def test_non_commercial_data_may_become_a_non_commercial_model_and_no_other() -> None:
    assert obstacle(NC, "CC-BY-NC-4.0") == ""
    assert obstacle(NC, "CC-BY-4.0") != ""


def write_corpus(rows: list[dict[str, str]], **keys: object) -> None:
    section = {
        "description": "Sentences.",
        "language": "ja",
        "licence": "CC0-1.0",
        "source": {"kind": "files", "paths": ["town"], "licence_field": "license", "source_field": "source"},
        "columns": {"text": {"modality": "text"}},
        **keys,
    }
    for place in ("recipes/corpora", "data/town"):
        Path(place).mkdir(parents=True, exist_ok=True)
    Path("recipes/corpora/town.yaml").write_text(yaml.safe_dump(section))
    Path("data/town/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def verdict(manifest: Manifest, own: str = "MIT", allowed: list[str] | None = None) -> Lineage:
    return judged(lineage_from(manifest), own, allowed or [], {"town": Library().read("corpus", "town")})


def chain(*links: tuple[str, str]) -> Manifest:
    """States, each made from the one before, the first from the records; a package of the last, not on the disk."""
    parents = {paths.payload("ingest", "town").as_posix(): read_manifest("ingest", "town").payload_hash}
    for verb, name in links:
        with writing(Manifest(verb, name, {}, dict(parents))) as folder:
            (folder / paths.PAYLOAD[verb]).write_text(name)
        parents = {paths.payload(verb, name).as_posix(): read_manifest(verb, name).payload_hash}
    return Manifest("package", links[-1][1], {}, parents)


@pytest.fixture
def _some_non_commercial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"文{number}です。", "license": NC if number == 7 else "CC BY 4.0"} for number in range(9)]
    write_corpus(rows)
    ingest("town")


@pytest.mark.usefixtures("_some_non_commercial")
def test_one_record_under_a_non_commercial_licence_makes_a_model_and_what_starts_from_it_unreleasable() -> None:
    reason = f"1 record of corpus 'town' under {NC}, which forbids commercial use"
    sft = verdict(chain(("pretrain", "tiny"), ("align", "tiny-sft")))
    assert sft.obstacles == (reason,)
    assert verdict(chain(("pretrain", "tiny"), ("align", "tiny-sft"), ("align", "tiny-ppo"))).obstacles == (reason,)
    row = next(row for row in sft.as_rows()["states"] if row["verb"] == "ingest")
    assert row["licences"] == {"CC BY 4.0": 8, NC: 1}
    assert verdict(chain(("pretrain", "tiny")), own="CC-BY-NC-SA-4.0").obstacles == ()
    vouched = verdict(chain(("pretrain", "tiny")), allowed=[NC])
    assert (vouched.obstacles, vouched.vouched) == ((), (NC,))


@pytest.mark.usefixtures("_some_non_commercial")
def test_what_a_model_was_only_scored_on_does_not_count() -> None:
    manifest = chain(("evaluate", "tiny"))
    assert verdict(manifest).obstacles == ()


@pytest.mark.usefixtures("_some_non_commercial")
def test_a_corpus_may_forbid_a_release_whatever_its_licences_are() -> None:
    write_corpus([{"text": "一つの文です。"}], releasable=False)
    ingest("town")
    assert verdict(chain(("pretrain", "tiny"))).obstacles == (
        "corpus 'town' says that no model made from it may be released (releasable: false)",
    )


@pytest.mark.usefixtures("_some_non_commercial")
def test_a_corpus_vouches_for_unknown_licences_but_not_against_what_a_name_says() -> None:
    write_corpus(
        [
            {"text": "一つの文です。", "license": "Town Licence"},
            {"text": "別の文です。", "license": NC},
        ],
        releasable=True,
    )
    ingest("town")
    found = verdict(chain(("pretrain", "tiny")))
    assert found.vouched == ("Town Licence",)
    assert found.obstacles == (f"1 record of corpus 'town' under {NC}, which forbids commercial use",)


def test_a_model_of_somebody_else_hands_on_its_licence_and_what_its_own_folder_says(tmp_path: Path) -> None:
    theirs = Manifest("package", "theirs", {}, {}, {}, "CC-BY-NC-4.0", {"obstacles": ["a reason of its own"]}, "1" * 64)
    trained = Manifest("align", "ours", {}, {paths.layout("theirs", "transformers").as_posix(): "2" * 64})
    own = Manifest("package", "ours", {}, {paths.payload("align", "ours").as_posix(): ""}, {}, "MIT")
    found = judged(Lineage((theirs, trained, own), ()), "MIT", [], {})
    assert found.obstacles == (
        "model 'theirs' is under CC-BY-NC-4.0, which forbids commercial use",
        "model 'theirs': a reason of its own",
    )
    write_lineage(found, tmp_path, ())
    assert inherited(tmp_path) == list(found.obstacles)
    assert inherited(tmp_path / "elsewhere") == []
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "lineage.json").write_text((tmp_path / "lineage.json").read_text().replace("a reason of its own", ""))
    with pytest.raises(Refused, match="was changed after it was made"):
        inherited(changed)
    with pytest.raises(Refused, match=r"may not be released.*Nothing was sent(?s:.*)a reason of its own"):
        require_releasable("ours", tmp_path)


def test_a_package_that_nobody_has_judged_is_not_published(tmp_path: Path) -> None:
    write_lineage(Lineage((Manifest("package", "old", {}),), ()), tmp_path, ())
    with pytest.raises(Refused, match=r"does not tell whether.*hiraku release old"):
        require_releasable("old", tmp_path)
    (tmp_path / "lineage.json").unlink()
    write_lineage(Lineage((Manifest("package", "new", {}),), (), obstacles=()), tmp_path, ())
    require_releasable("new", tmp_path)


@pytest.mark.parametrize("licence", ["creativeml-openrail-m", "CreativeML Open RAIL-M", "bigcode-openrail-m"])
def test_the_text_of_a_licence_that_restricts_use_must_lie_beside_the_weights(tmp_path: Path, licence: str):
    require_text("a", "Apache-2.0", tmp_path)
    with pytest.raises(Refused, match=r"whose text must go to everybody.* has no LICENSE\."):
        require_text("a", licence, tmp_path)
    (tmp_path / "LICENSE.md").write_text("\n")
    with pytest.raises(Refused, match="has no LICENSE"):
        require_text("a", licence, tmp_path)
    (tmp_path / "LICENSE.md").write_text("Attachment A.")
    require_text("a", licence, tmp_path)


def test_a_text_is_handed_on_from_the_first_folder_that_has_one(tmp_path: Path):
    for name in ("none", "first", "second", "to"):
        (tmp_path / name).mkdir()
    for name in ("first", "second"):
        (tmp_path / name / "licence.txt").write_text(name)
    hand_on([tmp_path / "absent", tmp_path / "none"], tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())
    hand_on([tmp_path / "none", tmp_path / "first", tmp_path / "second"], tmp_path / "to")
    assert (tmp_path / "to" / "LICENSE").read_text() == "first"
