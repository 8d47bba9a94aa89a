"""The report of `validate` in Markdown: what was expected, and the profile in a few lines."""

from typing import Any

from components.findings import Finding
from components.markdown import number, table

MOST_ROWS = 10


def validation_words(name: str, findings: list[Finding], profile: dict[str, Any]) -> str:
    """Expectations, lengths, categories, sources, duplicates and vocabulary of a corpus.

    Args:
        name: of the corpus.
        findings: one per expectation.
        profile: of `components.profiles`, with `duplicates` and `surveys`.
    """
    failed = [each for each in findings if not each.passed]
    verdict = f"refused: {len(failed)} of {len(findings)} expectations do not hold" if failed else "accepted"
    parts = [f"# {name}: {verdict}", *(f"- {each.line()}" for each in failed)]
    parts.append(table(("", "number"), [("records", number(profile["num_records"])), *_duplicates(profile)]))
    parts.append(_facts(profile))
    for title, counts in {"split": profile["splits"], "source": profile["sources"], **profile["categories"]}.items():
        parts.append(_counts(title, counts, profile["num_records"]))
    parts += [_vocabulary(column, each) for column, each in profile.get("surveys", {}).items()]
    return "\n\n".join(parts) + "\n"


def _duplicates(profile: dict[str, Any]) -> list[tuple[str, str]]:
    found = profile["duplicates"]
    share = found["num_left_out"] / max(found["num_rows"], 1)
    return [("raw rows", number(found["num_rows"])), ("of these, equal to an earlier one", f"{share:.2%}")]


def _facts(profile: dict[str, Any]) -> str:
    rows = [
        (name, number(each["mean"]), *(number(each["quantiles"][key]) for key in ("0.01", "0.5", "0.99", "1")))
        for name, each in profile["facts"].items()
    ]
    return table(("fact of a record", "mean", "1 % below", "median", "1 % above", "most"), rows)


def _counts(title: str, counts: dict[str, int], total: int) -> str:
    rows = [(key, number(count), f"{count / max(total, 1):.1%}") for key, count in list(counts.items())[:MOST_ROWS]]
    more = f"\n\nand {len(counts) - MOST_ROWS:,} more" if len(counts) > MOST_ROWS else ""
    return table((title, "records", "share"), rows) + more


def _vocabulary(column: str, survey: dict[str, Any]) -> str:
    frequent = " ".join(each for each in list(survey["characters"])[:100] if each.strip() and len(each) == 1)
    return (
        f"{column}: {number(survey['num_characters'])} characters, {number(survey['num_distinct_characters'])} "
        f"different ones, {number(survey['num_seen_once'])} of them seen once. Of {number(survey['num_lines'])} lines "
        f"{survey['repeated_line_share']:.1%} had come before (estimated). The most frequent characters: {frequent}"
    )
