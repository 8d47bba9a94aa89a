"""Translations that have been made: kept by content, so that none is made or paid for twice.

They lie under the checkpoint root, in one SQLite file for each engine with its settings: a kill loses at most the batch
on its way, and another corpus with the same text takes it from there.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from components.outcomes import Refused
from components.settings import settings

HASH_LENGTH = 16


class Memory:
    """Text -> translation, of one engine.

    Args:
        facts: `Engine.facts`; another engine or another setting has another memory.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
        self.path = memory_folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]}.sqlite"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(self._open()) as file, file:
                file.execute("CREATE TABLE IF NOT EXISTS facts (text TEXT PRIMARY KEY)")
                file.execute("CREATE TABLE IF NOT EXISTS done (digest BLOB PRIMARY KEY, translation TEXT NOT NULL)")
                file.execute("INSERT OR IGNORE INTO facts VALUES (?)", (text,))
        except sqlite3.DatabaseError as error:
            raise Refused(
                f"{self.path} holds the translations made so far and cannot be read: {error}. Bring a copy of it back, "
                "or move it away to translate from the beginning."
            ) from error

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60.0)

    def keep(self, translations: dict[str, str]) -> None:
        """Keep translations; they are on the disk when this returns."""
        with closing(self._open()) as file, file:
            rows = [(_digest(text), translation) for text, translation in translations.items()]
            file.executemany("INSERT OR REPLACE INTO done VALUES (?, ?)", rows)

    def recall(self, texts: Iterable[str]) -> dict[str, str]:
        """Those of some texts that are known, with their translations."""
        found: dict[str, str] = {}
        with closing(self._open()) as file:
            for text in texts:
                row = file.execute("SELECT translation FROM done WHERE digest = ?", (_digest(text),)).fetchone()
                if row is not None:
                    found[text] = row[0]
        return found

    def __len__(self) -> int:
        with closing(self._open()) as file:
            return int(file.execute("SELECT count(*) FROM done").fetchone()[0])


def memory_folder() -> Path:
    """Where memories lie; they are worth keeping, since translating costs time or money."""
    return settings().checkpoint_root / "translations"


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
