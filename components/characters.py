"""What a text is made of: classes of characters, the share of Japanese letters, marks of a wrong decoding.

Cleaning and checking share these, so a filter and an expectation of the same name mean the same.
"""

import re
import unicodedata
from functools import cache

import numpy as np

CLASSES = ("hiragana", "katakana", "kanji", "latin", "other_letter", "digit", "space", "punctuation", "other")
HIRAGANA, KATAKANA, KANJI, LATIN, OTHER_LETTER, DIGIT, SPACE, PUNCTUATION, OTHER = range(len(CLASSES))

# Code points of Unicode 15 blocks, ends included.
_HIRAGANA = [(0x3041, 0x309F), (0x1B001, 0x1B11F), (0x1B150, 0x1B152)]
_KATAKANA = [(0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1B164, 0x1B167)]
_KANJI = [(0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)]

# Any of these is damage. U+FFFD is what a decoder writes for bytes it cannot read; the others are no text.
_ALWAYS_DAMAGE = re.compile("[\ufffd\x00-\x08\x0e-\x1f\x7f\ufdd0-\ufdef\uffff]")
# One of these may begin a mark of a wrong decoding; a search for single characters is eight times as fast.
_MAYBE_DAMAGE = re.compile("[縺繧繝ã¤¥\x82\x83\u201a\u0192]")
_WRONG_DECODING = re.compile(
    "|".join(
        (
            "(?:[縺繧繝].?){3}",  # UTF-8 read as Shift-JIS: bytes E3 81, E3 82, E3 83 begin every kana
            "(?:ã[\x80-\x83\u20ac\u201a\u0192].?){2}",  # UTF-8 read as Latin-1 or Windows-1252
            "(?:[\x82\x83\u201a\u0192][^\\s]){3}",  # Shift-JIS read as Latin-1 or Windows-1252
            "(?:[¤¥][\xa1-\xf3]){3}",  # EUC-JP read as Latin-1
        )
    )
)


@cache
def _class_of_code_point() -> np.ndarray:
    """uint8 [0x110000]: the class of every code point."""
    by_category = {"Zs": SPACE, "Zl": SPACE, "Zp": SPACE, "L": OTHER_LETTER, "N": DIGIT, "P": PUNCTUATION}
    table = np.full(0x110000, OTHER, dtype=np.uint8)
    for point in range(0x110000):
        category = unicodedata.category(chr(point))
        found = by_category.get(category, by_category.get(category[0]))
        if found is not None:
            table[point] = found
            if found == OTHER_LETTER and unicodedata.name(chr(point), "").startswith(("LATIN", "FULLWIDTH LATIN")):
                table[point] = LATIN
    table[[ord(space) for space in "\t\n\r"]] = SPACE
    for ranges, kind in ((_HIRAGANA, HIRAGANA), (_KATAKANA, KATAKANA), (_KANJI, KANJI)):
        for first, last in ranges:
            table[first : last + 1] = kind
    return table


def count_classes(text: str) -> np.ndarray:
    """How many characters of each of CLASSES a text has, int64 [len(CLASSES)]."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return np.bincount(_class_of_code_point()[points], minlength=len(CLASSES))


def letters_and_digits(text: str, and_also: str) -> np.ndarray:
    """Code points of a text's letters and digits, and of one more character, uint32 [characters]."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return points[(_class_of_code_point()[points] <= DIGIT) | (points == ord(and_also))]


def japanese_share(counts: np.ndarray) -> float:
    """Share of letters that are kana or kanji; 0 for a text without letters.

    Kanji alone count as Japanese, so Chinese does too; `language_of` tells them apart by kana.
    """
    letters = int(counts[: OTHER_LETTER + 1].sum())
    return float(counts[: KANJI + 1].sum()) / letters if letters else 0.0


def language_of(counts: np.ndarray) -> str:
    """`ja` for a text with at least 3 letters of 10 Japanese and some kana, `en` for Latin letters, else `other`.

    A guess by script: enough to see that a whole corpus is in another language than its recipe says.
    """
    if japanese_share(counts) >= 0.3:
        return "ja" if counts[HIRAGANA] + counts[KATAKANA] else "other"
    letters = int(counts[: OTHER_LETTER + 1].sum())
    return "en" if letters and counts[LATIN] / letters > 0.5 else "other"


def is_damaged(text: str) -> bool:
    """Whether a text holds U+FFFD, control characters, or the marks of bytes decoded with the wrong table."""
    if _ALWAYS_DAMAGE.search(text):
        return True
    return _MAYBE_DAMAGE.search(text) is not None and _WRONG_DECODING.search(text) is not None
