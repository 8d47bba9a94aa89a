"""The page a person reads about a validated corpus: one file, nothing from the net, the same bytes for the same data.

Great Expectations' own Data Docs load style sheets and a logo from the net, so they stand beside, and this is shown.
"""

from collections.abc import Iterable
from html import escape
from typing import Any

from components.charts import bar_chart
from components.contact_sheet import STYLE as SHEET_STYLE
from components.contact_sheet import Sheet, sheet_section
from components.findings import MOST_EXAMPLES, Finding
from components.records import SPLITS

MOST_ROWS = 15

STYLE = """
:root { --ink: #1c2430; --soft: #5d6878; --line: #e3e7ee; --back: #f5f7fa; --card: #fff; --bar: #3f6fb5;
  --good: #1b7f4d; --good-back: #e4f5ec; --bad: #b3261e; --bad-back: #fdeceb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b6; --line: #303846; --back: #151a21;
  --card: #1d242e; --bar: #7ba4e0; --good: #7ddba8; --good-back: #173326; --bad: #ff9d94; --bad-back: #3d1d1b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.55 system-ui, "Hiragino Sans", "Noto Sans CJK JP", "Noto Sans JP", "Yu Gothic UI", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0; } h2 { font-size: 17px; margin: 0 0 12px; }
p { margin: 4px 0 0; } .soft { color: var(--soft); } .number { text-align: right; font-variant-numeric: tabular-nums; }
.verdict { display: flex; gap: 16px; align-items: center; margin: 22px 0; padding: 16px 20px; border-radius: 10px; }
.verdict b { font-size: 20px; } .good { background: var(--good-back); color: var(--good); }
.bad { background: var(--bad-back); color: var(--bad); } .mark { font-size: 26px; line-height: 1; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px; }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 23px; font-variant-numeric: tabular-nums; }
section { margin-top: 18px; padding: 18px 20px; overflow-x: auto; }
.two { columns: 420px; column-gap: 18px; margin-top: 18px; } .two section { break-inside: avoid; margin: 0 0 18px; }
.two + section { margin-top: 0; } .wide td:nth-child(3), .wide td:nth-child(4) { min-width: 190px; }
table { border-collapse: collapse; width: 100%; } th { color: var(--soft); font-weight: 600; font-size: 13px; }
th, td { text-align: left; padding: 7px 10px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; } th.number { text-align: right; }
.badge { display: inline-block; border-radius: 99px; padding: 1px 10px; font-size: 13px; font-weight: 600; }
code { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.wide td:nth-child(2) { white-space: nowrap; }
.share { display: flex; align-items: center; gap: 8px; min-width: 150px; font-variant-numeric: tabular-nums; }
.share i { width: 62px; white-space: nowrap; font-style: normal; text-align: right; }
.share u { flex: 1; }
.share b { display: block; height: 9px; border-radius: 3px; background: var(--bar); min-width: 2px; }
svg { display: block; width: 100%; height: auto; } svg rect { fill: var(--bar); }
svg text { fill: var(--soft); font-size: 11px; } svg line { stroke: var(--line); }
""".strip()


# ---- the page --------------------------------------------------------------------------------------------------------


