"""Real text from raw files to shards: speed and memory of each verb on a tenth of it and on the whole.

Where it is asked for, on many perturbed copies of the whole too, which shows whether memory stays flat. Each verb is a
process of its own with one thread. The exponent is that of the size: 1 where ten times the text takes ten times as
long. Of memory it is taken from what the verb adds to what a process holds that has done it once on a little text.
"""

import math
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.figures import Row, Spread
from benchmarks.machine import describe, one_core
from benchmarks.project import inside
from benchmarks.report import Result
from benchmarks.sides import our_command, run_side
from benchmarks.text_project import FEW, MANY, TENTH, WHOLE, write_encoder, write_text

NAME = "text-verbs"
VERBS = ("ingest", "validate", "fit", "shard")
VOCAB_SIZE, FEW_PIECES = 32_000, 4_000
MANY_CHARS = 20_000_000
"""Of many copies, what the encoder is fitted on: memory has no bound without `sample_chars`."""
LEAST_BYTES = 1 << 20
"""Growth under this is taken for none."""
WORDS = {TENTH: "a tenth of the text", WHOLE: "all of the text"}


def measure(source: Path, language: str = "ja", times: int = 1) -> Result:
    """Run ingest, validate, fit and shard on a folder of text.

    Args:
        source: a folder of `*.jsonl.gz`, such as text_ja.
        language: of its text, `ja` or `en`; `<language>` also names the result.
        times: above 1, the verbs also run on so many copies of the text, each with its sentences in another order.

    Raises:
        Refused: the folder has no text, or a verb fails.
    """
    source = source.resolve()
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary, inside(Path(temporary)), one_core():
        num_bytes = write_text(source, language, Path(), times)
        sizes = [TENTH, WHOLE, *([MANY] if times > 1 else [])]
        write_encoder(Path(), f"spm-{FEW}", f"{language}-{FEW}", FEW_PIECES)
        for size in sizes:
            bound = {"sample_chars": MANY_CHARS} if size == MANY else {}
            write_encoder(Path(), f"spm-{size}", f"{language}-{size}", VOCAB_SIZE, **bound)
        for verb in VERBS:
            run_side(our_command("benchmarks.our_verb"), [verb, *[name_of(verb, language, FEW)] * 2], Path("out.json"))
            for size in sizes:
                words = [verb, name_of(verb, language, FEW), name_of(verb, language, size)]
                found[f"{verb} {size}"] = run_side(our_command("benchmarks.our_verb"), words, Path("out.json"))
    bytes_of = {size: num_bytes[f"{language}-{size}"] for size in sizes}
    pairs = list(pairwise(sizes))
    rows = [row for verb in VERBS for pair in pairs for row in _rows(verb, found, bytes_of, pair, times)]
    told = ", ".join(f"{each:,}" for each in bytes_of.values())
    notes = [f"{source.name}: {told} bytes of JSON lines; BPE of {VOCAB_SIZE:,} pieces; one thread."]
    if times > 1:
        notes.append(f"Of {times} copies the encoder is fitted on a sample of {MANY_CHARS:,} characters.")
    notes += [_growth(verb, found, bytes_of, pair, times) for verb in VERBS for pair in pairs]
    command = f"python -m benchmarks {NAME} {source.name} --language {language} --times {times}"
    return Result(f"{NAME}-{language}", command, rows, notes, describe(), found | {"num_bytes": num_bytes})


def name_of(verb: str, language: str, size: str) -> str:
    """What a verb is given."""
    corpus, encoder = f"{language}-{size}", f"spm-{size}"
    return {"fit": encoder, "shard": f"{corpus}+{encoder}"}.get(verb, corpus)


def _rows(verb: str, found: dict[str, Any], bytes_of: dict[str, int], pair: tuple[str, str], times: int) -> list[Row]:
    small, large = pair
    speeds = [bytes_of[size] / 1e6 / found[f"{verb} {size}"]["cpu_seconds"] for size in pair]
    peaks = [found[f"{verb} {size}"]["peak_bytes"] / 1e6 for size in pair]
    what = "" if large == WHOLE else f" ({times} copies)"
    return [
        Row(f"{verb}{what}: MB of text per CPU second", WORDS[small], _only(speeds[0]), _only(speeds[1])),
        Row(f"{verb}{what}: peak memory, MB", WORDS[small], _only(peaks[0]), _only(peaks[1])),
    ]


def _only(value: float) -> Spread:
    return Spread(value, value, value)


def _growth(verb: str, found: dict[str, Any], bytes_of: dict[str, int], pair: tuple[str, str], times: int) -> str:
    small, large = (found[f"{verb} {size}"] for size in pair)
    sizes = [bytes_of[size] for size in pair]
    ratio = math.log(sizes[1] / sizes[0])
    time = math.log(large["cpu_seconds"] / small["cpu_seconds"]) / ratio
    grown = [max(LEAST_BYTES, each["peak_bytes"] - each["base_bytes"]) for each in (small, large)]
    slope = (large["peak_bytes"] - small["peak_bytes"]) / (sizes[1] - sizes[0])
    where = "from a tenth to the whole" if pair[1] == WHOLE else f"from the whole to {times} copies"
    return (
        f"{verb}, {where}: time grows with exponent {time:.2f}, memory above the base of "
        f"{large['base_bytes'] / 1e6:.0f} MB with {math.log(grown[1] / grown[0]) / ratio:.2f} "
        f"({grown[0] / 1e6:.0f} and {grown[1] / 1e6:.0f} MB, a slope of {slope * 1e3:.1f} MB for each GB)."
    )
