"""Raw text becomes clean text, or a reject with its reason; the filters are hojichar's where these are right.

Always, and not a filter: line ends become line feeds, a byte order mark and blank lines at both ends go. Spaces at the
beginning of a line stay, since they are indentation.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from components.characters import count_classes, is_damaged, japanese_share
from components.modalities import Rejected
from components.modalities.text import masking, overlap
from components.modalities.text.schema import Column, Filters

Step = Callable[[str], str]
"""From text to cleaner text; raises Rejected."""

REPEATED_CHARS = 10
"""How long a stretch is that counts as repeated."""
NUM_SAMPLES = 5
"""Pieces that are shown of each kind that was masked."""


class Reader:
    """From a raw field to clean text; it raises `Rejected` with a reason, which names the key behind it.

    Args:
        column: what the corpus says about this column; its `filters` decide.
    """

    def __init__(self, column: Column) -> None:
        self._masked: dict[str, dict[str, Any]] = {}
        self._steps = list(_steps(column.filters, self._masked))

    def __call__(self, raw: Any) -> str:
        """The clean text of one field."""
        text = _plain(raw)
        for step in self._steps:
            text = step(text)
        return text

    def changes(self) -> dict[str, dict[str, Any]]:
        """What was masked so far, by kind: `texts` and `places`, and `sample` without what is personal."""
        return self._masked


def reader(column: Column) -> Reader:
    """A function from a raw field to clean text, with what it changed.

    Args:
        column: what the corpus says about this column; its `filters` decide.
    """
    return Reader(column)


def _plain(raw: Any) -> str:
    if raw is None:
        raise Rejected("empty")
    if not isinstance(raw, str):
        raise Rejected(f"not text but {type(raw).__name__}")
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Rejected("half of a surrogate pair (broken characters)") from error
    text = raw.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    return _trimmed(text)


def _trimmed(text: str) -> str:
    text = re.sub(r"\A(?:[^\S\n]*\n)+", "", text.rstrip())
    if not text:
        raise Rejected("empty")
    return text


def _steps(filters: Filters, masked: dict[str, dict[str, Any]]) -> list[Step]:
    """The steps in their order: what changes the text comes before what measures it.

    Args:
        filters: what the corpus says.
        masked: receives what is masked.
    """
    steps: list[Step] = []
    if filters.unicode_form != "none":
        form = filters.unicode_form
        steps.append(lambda text: unicodedata.normalize(form, text))
    if filters.drop_headers_and_footers:
        steps.append(_header_and_footer_step())
    if filters.mask_personal_information:
        steps.append(_mask_step(filters.mask_personal_information, masked))
    steps.append(_length_step(filters))
    if filters.min_japanese_share > 0:
        steps.append(_japanese_step(filters.min_japanese_share))
    if filters.drop_damaged:
        steps.append(_undamaged)
    return [*steps, *_quality_steps(filters)]


def _quality_steps(filters: Filters) -> Iterator[Step]:
    """What hojichar finds bad."""
    from hojichar.filters import document_filters as own

    most = filters.adult_words_per_1000_chars
    if filters.drop_adult_content:
        adult = (own.DiscardAdultContentJa(ignore_confused=True), own.DiscardAdultContentEn())
        yield _word_step(adult, most, "adult content (filters.drop_adult_content)")
    if filters.drop_violence:
        yield _word_step((own.DiscardViolenceContentJa(ignore_confused=True),), most, "threats (filters.drop_violence)")
    if filters.drop_advertisements:
        yield _rejecting(own.DiscardAds(), "advertisement (filters.drop_advertisements)")
    if (share := filters.max_repeated_share) is not None:
        yield _repetition_step(share)
    if (share := filters.max_ellipsis_share) is not None:
        reason = f"lines that break off: over {share:g} (filters.max_ellipsis_share)"
        yield _rejecting(own.DiscardTooManyEndingEllipsis(threshold=share), reason)
    if filters.max_run_chars is not None:
        yield _run_step(filters.max_run_chars)


def _length_step(filters: Filters) -> Step:
    shortest, longest = filters.min_chars, filters.max_chars

    def check_length(text: str) -> str:
        if len(text) < shortest:
            raise Rejected(f"shorter than {shortest} characters (filters.min_chars)")
        if longest is not None and len(text) > longest:
            raise Rejected(f"longer than {longest} characters (filters.max_chars)")
        return text

    return check_length


def _japanese_step(least: float) -> Step:
    def check_japanese(text: str) -> str:
        if japanese_share(count_classes(text)) < least:
            raise Rejected(f"Japanese share under {least:g} (filters.min_japanese_share)")
        return text

    return check_japanese


def _undamaged(text: str) -> str:
    if is_damaged(text):
        raise Rejected("damaged: U+FFFD, control characters or a wrong decoding (filters.drop_damaged)")
    return text


def _mask_step(kinds: bool | list[masking.Kind], masked: dict[str, dict[str, Any]]) -> Step:
    mask = masking.masker(masking.KINDS if isinstance(kinds, bool) else tuple(kinds))

    def mask_personal_information(text: str) -> str:
        clean, found = mask(text)
        for kind, places in found.items():
            told = masked.setdefault(kind, {"texts": 0, "places": 0, "sample": []})
            told["texts"] += 1
            told["places"] += len(places)
            if len(told["sample"]) < NUM_SAMPLES:
                told["sample"].append(re.sub(r"\w", "x", places[0]))
        return clean

    return mask_personal_information


def _header_and_footer_step() -> Step:
    from hojichar import Document
    from hojichar.filters.document_filters import HeaderFooterTagsRemover

    tags: Any = HeaderFooterTagsRemover()  # it looks at `.text` alone; its own Token class is deprecated

    def is_tag(line: str) -> bool:
        # A sentence may begin with a word such as 検索, a navigation tag has no full stop.
        return "。" not in line and tags.should_drop_token(Document(line.strip()))

    def drop_headers_and_footers(text: str) -> str:
        # hojichar's own `apply` (0.18) drops a line of the header for each tag it finds in the footer.
        lines = text.split("\n")
        reach = 1 if len(lines) < 4 else 2 if len(lines) < 6 else 3
        edge = {*range(reach), *range(len(lines) - reach, len(lines))}
        return _trimmed("\n".join(line for number, line in enumerate(lines) if number not in edge or not is_tag(line)))

    return drop_headers_and_footers


def _rejecting(library_filter: Any, reason: str) -> Step:
    from hojichar import Document

    def check(text: str) -> str:
        if library_filter.apply(Document(text)).is_rejected:
            raise Rejected(reason)
        return text

    return check


def _word_step(lists: tuple[Any, ...], most: float, reason: str) -> Step:
    """A limit on words of hojichar's lists for each 1,000 characters.

    Its own filters reject at the first one, so the longer a text is the likelier it goes, whatever it is.
    """
    patterns = [each.keyword_pat for each in lists]

    def check(text: str) -> str:
        num_words = sum(1 for pattern in patterns for _ in pattern.finditer(text))
        if num_words * 1000 > most * len(text):
            raise Rejected(reason)
        return text

    return check


def _repetition_step(most: float) -> Step:
    """A limit on stretches that stand in the text before.

    hojichar's filter (0.18) takes the most frequent ones alone, as many as the root of how many there are, so a text
    that is one phrase over and over passes.
    """

    def check(text: str) -> str:
        pieces = list(overlap.shingles(text, REPEATED_CHARS))
        hashes = np.concatenate(pieces) if pieces else np.empty(0, np.uint64)
        hashes.sort()  # np.unique hashes, which takes ten times as long on 10^7 of them
        if np.count_nonzero(hashes[1:] == hashes[:-1]) > most * len(hashes):
            raise Rejected(f"repeats itself: over {most:g} of it (filters.max_repeated_share)")
        return text

    return check


def _run_step(most: int) -> Step:
    run = re.compile(rf"([^\W_])\1{{{most},}}")

    def check(text: str) -> str:
        if run.search(text):
            raise Rejected(f"over {most} times the same letter in a row (filters.max_run_chars)")
        return text

    return check
