"""Somebody else's folder of weights, before any family looks into it."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models.objective import Mismatch

# Formats that run code when they are read, named when they stand where safetensors should.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")


WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = f"{WEIGHTS_NAME}.index.json"
"""Where weights are in several files: which tensor is in which."""
COPIED_BYTES = 1 << 24


def require_safetensors(where: str, source: Path, kind: str, in_parts: bool = False) -> None:
    """Refuse a folder without weights in one safetensors file.

    Args:
        where: the key and value of a recipe that name it, for the message.
        source: the folder.
        kind: the class of transformers that can write it anew.
        in_parts: several files with an index will do.

    Raises:
        Mismatch: it is not there, or holds pickles or nothing.
    """
    if not source.is_dir():
        raise Mismatch(f"{where} is no folder. Put the model there as save_pretrained writes it, or change 'source'.")
    if in_parts and (source / INDEX_NAME).is_file():
        return
    if not (source / WEIGHTS_NAME).is_file():
        pickles = sorted(file.name for pattern in PICKLES for file in source.glob(pattern))
        found = f"holds {', '.join(pickles)}" if pickles else "holds no weights"
        raise Mismatch(
            f"{where} {found}, expected model.safetensors in one file: a pickle can run code when it is read. Convert "
            f"it once, on a machine you can lose: {kind}.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER, "
            "max_shard_size='1000GB')"
        )


def take_files(where: str, source: Path, layout: str, layouts: Mapping[str, Iterable[str]], folder: Path) -> None:
    """Copy the files of a layout, and nothing else.

    Args:
        where: see `require_safetensors`.
        source: the folder that holds them.
        layout: which of the layouts.
        layouts: of a family, the files of each by their paths.
        folder: receives them; made if missing.

    Raises:
        Mismatch: one is missing.
    """
    missing = [file for file in layouts[layout] if not (source / file).is_file()]
    if missing:
        raise Mismatch(
            f"{where} holds no {', '.join(missing)}; the layout '{layout}' has {', '.join(layouts[layout])}. Add them, "
            f"or name another layout: {', '.join(layouts)}."
        )
    copy_files(source, layouts[layout], folder)


def copy_files(source: Path, files: Iterable[str], folder: Path) -> None:
    """Copy files by their paths within a folder; other folders are made as they need them."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, folder / file)


def join_weights(source: Path, place: Path) -> None:
    """Weights of a folder, in one safetensors file or in several with an index, as one; in the memory of a block.

    A file is eight bytes of the header's length, the header (JSON: tensor -> type, shape, place), and the tensors: the
    format of the safetensors library.

    Raises:
        Mismatch: a part is not there, or cannot be read.
    """
    if (source / WEIGHTS_NAME).is_file():
        shutil.copyfile(source / WEIGHTS_NAME, place)
        return
    names = sorted(set(json.loads((source / INDEX_NAME).read_text(encoding="utf-8"))["weight_map"].values()))
    missing = [name for name in names if not (source / name).is_file()]
    if missing:
        raise Mismatch(f"{source} has {INDEX_NAME} but no {', '.join(missing)}. Get all parts of the weights.")
    headers = {name: _header_of(source / name) for name in names}
    whole: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for header, _ in headers.values():
        for tensor, row in header.items():
            whole[tensor] = row | {"data_offsets": [start + each for each in row["data_offsets"]]}
        start += max((row["data_offsets"][1] for row in header.values()), default=0)
    text = json.dumps(whole).encode()
    text += b" " * (-len(text) % 8)
    with place.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, (_, begin) in headers.items():
            with (source / name).open("rb") as part:
                part.seek(begin)
                shutil.copyfileobj(part, stream, COPIED_BYTES)


def _header_of(path: Path) -> tuple[dict[str, Any], int]:
    """The tensors of a safetensors file, and where their bytes begin."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length < path.stat().st_size:
            raise Mismatch(f"{path} is no safetensors file, or is cut. Get it again.")
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise Mismatch(f"{path} is no safetensors file: {error}. Get it again.") from error
    header.pop("__metadata__", None)
    return header, 8 + length
