"""Small copies of pictures, for pages that hold their pictures within: a page of whole ones weighs megabytes."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL_PX = 200
QUALITY = 95
"""Of JPEG."""


def thumbnail(value: bytes) -> bytes:
    """A PNG or JPEG in RGB for a page: at most THUMBNAIL_PX wide and high, small ones as they are."""
    from PIL import Image

    image: Image.Image = Image.open(io.BytesIO(value), formats=("PNG", "JPEG"))
    if max(image.size) <= THUMBNAIL_PX:
        return value
    small, stream = shrunk(image, THUMBNAIL_PX), io.BytesIO()
    small.info = {}
    small.save(stream, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return stream.getvalue()


def shrunk(image: "Image", max_side_px: int) -> "Image":
    """A picture at most so wide and high, its proportions kept; a smaller one as it is."""
    from PIL import Image

    scale = max_side_px / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
