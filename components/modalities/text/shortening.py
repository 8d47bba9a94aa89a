"""Contexts of articles and their summaries that are too long, cut sentence by sentence."""

from collections.abc import Callable

FULL_STOP = "。"


def cut_sentences(context: str, room: int, article: str, answer: str, end: str, length: Callable[[str], int]) -> str:
    """Give each article of a context the same share of the room, and keep as many of its first sentences.

    What the published scores of xlsum-ja did (Stability-AI/lm-evaluation-harness, branch jp-stable).

    Args:
        context: a description, articles with their summaries, and the article that is to be summarised.
        room: tokens of all articles together; summaries and the description come on top.
        article: what stands before an article.
        answer: what stands between an article and its summary.
        end: stands after the last sentence that is kept.
        length: tokens of a text.
    """
    before, *parts = context.split(article)
    parts = [article + part for part in parts]
    # A turn in which the task is described looks like an article, and is one here.
    share = room // max(1, len(parts))
    return before + "".join(_shortened(part, share, answer, end, length) for part in parts)


def _shortened(part: str, share: int, answer: str, end: str, length: Callable[[str], int]) -> str:
    text, mark, summary = part.partition(answer)
    sentences = text.split(FULL_STOP)
    kept: list[str] = []
    for sentence in sentences:
        if length(FULL_STOP.join([*kept, sentence])) > share:
            cut = FULL_STOP.join(kept) + FULL_STOP if kept else _cut(sentence, share, length)
            return cut + end + mark + summary
        kept.append(sentence)
    return part


def _cut(sentence: str, share: int, length: Callable[[str], int]) -> str:
    """The longest beginning of a sentence that is short enough, found by halving."""
    low, high = 0, len(sentence)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if length(sentence[:middle]) <= share else (low, middle - 1)
    return sentence[:low]
