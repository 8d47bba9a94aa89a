"""What Great Expectations found of a corpus, in plain words."""

from dataclasses import dataclass
from typing import Any

from components.records import FILE

MOST_EXAMPLES = 20
"""Ids that a page shows for one expectation; the page must not become a copy of the data."""


@dataclass(frozen=True)
class Finding:
    """One expectation and what was found, in plain words."""

    passed: bool
    subject: str
    """The column of facts, or `records` for the table as a whole."""
    claim: str
    found: str
    keys: tuple[str, ...]
    """Keys of the corpus YAML that decide it."""
    examples: tuple[str, ...]
    """Records that break it, at most MOST_EXAMPLES: `id (value)`, or `id in file (value)`."""

    def line(self) -> str:
        """`found …, expected …, keys to change` in one line."""
        first = f"; first are {', '.join(self.examples[:3])}" if self.examples else ""
        return f"{self.subject}: found {self.found}, expected: {self.claim} ({', '.join(self.keys)}){first}"


def findings_of(result: dict[str, Any]) -> list[Finding]:
    """Findings of a Great Expectations result (`to_json_dict()`), in the order of its suite.

    Raises:
        RuntimeError: an expectation could not be computed at all, which is a fault of the program.
    """
    return [_finding(each) for each in result["results"]]


def _finding(each: dict[str, Any]) -> Finding:
    config, outcome = each["expectation_config"], each["result"]
    meta, arguments = config.get("meta") or {}, config["kwargs"]
    subject = arguments.get("column", "records")
    if not outcome:
        raise RuntimeError(f"{config['type']} on {subject} could not be computed: {each.get('exception_info')}")
    places = outcome.get("partial_unexpected_index_list") or []
    return Finding(
        passed=bool(each["success"]),
        subject=subject,
        claim=meta.get("claim", config["type"]) + _tolerance(arguments.get("mostly", 1.0)),
        found=_found(outcome),
        keys=tuple(meta.get("keys", ())),
        examples=tuple(_example(place, subject) for place in places[:MOST_EXAMPLES]),
    )


def _tolerance(mostly: float) -> str:
    return "" if mostly >= 1 else f", in at least {100 * mostly:g} % of records"


def _found(outcome: dict[str, Any]) -> str:
    if "unexpected_count" in outcome:
        broken, total = outcome["unexpected_count"], outcome["element_count"]
        if not broken:
            return f"all {total:,} keep it"
        return f"{broken:,} of {total:,} records ({100 * broken / total:.2f} %) that break it"
    if outcome.get("partial_missing_list"):
        return f"no record with {', '.join(map(str, outcome['partial_missing_list']))}"
    value = outcome.get("observed_value")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int | float) else "all of them" if value is None else str(value)


def _example(place: dict[str, Any], subject: str) -> str:
    value = place.get(subject)
    known = value is not None and subject not in ("id", "digest")
    named = f"{place['id']} in {place[FILE]}" if place.get(FILE) else str(place["id"])
    return f"{named} ({value})" if known else named
