"""Lines of text files, plain or compressed, as streams; a file that is broken or in another encoding is refused.

Memory holds one line and a chunk of the file.
"""

import gzip
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from components.outcomes import Refused
from components.wording import one_line

MAX_LINE_BYTES = 64 << 20
"""A longer line cannot be read: most likely a file without line ends, and it would fill the memory."""
CHUNK_BYTES = 1 << 20
SAMPLE_BYTES = 64 << 10
"""Lines that are not UTF-8 are kept up to here, to tell their encoding."""

UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
XZ_MAGIC = b"\xfd7zXZ\0"
TOOLS = {".gz": "gzip", ".zst": "zstd", ".xz": "xz"}
"""Ending of a compressed file -> the tool that reads it."""

# Python's codec -> (what people call it, what iconv calls it).
LEGACY_ENCODINGS = {
    "cp932": ("Shift-JIS", "CP932"),
    "euc_jp": ("EUC-JP", "EUC-JP"),
    "iso2022_jp": ("ISO-2022-JP (JIS)", "ISO-2022-JP"),
}
ISO2022_MARKS = (b"\x1b$B", b"\x1b$@")
COMMON_LEADS = range(0x81, 0x99)
"""First bytes of the characters in Shift-JIS that are not rare: punctuation, kana, kanji of level 1 (JIS X 0208)."""


@dataclass(frozen=True)
class Unreadable:
    """A line that cannot be read: why, in words that are equal for equal reasons, and its beginning."""

    problem: str
    excerpt: str = ""


TOO_LONG = Unreadable(f"longer than {MAX_LINE_BYTES >> 20} MiB")


def decoded_lines(path: Path) -> Iterator[tuple[int, str | Unreadable]]:
    """Lines without their ends, numbered from 1.

    Raises:
        Refused: the file is broken, ends early, or is in a Japanese encoding other than UTF-8. That is decided from
            all lines so far that are not UTF-8, as long as none with other than ASCII characters is.
    """
    strange = _StrangeLines(path)
    for number, line in enumerate(_lines(path), start=1):
        if line is None:
            yield number, TOO_LONG
            continue
        if number == 1:
            line = line.removeprefix(UTF8_MARK)
            if line.startswith(UTF16_MARKS):
                raise Refused(_wrong_encoding(path, "UTF-16", "UTF-16", number))
        if line.isascii() and not any(mark in line for mark in ISO2022_MARKS):
            yield number, line.decode("ascii")
            continue
        try:
            if line.isascii():
                raise UnicodeDecodeError("utf-8", line, 0, 1, "escape sequences of ISO-2022-JP")
            yield number, line.decode("utf-8")
            strange.is_utf8 = True
        except UnicodeDecodeError:
            strange.add(number, line)
            yield number, Unreadable("bytes that are not UTF-8", one_line(line[:1000].decode("utf-8", "replace")))
    strange.judge()


@dataclass
class _StrangeLines:
    """The lines of a file that are not UTF-8, and the encoding that they are in together."""

    path: Path
    is_utf8: bool = False
    """Some line holds Japanese (or other) text in UTF-8, so the others are damage."""
    first: int = 0
    count: int = 0
    lines: list[bytes] = field(default_factory=list)
    num_bytes: int = 0

    def add(self, number: int, line: bytes) -> None:
        """Keep a line, and judge at the first, the second, the fourth and so on."""
        self.first = self.first or number
        self.count += 1
        if self.num_bytes < SAMPLE_BYTES:
            self.lines.append(line)
            self.num_bytes += len(line)
        if self.count & (self.count - 1) == 0:
            self.judge()

    def judge(self) -> None:
        """Refuse the file if the lines together are in an older Japanese encoding."""
        guess = None if self.is_utf8 or not self.lines else guess_encoding(b"\n".join(self.lines))
        if guess:
            raise Refused(_wrong_encoding(self.path, *LEGACY_ENCODINGS[guess], self.first))


