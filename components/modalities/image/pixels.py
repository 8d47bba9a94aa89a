"""The encoder of plain pictures of one size."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from components.modalities.image.cutting import cut
from components.modalities.image.encoder_schema import Pixels
from components.modalities.image.pictures import decoded
from components.modalities.image.shards import DIGEST, ID, PICTURE, Parts, digest_of

NAME = "pixels.json"
FORMATS = {"png": "PNG", "jpg": "JPEG"}


class PixelEncoder:
    """Clean pictures to files of pictures of one size."""

    kind = "pixels"
    names: list[str] = []

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.counts: dict[str, int | float] = {}

    def encode(self, values: list[bytes]) -> list[Parts]:
        """The bytes of a PNG or JPEG of each, and the digest of the clean picture."""
        return [{PICTURE: np.frombuffer(self.file_of(value), np.uint8), DIGEST: digest_of(value)} for value in values]

    def encode_named(self, names: list[str], values: list[bytes]) -> list[Parts]:
        """The same with the id of each record, uint8 [bytes of UTF-8], which stands beside the picture in its tar."""
        ids = [np.frombuffer(name.encode(), np.uint8) for name in names]
        return [{**parts, ID: each} for parts, each in zip(self.encode(values), ids, strict=True)]

    def file_of(self, value: bytes) -> bytes:
        """PNG or JPEG of a clean picture; one that has format and size already stays as it is."""
        from PIL import Image

        size, kind = self.facts["size_px"], FORMATS[self.facts["format"]]
        head = Image.open(io.BytesIO(value), formats=tuple(FORMATS.values()))
        if head.size == (size, size) and head.format == kind and head.mode == "RGB":
            return value
        image, stream = cut(decoded(value), size, self.facts["resample"]), io.BytesIO()
        image.info = {}
        if kind == "PNG":
            image.save(stream, kind, compress_level=6)
        else:
            image.save(stream, kind, quality=self.facts["quality"], subsampling="4:2:0")
        return stream.getvalue()

    def vocabulary(self) -> dict[int, str]:
        """Pixels stand for nothing."""
        return {}


def fit(encoder: Pixels, folder: Path) -> dict[str, Any]:
    """Write down what pictures are."""
    facts = encoder.model_dump(include={"size_px", "resample", "format"})
    facts |= {"quality": encoder.quality} if encoder.format == "jpg" else {}
    (folder / NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return dict(facts)


def open_encoder(folder: Path) -> PixelEncoder:
    """What `fit` left."""
    return PixelEncoder(json.loads((folder / NAME).read_text(encoding="utf-8")))
