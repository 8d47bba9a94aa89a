"""What a corpus says of where it comes from: raw files here or on a Hub, or one of the kinds of `SOURCES`."""

from typing import Literal

from pydantic import Field, model_validator

from components.captioning_schema import Captioned
from components.cleaning_schema import Cleaned
from components.filtering_schema import Filtered
from components.painters.schema import Drawn
from components.translators.schema import Translated
from components.voices.schema import Spoken
from models.schema import Strict

Split = Literal["train", "valid", "test"]


class Download(Strict):
    """Pictures that a list of addresses names: `hiraku collect` brings them into tars below `source.paths`.

    Run again, it tries only what is missing and what failed in a way that may pass.
    """

    lists: list[str] = Field(min_length=1)
    """Tables below `data/`, of a known format, with an address in every row."""
    url_field: str = "url"
    """The key of a row that holds the address; the other keys stand beside the picture."""
    items_per_tar: int = Field(default=1_000, ge=1)
    """Rows of the lists that are brought together: what a kill loses at most."""
    num_parallel: int = Field(default=32, ge=1, le=1024)
    """Addresses that are asked at the same time."""
    timeout_seconds: float = Field(default=15.0, gt=0)
    """Without an answer; the whole picture may take four times as long."""
    max_file_bytes: int = Field(default=20_000_000, ge=1)
    """A larger file is not brought."""
    max_side_px: int | None = Field(default=None, ge=16)
    """A picture with a longer side is made smaller before it is stored, so that millions fit on a disk."""
    max_tries: int = Field(default=3, ge=1)
    """Runs of `hiraku collect` that try an address which fails in a way that may pass."""
    own_hosts: list[str] = []
    """Hosts of one's own network that may be asked. An address that leads to another one, at once or by a redirection,
    is not: lists come from anywhere."""
    max_failed_share: float = Field(default=0.6, ge=0, le=1)
    """Share of addresses without a picture that `validate` lets pass."""


class Rows(Strict):
    """What is said of raw rows, wherever their files lie."""

    only: dict[str, str | int | bool] = {}
    """Raw keys and the values that a row must have there; other rows become rejects."""
    licence_field: str | None = None
    """The key of a raw row that names its licence; rows without it have the corpus's."""
    source_field: str | None = None
    """The key of a raw row that says where it comes from; rows without it name their file."""
    id_field: str | None = None
    """The key of a raw row that names it; rows without it are numbered within their file."""
    split_field: str | None = None
    """The key of a raw row that says its split; rows without it become rejects. None: the corpus's `splits` decide."""
    split_names: dict[str, Split] = {}
    """What stands under `split_field` -> the split meant; empty if train, valid and test stand there."""
    valid_from_train: bool = False
    """Hold out `splits.valid` of the train rows for validation, where the raw data name no rows for it."""

    @model_validator(mode="after")
    def split_keys_belong_together(self) -> "Rows":
        """A key that would do nothing is a mistake."""
        if self.split_field is None and (self.split_names or self.valid_from_train):
            raise ValueError("'split_names' and 'valid_from_train' belong to 'split_field', which is not there")
        return self


Format = Literal["auto", "txt", "jsonl", "parquet", "csv", "tsv", "kaldi", "webdataset"]


class Files(Rows):
    """Raw files under `data/`."""

    kind: Literal["files"]
    paths: list[str] = Field(min_length=1)
    """Files or folders below `data/`; of a folder, all files of a known format, in the order of their names."""
    format: Format = "auto"
    """`auto` goes by the ending: .txt, .jsonl, .csv, .tsv, these with .gz or .zst, .parquet, .tar and .tar.gz of
    WebDataset; and `wav.scp` makes its folder a Kaldi list."""
    files_field: str | None = None
    """The key of a raw row that holds the path of a file, which ingest reads in its place: its bytes are what columns
    see. All that lies in the folders of `paths` is then raw data. A Kaldi list has its paths under `audio`."""
    files_folder: str | None = None
    """The folder below `data/` where those paths start; without it, the folder of their table."""
    generator: str | None = None
    """What writes the files if they are missing: the demo data. None means that a person brings them."""
    download: Download | None = None
    """What brings the files of a WebDataset if they are not there: a list of addresses."""

    @model_validator(mode="after")
    def keys_belong_together(self) -> "Files":
        """A key that would do nothing is a mistake."""
        if self.files_field is None and self.files_folder is not None:
            raise ValueError("'files_folder' belongs to 'files_field', which is not there")
        if self.files_field is None and self.format == "kaldi":
            raise ValueError("a Kaldi list names files: write files_field: audio")
        if self.download is not None and (self.format != "webdataset" or len(self.paths) != 1):
            raise ValueError("'download' fills one folder with tars: write format: webdataset, and one folder in paths")
        return self

    @property
    def raw_paths(self) -> list[str]:
        """All below `data/` that the records are made from."""
        lists = self.download.lists if self.download else []
        return [*self.paths, *([self.files_folder] if self.files_folder else []), *lists]


class HubFiles(Rows):
    """Files of a data set on a Hugging Face Hub, read one after another, or from a mirror (HIRAKU_HUB_MIRROR)."""

    kind: Literal["hub"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """ORGANISATION/NAME of the data set."""
    commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    """Of the repository: a branch or a tag may move, so nothing else pins the bytes."""
    files: list[str] = Field(min_length=1)
    """Paths in the repository, or patterns of a shell; files are read in the order of their paths."""
    num_files: int | None = Field(default=None, ge=1)
    """How many files these are, so that a mirror that lacks some is refused."""
    format: Format = "auto"
    """Of the files; `auto` goes by their endings, see `Files.format`."""


# The one table of where a corpus comes from; `components.ingest.ORIGINS` has who gives its rows.
SOURCES: dict[str, type[Strict]] = {
    "files": Files,
    "hub": HubFiles,
    "translated": Translated,
    "spoken": Spoken,
    "drawn": Drawn,
    "captioned": Captioned,
    "filtered": Filtered,
    "cleaned": Cleaned,
}
