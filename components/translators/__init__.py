"""Machines that translate texts, behind one small protocol; the sections of `schema` name them."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Protocol

# The one table of translators: kind of a section -> module with `open_engine(section, source, target)`.
ENGINES = {
    "transformers": "components.translators.seq2seq",
    "openai": "components.translators.endpoint",
}


class Engine(Protocol):
    """What translates."""

    facts: dict[str, Any]
    """All that decides a translation: names the engine in manifests, and its translations in the memory."""

    def translate(self, texts: list[str]) -> Iterator[dict[str, str]]:
        """Translate texts; each batch comes as soon as it is done, text -> translation.

        Raises:
            Refused: some could not be translated. Whatever could be has come before.
        """


def open_engine(section: Any, source: str, target: str) -> Engine:
    """The engine of a section.

    Args:
        section: one of `components.translators.schema`.
        source: the language of the texts, as a corpus names it.
        target: the language of the translations.

    Raises:
        Refused: it cannot be opened, or lacks a key.
    """
    opened: Engine = import_module(ENGINES[section.kind]).open_engine(section, source, target)
    return opened