def _lines(path: Path) -> Iterator[bytes | None]:
    """Lines without their ends; None stands for one longer than MAX_LINE_BYTES."""
    rest: list[bytes] = []
    size = 0
    for chunk in _chunks(path):
        *whole, tail = chunk.split(b"\n")
        for piece in whole:
            line = None if size + len(piece) > MAX_LINE_BYTES else b"".join([*rest, piece]).removesuffix(b"\r")
            rest, size = [], 0
            yield line
        size += len(tail)
        rest = [*rest, tail] if size <= MAX_LINE_BYTES else []
    if size:
        yield None if size > MAX_LINE_BYTES else b"".join(rest).removesuffix(b"\r")


def _chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, decompressed by its ending."""
    import zstandard

    try:
        yield from _open(path)
    except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError, lzma.LZMAError) as error:
        kind = TOOLS[path.suffix]
        raise Refused(
            f"{path} is not a whole {kind} file: {one_line(error)}. Bring the file again; check it with: "
            f"{kind} -t {path}"
        ) from error


def _open(path: Path) -> Iterator[bytes]:
    if path.suffix in TOOLS and path.stat().st_size == 0:
        raise EOFError("it has no bytes")
    if path.suffix in (".gz", ".xz"):
        opened = gzip.open if path.suffix == ".gz" else lzma.open
        with opened(path, "rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    elif path.suffix == ".zst":
        yield from _open_zstd(path)
    else:
        with path.open("rb") as stream:
            head = stream.read(CHUNK_BYTES)
            for magic, ending in ((GZIP_MAGIC, ".gz"), (ZSTD_MAGIC, ".zst"), (XZ_MAGIC, ".xz")):
                if head.startswith(magic):
                    raise Refused(
                        f"{path} is compressed, but its name does not say so. Rename it to {path.name}{ending}"
                    )
            while head:
                yield head
                head = stream.read(CHUNK_BYTES)


def _open_zstd(path: Path) -> Iterator[bytes]:
    """Decompress frame after frame; zstandard's own stream reader takes a file that ends early for a whole one."""
    import zstandard

    with path.open("rb") as stream:
        frame = None
        compressed = b""
        while compressed or (compressed := stream.read(CHUNK_BYTES // 8)):
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(compressed)
            compressed = b""
            if frame.eof:
                compressed, frame = frame.unused_data, None
        if frame is not None:
            raise EOFError("it ends within a frame")


# ---- encodings -------------------------------------------------------------------------------------------------------


def guess_encoding(sample: bytes) -> str | None:
    """Python's name of the Japanese encoding that bytes which are not UTF-8 are in, or None if neither fits well.

    A wrong guess between Shift-JIS and EUC-JP gives half-width katakana and rare characters, so kana decide. Without
    kana, 20 common characters say Shift-JIS; EUC-JP without kana looks like Chinese in GB 2312, and is not guessed.
    """
    if any(mark in sample for mark in ISO2022_MARKS):
        return "iso2022_jp"
    best, best_share = None, 0.1
    for codec in ("cp932", "euc_jp"):
        try:
            text = sample.decode(codec)
        except UnicodeDecodeError:
            continue
        marked = [character for character in text if character > "\x7f"]
        kana = sum("\u3041" <= character <= "\u30fe" for character in marked)
        half_width = sum("\uff61" <= character <= "\uff9f" for character in marked)
        share = (kana - half_width / 2) / max(len(marked), 1)
        if share > best_share:
            best, best_share = codec, share
        elif best is None and codec == "cp932" and len(marked) >= 20:
            common = sum(character.encode("cp932")[0] in COMMON_LEADS for character in marked)
            best = codec if common >= 0.8 * len(marked) else None
    return best


def _wrong_encoding(path: Path, name: str, iconv_name: str, number: int) -> str:
    new = path.with_name(f"{path.name}.new")
    convert = f"iconv -f {iconv_name} -t UTF-8"
    if tool := TOOLS.get(path.suffix):
        command = f"{tool} -dc {path} | {convert} | {tool} > {new} && mv {new} {path}"
    else:
        command = f"{convert} {path} > {new} && mv {new} {path}"
    return f"{path} is {name} (seen in line {number}), expected UTF-8. Convert it: {command}"
