"""A corpus of a data set on a Hugging Face Hub, at a pinned commit: its files one after another, or those of a mirror.

A file is brought, held against the Hub's own hash, read, and removed before the next one comes, so that the disk holds
one of them. `HIRAKU_HUB_MIRROR` names a folder with the same files, in either of two layouts; records are the same.

    <mirror>/<organisation>/<name>/<commit>/...
    <mirror>/datasets--<organisation>--<name>/snapshots/<commit>/...      as huggingface_hub keeps what it downloads
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from components import hub, sources
from components.outcomes import Refused
from components.recipes import Corpus
from components.rows import Row
from components.settings import settings
from components.wording import one_line

NUM_NAMED = 3
HUB = "hub:"
"""Begins the address of a data set."""


class HubFiles:
    """The rows of a data set's files.

    Args:
        name: the corpus.
        corpus: its section, whose source is `components.source_schema.HubFiles`.

    Raises:
        Refused: the commit is gone, or no file of it is meant; or fewer files are there than the corpus says.
        components.hub.Unfinished: the Hub does not answer.
    """

    unit = "files read"
    computes = False

    def __init__(self, name: str, corpus: Corpus) -> None:
        self.name, self.corpus, self.source = name, corpus, corpus.source
        self.mirror = mirror_of(self.source.repository, self.source.commit)
        self.there: dict[str, Any] = {}
        """Path in the repository -> what the Hub says of it; nothing of a mirror."""
        if self.mirror is not None:
            found = (path.relative_to(self.mirror).as_posix() for path in self.mirror.rglob("*") if path.is_file())
            self.files = sorted(each for each in found if self._is_meant(each))
        else:
            with self._opened() as there:
                self.there = there.matching(self.source.commit, tuple(self.source.files))
            self.files = sorted(self.there)
        self._require_all()
        self.num_steps = len(self.files)

    def _is_meant(self, path: str) -> bool:
        return any(fnmatch(path, each) for each in self.source.files)

    @contextmanager
    def _opened(self) -> Iterator[hub.Repository]:
        """The data set on the Hub; a commit that is gone is told with what can be done."""
        try:
            with hub.opened(self.source.repository, is_reading=True, kind="dataset") as there:
                yield there
        except Refused as refused:
            raise Refused(
                f"corpus '{self.name}' reads {self.source.repository} at {self.source.commit}: {refused} If the commit "
                f"is gone, bring its files from where they still are and set HIRAKU_HUB_MIRROR to the folder above "
                f"{self.source.repository}/{self.source.commit}/; or name another commit in source.commit."
            ) from refused

    def _require_all(self) -> None:
        place = self.mirror or f"{self.source.repository} at {self.source.commit[:8]}"
        expected = self.source.num_files
        if not self.files or (expected is not None and len(self.files) != expected):
            raise Refused(
                f"corpus '{self.name}': {place} holds {len(self.files)} files like {', '.join(self.source.files)}, "
                f"expected {expected or 'some'}. Complete the mirror, or change source.files and source.num_files."
            )

    @property
    def address(self) -> str:
        """What stands for the data set in places and in lineages."""
        return f"{HUB}{self.source.repository}@{self.source.commit}"

    @property
    def revisions(self) -> dict[str, int]:
        """None besides those of the verb and of the modalities."""
        return {}

    @property
    def parents(self) -> dict[str, str]:
        """The data set, by its address; a commit names all its bytes."""
        return {self.address: self.source.commit}

    def rows_from(self, first: int, tell: Callable[[int, str], None]) -> Iterator[tuple[int, Path, Row]]:
        """Every row from a file on, with its file and how many files are done.

        Raises:
            Refused: a file is broken, or of the wrong kind, or the disk has no room for one.
            components.hub.Unfinished: the Hub does not answer; the next run goes on from what is kept.
        """
        needed = [column for column in self.corpus.columns.values() if not getattr(column, "may_lack", False)]
        keys = [key for column in needed for key in column.raw_keys.values()]
        for number, path in enumerate(self.files[first:], first):
            tell(number, path)
            place = Path(f"{self.address}/{path}")
            with self._brought(path) as file:
                sources.check_heads(self.name, [file], self.source.format, keys)
                for row in sources.read(file, self.source.format):
                    where = f"{place.as_posix()}{row.where.removeprefix(file.as_posix())}"
                    yield number, place, Row(where, row.fields, row.problem, row.excerpt, row.file)

    @contextmanager
    def _brought(self, path: str) -> Iterator[Path]:
        """A file of the data set on this disk, for as long as the block runs."""
        if self.mirror is not None:
            yield self.mirror / path
            return
        folder = settings().checkpoint_root / "hub" / self.source.repository / self.source.commit
        folder.mkdir(parents=True, exist_ok=True)
        row = self.there[path]
        free = shutil.disk_usage(folder).free
        if free < row.size:
            raise Refused(
                f"{folder} needs {row.size:,} bytes for {path}, and {free:,} are free. Free some, or set "
                "HIRAKU_CHECKPOINT_ROOT to a larger disk."
            )
        with self._opened() as there:
            there.download(self.source.commit, folder, [path])
        file = folder / path
        if not hub.is_same(row, hub.local_file(file, folder)):
            file.unlink()
            raise hub.Unfinished(
                f"What the Hub sent of {path} is not what it says of it, and was thrown away. The same command goes on "
                "from what is kept; check HF_ENDPOINT if it stays so."
            )
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)

    def details(self) -> dict[str, Any]:
        """For the manifest and the report: how many files, of which data set."""
        named = one_line(", ".join(self.files[:NUM_NAMED]))
        return {"hub": {"address": self.address, "num_files": len(self.files), "first_files": named}}

    report = details


def mirror_of(repository: str, commit: str) -> Path | None:
    """The folder of a mirror that holds a commit of a data set; None if there is no mirror, or it does not."""
    root = settings().hub_mirror
    if root is None:
        return None
    kept = root / f"datasets--{repository.replace('/', '--')}" / "snapshots" / commit
    return next((each for each in (root / repository / commit, kept) if each.is_dir()), None)
