"""Masks of personal information: e-mail addresses, numbers of telephones, postal codes, cards, in full and half width.

Own patterns, not hojichar's (0.18): its telephone pattern has no edges, so it masks stretches of ISBNs, dates and ids;
it sees no full width, no parentheses, no postal code and no card; it hides the last four digits alone; and its e-mail
pattern takes quadratic time on long runs. `python -m benchmarks masking` has both side by side.

Numbers: Japanese ones have ten digits, or eleven after 050, 060, 070, 080, 090, 0800 (numbering plan of the Ministry of
Internal Affairs and Communications); +81 stands for the first 0. Cards: ISO/IEC 7812, prefixes and Luhn's check digit.
"""

import re
from collections.abc import Callable, Iterator
from typing import Literal

Kind = Literal["email", "card", "telephone", "postal_code"]
KINDS: tuple[Kind, ...] = ("email", "card", "telephone", "postal_code")
"""In the order in which they are looked for; what one has masked the next does not see."""
MARK = "X"
EMAIL_MARK = "xxxx@yyy"
"""In place of a local part and a domain; the last label stays, as with hojichar."""

# One character for one, so that a place in the one text is the same place in the other.
_WIDTHS = {0xFF01 + offset: 0x21 + offset for offset in range(94)} | {0x3000: 0x20}
_HYPHENS = dict.fromkeys(map(ord, "‐‑‒–—―−﹣ｰ─"), "-")
_HALF = str.maketrans(_WIDTHS | _HYPHENS)
_LONG_VOWEL = re.compile(r"(?<=\d)ー(?=\d)")

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+/-])[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}(?:@| ?[\[(](?:at|AT|アット)[\])] ?)"
    r"(?!\dx\.)"  # icon@2x.png is a picture for fine screens
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}(?P<last>[A-Za-z]{2,24})(?![A-Za-z0-9]|:[\w~/])"
)
_CARD = re.compile(r"(?<![A-Za-z0-9_.#/-])\d(?:[- ]?\d){12,18}(?![A-Za-z0-9_]|[-.]\d)")
_CARD_PREFIXES: dict[int, str] = {
    14: r"3(?:0[0-5]|[689])",
    15: r"3[47]",
    16: r"4|5[1-5]|2(?:2[2-9]|[3-6]|7[01]|720)|6(?:011|4[4-9]|5)|35(?:2[89]|[3-8])|62",
}
_CARD_GROUPS = re.compile(r"\d{4}-\d{4}-\d{4}-\d{4}|\d{4}-\d{6}-\d{4,5}")
_EDGE, _END = r"(?<![\dA-Za-z_.,/+-])", r"(?![\dA-Za-z_]|[-.,/]\d)"
_TELEPHONES = tuple(
    re.compile(pattern)
    for pattern in (
        # Groups by hyphens or parentheses, the first of which begins with 0.
        _EDGE + r"(?:\(0\d{1,4}\) ?|0\d{1,4}[-(])\d{1,4}[-)] ?\d{3,4}" + _END,
        # Mobile and free numbers in groups by spaces or full stops, or in one piece.
        _EDGE + r"0[5-9]0[ .]\d{4}[ .]\d{4}" + _END,
        _EDGE + r"0120[ .]\d{2,3}[ .]\d{3,4}" + _END,
        _EDGE + r"0(?:[5-9]0\d{8}|120\d{6}|800\d{7})" + _END,
        # Ten digits in one piece or by spaces may be anything, unless a word says what they are.
        r"(?:電話|携帯|連絡先|(?:TEL|Tel|tel|Phone|phone|PHONE|FAX|Fax|fax)\b|☎|℡)[^\d\n]{0,8}"
        r"(?P<number>0\d{1,4} ?\d{1,4} ?\d{4})" + _END,
        # Of other countries, and ours for them.
        r"(?<![\dA-Za-z_+])\+\d{1,3}[- ]?(?:\(\d{1,4}\)[- ]?)?\d{1,4}(?:[- ]?\d{1,4}){1,4}(?![\dA-Za-z_]|[-.]\d)",
        # North America.
        _EDGE + r"(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[-.])[2-9]\d{2}[-.]\d{4}" + _END,
    )
)
_PREFECTURES = (
    "北海道|(?:青森|岩手|宮城|秋田|山形|福島|茨城|栃木|群馬|埼玉|千葉|神奈川|新潟|富山|石川|福井|山梨|長野|岐阜|静岡|愛知|三重|"
    "滋賀|兵庫|奈良|和歌山|鳥取|島根|岡山|広島|山口|徳島|香川|愛媛|高知|福岡|佐賀|長崎|熊本|大分|宮崎|鹿児島|沖縄)県|"
    "東京都|(?:京都|大阪)府"
)
_POSTAL_CODES = (
    re.compile(
        r"(?:〒|郵便番号|住所|(?:ZIP|Zip|zip|[Pp]ostal) ?(?:[Cc]ode)?)[^\d\n]{0,6}(?P<number>\d{3}[- ]?\d{4})(?!\d|-\d)"
    ),
    # Without a mark, where an address follows, or where nothing else stands beside it.
    re.compile(_EDGE + rf"(?P<number>\d{{3}}-\d{{4}})(?= ?\n?(?:{_PREFECTURES}))"),
)

