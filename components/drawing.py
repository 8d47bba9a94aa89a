"""A corpus that is another one drawn: its raw rows, with pictures of what scenes say.

Drawing costs less than looking up what was drawn before, so nothing of it is kept.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from components import paths
from components.derived import Derived, require_same_columns, taken_over
from components.manifest import read_manifest
from components.outcomes import Refused
from components.painters import ENGINES, open_engine
from components.recipes import Corpus, Library
from components.records import iterate_records
from components.rows import Row

PICTURE = "picture"
"""The form of the one column that is drawn."""
MOST_LOTS = 100
"""By which a scene is drawn until a picture comes that is nobody's yet (source.unlike)."""


class Drawing(Derived):
    """The rows of one drawn corpus.

    Args:
        name: the corpus.
        corpus: its section, whose source is `components.painters.schema.Drawn`.

    Raises:
        Refused: the other corpus is not ready or lacks a column, or this one has not exactly one of form `picture`.
    """

    CHUNK_RECORDS = 64

    def __init__(self, name: str, corpus: Corpus) -> None:
        library = Library()
        self.drawn, self.taken = _columns_of(library, name, corpus)
        super().__init__(name, corpus)
        self.engine = open_engine(self.source.engine)
        self.taken_pictures: set[bytes] | None = None
        """Digests of pictures that must not come again; None where any may."""

    @property
    def revisions(self) -> dict[str, int]:
        """That of the code that draws, by its module."""
        module = ENGINES[self.source.engine.kind]
        return {module: import_module(module).REVISION}

    @property
    def parents(self) -> dict[str, str]:
        """The corpus with scenes, and those whose pictures must not come again."""
        nodes = [(verb, other) for other in self.source.unlike for verb in ("ingest", "validate")]
        return super().parents | {paths.payload(*node).as_posix(): read_manifest(*node).payload_hash for node in nodes}

    def _columns(self) -> list[str]:
        return list(dict.fromkeys([self.source.scene_column, *self.taken, "licence", "source"]))

    def _made(self, chunk: list[dict[str, Any]], _tell: Callable[[str], None]) -> dict[str, Any]:
        """Id -> PNG, or None where the painter does not know what a scene says, or has drawn it in all ways."""
        if self.source.unlike and self.taken_pictures is None:
            self.taken_pictures = {digest for other in self.source.unlike for digest in _pictures_of(other)}
        return {record["id"]: self._picture(record) for record in chunk}

    def _picture(self, record: dict[str, Any]) -> bytes | None:
        for number in range(MOST_LOTS if self.source.unlike else 1):
            key = f"{self.source.seed}\0{record['id']}" + (f"\0{number}" if number else "")
            lot = hashlib.blake2b(key.encode(), digest_size=8).digest()
            try:
                found = self.engine.draw(json.loads(record[self.source.scene_column]), int.from_bytes(lot, "big"))
            except (KeyError, TypeError, ValueError):
                return None
            if self.taken_pictures is None:
                return found
            if (digest := _digest(found)) not in self.taken_pictures:
                self.taken_pictures.add(digest)
                return found
        return None

    def _row(self, record: dict[str, Any], made: dict[str, Any]) -> Row:
        where = f"{self.source.corpus}:{record['id']}"
        if made[record["id"]] is None:
            scene = record[self.source.scene_column]
            why = "the painter does not know what its scene says (source.engine)"
            why += ", or has drawn it in all ways (source.unlike)" if self.source.unlike else ""
            return Row(where, None, why, scene[:1000])
        fields: dict[str, Any] = {key: record[key] for key in ("id", "split", "licence", "source")}
        fields[self.drawn] = {"image": made[record["id"]]}
        return Row(where, fields | taken_over(record, self.taken))

    def details(self) -> dict[str, Any]:
        """For the manifest: who drew."""
        facts = {"corpus": self.source.corpus, "engine": self.engine.facts, "seed": self.source.seed}
        return {"drawing": facts | ({"unlike": self.source.unlike} if self.source.unlike else {})}

    def report(self) -> dict[str, Any]:
        """For the report: the same."""
        return self.details()


def _digest(picture: bytes) -> bytes:
    """Equal for pictures that are the same in every pixel, however their files are packed."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    return hashlib.blake2b(image.tobytes(), key=repr(image.size).encode(), digest_size=16).digest()


def _pictures_of(corpus: str) -> Iterator[bytes]:
    """The digests of a corpus's accepted pictures."""
    columns = Library().read("corpus", corpus).columns
    own = [column for column, section in columns.items() if getattr(section, "form", "") == PICTURE]
    for record in iterate_records(corpus, own):
        yield from (_digest(record[column]) for column in own)


def _columns_of(library: Library, name: str, corpus: Corpus) -> tuple[str, dict[str, Any]]:
    """The column that is drawn, and those that are taken over."""
    path = library.path("corpus", name)
    theirs = library.read("corpus", corpus.source.corpus).columns
    if corpus.source.scene_column not in theirs:
        raise Refused(
            f"corpus '{name}' draws the column '{corpus.source.scene_column}' of corpus '{corpus.source.corpus}', "
            f"which has {', '.join(theirs)}. Change source.scene_column in {path}."
        )
    drawn = [column for column, section in corpus.columns.items() if getattr(section, "form", "") == PICTURE]
    if len(drawn) != 1:
        raise Refused(
            f"corpus '{name}' has {len(drawn)} columns of form '{PICTURE}', expected the one that is drawn. Change "
            f"'columns' in {path}."
        )
    taken = {column: section for column, section in corpus.columns.items() if column != drawn[0]}
    require_same_columns(library, name, corpus, taken, "takes over")
    return drawn[0], taken
