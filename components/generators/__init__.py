"""Seeded generators of the demo's raw data: text below `data/demo/`, the same bytes on every machine.

A corpus whose YAML names a generator can be made again on a fresh clone, offline and in seconds.
"""

from collections.abc import Callable
from pathlib import Path

from components.generators.world import write_world

GENERATORS: dict[str, Callable[[Path], None]] = {"world": write_world}
"""Name in a corpus YAML -> function that writes all its files below the folder of raw data it is given."""
