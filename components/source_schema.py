"""What a corpus says of raw files."""

from typing import Literal

from pydantic import Field

from models.schema import Strict


class Files(Strict):
    """Raw files under `data/`."""

    kind: Literal["files"]
    paths: list[str] = Field(min_length=1)
    """Files or folders below `data/`; of a folder, all files of a known format, in the order of their names."""
    format: Literal["auto", "txt", "jsonl", "parquet"] = "auto"
    """`auto` goes by the ending: .txt, .jsonl, .jsonl.gz, .jsonl.zst, .parquet."""
    only: dict[str, str | int | bool] = {}
    """Raw keys and the values that a row must have there; other rows become rejects."""
    generator: str | None = None
    """What writes the files if they are missing: the demo data. None means that a person brings them."""
    licence_field: str | None = None
    """The key of a raw row that names its licence; rows without it have the corpus's."""
    source_field: str | None = None
    """The key of a raw row that says where it comes from; rows without it name their file."""
    id_field: str | None = None
    """The key of a raw row that names it; rows without it are numbered within their file."""
