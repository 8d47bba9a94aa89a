"""Sounds that are made in a moment, and records of them as `ingest` and `validate` would leave them."""

import io
import json
from pathlib import Path

import numpy as np
import soundfile
import yaml

from components import paths
from components.manifest import Manifest, read_manifest, writing
from components.modalities.speech import recordings
from components.records import ACCEPTED_NAME, RecordWriter, TableWriter, text_schema

RATE = 16_000
COLUMNS = {
    "audio": {"modality": "speech", "form": "recording"},
    "transcript": {"modality": "speech", "form": "transcript", "front_end": "given", "inventory": ["a", "i", "u"]},
    "speaker": {"modality": "speech", "form": "speaker"},
}
CORPUS = {
    "description": "Tones.",
    "language": "ja",
    "licence": "CC0-1.0",
    "source": {"kind": "files", "paths": ["tones"]},
    "columns": COLUMNS,
    "splits": {"valid": 0.1, "test": 0.1},
}
KMEANS = {
    "kind": "kmeans",
    "corpora": [{"corpus": "tones"}],
    "features": {"kind": "mfcc"},
    "num_clusters": 8,
    "frame_budget": 2000,
    "gates": {"max_share": 0.6},
}
ENCODERS = {
    "wave": {"kind": "waveform"},
    "units": KMEANS,
    "phones": {"kind": "phonemes", "front_end": "given", "inventory": ["a", "i", "u"]},
}


def tones(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """int16: vowels of two formants that change every tenth of a second, with a little noise."""
    generator = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    pairs = np.array([(700, 1200), (300, 2300), (350, 1300), (500, 1900), (500, 900)])
    which = generator.integers(0, len(pairs), int(seconds * 10) + 1)[(times * 10).astype(int)]
    wave = sum(np.sin(2 * np.pi * pairs[which, each] * times) for each in (0, 1))
    wave = 0.15 * wave * (0.6 + 0.4 * np.sin(2 * np.pi * 120 * times)) + generator.normal(0, 0.01, len(times))
    return np.rint(wave * 32_767).clip(-32_768, 32_767).astype(np.int16)


def sound_file(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """The bytes of a file of a format."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, subtype=subtype, format=kind)
    return stream.getvalue()


def write_yaml(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def small_records(num_records: int = 24) -> list[dict]:
    """Recordings of 0.4 to 2 seconds, two speakers in training."""
    lengths = np.random.default_rng(1).uniform(0.4, 2.0, num_records)
    return [
        {
            "id": f"{number:03d}",
            "split": "valid" if number % 6 == 1 else "test" if number % 6 == 2 else "train",
            "licence": "CC0-1.0",
            "source": "tones",
            "audio": recordings.encoded(tones(float(seconds), number)),
            "transcript": " | ".join(["a i", "u", "i a u"][: 1 + number % 3]),
            "speaker": f"speaker-{number % 6}",
            "phones": json.dumps([["a", 0.0, 0.2], ["i", 0.2, 0.4]]),
        }
        for number, seconds in enumerate(lengths)
    ]


def write_project(records: list[dict], corpus: str = "tones") -> None:
    """The recipes of a corpus and its encoders, and its records, in the folder where this process is."""
    write_yaml(paths.RECIPES / "corpora" / f"{corpus}.yaml", CORPUS)
    for name, encoder in ENCODERS.items():
        write_yaml(paths.RECIPES / "encoders" / f"{name}.yaml", encoder)
    write_records(records, corpus)


def write_records(records: list[dict], corpus: str = "tones") -> None:
    """As the verbs leave them; all are accepted."""
    manifest = Manifest("ingest", corpus, {}, licence="CC0-1.0")
    with writing(manifest) as folder, RecordWriter(folder / "records") as writer:
        for record in records:
            writer.add(record)
    parents = {paths.payload("ingest", corpus).as_posix(): read_manifest("ingest", corpus).payload_hash}
    with writing(Manifest("validate", corpus, {}, parents)) as folder:
        (folder / "accepted").mkdir()
        with TableWriter(folder / "accepted" / ACCEPTED_NAME, text_schema("id")) as table:
            for record in records:
                table.add({"id": record["id"]})