def validation_page(
    name: str,
    description: str,
    findings: list[Finding],
    profile: dict[str, Any],
    ingest_report: dict[str, Any],
    sheets: Iterable[Sheet] = (),
) -> str:
    """The page of one validation as HTML.

    Args:
        name: of the corpus.
        description: its sentence.
        findings: one per expectation.
        profile: of `components.profiles`.
        ingest_report: `report.json` of `ingest`, or empty.
        sheets: records as a person sees them, of corpora with pictures.
    """
    contact, *broken = [sheet_section(each) for each in sheets] or [""]
    subjects = dict.fromkeys(each.subject for each in findings)
    charts = [_chart_section(each, profile["facts"][each]) for each in subjects if each in profile["facts"]]
    total = profile["num_records"]
    parts = [
        f"<h1>{escape(name)}</h1><p class=soft>{escape(description)}</p>",
        _verdict(findings),
        _tiles(profile, ingest_report),
        contact,
        _expectation_table(findings),
        _example_table(findings),
        *broken,
        f"<div class=two>{''.join(charts)}</div>",
        _reject_table(ingest_report),
        _change_table(ingest_report.get("changes", {})),
        _cleaning_table(ingest_report.get("cleaning", {})),
        _translation_table(ingest_report.get("translation", {})),
        _filter_table(ingest_report.get("filter", {})),
        _download_table(ingest_report.get("downloads", {})),
        '<div class="two">',
        _count_table("Licences", "licence", profile["licences"], total),
        _count_table("Sources", "source", profile["sources"], total),
        *(_count_table(_title(each), "value", counts, total) for each, counts in profile["categories"].items()),
        _composition(profile),
        *map(_survey_section, profile.get("surveys", {}), profile.get("surveys", {}).values()),
        "</div>",
    ]
    title = f"<title>Data report: {escape(name)}</title>"
    head = f'<meta charset=utf-8><meta name=viewport content="width=device-width, initial-scale=1">{title}'
    style = f"{STYLE}\n{SHEET_STYLE}" if contact else STYLE
    body = "\n".join(part for part in parts if part)
    return (
        f"<!doctype html>\n<html lang=en><head>{head}\n<style>\n{style}\n</style></head>\n<body><main>\n{body}\n"
        "</main></body></html>\n"
    )


def _title(fact: str) -> str:
    return fact.replace("_num_", " ").replace("_", " ").capitalize()


def _verdict(findings: list[Finding]) -> str:
    failed = [each for each in findings if not each.passed]
    if failed:
        said = f"<b>Refused</b><p>{len(failed)} of {len(findings)} expectations do not hold.</p>"
        return f'<div class="verdict bad"><span class=mark>✕</span><div>{said}</div></div>'
    said = f"<b>Accepted</b><p>All {len(findings)} expectations hold.</p>"
    return f'<div class="verdict good"><span class=mark>✓</span><div>{said}</div></div>'


def _tiles(profile: dict[str, Any], ingest_report: dict[str, Any]) -> str:
    splits = {split: profile["splits"].get(split, 0) for split in SPLITS}
    tiles = {"records": profile["num_records"], **splits}
    if ingest_report:
        tiles = {"rows read": ingest_report["rows"], "rejects": sum(ingest_report["rejects"].values())} | tiles
    boxes = (
        f"<div class=tile><b>{count:,}</b><span class=soft>{escape(what)}</span></div>" for what, count in tiles.items()
    )
    return f"<div class=tiles>{''.join(boxes)}</div>"


def _table(heads: Iterable[str], rows: Iterable[str]) -> str:
    return f"<table><thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _section(title: str, body: str, note: str = "") -> str:
    said = f"<p class=soft>{escape(note)}</p>" if note else ""
    return f"<section><h2>{escape(title)}</h2>{body}{said}</section>"


def _expectation_table(findings: list[Finding]) -> str:
    heads = ("<th></th>", "<th>about</th>", "<th>expected</th>", "<th>found</th>", "<th>decided by</th>")
    rows = (
        f"<tr><td>{_badge(each.passed)}</td>"
        f"<td><code>{escape(each.subject)}</code></td><td>{escape(each.claim)}</td><td>{escape(each.found)}</td>"
        f"<td>{' '.join(f'<code>{escape(key)}</code>' for key in each.keys)}</td></tr>"
        for each in sorted(findings, key=lambda finding: finding.passed)
    )
    return _section("Expectations", f"<div class=wide>{_table(heads, rows)}</div>")


def _badge(passed: bool) -> str:
    return f'<span class="badge {"good" if passed else "bad"}">{"holds" if passed else "fails"}</span>'


def _example_table(findings: list[Finding]) -> str:
    rows = [
        f"<tr><td><code>{escape(each.subject)}</code></td><td><code>{escape(', '.join(each.examples))}</code></td></tr>"
        for each in findings
        if each.examples
    ]
    note = f"Ids with the value found, at most {MOST_EXAMPLES} each. None of them is accepted."
    return (
        _section("Records that break an expectation", _table(("<th>about</th>", "<th>ids</th>"), rows), note)
        if rows
        else ""
    )


