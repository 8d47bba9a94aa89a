"""Documents as the lines that SentencePiece trains on, cut and counted, since it skips some without an error."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# SentencePiece drops longer lines; its own limit of 4,192 would drop two thirds of a corpus of whole documents.
MAX_LINE_BYTES = 16_384
MAX_LINE_CHARS = MAX_LINE_BYTES // 4  # UTF-8 has at most four bytes a character

# SentencePiece skips a line that holds one of these, so they end a line as a newline does.
RESERVED = "\0\u2585"
_LINE_ENDS = re.compile(f"[\n{RESERVED}]")
_BOUNDARIES = re.compile(r"[。．！？!?.\s]")


@dataclass
class Fed:
    """What was given to SentencePiece."""

    num_documents: int = 0
    num_chars: int = 0
    num_lines: int = 0
    num_cut_lines: int = 0
    """Lines over the limit, given in several parts."""
    num_reserved_chars: int = 0
    """NUL and U+2585, which SentencePiece cannot learn; they are encoded as bytes."""

    def report(self) -> dict[str, int]:
        """The numbers for `report.json`."""
        return {key.removeprefix("num_"): value for key, value in vars(self).items()}


def training_lines(texts: Iterable[str], fed: Fed) -> Iterator[str]:
    """Split documents into lines that SentencePiece takes, and count them; no character but the separators is lost."""
    for text in texts:
        fed.num_documents += 1
        fed.num_chars += len(text)
        fed.num_reserved_chars += sum(map(text.count, RESERVED))
        for line in _LINE_ENDS.split(text):
            fed.num_cut_lines += len(line) > MAX_LINE_CHARS
            for part in _cut(line):
                fed.num_lines += 1
                yield part


def recalled(lines: Iterator[str], broken: list[Exception]) -> Iterator[str]:
    """The same lines; an exception on the way is kept."""
    try:
        yield from lines
    except Exception as error:
        broken.append(error)
        raise


def _cut(line: str) -> Iterator[str]:
    """Parts within the limit, cut after the last boundary of each part's second half if there is one."""
    begin = 0
    while len(line) - begin > MAX_LINE_CHARS:
        half, most = begin + MAX_LINE_CHARS // 2, begin + MAX_LINE_CHARS
        ends = [match.end() for match in _BOUNDARIES.finditer(line, half, most)]
        end = ends[-1] if ends else most
        yield line[begin:end]
        begin = end
    if begin < len(line):
        yield line[begin:]
