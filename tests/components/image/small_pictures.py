"""Small pictures as files of every kind, and tars of them."""

import io
import struct
import tarfile
import zlib

from PIL import Image


def noise(width=60, height=40):
    """A picture in RGB whose pixels all differ, the same in every run."""
    return Image.frombytes("RGB", (width, height), bytes((7 * n * n + 13 * n) % 256 for n in range(3 * width * height)))


def file_of(image, kind="PNG", **more):
    """The bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **more)
    return stream.getvalue()


def chunk(name, data):
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(side=20_000):
    """A PNG of a few kilobytes that holds a picture of so many pixels to a side."""
    packer = zlib.compressobj()
    row = b"\0" * (side // 8 + 1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tar_of(members, kind="w"):
    """The bytes of a tar with (name, bytes) in order."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=kind) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()