def _count_table(title: str, what: str, counts: dict[str, int], total: int) -> str:
    shown = list(counts.items())[:MOST_ROWS]
    return _section(
        title,
        _table((f"<th>{what}</th>", "<th class=number>records</th>", "<th>share</th>"), _count_rows(shown, total)),
        f"and {len(counts) - len(shown):,} more" if len(counts) > len(shown) else "",
    )


def _count_rows(counts: Iterable[tuple[str, int]], total: int) -> Iterable[str]:
    for value, count in counts:
        share = 100 * count / max(total, 1)
        yield (
            f"<tr><td>{escape(value)}</td><td class=number>{count:,}</td>"
            f'<td><span class=share><i>{share:.1f} %</i><u><b style="width:{share:.1f}%"></b></u></span></td></tr>'
        )


def _reject_table(ingest_report: dict[str, Any]) -> str:
    if not ingest_report:
        return ""
    rejects = ingest_report["rejects"]
    if not rejects:
        return _section("Rejects", "<p class=soft>No row was rejected.</p>")
    total = sum(rejects.values())
    names = ("reason", "rows", "share of rejects", "first places", "for example")
    heads = [f"<th{' class=number' if name == 'rows' else ''}>{name}</th>" for name in names]
    excerpts = ingest_report.get("reject_excerpts", {})
    rows = (
        row.replace(
            "</tr>",
            f"<td><code>{escape(', '.join(ingest_report['reject_examples'].get(reason, [])))}</code></td>"
            f"<td>{'<br>'.join(map(escape, excerpts.get(reason, [])))}</td></tr>",
        )
        for reason, row in zip(rejects, _count_rows(rejects.items(), total), strict=True)
    )
    return _section(
        "Rejects", _table(heads, rows), f"{total:,} of {ingest_report['rows']:,} rows did not become records."
    )


def _change_table(changes: dict[str, dict[str, Any]]) -> str:
    """What the filters of columns masked; letters and digits of the examples are hidden."""
    heads = ("<th>masked</th>", "<th class=number>places</th>", "<th class=number>texts</th>", "<th>form</th>")
    rows = [
        f"<tr><td><code>{escape(column)}</code> {escape(kind.replace('_', ' '))}</td><td class=number>"
        f"{told['places']:,}</td><td class=number>{told['texts']:,}</td>"
        f"<td>{escape(', '.join(told['sample']))}</td></tr>"
        for column, kinds in changes.items()
        for kind, told in kinds.items()
    ]
    return _section("Personal information", _table(heads, rows)) if rows else ""


def _cleaning_table(cleaning: dict[str, Any]) -> str:
    """What each step of a cleaning took out, and of that a sample beside what it is like."""
    if not cleaning:
        return ""
    parts = []
    for step in cleaning["steps"]:
        heads = ("<th>record</th>", "<th>begins</th>", "<th>because of</th>", "<th>which begins</th>")
        rows = (
            "<tr>" + "".join(f"<td>{escape(each[key])}</td>" for key in ("record", "text", "cause", "other")) + "</tr>"
            for each in step["sample"]
        )
        share = step["removed"] / max(step["records"], 1)
        body = _table(heads, rows) if step["sample"] else "<p class=soft>It took nothing out.</p>"
        note = f"{step['removed']:,} of {step['records']:,} records ({share:.2%}) went: {step['rule']}."
        parts.append(_section(f"Cleaning: {step['name']}", body, note))
    return "".join(parts)


def _translation_table(translation: dict[str, Any]) -> str:
    """Who translated, and what of it a person should look at."""
    if not translation:
        return ""
    pairs, suspicious = translation["pairs"], translation["suspicious"]
    heads = ("<th>suspicious because</th>", "<th class=number>pairs</th>", "<th>share</th>", "<th>for example</th>")
    rows = (
        row.replace("</tr>", f"<td>{'<br>'.join(map(_pair, translation['examples'].get(reason, [])))}</td></tr>")
        for reason, row in zip(suspicious, _count_rows(suspicious.items(), pairs), strict=True)
    )
    body = _table(heads, rows) if suspicious else "<p class=soft>No pair is suspicious.</p>"
    engine = ", ".join(f"{key} {value}" for key, value in translation["engine"].items())
    return _section("Translation", body, f"{pairs:,} texts of {translation['corpus']}, translated by {engine}.")


