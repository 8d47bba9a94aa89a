"""Shards of one corpus under two encoders, whose records pair up by number."""

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
    corpus = name.partition("+")[0]
    records = [paths.payload(verb, corpus).as_posix() for verb in ("ingest", "validate")]
    ours, theirs = (read_manifest("shard", each).parents for each in (name, other))
    if any(ours[each] != theirs.get(each) for each in records):
        raise Refused(
            f"The shards '{other}' and '{name}' were not made from the same accepted records. Run: hiraku shard "
            f"{other}, then hiraku shard {name}"
        )
