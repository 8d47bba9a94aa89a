"""Whoever draws pictures of scenes, behind one small protocol; the sections of `schema` name them."""

from importlib import import_module
from typing import Any, Protocol

# The one table of painters: kind of a section -> module with `open_engine(section)` and
# `REVISION`, raised when what it draws changes.
ENGINES = {"shapes": "components.painters.shapes"}


class Engine(Protocol):
    """What draws."""

    facts: dict[str, Any]
    """All that decides a picture besides its scene and its lot."""

    def draw(self, scene: dict[str, Any], lot: int) -> bytes:
        """A PNG of what a scene says.

        Args:
            scene: in the words of the painter.
            lot: decides what the scene leaves open: sizes, and where exactly things stand.

        Raises:
            KeyError: the scene names something that the painter does not know.
        """


def open_engine(section: Any) -> Engine:
    """The painter of a section."""
    opened: Engine = import_module(ENGINES[section.kind]).open_engine(section)
    return opened
