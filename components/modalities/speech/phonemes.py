"""Text to phonemes with word boundaries: what a recogniser is trained on, and how it is told apart.

Japanese text is read by OpenJTalk; its reading in katakana gives the phonemes of Kaldi's recipe for the Corpus of
Spontaneous Japanese (egs/csj/s5/local/csj_make_trans/kana2phone): a long vowel, written with ー, is one phoneme, a
devoiced one is that vowel, a doubled consonant begins with `q`. What the set of 40 lacks is mapped to the nearest that
it has. Sounds of borrowed words go by what OpenJTalk speaks; Kaldi writes them otherwise: スィ s i (there
sh i), ズィ z i (j i), テュ ch u (ts u), デュ dy u (d u), ヂュ j u (dy u), イェ y e (i e), ニェ ny e (n e) and the like.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from components.modalities.speech.schema import BOUNDARY, PADDING, Example, FrontEnd, Phonemes, phonemes_of
from components.openjtalk import openjtalk
from components.outcomes import Refused
from components.voices import open_engine
from models.frames import SAMPLE_RATE_HZ

NAME = "phonemes.json"
EXAMPLE_NAME = "example.wav"
BLANK_ID, BOUNDARY_ID = 0, 1

VOWELS = "aiueo"
LONG = "ー"
DEVOICED = "’"
"""Behind a mora of OpenJTalk whose vowel is not voiced."""

# Consonants before a, i, u, e, o, and the kana of each row.
ROWS = (
    (("", "", "", "", ""), "アイウエオ"),
    (("k", "k", "k", "k", "k"), "カキクケコ"),
    (("s", "sh", "s", "s", "s"), "サシスセソ"),
    (("t", "ch", "ts", "t", "t"), "タチツテト"),
    (("n", "n", "n", "n", "n"), "ナニヌネノ"),
    (("h", "h", "f", "h", "h"), "ハヒフヘホ"),
    (("m", "m", "m", "m", "m"), "マミムメモ"),
    (("r", "r", "r", "r", "r"), "ラリルレロ"),
    (("g", "g", "g", "g", "g"), "ガギグゲゴ"),
    (("z", "j", "z", "z", "z"), "ザジズゼゾ"),
    (("d", "j", "z", "d", "d"), "ダヂヅデド"),
    (("b", "b", "b", "b", "b"), "バビブベボ"),
    (("p", "p", "p", "p", "p"), "パピプペポ"),
    (("", "", "", "", ""), "ァィゥェォ"),
)
SINGLE = "ヤ=y a ユ=y u ヨ=y o ャ=y a ュ=y u ョ=y o ワ=w a ヮ=w a ヰ=i ヱ=e ヲ=o ヴ=b u ヵ=k a ヶ=k e ン=N ッ=q"
SMALL = dict(zip("ァィゥェォャュョヮ", "aiueoauoa", strict=True))
PALATAL_ROWS = {"キ": "k", "ニ": "n", "ヒ": "h", "ミ": "m", "リ": "r", "ギ": "g", "ビ": "b", "ピ": "p"}
"""Kana whose consonant is palatal before any small one."""
# Kana before a small one -> the consonant of both, and which small ones. v, kw, gw, ty, fy are not among the 40.
PAIRS = {kana: (consonant, "ャュェョ") for kana, consonant in PALATAL_ROWS.items()} | {
    "シ": ("sh", "ャュェョ"),
    "チ": ("ch", "ャュェョ"),
    "ジ": ("j", "ャュェョ"),
    "ヂ": ("j", "ャュェョ"),
    "テ": ("t", "ィャュョ"),
    "デ": ("d", "ィャュョ"),
    "ト": ("t", "ゥ"),
    "ド": ("d", "ゥ"),
    "ス": ("s", "ィ"),
    "ズ": ("z", "ィ"),
    "ツ": ("ts", "ァィェォ"),
    "フ": ("f", "ァィェォャュョ"),
    "ヴ": ("b", "ァィェォャュョ"),
    "ウ": ("w", "ィェォ"),
    "イ": ("y", "ェ"),
    "ク": ("k", "ァィェォヮ"),
    "グ": ("g", "ァィェォヮ"),
}
PALATAL = {**{each: f"{each}y" for each in ("k", "n", "h", "m", "r", "g", "b", "p", "d")}, "t": "ch", "f": "hy"}
"""Before ャ, ュ, ョ, and of キ and its like before ェ; ty and fy are not in the set."""


def _moras() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for kana, text in re.findall(r"(\w)=([a-zNq](?: [a-z])?)", SINGLE):
        found[kana] = tuple(text.split())
    for consonants, row in ROWS:
        for consonant, vowel, kana in zip(consonants, VOWELS, row, strict=True):
            found[kana] = (consonant, vowel) if consonant else (vowel,)
    for first, (consonant, smalls) in PAIRS.items():
        for small in smalls:
            is_palatal = small in "ャュョ" or first in PALATAL_ROWS
            found[first + small] = (PALATAL.get(consonant, consonant) if is_palatal else consonant, SMALL[small])
    return found


MORAS = _moras()
"""Katakana of one or two characters -> its phonemes."""


def phonemes_of_kana(kana: str) -> list[str]:
    """The phonemes of a reading in katakana; a character that has none stands for itself."""
    kana = kana.replace(DEVOICED, "")
    found: list[str] = []
    place = 0
    while place < len(kana):
        size = 2 if kana[place : place + 2] in MORAS else 1
        mora = kana[place : place + size]
        place += size
        if mora == LONG:
            found = _lengthened(found)
        else:
            found += MORAS.get(mora, (mora,))
    return found


def _lengthened(phonemes: list[str]) -> list[str]:
    """With a long vowel at the end; what is long already, and `N`, is followed by a short one."""
    last = phonemes[-1] if phonemes else "q"
    if last in VOWELS:
        return [*phonemes[:-1], f"{last}:"]
    return phonemes if last == "q" else [*phonemes, last[0]]


def _read_by_openjtalk(text: str) -> list[list[str]]:
    """The words of a text, each a list of phonemes; punctuation has none."""
    words: list[str] = []
    for word in openjtalk().run_frontend(text):
        kana = str(word["pron"]) if word["mora_size"] > 0 else ""
        rest = kana.lstrip(LONG)
        if words:  # a mark that stands alone lengthens the word before it
            words[-1] += LONG * (len(kana) - len(rest))
        words += [rest] * bool(rest)
    return [phonemes_of_kana(word) for word in words]


def _given(text: str) -> list[list[str]]:
    return [word.split() for word in text.split(BOUNDARY) if word.strip()]


FRONT_ENDS: dict[FrontEnd, Callable[[str], list[list[str]]]] = {"openjtalk": _read_by_openjtalk, "given": _given}


def words_of(text: str, front_end: FrontEnd) -> list[list[str]]:
    """The words of a clean transcript, each a list of phonemes."""
    return FRONT_ENDS[front_end](text)


def unknown_of(words: list[list[str]], known: Iterable[str]) -> list[str]:
    """Phonemes that an inventory lacks, each once, sorted."""
    return sorted({phoneme for word in words for phoneme in word} - set(known))


# ---- the encoder -----------------------------------------------------------------------------------------------------


class PhonemeEncoder:
    """Transcripts to ids: the blank of CTC is 0, the word boundary 1, then the inventory in its order."""

    kind = "phonemes"
    dtype: np.dtype

    def __init__(self, front_end: FrontEnd, symbols: list[str]) -> None:
        self.front_end, self.symbols = front_end, symbols
        self.ids = {symbol: number for number, symbol in enumerate(symbols)}
        self.dtype = np.dtype("u1" if len(symbols) <= 1 << 8 else "<u2")
        self.facts: dict[str, Any] = {
            "vocab_size": len(symbols),
            "blank": BLANK_ID,
            "boundary": BOUNDARY_ID,
            "symbols": symbols,
        }

    def encode(self, values: list[str]) -> list[np.ndarray]:
        """uint8 [phonemes and the boundaries between words] of each; uint16 of a very large inventory.

        Raises:
            Refused: a transcript has a phoneme outside of the inventory.
        """
        return [self._encoded(value) for value in values]

    def _encoded(self, text: str) -> np.ndarray:
        words = words_of(text, self.front_end)
        if unknown := unknown_of(words, self.symbols[2:]):
            raise Refused(
                f"The transcript '{text[:80]}' has {', '.join(unknown)}, which the inventory of the encoder lacks. "
                "Give the encoder and the column of the corpus the same 'inventory' and 'front_end', then run: hiraku "
                "validate CORPUS"
            )
        found: list[int] = []
        for word in words:
            found += [BOUNDARY_ID] * bool(found) + [self.ids[phoneme] for phoneme in word]
        return np.array(found, self.dtype)

    def vocabulary(self) -> dict[int, str]:
        """Symbols by their ids."""
        return dict(enumerate(self.symbols))


def symbols_of(encoder: Phonemes) -> list[str]:
    """All symbols, in the order of their ids."""
    return [PADDING, BOUNDARY, *phonemes_of(encoder.inventory)]


def fit(encoder: Phonemes, values: Iterable[str], held_out: Iterable[str], folder: Path) -> dict[str, Any]:
    """Write the symbols down, and an example if there is one; report which symbols occur in training."""
    symbols = symbols_of(encoder)
    content = {"front_end": encoder.front_end, "symbols": symbols}
    (folder / NAME).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if encoder.example is not None:
        _write_example(encoder.example, folder / EXAMPLE_NAME)
    report: dict[str, Any] = {"num_symbols": len(symbols)}
    if encoder.corpora:
        counts, others = _counted(values, encoder.front_end), _counted(held_out, encoder.front_end)
        report["num_phonemes"] = sum(counts[each] for each in symbols[2:])
        report["counts"] = {each: counts[each] for each in symbols[2:]}
        report["num_unseen_held_out"] = sum(number for each, number in others.items() if not counts[each])
    return report


def _write_example(example: Example, path: Path) -> None:
    """WAV, 16 kHz, mono, 16 bits.

    Raises:
        Refused: the voice finds nothing to say in its text.
    """
    import soundfile

    wave = open_engine(example.engine).say(example.text, example.speaker)
    if not len(wave):
        raise Refused(f"Nothing in example.text, '{example.text}', can be spoken. Change the key of the encoder.")
    soundfile.write(path, wave, SAMPLE_RATE_HZ, subtype="PCM_16", format="WAV")


def _counted(texts: Iterable[str], front_end: FrontEnd) -> Counter[str]:
    return Counter(phoneme for text in texts for word in words_of(text, front_end) for phoneme in word)


def open_encoder(folder: Path) -> PhonemeEncoder:
    """What `fit` left."""
    content = json.loads((folder / NAME).read_text(encoding="utf-8"))
    return PhonemeEncoder(content["front_end"], content["symbols"])
