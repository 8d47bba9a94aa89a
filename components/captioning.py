"""A corpus that is another one with captions of its pictures that a model wrote, or that are kept of it."""

import hashlib
import io
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from itertools import islice
from typing import Any

from components import paths
from components.derived import Derived, column_of, require_same_columns, taken_over
from components.kept import Kept
from components.outcomes import Refused
from components.recipes import Corpus, Foreign, Library
from components.rows import Row
from components.weights import package_hash
from models import FAMILIES, part_of
from models.objective import Mismatch

LAYOUT = "captioner"
"""The layout of packages that write captions."""


class Captioning(Derived):
    """The rows of one corpus with generated captions.

    Args:
        name: the corpus.
        corpus: its section, whose source is `components.captioning_schema.Captioned`.

    Raises:
        Refused: the other corpus or the model is not ready, or has not what is needed.
    """

    CHUNK_RECORDS = 256
    computes = True

    def __init__(self, name: str, corpus: Corpus) -> None:
        library = Library()
        self.picture, self.captions = (column_of(library, name, corpus, form) for form in ("picture", "captions"))
        theirs = library.read("corpus", corpus.source.corpus).columns
        self.taken = {column: section for column, section in corpus.columns.items() if column in theirs}
        others = {column: each for column, each in corpus.columns.items() if column != self.captions}
        require_same_columns(library, name, corpus, others | self.taken, "takes over")
        super().__init__(name, corpus)
        self.section = _captioner(library, name, corpus)
        self.facts = _facts(corpus.source)
        self.kept: Kept[str] = Kept("captions", self.facts)
        self.network: Any = None
        self.num_written = self.num_empty = 0

    @property
    def revisions(self) -> dict[str, int]:
        """That of the family whose network writes."""
        module = FAMILIES[self.section.family]
        return {module: import_module(module).REVISION}

    @property
    def parents(self) -> dict[str, str]:
        """The other corpus, and the model."""
        return super().parents | {paths.layout(self.source.model, LAYOUT).as_posix(): self.facts["content_hash"]}

    def _columns(self) -> list[str]:
        return [*self.taken, "licence", "source"]

    def _made(self, chunk: list[dict[str, Any]], tell: Callable[[str], None]) -> dict[str, str]:
        """Digest of a picture -> its caption; what is made is kept after each batch."""
        pictures = {_digest(record[self.picture]): record[self.picture] for record in chunk}
        known = self.kept.recall(pictures)
        missing = iter([(key, value) for key, value in pictures.items() if key not in known])
        while batch := dict(islice(missing, self.source.batch_pictures)):
            made = dict(zip(batch, self._described(list(batch.values())), strict=True))
            self.kept.keep(made)
            known |= made
            tell(f"{len(known)} of the next {len(pictures)} pictures have captions")
        return known

    def _described(self, pictures: list[bytes]) -> list[str]:
        from PIL import Image

        if self.network is None:
            import torch

            from components.devices import set_threads, uses_gpu

            set_threads()
            device = torch.device("cuda" if uses_gpu() else "cpu")
            how = part_of(self.section.family, "captioning")
            try:
                self.network = how.Captioner(paths.layout(self.source.model, LAYOUT), device)
            except Mismatch as mismatch:
                raise Refused(str(mismatch)) from mismatch
        opened = [Image.open(io.BytesIO(each)).convert("RGB") for each in pictures]
        settings = {"num_beams": self.source.num_beams, "do_sample": False}
        lengths = {"min_new_tokens": self.source.min_tokens, "max_new_tokens": self.source.max_tokens}
        found: list[str] = self.network.describe(opened, **settings, **lengths)
        return found

    def _row(self, record: dict[str, Any], made: dict[str, Any]) -> Row:
        text = made[_digest(record[self.picture])]
        fields: dict[str, Any] = {key: record[key] for key in ("id", "split", "licence", "source")}
        fields |= taken_over(record, self.taken)
        self.num_written += bool(text)
        self.num_empty += not text
        own = dict(fields.get(self.captions, {}))
        fields[self.captions] = own | {self.source.caption_kind: [*own.get(self.source.caption_kind, []), text]}
        return Row(f"{self.source.corpus}:{record['id']}", fields)

    def details(self) -> dict[str, Any]:
        """For the manifest: who wrote, and how often nothing came."""
        counts = {"captions": self.num_written, "empty": self.num_empty}
        return {
            "captioning": {"corpus": self.source.corpus, "model": self.source.model, "engine": self.facts, **counts},
            "engines": {f"captions by {self.source.model}": self.section.licence},
        }

    def report(self) -> dict[str, Any]:
        """For the report: the same."""
        return {"captioning": self.details()["captioning"]}


def _captioner(library: Library, name: str, corpus: Corpus) -> Foreign:
    """The recipe that writes captions."""
    found = library.read("recipe", corpus.source.model)
    if not isinstance(found, Foreign) or found.layout != LAYOUT:
        raise Refused(
            f"corpus '{name}' wants captions of '{corpus.source.model}', expected somebody else's model with the "
            f"layout '{LAYOUT}'. Change source.model in {library.path('corpus', name)}."
        )
    return found


def _facts(source: Any) -> dict[str, Any]:
    """All that decides a caption besides its picture."""
    settings = source.model_dump(include={"num_beams", "min_tokens", "max_tokens"})
    versions = {name: version(name) for name in ("torch", "transformers")}
    return {"content_hash": package_hash(Library(), source.model), **settings, **versions}


def _digest(picture: bytes) -> str:
    return hashlib.blake2b(picture, digest_size=16).hexdigest()
