"""Raw text becomes clean text, or a reject with its reason; the filters are hojichar's.

Always, and not a filter: line ends become line feeds, a byte order mark and blank lines at both ends go. Spaces at the
beginning of a line stay, since they are indentation.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from components.characters import count_classes, is_damaged, japanese_share
from components.modalities import Rejected
from components.modalities.text.schema import Column, Filters

Step = Callable[[str], str]
"""From text to cleaner text; raises Rejected."""

# No e-mail address or telephone number is that long, and hojichar's pattern takes quadratic time on such runs.
_LONG_RUN = re.compile(r"([\w!#$%&'*+\-/=?^`{|}~.]{1000,})", re.ASCII)


def reader(column: Column) -> Callable[[Any], str]:
    """A function from a raw field to clean text.

    Args:
        column: what the corpus says about this column; its `filters` decide.

    Returns:
        A function that raises `Rejected` with a reason, which names the key behind it.
    """
    steps = list(_steps(column.filters))

    def read(raw: Any) -> str:
        text = _plain(raw)
        for step in steps:
            text = step(text)
        return text

    return read


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


def _steps(filters: Filters) -> list[Step]:
    """The steps in their order: what changes the text comes before what measures it."""
    steps: list[Step] = []
    if filters.unicode_form != "none":
        form = filters.unicode_form
        steps.append(lambda text: unicodedata.normalize(form, text))
    if filters.drop_headers_and_footers:
        steps.append(_header_and_footer_step())
    if filters.mask_personal_information:
        steps.append(_mask_step())
    steps.append(_length_step(filters))
    if filters.min_japanese_share > 0:
        steps.append(_japanese_step(filters.min_japanese_share))
    if filters.drop_damaged:
        steps.append(_undamaged)
    if filters.drop_adult_content:
        steps += _adult_steps()
    if filters.drop_advertisements:
        steps.append(_advertisement_step())
    return steps


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


def _mask_step() -> Step:
    from hojichar.filters.document_filters import MaskPersonalInformation

    mask = MaskPersonalInformation()

    def mask_personal_information(text: str) -> str:
        pieces = _LONG_RUN.split(text)
        pieces[::2] = [mask(piece) for piece in pieces[::2]]
        return "".join(pieces)

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


def _adult_steps() -> list[Step]:
    from hojichar.filters.document_filters import DiscardAdultContentEn, DiscardAdultContentJa

    reason = "adult content (filters.drop_adult_content)"
    return [
        _rejecting(DiscardAdultContentJa(ignore_confused=True), reason),
        _rejecting(DiscardAdultContentEn(), reason),
    ]


def _advertisement_step() -> Step:
    from hojichar.filters.document_filters import DiscardAds

    return _rejecting(DiscardAds(), "advertisement (filters.drop_advertisements)")
