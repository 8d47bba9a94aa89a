"""Masks of personal information beside hojichar's: what is planted and masked, and what is innocent and masked too."""

import gzip
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Row
from benchmarks.machine import describe
from benchmarks.report import Result
from components.outcomes import Refused

NAME = "masking"
PEER = "hojichar 0.18 MaskPersonalInformation"
FULL = str.maketrans({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
MOST_CHARS = 20_000
"""Of a text; a novel would be most of a sample."""
INNOCENT = (
    "ISBN 978-4-06-519510-4 の本です。",
    "ISBN4-00-310101-4と書いてある。",
    "JANコードは4901234567894です。",
    "価格は1,234,567円、税込みで1,358,023円。",
    "2021-03-11から2022/04/01まで。",
    "1990 1991 1992 1993 1994年の値。",
    "円周率は3.14159265358979です。",
    "バージョン1.2.3-4567を使う。",
    "IPアドレスは192.168.0.101です。",
    "受付番号2023-0012-3456を控える。",
    "f(x)=0.0001234567890の近似。",
    "icon@2x.pngとlodash@4.17.21を置く。",
    "git@github.com:owner/name.git から写す。",
    "型番ABC0312345678は廃番です。",
    "第3-1234-5678号を参照。",
    "0x0901234567の番地にある。",
    "緯度35.681236、経度139.767125。",
    "時刻は12:34:56.789、番号は000-123。",
    "UUIDは01234567-89ab-cdef-0123-456789abcdef。",
    "注文番号1234567890123456は発送済み。",
)
"""Numbers and names that are nobody's."""


def _luhn(digits: str) -> str:
    total = sum(sum(divmod(2 * int(each), 10)) if at % 2 == 0 else int(each) for at, each in enumerate(digits[::-1]))
    return digits + str(-total % 10)


def _planted(chance: random.Random) -> Iterator[tuple[str, str]]:
    """Kind and piece, endlessly; every second one in full width."""
    digits: Callable[[int], str] = lambda count: "".join(chance.choice("0123456789") for _ in range(count))  # noqa: E731
    area = lambda: chance.choice(["03", "06", "045", "075", "0166", "09808"])  # noqa: E731
    for number in itertools.count():
        kind = ("email", "telephone", "postal_code", "card")[number % 4]
        if kind == "email":
            name = chance.choice(["taro", "hanako.sato", "k_tanaka", "info", "y-suzuki99"]) + digits(2)
            piece = f"{name}@{chance.choice(['example.co.jp', 'mail.example.ne.jp', 'sample.com', 'test.org'])}"
        elif kind == "telephone":
            own = area()
            middle = digits(6 - len(own))
            mobile = chance.choice(["090", "080", "070"])
            piece = chance.choice(
                [f"{own}-{middle}-{digits(4)}", f"{own}({middle}){digits(4)}", f"({own}){middle}-{digits(4)}",
                 f"{mobile}-{digits(4)}-{digits(4)}", f"{mobile}{digits(8)}", f"0120-{digits(3)}-{digits(3)}",
                 f"+81-{mobile[1:]}-{digits(4)}-{digits(4)}", f"+81 {own[1:]} {middle} {digits(4)}"]
            )  # fmt: skip
        elif kind == "postal_code":
            code = f"{chance.randint(1, 9)}{digits(2)}-{digits(4)}"
            piece = chance.choice([f"〒{code}", f"郵便番号{code}", f"〒{code.replace('-', '')}", f"{code} 東京都"])
        else:
            card = _luhn(chance.choice("45") + str(chance.randint(1, 5)) + digits(13))
            groups = [card[at : at + 4] for at in range(0, 16, 4)]
            piece = chance.choice(["-", " ", ""]).join(groups)
        yield kind, piece.translate(FULL) if number // 4 % 2 else piece


def _texts(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from (json.loads(line)["text"][:MOST_CHARS] for line in file)


def _is_masked(kind: str, piece: str, text: str) -> bool:
    """Whether a reader no longer has all of it."""
    core = piece if kind == "email" else re.sub(r"[^\d０-９（）()+＋－ 　-]", "", piece).strip()
    return core not in text


def shares(mask: Callable[[str], str], planted: list[tuple[str, str, str]], innocent: list[str]) -> dict[str, float]:
    """What share of each kind is masked, and of innocent texts, in per cent."""
    found: dict[str, list[bool]] = {}
    for kind, piece, text in planted:
        found.setdefault(kind, []).append(_is_masked(kind, piece, mask(text)))
    rows = {kind: 100 * sum(each) / len(each) for kind, each in found.items()}
    rows["all planted"] = 100 * sum(map(sum, found.values())) / len(planted)
    rows["lines like them"] = 100 * sum(mask(text) != text for text in INNOCENT) / len(INNOCENT)
    rows["innocent texts"] = 100 * sum(mask(text) != text for text in innocent) / max(len(innocent), 1)
    return rows


def measure(folder: Path, *, records: int = 1000, every: int = 20, seed: int = 0) -> Result:
    """The shares of planted and of innocent pieces that are masked.

    Args:
        folder: texts (`*.jsonl.gz` with a key `text`) that hold no personal information.
        records: texts that get one piece planted in them.
        every: of the texts, every so many is looked at as it is.
        seed: of what is planted where.
    """
    from hojichar.filters.document_filters import MaskPersonalInformation

    from components.modalities.text.masking import masker

    innocent = list(itertools.islice(_texts(folder), 0, None, every))
    if not innocent:
        raise Refused(f"{folder} holds no texts. Expected *.jsonl.gz with a key 'text'.")
    chance = random.Random(seed)
    planted = []
    for kind, piece in itertools.islice(_planted(chance), records):
        text = chance.choice(innocent)[:200].replace("\n", "。")
        at = chance.randint(0, len(text))
        planted.append((kind, piece, f"{text[:at]}、{piece}、{text[at:]}"))
    mask, peer = masker(), MaskPersonalInformation()
    ours = shares(lambda text: mask(text)[0], planted, innocent)
    theirs = shares(lambda text: str(peer(text)), planted, innocent)
    rows = []
    for key, own in ours.items():
        what = "masked of" if key in ("innocent texts", "lines like them") else "planted and masked:"
        row = Row.compare(f"% {what} {key}", PEER, [own], [theirs[key]]) if theirs[key] else None
        rows.append(row or Row(f"% {what} {key}", PEER, _spread(theirs[key]), _spread(own)))
    notes = [
        (
            f"{records:,} records with one piece each, half of them in full width; a piece that is changed at all "
            "counts as masked, of hojichar's too, which hides the last four digits alone."
        ),
        (
            f"{len(innocent):,} real texts as they are, of at most {MOST_CHARS:,} characters; {len(INNOCENT)} lines "
            "with ISBNs, dates, versions and ids. Of the real ones some do hold addresses, such as those of manuals."
        ),
    ]
    command = f"python -m benchmarks {NAME} {folder.name} --records {records} --every {every}"
    return Result(NAME, command, rows, notes, describe(), {"ours": ours, "theirs": theirs})


def _spread(value: float) -> Any:
    from benchmarks.figures import Spread

    return Spread.of([value])
