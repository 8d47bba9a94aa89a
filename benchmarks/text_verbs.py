"""Real text from raw files to shards: speed and memory of each verb on a tenth of it and on the whole.

Each verb is a process of its own with one thread. The exponent is that of the size: 1 where ten times the text takes
ten times as long. Of memory it is taken from what the verb adds to what a process holds that has done it once on a
little text.
"""

import math
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import Row, Spread
from benchmarks.machine import describe, one_core
from benchmarks.project import inside
from benchmarks.report import Result
from benchmarks.sides import our_command, run_side
from benchmarks.text_project import FEW, TENTH, WHOLE, write_encoder, write_text

NAME = "text-verbs"
VERBS = ("ingest", "validate", "fit", "shard")
VOCAB_SIZE, FEW_PIECES = 32_000, 4_000
LEAST_BYTES = 1 << 20
"""Growth under this is taken for none."""


def measure(source: Path, language: str = "ja") -> Result:
    """Run ingest, validate, fit and shard on a folder of text.

    Args:
        source: a folder of `*.jsonl.gz`, such as text_ja.
        language: of its text, `ja` or `en`; `<language>` also names the result.

    Raises:
        Refused: the folder has no text, or a verb fails.
    """
    source = source.resolve()
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary, inside(Path(temporary)), one_core():
        num_bytes = write_text(source, language, Path())
        for size, pieces in ((FEW, FEW_PIECES), (TENTH, VOCAB_SIZE), (WHOLE, VOCAB_SIZE)):
            write_encoder(Path(), f"spm-{size}", f"{language}-{size}", pieces)
        for verb in VERBS:
            run_side(our_command("benchmarks.our_verb"), [verb, *[name_of(verb, language, FEW)] * 2], Path("out.json"))
            for size in (TENTH, WHOLE):
                words = [verb, name_of(verb, language, FEW), name_of(verb, language, size)]
                found[f"{verb} {size}"] = run_side(our_command("benchmarks.our_verb"), words, Path("out.json"))
    rows = [row for verb in VERBS for row in _rows(verb, language, found, num_bytes)]
    sizes = [num_bytes[f"{language}-{size}"] for size in (TENTH, WHOLE)]
    notes = [
        f"{source.name}: {sizes[0]:,} and {sizes[1]:,} bytes of JSON lines; BPE of {VOCAB_SIZE:,} pieces; one thread.",
        *_exponents(found, sizes),
    ]
    command = f"python -m benchmarks {NAME} {source.name} --language {language}"
    return Result(f"{NAME}-{language}", command, rows, notes, describe(), found | {"num_bytes": num_bytes})


def name_of(verb: str, language: str, size: str) -> str:
    """What a verb is given."""
    corpus, encoder = f"{language}-{size}", f"spm-{size}"
    return {"fit": encoder, "shard": f"{corpus}+{encoder}"}.get(verb, corpus)


def _rows(verb: str, language: str, found: dict[str, Any], num_bytes: dict[str, int]) -> list[Row]:
    small, large = (found[f"{verb} {size}"] for size in (TENTH, WHOLE))
    speeds = [num_bytes[f"{language}-{size}"] / 1e6 / found[f"{verb} {size}"]["cpu_seconds"] for size in (TENTH, WHOLE)]
    peaks = [each["peak_bytes"] / 1e6 for each in (small, large)]
    return [
        Row(f"{verb}: MB of text per CPU second", "a tenth of the text", _only(speeds[0]), _only(speeds[1])),
        Row(f"{verb}: peak memory, MB", "a tenth of the text", _only(peaks[0]), _only(peaks[1])),
    ]


def _only(value: float) -> Spread:
    return Spread(value, value, value)


def _exponents(found: dict[str, Any], sizes: list[int]) -> list[str]:
    ratio = math.log(sizes[1] / sizes[0])
    lines = []
    for verb in VERBS:
        small, large = (found[f"{verb} {size}"] for size in (TENTH, WHOLE))
        time = math.log(large["cpu_seconds"] / small["cpu_seconds"]) / ratio
        grown = [max(LEAST_BYTES, each["peak_bytes"] - each["base_bytes"]) for each in (small, large)]
        slope = (large["peak_bytes"] - small["peak_bytes"]) / (sizes[1] - sizes[0])
        lines.append(
            f"{verb}: time grows with exponent {time:.2f}, memory above the base of {large['base_bytes'] / 1e6:.0f} MB "
            f"with {math.log(grown[1] / grown[0]) / ratio:.2f} ({grown[0] / 1e6:.0f} and {grown[1] / 1e6:.0f} MB, a "
            f"slope of {slope * 1e3:.1f} MB for each GB)."
        )
    return lines
