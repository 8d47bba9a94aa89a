"""A corpus that is another one read aloud: its raw rows, made by a voice or taken from what is kept of it."""

import hashlib
import io
import json
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from components.derived import Derived
from components.kept import Kept
from components.outcomes import Refused
from components.recipes import Corpus, Library
from components.rows import Row
from components.voices import ENGINES, open_engine
from models.frames import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import numpy as np

FORMS = ("recording", "transcript", "speaker")
"""Of the columns that a spoken corpus can have."""
SILENCE_SHARE = 0.01
"""Of the loudest sample: below, nothing is said yet or any more."""


class Speech(Derived):
    """The rows of one spoken corpus.

    Args:
        name: the corpus.
        corpus: its section, whose source is `components.voices.schema.Spoken`.

    Raises:
        Refused: the other corpus is not ready or lacks a column, or this one has columns that nothing is said for.
    """

    CHUNK_RECORDS = 64
    """Records that are read aloud together; a kill loses what was made of a quarter of them."""

    def __init__(self, name: str, corpus: Corpus) -> None:
        library = Library()
        _check_columns(library, name, corpus)
        super().__init__(name, corpus)
        self.engine = open_engine(self.source.engine)
        self.kept: Kept[bytes] = Kept("speech", self.engine.facts)
        self.num_samples = 0

    @property
    def revisions(self) -> dict[str, int]:
        """That of the code that reads aloud, by its module."""
        module = ENGINES[self.source.engine.kind]
        return {module: import_module(module).REVISION}

    def _columns(self) -> list[str]:
        return [self.source.text_column, self.source.speaker_column, "licence", "source"]

    def _key(self, record: dict[str, Any]) -> str:
        """All that decides how a record sounds before noise is added, besides the engine."""
        speaker = self.source.speakers[record[self.source.speaker_column]]
        return json.dumps([record[self.source.text_column], speaker.model_dump()], ensure_ascii=False, sort_keys=True)

    def _made(self, chunk: list[dict[str, Any]], tell: Callable[[str], None]) -> dict[str, bytes]:
        """Key -> FLAC of what is said, without noise; empty where nothing could be."""
        wanted = {self._key(each): each for each in chunk if each[self.source.speaker_column] in self.source.speakers}
        known = self.kept.recall(wanted)
        missing = [(key, record) for key, record in wanted.items() if key not in known]
        for start in range(0, len(missing), self.CHUNK_RECORDS // 4):
            made = {key: self._said(record) for key, record in missing[start : start + self.CHUNK_RECORDS // 4]}
            self.kept.keep(made)
            known |= made
            tell(f"{len(known)} of the next {len(wanted)} are spoken")
        return known

    def _said(self, record: dict[str, Any]) -> bytes:
        speaker = self.source.speakers[record[self.source.speaker_column]]
        try:
            wave = self.engine.say(record[self.source.text_column], speaker)
        except RuntimeError:  # how the engine says that it cannot
            return b""
        return _flac(wave) if len(wave) else b""

    def _row(self, record: dict[str, Any], made: dict[str, bytes]) -> Row:
        text, speaker = record[self.source.text_column], record[self.source.speaker_column]
        where = f"{self.source.corpus}:{record['id']}"
        if speaker not in self.source.speakers:
            return Row(where, None, f"no speaker '{speaker}' (source.speakers)", text[:1000])
        sound = made[self._key(record)]
        if not sound:
            return Row(where, None, "nothing in it can be spoken", text[:1000])
        said = {"recording": self._recording(record["id"], sound), "transcript": text, "speaker": speaker}
        fields: dict[str, Any] = {key: record[key] for key in ("id", "split", "licence", "source")}
        for column, section in self.corpus.columns.items():
            fields[column] = dict.fromkeys(section.raw_keys, said[section.form])
        return Row(where, fields)

    def _recording(self, record_id: str, sound: bytes) -> bytes:
        """FLAC with margins cut to size, and noise drawn by the record's id."""
        wave = _trimmed(_samples(sound), round(self.source.margin_seconds * SAMPLE_RATE_HZ))
        self.num_samples += len(wave)
        if self.source.noise is None:
            return _flac(wave)
        import torch
        from torchaudio.functional import add_noise

        digest = hashlib.blake2b(f"{self.source.seed}\0{record_id}".encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        low, high = self.source.noise.min_snr_db, self.source.noise.max_snr_db
        snr_db = low + (high - low) * torch.rand(1, generator=generator, dtype=torch.float64)
        noise = torch.randn(len(wave), generator=generator, dtype=torch.float64)
        mixed: np.ndarray = add_noise(torch.from_numpy(wave).double()[None], noise[None], snr_db).numpy()[0]
        return _flac(mixed)

    def details(self) -> dict[str, Any]:
        """For the manifest: who spoke, how much, and whom to name."""
        engine, seconds = self.source.engine, round(self.num_samples / SAMPLE_RATE_HZ, 3)
        return {
            "speech": {
                "corpus": self.source.corpus,
                "engine": self.engine.facts,
                "speakers": len(self.source.speakers),
                "seconds": seconds,
                "attribution": engine.attribution,
            },
            "engines": {f"the voice {engine.name}": engine.licence},
        }

    def report(self) -> dict[str, Any]:
        """For the report: the same."""
        return {"speech": self.details()["speech"]}


def _check_columns(library: Library, name: str, corpus: Corpus) -> None:
    source, path = corpus.source, library.path("corpus", name)
    theirs = library.read("corpus", source.corpus).columns
    for key in ("text_column", "speaker_column"):
        if getattr(source, key) not in theirs:
            raise Refused(
                f"corpus '{name}' reads the column '{getattr(source, key)}' of corpus '{source.corpus}', which has "
                f"{', '.join(theirs)}. Change source.{key} in {path}."
            )
    forms = [str(getattr(section, "form", "")) for section in corpus.columns.values()]
    if forms.count("recording") != 1 or not set(forms) <= set(FORMS):
        raise Refused(
            f"corpus '{name}' has columns of the forms {', '.join(forms)}, expected one recording, and if wanted a "
            f"transcript and a speaker, all of modality speech. Change 'columns' in {path}."
        )


# ---- sound -----------------------------------------------------------------------------------------------------------


def _flac(wave: "np.ndarray") -> bytes:
    """FLAC, 16 kHz, 16 bits, of samples in [-1, 1]; louder ones are limited."""
    import numpy as np
    import soundfile

    samples = np.clip(np.rint(wave * 32_768.0), -32_768, 32_767).astype(np.int16)
    stream = io.BytesIO()
    soundfile.write(stream, samples, SAMPLE_RATE_HZ, subtype="PCM_16", format="FLAC")
    return stream.getvalue()


def _samples(flac: bytes) -> "np.ndarray":
    import soundfile

    wave: np.ndarray = soundfile.read(io.BytesIO(flac), dtype="float64")[0]
    return wave


def _trimmed(wave: "np.ndarray", margin: int) -> "np.ndarray":
    """A sound with so many samples before and after what is said, or as many as there are."""
    import numpy as np

    loud = np.flatnonzero(np.abs(wave) > SILENCE_SHARE * np.abs(wave).max())
    return wave[max(0, loud[0] - margin) : loud[-1] + 1 + margin] if len(loud) else wave