_MANY_DIGITS = re.compile(r"\d(?:[-() .]{0,3}\d){6}")
_MAY_HOLD: dict[Kind, re.Pattern[str]] = {
    "email": re.compile(r"@|[\[(](?:at|AT|アット)[\])]"),
    "card": _MANY_DIGITS,
    "telephone": _MANY_DIGITS,
    "postal_code": _MANY_DIGITS,
}
"""What most texts have not, so that they are looked through once."""


def masker(kinds: tuple[Kind, ...] = KINDS) -> Callable[[str], tuple[str, dict[Kind, list[str]]]]:
    """A function from a text to the masked one, and what was masked by kind, as it stood there.

    Args:
        kinds: what to mask.

    Returns:
        A function. Every digit of a number becomes an X, and what stands between them stays; an e-mail address becomes
        one that nobody has. It takes time that grows with the length of the text, whatever the text.
    """
    ordered = [kind for kind in KINDS if kind in kinds]

    def mask(text: str) -> tuple[str, dict[Kind, list[str]]]:
        found: dict[Kind, list[str]] = {}
        half = _half_width(text)
        for kind in ordered:
            if not _MAY_HOLD[kind].search(half):
                continue
            pieces, end = [], 0
            for start, stop, instead in _FINDERS[kind](half):
                if start < end:
                    continue
                found.setdefault(kind, []).append(text[start:stop])
                pieces += [text[end:start], instead or re.sub(r"\d", MARK, text[start:stop])]
                end = stop
            if pieces:
                text = "".join([*pieces, text[end:]])
                half = _half_width(text)
        return text, found

    return mask


def _half_width(text: str) -> str:
    """The same text, character by character, with ASCII's letters, digits and signs in place of their kin."""
    half = text if text.isascii() else text.translate(_HALF)
    return _LONG_VOWEL.sub("-", half) if "ー" in half else half


Place = tuple[int, int, str]
"""Where something begins and ends, and what stands there instead; empty: the same with its digits masked."""


def _emails(text: str) -> Iterator[Place]:
    for match in _EMAIL.finditer(text):
        yield match.start(), match.end(), f"{EMAIL_MARK}.{match['last']}"


def _cards(text: str) -> Iterator[Place]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        prefix = _CARD_PREFIXES.get(len(digits))
        if _CARD_GROUPS.fullmatch(match[0]) or (prefix and re.match(prefix, digits) and _passes_luhn(digits)):
            yield match.start(), match.end(), ""


def _passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right is doubled, and the sum of all ends with 0."""
    values = [int(each) for each in reversed(digits)]
    return sum(values[::2] + [sum(divmod(2 * each, 10)) for each in values[1::2]]) % 10 == 0


def _telephones(text: str) -> Iterator[Place]:
    places = sorted(place for pattern in _TELEPHONES for place in _numbers(pattern, text))
    yield from ((start, stop, "") for start, stop in places if _is_telephone(text[start:stop]))


def _is_telephone(found: str) -> bool:
    digits = re.sub(r"\D", "", found)
    if found.startswith("+81"):
        return len(digits.removeprefix("81").removeprefix("0")) in (9, 10)
    if found.startswith("+"):
        return 8 <= len(digits) <= 15  # ITU-T E.164
    if digits.startswith("0"):
        first = re.match(r"\(?(\d+)", found)[1]  # type: ignore[index]  # all patterns begin so
        is_long = re.fullmatch(r"0[5-9]0|0800", first) or (first == digits and len(digits) == 11)
        return len(digits) == (11 if is_long else 10) and digits[1] != "0"
    return len(digits) == 10


def _postal_codes(text: str) -> Iterator[Place]:
    places = sorted(place for pattern in _POSTAL_CODES for place in _numbers(pattern, text))
    yield from ((start, stop, "") for start, stop in places)


def _numbers(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text):
        yield match.span("number" if "number" in pattern.groupindex else 0)


_FINDERS: dict[Kind, Callable[[str], Iterator[Place]]] = {
    "email": _emails,
    "card": _cards,
    "telephone": _telephones,
    "postal_code": _postal_codes,
}
