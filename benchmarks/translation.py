"""A corpus in translation without any network: train a small translator, ingest with it, score what came out.

The sentences that are translated come from records that the translator has not seen. chrF (Popovic 2015, character
6-grams, beta 2) and BLEU over characters (Papineni et al. 2002) compare them with what people wrote. No large model is
involved: how good translations by one are must be measured where one can run.
"""

import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.figures import Row, Spread
from benchmarks.machine import describe
from benchmarks.project import inside
from benchmarks.report import Result
from benchmarks.translator import Shape, read_pairs, train
from components import paths
from components.ingest import ingest
from components.manifest import read_manifest
from components.outcomes import Refused
from components.recipes import Library
from components.translators import open_engine
from components.translators.memory import Memory
from components.validate import validate

NAME = "translation"
MODEL, ENGLISH, JAPANESE = "translator", "pairs-en", "pairs-ja"
NUM_SHOWN = 8


def measure(pairs: Path, num_steps: int = 4000, num_records: int = 1200, shape: Shape | None = None) -> Result:
    """Train on nearly all pairs of a file, translate sentences of the others in `ingest`, and score them.

    Args:
        pairs: JSON lines whose `text` has English and Japanese sentences by turns.
        num_steps: that the translator trains.
        num_records: sentences to translate; the records that they stand in are held out.
        shape: of the translator.

    Raises:
        Refused: the file is not there, or has no more pairs than are held out.
    """
    seen, held_out = _split(read_pairs(pairs), num_records)
    with tempfile.TemporaryDirectory() as temporary, inside(Path(temporary)):
        trained = train(seen, shape or Shape(), num_steps, Path(MODEL))
        _write_corpora(held_out)
        ingest(ENGLISH)
        validate(ENGLISH)
        began = time.monotonic()
        ingest(JAPANESE)
        seconds = time.monotonic() - began
        told = read_manifest("ingest", JAPANESE)
        engine = open_engine(Library().read("corpus", JAPANESE).source.engine, "en", "ja")
        found = Memory(engine.facts).recall(english for english, _ in held_out)  # duplicates are no records, but count
    kept = [(english, japanese) for english, japanese in held_out if english in found]
    answers, references = [found[english] for english, _ in kept], [japanese for _, japanese in kept]
    others = references[1:] + references[:1]
    reached, chance = scores(answers, references), scores(others, references)
    rows = [
        Row(
            f"{name} on {len(kept):,} held-out sentences",
            "another sentence's translation by a person",
            _only(chance[name]),
            _only(value),
        )
        for name, value in reached.items()
    ]
    command = f"python -m benchmarks {NAME} {pairs.name} --num-steps {num_steps} --num-records {num_records}"
    measured: dict[str, Any] = {
        "trained": trained,
        "scores": reached,
        "chance": chance,
        "manifest": told.details["translation"],
    }
    examples = [{"en": english, "ja": ours, "person": person} for english, ours, person in _shown(kept, found)]
    measured |= {"counts": told.counts, "examples": examples}
    return Result(NAME, command, rows, _notes(trained, told, seconds, kept, found), describe(), measured)


def _split(
    records: list[list[tuple[str, str]]], num_records: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs to train on, and pairs of other records with other sentences."""
    random.Random(0).shuffle(records)
    held_out: dict[str, str] = {}
    while len(held_out) < num_records and records:
        held_out |= dict(records.pop())
    seen = [pair for record in records for pair in record if pair[0] not in held_out]
    if not seen:
        raise Refused(
            f"The file has {len(held_out):,} pairs, expected more than --num-records, which is {num_records:,}."
        )
    return seen, list(held_out.items())[:num_records]


def _write_corpora(held_out: list[tuple[str, str]]) -> None:
    common: dict[str, Any] = {"description": "Held-out sentences.", "licence": "CC-BY-SA-4.0"}
    common |= {
        "columns": {"text": {"modality": "text"}},
        "max_reject_share": 1.0,
        "splits": {"valid": 0.3, "test": 0.3},
    }
    engine: dict[str, Any] = {
        "kind": "transformers",
        "model": f"path:{MODEL}",
        "licence": "CC-BY-SA-4.0",
        "unit": "line",
    }
    engine |= {"max_new_tokens": 64}
    sections: dict[str, dict[str, Any]] = {
        ENGLISH: common | {"language": "en", "source": {"kind": "files", "paths": [ENGLISH]}},
        JAPANESE: common | {"language": "ja", "source": {"kind": "translated", "corpus": ENGLISH, "engine": engine}},
    }
    folder = paths.RECIPES / "corpora"
    folder.mkdir(parents=True)
    for name, section in sections.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(section), encoding="utf-8")
    raw = paths.DATA / ENGLISH
    raw.mkdir(parents=True)
    text = "".join(json.dumps({"text": english}, ensure_ascii=False) + "\n" for english, _ in held_out)
    (raw / "sentences.jsonl").write_text(text, encoding="utf-8")


def scores(answers: list[str], references: list[str]) -> dict[str, float]:
    """Popovic's chrF and BLEU over characters, both from 0 to 100."""
    from torchmetrics.functional.text import chrf_score, sacre_bleu_score

    targets = [[each] for each in references]
    chrf = chrf_score(answers, targets, n_word_order=0)
    bleu = sacre_bleu_score(answers, targets, tokenize="char")
    return {"chrF": 100 * float(chrf), "BLEU over characters": 100 * float(bleu)}  # type: ignore[arg-type]


def _only(value: float) -> Spread:
    return Spread.of([value])


def _shown(kept: list[tuple[str, str]], found: dict[str, str]) -> list[tuple[str, str, str]]:
    """The first sentences, not the best."""
    return [(english, found[english], japanese) for english, japanese in kept[:NUM_SHOWN]]


def _notes(
    trained: dict[str, float], told: Any, seconds: float, kept: list[tuple[str, str]], found: dict[str, str]
) -> list[str]:
    made = told.details["translation"]
    doubts = ", ".join(f"{count:,} because {reason}" for reason, count in made["suspicious"].items()) or "none"
    size = (
        f"The translator has {trained['parameters']:,.0f} parameters and trained {trained['steps']:,.0f} steps, "
        f"{trained['epochs']:.1f} epochs, {trained['cpu_seconds']:,.0f} CPU seconds, to {trained['loss']:.2f} nats a "
        "token (smoothed). It is far too small, and its sentences are too few, for translations of use; no large model "
        "could be run where this was measured."
    )
    work = (
        f"`ingest` made {told.counts['num_records']:,} records of {told.counts['num_rows']:,} in {seconds:.0f} s, "
        f"{told.counts['num_duplicates']:,} rows were duplicates. Suspicious: {doubts}."
    )
    return [size, work, *(f"{one} → {ours} (a person: {person})" for one, ours, person in _shown(kept, found))]
