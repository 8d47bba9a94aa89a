"""Raw pictures to clean ones: a PNG where the raw file loses nothing, else a JPEG; RGB, upright, on white.

Colour profiles are left out: the numbers stay as they are.
"""

import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from components.modalities import Rejected
from components.modalities.image.column_schema import CLEAN, Column
from components.thumbnails import shrunk

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "MPO")
"""What is tried; Pillow knows more, some of which start programs or read other files."""
LOSSLESS = ("PNG", "GIF", "BMP", "TIFF")
JPEG_QUALITY = 95
UNREADABLE = "not readable as a picture"
TRUNCATED = "the picture ends early: the file is truncated or damaged"


def reader(column: Column) -> Callable[[dict[str, Any]], bytes]:
    """A function from a raw picture (bytes, or a mapping with `bytes`) to PNG or JPEG; a clean one stays as it is.

    It raises `Rejected` with a reason in words that are equal for equal reasons.
    """

    def read(parts: dict[str, Any]) -> bytes:
        (raw,) = parts.values()
        raw = raw.get("bytes") if isinstance(raw, dict) else raw
        if not isinstance(raw, bytes | bytearray | memoryview):
            raise Rejected("no bytes of a picture (source.files_field reads the file that a table names)")
        raw = bytes(raw)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and broken metadata, which are dealt with here
            opened = _opened(raw, column)
            is_fit = max(opened.size) <= column.max_side_px
            if CLEAN in parts and is_fit:
                return raw
            kind = opened.format
            image = _upright(_loaded(opened, column.max_side_px))
            return encoded(shrunk(_on_white(image), column.max_side_px), is_lossless=kind in LOSSLESS)

    return read


def _opened(raw: bytes, column: Column) -> "Image":
    """A picture of which only the head is read, as far as it may become a record."""
    from PIL import Image

    limits = column.filters
    bomb = f"more than {limits.max_pixels:,} pixels (filters.max_pixels)"
    try:
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
        is_animated = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    except Image.DecompressionBombError:
        raise Rejected(bomb) from None
    except Exception:  # decoders of files from anywhere raise anything
        raise Rejected(UNREADABLE) from None
    width, height = image.size
    if width * height > limits.max_pixels:
        raise Rejected(bomb)
    if is_animated:
        raise Rejected("animated, or several pictures in one file")
    if min(width, height) < limits.min_side_px:
        raise Rejected(f"a side under {limits.min_side_px} pixels (filters.min_side_px)")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise Rejected(f"one side over {limits.max_aspect:g} times the other (filters.max_aspect)")
    return image


def _loaded(image: "Image", max_side_px: int) -> "Image":
    """A picture with its pixels; a JPEG that is far larger than wanted is decoded at half its size, or less."""
    if image.format == "JPEG" and image.mode in ("L", "RGB") and max(image.size) > max_side_px:
        scale = max_side_px / max(image.size)
        image.draft(image.mode, (round(image.width * scale), round(image.height * scale)))
    try:
        image.load()
    except Exception:  # as above
        raise Rejected(TRUNCATED) from None
    return image


def _upright(image: "Image") -> "Image":
    """Turned as its EXIF says; broken EXIF says nothing."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as above
        return image


def _on_white(image: "Image") -> "Image":
    """RGB; what can be seen through stands on white, and 16 bits a channel become 8."""
    from PIL import Image

    if image.mode == "F":
        raise Rejected("its pixels are no whole numbers")
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.int64)
        image = Image.fromarray((np.clip(values, 0, 65_535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return image.convert("RGB")


# ---- clean pictures --------------------------------------------------------------------------------------------------


def encoded(image: "Image", is_lossless: bool) -> bytes:
    """PNG, or JPEG of quality 95, of a picture in RGB, without metadata.

    The same pixels give the same bytes with one build of Pillow.
    """
    image.info = {}
    stream = io.BytesIO()
    if is_lossless:
        image.save(stream, "PNG", compress_level=6)
    else:
        image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
    return stream.getvalue()


def decoded(value: bytes) -> "Image":
    """A clean picture as an image of Pillow in RGB."""
    from PIL import Image

    image = Image.open(io.BytesIO(value), formats=("PNG", "JPEG"))
    image.load()
    return image


# ---- facts -----------------------------------------------------------------------------------------------------------


def look_digest(image: "Image") -> str:
    """Equal for most pictures that look alike, whatever their size and file: a perceptual hash, 9 bytes as hex.

    63 bits say which of the low frequencies of the cosine transform of the brightness lie above their median (Zauner,
    Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, 3.2.1); three bits each, in a byte, are
    the mean of the blue and the red difference, since brightness tells no colours.
    """
    from PIL import Image

    small = np.asarray(image.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX), dtype=np.float64)
    low = (_COSINES @ small @ _COSINES.T).ravel()[1:]
    bits = np.packbits(np.round(low, 6) > np.median(np.round(low, 6)))
    _, blue, red = np.asarray(image.resize((1, 1), Image.Resampling.BOX).convert("YCbCr"))[0, 0].tolist()
    return bits.tobytes().hex() + bytes([blue // 32 * 8 + red // 32]).hex()


HASH_SIDE = 32
_COSINES = np.cos(np.pi / HASH_SIDE * np.outer(np.arange(8), np.arange(HASH_SIDE) + 0.5))
"""float64 [8, 32]: the rows of the cosine transform (DCT-II) of the eight lowest frequencies."""
