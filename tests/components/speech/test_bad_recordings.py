"""A recording that becomes a record and breaks what `validate` expects: the stop names its sound file, not only ids."""

import re
from typing import Any

import numpy as np
import pytest

from components import paths
from components.ingest import ingest
from components.outcomes import Refused
from components.validate import validate
from tests.components.speech.small_speech import CORPUS, RATE, sound_file, tones, write_yaml

GOOD = "a/good.wav"
BAD = "b/bad.wav"
LOUD = np.where(np.arange(RATE) % 200 < 100, 32_767, -32_768).astype(np.int16)
QUIET = np.concatenate([tones(0.1, 3), np.zeros(2 * RATE, np.int16)])

CASES: dict[str, tuple[bytes, str, str]] = {
    "sample rate": (sound_file(tones(1, 3, 8_000), 8_000), "a i", "audio_sample_rate_hz: .* in {} \\(8000\\)"),
    "clipping": (sound_file(LOUD), "a i", "audio_clipped_share: .* in {} "),
    "silence": (sound_file(QUIET), "a i", "audio_silent_share: .* in {} "),
    "duration": (sound_file(tones(3, 3)), "a i", "audio_seconds: .* in {} \\(3\\.0\\)"),
    "phonemes": (sound_file(tones(1, 3)), "a x", "transcript_unknown: .* in {} \\(x\\)"),
    "heard twice": (sound_file(tones(1, 1)), "u u", f"audio_digest: .* in {GOOD} .* in {{}} "),
}


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> Any:
    """Writes a corpus of three recordings, of which the last is as a test gives it."""
    monkeypatch.chdir(tmp_path)
    columns = {key: dict(column) for key, column in CORPUS["columns"].items() if key != "speaker"}
    columns["audio"]["expectations"] = {"min_seconds": 0.2, "max_seconds": 2.5}
    source = {"kind": "files", "paths": ["small"], "format": "tsv", "files_field": "audio", "id_field": "id"}

    def write(bad: bytes, said: str) -> None:
        write_yaml(
            paths.RECIPES / "corpora" / "small.yaml",
            CORPUS | {"columns": columns, "source": source, "splits": {"only": "train"}},
        )
        files = {GOOD: sound_file(tones(1, 1)), "a/other.wav": sound_file(tones(1.5, 2)), BAD: bad}
        texts = ["a i", "i u", said]
        rows = [f"u{number}\t{name}\t{text}\n" for number, (name, text) in enumerate(zip(files, texts, strict=True))]
        for name, content in files.items():
            place = paths.DATA / "small" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        (paths.DATA / "small" / "t.tsv").write_text("id\taudio\ttranscript\n" + "".join(rows), encoding="utf-8")
        ingest("small")

    return write


@pytest.mark.parametrize("case", CASES)
def test_what_breaks_an_expectation_is_told_with_its_sound_file(corpus, case):
    bad, said, pattern = CASES[case]
    corpus(bad, said)
    with pytest.raises(Refused) as refused:
        validate("small")
    (line,) = [each for each in str(refused.value).splitlines() if each.startswith("  ")]
    assert re.search(pattern.format(BAD), line), line
    assert GOOD not in line or case == "heard twice"
    assert not paths.state("validate", "small").exists()
    assert BAD in (paths.outcome_folder("validate", "small") / "report.html").read_text(encoding="utf-8")


def test_the_same_corpus_without_the_bad_recording_is_accepted(corpus):
    corpus(sound_file(tones(1, 3)), "a i")
    validate("small")
    assert paths.state("validate", "small").is_dir()
