"""What costs time or money to make: kept by content, so that none is made twice.

It lies under the checkpoint root, in one SQLite file for each maker with its settings: a kill loses at most the batch
on its way, and another corpus that needs the same takes it from there.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from components.outcomes import Refused
from components.settings import settings

HASH_LENGTH = 16

Made = TypeVar("Made", str, bytes)


class Kept(Generic[Made]):
    """Text -> what was made of it, by one maker.

    Args:
        what: what is made, such as `translations`: a folder under the checkpoint root, and a word of messages.
        facts: all that decides what comes out; other facts have another memory.
    """

    def __init__(self, what: str, facts: dict[str, Any]) -> None:
        text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
        self.what: str = what
        self.path: Path = kept_folder(what) / f"{hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]}.sqlite"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as file:
            file.execute("CREATE TABLE IF NOT EXISTS facts (text TEXT PRIMARY KEY)")
            # Named when only translations were kept; a column of SQLite takes bytes as they are, whatever its type.
            file.execute("CREATE TABLE IF NOT EXISTS done (digest BLOB PRIMARY KEY, translation TEXT NOT NULL)")
            file.execute("INSERT OR IGNORE INTO facts VALUES (?)", (text,))

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60.0)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The file, whose changes are on the disk when the block ends.

        Raises:
            Refused: SQLite cannot use it now, and it is whole; or it is damaged.
        """
        try:
            with closing(self._open()) as file, file:
                yield file
        except sqlite3.OperationalError as error:
            raise self._hindered(error) from error
        except sqlite3.DatabaseError as error:
            raise Refused(
                f"{self.path} holds the {self.what} made so far and cannot be read: {error}. Bring a copy of it back, "
                "or move it away to begin again."
            ) from error

    def keep(self, made: dict[str, Made]) -> None:
        """Keep what was made; it is on the disk when this returns.

        Raises:
            Refused: the disk is full, or nothing may be written; what was kept before is still there.
        """
        with self._opened() as file:
            rows = [(_digest(text), each) for text, each in made.items()]
            file.executemany("INSERT OR REPLACE INTO done VALUES (?, ?)", rows)

    def _hindered(self, error: sqlite3.OperationalError) -> Refused:
        """What keeps SQLite from its work although the file is whole: no room, no right, or another process."""
        if "full" in str(error):
            return Refused(
                f"The disk is full: {self.path} keeps the {self.what} made so far, and no more goes in. Free some and "
                "run the same command again; it goes on from there."
            )
        return Refused(
            f"{self.path} keeps the {self.what} made so far and is not broken, but SQLite cannot use it now: {error}. "
            "Look whether another process holds it, and whether this user may write it and its folder; then run the "
            "same command again."
        )

    def recall(self, texts: Iterable[str]) -> dict[str, Made]:
        """Those of some texts that are known, with what was made of them.

        Raises:
            Refused: the file cannot be read.
        """
        found: dict[str, Made] = {}
        with self._opened() as file:
            for text in texts:
                row = file.execute("SELECT translation FROM done WHERE digest = ?", (_digest(text),)).fetchone()
                if row is not None:
                    found[text] = row[0]
        return found

    def __len__(self) -> int:
        with self._opened() as file:
            return int(file.execute("SELECT count(*) FROM done").fetchone()[0])


def kept_folder(what: str) -> Path:
    """Where it lies; it is worth keeping, since it costs time or money to make again."""
    return settings().checkpoint_root / what


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
