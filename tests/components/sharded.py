"""A small corpus under several encoders, made by the verbs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.fit import fit
from components.graph import plan
from components.recipes import Library
from components.settings import settings
from components.shard import shard


@contextmanager
def stages_in(root: Path) -> Iterator[None]:
    """Have this process in a folder, on the CPU, with its checkpoints there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("HIRAKU_ACCELERATOR", "cpu")
        patch.setenv("HIRAKU_CHECKPOINT_ROOT", str(root / "checkpoints"))
        settings.cache_clear()
        yield
    settings.cache_clear()


def run_chain(names: Iterable[str], verbs: dict[str, Callable[[str], None]]) -> list[str]:
    """Run the stages of recipes in the order of the graph, those of some verbs, each once; the keys of what ran."""
    done: list[str] = []
    for name in names:
        for row in plan(Library(), name):
            if row.verb in verbs and row.key not in done:
                verbs[row.verb](row.name)
                done.append(row.key)
    return done


def sharded(
    root: Path, records: list[Any], write: Callable[[list[Any]], None], names: Iterable[str]
) -> SimpleNamespace:
    """A project in a folder.

    Args:
        root: an empty folder.
        records: of the corpus.
        write: writes recipes and records into the folder where this process is.
        names: corpus and encoder joined by `+`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write(records)
        for name in names:
            fit(name.partition("+")[2])
            shard(name)
    return SimpleNamespace(root=root, records=records)
