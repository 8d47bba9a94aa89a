"""What an answer in Japanese is worth beside the right ones: exact match, F1, ROUGE-2, a number.

The measures of the paper's tasks (arXiv 2404.01657, table 2), as Stability-AI/lm-evaluation-harness (branch jp-stable,
`lm_eval/jasquad`, `lm_eval/tasks/ja`) defines them; all are shares from 0 to 1. `extracted`, `summarised` and
`reckoned` are named by task files below `recipes/tasks/harness`: (document, [answer]) -> metric -> value.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

# Faces, pictographs, vehicles, flags and dingbats. Only single characters are looked at, as in the published scores.
EMOJI = re.compile(
    "[\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff\u2702-\u27b0]"
)
PUNCTUATION = frozenset(
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
)
"""Words that are one of these do not count in F1."""
NUMBER = re.compile(r"-?[0-9.,]+")

Words = Callable[[str], list[str]]


def extracted(document: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Exact match and F1 of an answer taken from a text, the best over the right ones."""
    right = document["answers"]["text"]
    return {
        "exact_match": max(float(normalised(results[0]) == normalised(each)) for each in right),
        "f1": max(f1(results[0], each) for each in right),
    }


def summarised(document: dict[str, Any], results: list[str]) -> dict[str, float]:
    """ROUGE-2 of a summary, over words of MeCab."""
    return {"rouge2": rouge2(results[0], document["summary"], words)}


def reckoned(document: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether the last number of an answer is the right one."""
    found = last_number(results[0])
    return {"acc": float(found is not None and found == document["answer_number"])}


def normalised(text: str) -> str:
    """Without emoji, by neologdn (widths, hyphens, repetitions), white space squeezed."""
    import emoji
    import neologdn

    plain = EMOJI.sub("", "".join(each for each in text if not emoji.is_emoji(each)))
    return " ".join(neologdn.normalize(plain).split())


def words(text: str) -> list[str]:
    """MeCab's words of the normalised text, by fugashi with unidic-lite."""
    return str(_tagger().parse(normalised(text))).split()


def warm() -> None:
    """Load dictionaries and libraries before anything is timed."""
    f1("駅", "駅")
    rouge2("駅", "駅", words)


@cache
def _tagger() -> Any:
    from fugashi import Tagger

    return Tagger("-Owakati")


def f1(answer: str, right: str) -> float:
    """Of words, punctuation left out: twice the common ones over all."""
    mine, theirs = ([word for word in words(text) if word not in PUNCTUATION] for text in (answer, right))
    common = sum((Counter(mine) & Counter(theirs)).values())
    return 2 * common / (len(mine) + len(theirs)) if common else 0.0


def rouge2(answer: str, right: str, words_of: Words) -> float:
    """F-measure of pairs of neighbouring words (Lin 2004), by rouge-score.

    Args:
        answer: a summary.
        right: the one it is compared with.
        words_of: cuts a text; scores of different ones cannot be compared.
    """
    from rouge_score.rouge_scorer import RougeScorer

    class Cutter:
        tokenize = staticmethod(words_of)

    return float(RougeScorer(["rouge2"], tokenizer=Cutter()).score(right, answer)["rouge2"].fmeasure)


def last_number(text: str) -> int | None:
    """The last number of a text, commas left out; None if there is none, or it is not whole."""
    found = NUMBER.findall(text)
    try:
        value = float(found[-1].strip(".").replace(",", "")) if found else None
    except ValueError:
        return None
    return int(value) if value is not None and value.is_integer() else None
