"""Translations that have been made: none is made or paid for twice."""

from typing import Any

from components.kept import Kept


class Memory(Kept[str]):
    """Text -> translation, of one engine.

    Args:
        facts: `Engine.facts`; another engine or another setting has another memory.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__("translations", facts)
