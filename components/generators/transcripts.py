"""The demo's transcripts: short utterances of a small vocabulary, each with who says it.

A network of a million parameters learns such utterances in minutes; of longer ones it had learnt nothing by then
(measured). So the words are 22: digits, colours, times. Speakers of train, valid and test are others. Two minutes of
train, and all that is held out, stand in `labelled.jsonl`: a recogniser is trained on these, while pre-training hears
`heard.jsonl` too.
"""

import json
import random
from pathlib import Path

SEED = 7_001
LICENCE = "CC0-1.0"
FOLDER = Path("demo/transcripts")
FILES = ("heard.jsonl", "labelled.jsonl")

DIGITS = ("ゼロ", "イチ", "ニ", "サン", "ヨン", "ゴ", "ロク", "ナナ", "ハチ", "キュー")
"""Each spelt so that OpenJTalk reads it alike whatever stands beside it; キュウ it reads in two ways."""
COLOURS = ("赤", "青", "白", "黒", "緑", "黄色")
TIMES = ("朝", "昼", "夜", "今日", "明日", "昨日")
WORDS = DIGITS + COLOURS + TIMES
PAUSE = "、"
NUM_WORDS = (1, 2, 2, 3, 3, 3, 4, 4)
"""Words of an utterance, each entry as likely as another."""

SPEAKERS = {
    "train": tuple(f"s{number:02d}" for number in range(1, 17)),
    "valid": tuple(f"s{number:02d}" for number in range(17, 21)),
    "test": tuple(f"s{number:02d}" for number in range(21, 25)),
}
UTTERANCES = {"train": 64, "valid": 24, "test": 30}
"""Of each speaker of a split; together about half an hour."""
LABELLED_SPEAKERS = 8
"""Of train; the others are only heard."""
LABELLED_UTTERANCES = 8
"""Of each of these."""


def write_transcripts(data: Path) -> None:
    """Write `demo/transcripts/<file>.jsonl`, 1,240 utterances together, below the folder of raw data."""
    rng = random.Random(SEED)  # noqa: S311 (a generator of text, not of keys)
    rows = [row for split in SPEAKERS for row in _split(rng, split)]
    folder = data / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for file, row in rows if file == name)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _split(rng: random.Random, split: str) -> list[tuple[str, dict[str, str]]]:
    """(file, row) of one split; nobody says the same twice."""
    rows: list[tuple[str, dict[str, str]]] = []
    for place, speaker in enumerate(SPEAKERS[split]):
        said: dict[str, None] = {}
        while len(said) < UTTERANCES[split]:
            said[_utterance(rng)] = None
        for number, text in enumerate(said):
            is_labelled = split != "train" or (place < LABELLED_SPEAKERS and number < LABELLED_UTTERANCES)
            row = {"id": f"{speaker}-{number:03d}", "text": text, "speaker": speaker, "split": split}
            rows.append((FILES[is_labelled], {**row, "source": "transcripts", "license": LICENCE}))
    return rows


def _utterance(rng: random.Random) -> str:
    """One to four words, none twice in a row."""
    words: list[str] = []
    wanted = NUM_WORDS[rng.randrange(len(NUM_WORDS))]
    while len(words) < wanted:
        word = WORDS[rng.randrange(len(WORDS))]
        if words[-1:] != [word]:
            words.append(word)
    return PAUSE.join(words)