def _download_table(downloads: dict[str, Any]) -> str:
    """Why addresses of a list gave no picture."""
    if not downloads:
        return ""
    failed, total = downloads["failed"], downloads["addresses"]
    heads = ("<th>no picture because</th>", "<th class=number>addresses</th>", "<th>share of all</th>")
    body = _table(heads, _count_rows(failed.items(), total)) if failed else "<p class=soft>Every address gave one.</p>"
    return _section("Downloads", body, f"{downloads['ok']:,} of {total:,} addresses gave a picture.")


def _filter_table(judged: dict[str, Any]) -> str:
    """What the scores of a filter are worth, what other thresholds would keep, and whom it favours."""
    if not judged:
        return ""
    heads = ("<th>keep</th>", "<th>threshold</th>", "<th>true pairs kept</th>", "<th>shuffled pairs kept</th>")
    rows = (
        f"<tr><td>{row['keep_share']:.0%}</td><td>{row['threshold']:.4f}</td><td>{row['true_kept']:.1%}</td>"
        f"<td>{'' if row['shuffled_kept'] is None else format(row['shuffled_kept'], '.1%')}</td></tr>"
        for row in judged["thresholds"]
    )
    auc = f", AUC {judged['auc']:.3f} against {judged['shuffled_pairs']:,} shuffled ones" if "auc" in judged else ""
    note = (
        f"{judged['pairs']:,} pairs of {judged['corpus']}, scored by {judged['model']}{auc}. Kept are those from "
        f"{judged['threshold']:.4f} on, the quantile {judged['quantile']:.3f}; threshold.svg in the state of ingest "
        "shows pairs on both sides."
    )
    parts = [_section("Filter", _table(heads, rows), note)]
    for key, title in (("by_length", "Filter by characters of a caption"), ("by_source", "Filter by source")):
        heads = ("<th></th>", "<th class=number>pairs</th>", "<th>mean score</th>", "<th>kept</th>")
        rows = (
            f"<tr><td>{escape(name)}</td><td class=number>{row['pairs']:,}</td><td>{row['mean_score']:.4f}</td>"
            f"<td>{row['kept']:.1%}</td></tr>"
            for name, row in judged[key].items()
        )
        parts.append(_section(title, _table(heads, rows)))
    return "".join(parts)


def _pair(example: dict[str, str]) -> str:
    sides = f"{escape(example['source'])} → {escape(example['translation'])}"
    return f"<code>{escape(example['id'])}</code> {sides}"


def _composition(profile: dict[str, Any]) -> str:
    """What the records are made of: facts named `whole/part`."""
    sums = {name: fact["sum"] for name, fact in profile["facts"].items()}
    sections = []
    for whole in dict.fromkeys(name.partition("/")[0] for name in sums if "/" in name):
        parts = {name.partition("/")[2]: total for name, total in sums.items() if name.startswith(f"{whole}/")}
        ordered = sorted(((name.replace("_", " "), total) for name, total in parts.items()), key=lambda pair: -pair[1])
        heads = ("<th>part</th>", "<th class=number>sum</th>", "<th>share</th>")
        sections.append(_section(_title(whole), _table(heads, _count_rows(ordered, sums[whole]))))
    return "".join(sections)


def _survey_section(column: str, survey: dict[str, Any]) -> str:
    """The characters of all texts of a column together, and how many of their lines come again."""
    shown = [(each, count) for each, count in survey["characters"].items() if each.strip()][:MOST_ROWS]
    heads = ("<th>character</th>", "<th class=number>times</th>", "<th>share of all</th>")
    note = (
        f"{survey['num_distinct_characters']:,} different characters, {survey['num_seen_once']:,} of them seen once. "
        f"Of {survey['num_lines']:,} lines {survey['repeated_line_share']:.1%} had come before (estimated)."
    )
    return _section(f"{_title(column)} characters", _table(heads, _count_rows(shown, survey["num_characters"])), note)


def _chart_section(name: str, fact: dict[str, Any]) -> str:
    quantiles = fact["quantiles"]
    note = f"median {quantiles['0.5']:,g}, 1 % below {quantiles['0.01']:,g}, 1 % above {quantiles['0.99']:,g}"
    return _section(_title(name), bar_chart(fact["edges"], fact["histogram"]), note)
