"""Somebody else's folder of weights, before any family looks into it."""

from pathlib import Path

from models.objective import Mismatch

# Formats that run code when they are read, named when they stand where safetensors should.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")


def require_safetensors(where: str, source: Path, kind: str) -> None:
    """Refuse a folder without weights in one safetensors file.

    Args:
        where: the key and value of a recipe that name it, for the message.
        source: the folder.
        kind: the class of transformers that can write it anew.

    Raises:
        Mismatch: it is not there, or holds pickles or nothing.
    """
    if not source.is_dir():
        raise Mismatch(f"{where} is no folder. Put the model there as save_pretrained writes it, or change 'source'.")
    if not (source / "model.safetensors").is_file():
        pickles = sorted(file.name for pattern in PICKLES for file in source.glob(pattern))
        found = f"holds {', '.join(pickles)}" if pickles else "holds no weights"
        raise Mismatch(
            f"{where} {found}, expected model.safetensors in one file: a pickle can run code when it is read. Convert "
            f"it once, on a machine you can lose: {kind}.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER, "
            "max_shard_size='1000GB')"
        )
