"""Records as a person sees them: small pictures with what is said of them, on the page of a validated corpus.

Only of corpora with pictures: what a modality shows of a value is the bytes of a small picture, or a text.
"""

import base64
from dataclasses import dataclass, field
from html import escape
from itertools import islice
from typing import Any

from components.facts import FactTable
from components.modalities import modality
from components.recipes import Corpus
from components.records import iterate_records

NUM_CARDS = 24
"""Accepted records on a sheet, chosen by their content: the same ones for the same records."""
NUM_BROKEN = 12
"""Records on a sheet that break one expectation."""
MOST_LINES = 4
STYLE = """
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(148px, 1fr)); gap: 12px; }
.card { margin: 0; border: 1px solid var(--line); border-radius: 8px; overflow: hidden; background: var(--back); }
.card img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: #fff; }
.card figcaption { padding: 7px 9px 9px; font-size: 12.5px; line-height: 1.4; overflow-wrap: anywhere; }
.card figcaption span { display: block; } .card .soft { font-size: 11.5px; }
""".strip()


@dataclass
class Card:
    """One record on a sheet."""

    id: str
    split: str
    pictures: list[bytes] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sheet:
    """Cards under one heading."""

    title: str
    note: str
    cards: list[Card]


def sheets_of(
    name: str, corpus: Corpus, facts: FactTable, broken: list[tuple[str, list[tuple[str, str]]]]
) -> list[Sheet]:
    """The sheets of a corpus; none where no column is a picture.

    Args:
        name: the corpus.
        corpus: its section.
        facts: one row a record, with `id` and `digest`.
        broken: claim of an expectation -> (id, value) of records that break it.
    """
    shown = {column: section for column, section in corpus.columns.items() if _shows(section)}
    if not any(getattr(section, "form", "") == "picture" for section in shown.values()):
        return []
    bad = {record for _, places in broken for record, _ in places}
    good = (record for (record,) in facts.rows("id", order="digest") if record not in bad)
    chosen = list(islice(good, NUM_CARDS))
    plans = [
        ("Contact sheet", f"{len(chosen)} of {facts.num_rows - len(bad):,} records, chosen by their content.", chosen)
    ]
    for claim, places in broken:
        ids = [record for record, _ in sorted(places, key=lambda place: (place[1], place[0]))][:NUM_BROKEN]
        note = f"{len(ids)} of {len(places):,} records that break it; none is accepted."
        plans.append((f"Broken: {claim}", note, ids))
    cards = _cards(name, shown, {record for _, _, ids in plans for record in ids})
    return [Sheet(title, note, [cards[record] for record in ids]) for title, note, ids in plans if ids]


def _shows(section: Any) -> bool:
    return hasattr(modality(section.modality), "shown")


def _cards(name: str, columns: dict[str, Any], wanted: set[str]) -> dict[str, Card]:
    """Id -> card; one pass over the records."""
    cards: dict[str, Card] = {}
    for record in iterate_records(name, list(columns), accepted_only=False):
        if record["id"] not in wanted:
            continue
        card = cards[record["id"]] = Card(record["id"], record["split"])
        for column, section in columns.items():
            for each in modality(section.modality).shown(record[column], section):  # type: ignore[attr-defined]
                (card.pictures if isinstance(each, bytes) else card.lines).append(each)
        if len(cards) == len(wanted):
            break
    return cards


# ---- HTML ------------------------------------------------------------------------------------------------------------


def sheet_section(sheet: Sheet) -> str:
    """A sheet as HTML; its pictures are within."""
    note = f"<p class=soft>{escape(sheet.note)}</p>"
    body = f"<div class=sheet>{''.join(map(_figure, sheet.cards))}</div>"
    return f"<section><h2>{escape(sheet.title)}</h2>{body}{note}</section>"


def _figure(card: Card) -> str:
    images = "".join(f'<img alt="" src="{data_address(each)}">' for each in card.pictures)
    lines = "".join(f"<span>{escape(line)}</span>" for line in list(dict.fromkeys(card.lines))[:MOST_LINES])
    under = f"<span class=soft>{escape(card.id)} · {escape(card.split)}</span>"
    return f"<figure class=card>{images}<figcaption>{lines}{under}</figcaption></figure>"


def data_address(picture: bytes) -> str:
    """A picture as an address that holds it."""
    kind = "png" if picture[:4] == b"\x89PNG" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
