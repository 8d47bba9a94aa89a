"""Shards of one corpus under two encoders, whose records pair up by number."""

from pathlib import Path

from components import paths
from components.manifest import read_manifest
from components.outcomes import Refused


def require_same_records(name: str, other: str) -> None:
    """Refuse two shards that were made from different records.

    Args:
        name: of shards, a corpus and an encoder joined by `+`; the corpus is that of both.
        other: of the shards that are to pair up with them.

    Raises:
        Refused: with the commands that make them anew.
    """
    ours, theirs = (read_manifest("shard", each).parents for each in (name, other))
    if any(ours[each.as_posix()] != theirs.get(each.as_posix()) for each in _records_of(name).values()):
        raise Refused(
            f"The shards '{other}' and '{name}' were not made from the same accepted records. Run: hiraku shard "
            f"{other}, then hiraku shard {name}"
        )


def require_current(name: str) -> None:
    """Refuse shards that were made from other records than their corpus has now.

    Raises:
        Refused: with the command that makes them anew.
    """
    corpus, theirs = name.partition("+")[0], read_manifest("shard", name).parents
    for verb, place in _records_of(name).items():
        if theirs.get(place.as_posix()) != read_manifest(verb, corpus).payload_hash:
            raise Refused(
                f"The shards '{name}' were not made from the accepted records that corpus '{corpus}' has now. Run: "
                f"hiraku shard {name}"
            )


def _records_of(name: str) -> dict[str, Path]:
    """Verb -> what it left of the corpus whose shards these are."""
    return {verb: paths.payload(verb, name.partition("+")[0]) for verb in ("ingest", "validate")}
