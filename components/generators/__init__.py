"""Seeded generators of the demo's raw data: text below `data/demo/`, the same bytes on every machine.

A corpus whose YAML names a generator can be made again on a fresh clone, offline and in seconds.
"""

from collections.abc import Callable
from pathlib import Path

from components.generators.diffusion_scenes import write_diffusion_scenes
from components.generators.instructions import write_instructions
from components.generators.judging import quality
from components.generators.scenes import write_scenes
from components.generators.transcripts import write_transcripts
from components.generators.world import write_world

GENERATORS: dict[str, Callable[[Path], None]] = {
    "world": write_world,
    "instructions": write_instructions,
    "transcripts": write_transcripts,
    "scenes": write_scenes,
    "diffusion-scenes": write_diffusion_scenes,
}
"""Name in a corpus YAML -> function that writes all its files below the folder of raw data it is given."""

JUDGES: dict[str, Callable[[str, str], float]] = {"world": quality}
"""Name in a task's YAML -> rules of a good answer: (prompt, answer) -> 0 to 1; see `judging`."""
