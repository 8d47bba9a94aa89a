"""Facts about clean recordings and transcripts, and what a corpus expects of them."""

import json
from typing import Any

from components.modalities.speech.schema import Column, phonemes_of
from models.frames import SAMPLE_RATE_HZ

Expectation = tuple[str, dict[str, Any]]


def check(value: Any, column: Column) -> dict[str, Any]:
    """Facts about one clean value.

    Of a recording `seconds`, `level_db`, `sample_rate_hz` (of the raw file), `clipped_share`, `silent_share`, and
    `digest` of its samples; of a transcript `num_chars`, `num_words`, `num_phonemes`, and `unknown`, the phonemes that
    the inventory lacks; of phones `num_phones`.
    """
    if column.form == "recording":
        return _of_recording(value)
    if column.form == "transcript":
        return _of_transcript(value, column)
    return {"num_phones": len(json.loads(value))} if column.form == "phones" else {"num_chars": len(value)}


def _of_recording(flac: bytes) -> dict[str, Any]:
    from components.modalities.speech import recordings

    samples = recordings.decoded(flac)
    return {
        "seconds": round(len(samples) / SAMPLE_RATE_HZ, 4),
        "level_db": round(recordings.level_db(samples), 2),
        "sample_rate_hz": recordings.raw_rate_hz(flac),
        "clipped_share": round(recordings.clipped_share(samples), 6),
        "silent_share": round(recordings.silent_share(samples), 4),
        "digest": recordings.digest(samples),
    }


def _of_transcript(text: str, column: Column) -> dict[str, Any]:
    from components.modalities.speech import phonemes

    words = phonemes.words_of(text, column.front_end)
    return {
        "num_chars": len(text),
        "num_words": len(words),
        "num_phonemes": sum(map(len, words)),
        "unknown": " ".join(phonemes.unknown_of(words, phonemes_of(column.inventory))),
    }


def expectations(name: str, column: Column, _language: str) -> list[Expectation]:
    """Great Expectations class names and arguments over the facts of a column, which are prefixed by its name.

    Each carries in `meta` the claim in plain words and the keys of the corpus YAML that decide it.
    """
    if column.form == "recording":
        return _for_recordings(name, column)
    return _for_transcripts(name, column) if column.form == "transcript" else []


def _for_recordings(name: str, column: Column) -> list[Expectation]:
    wanted = column.expectations

    def between(fact: str, claim: str, mostly: str, **bounds: float | None) -> Expectation:
        keys = [f"columns.{name}.expectations.{key}" for key in (*_keys_of(fact), mostly)]
        arguments = {"column": f"{name}_{fact}", **bounds, "mostly": getattr(wanted, mostly)}
        return "ExpectColumnValuesToBeBetween", arguments | {"meta": {"claim": claim, "keys": keys}}

    most = "" if wanted.max_seconds is None else f" and at most {wanted.max_seconds:g}"
    rate = f"recorded with at least {wanted.min_sample_rate_hz:,} samples a second"
    clipped = f"at most {wanted.max_clipped_share:.1%} of the samples at the end of the range"
    silent = f"at most {wanted.max_silent_share:.0%} of the time silent"
    unique = {
        "column": f"{name}_digest",
        "mostly": wanted.unique_mostly,
        "meta": {"claim": "no sound twice", "keys": [f"columns.{name}.expectations.unique_mostly"]},
    }
    return [
        between(
            "seconds",
            f"at least {wanted.min_seconds:g}{most} seconds",
            "seconds_mostly",
            min_value=wanted.min_seconds,
            max_value=wanted.max_seconds,
        ),
        between("sample_rate_hz", rate, "sample_rate_mostly", min_value=wanted.min_sample_rate_hz),
        between("clipped_share", clipped, "clipped_mostly", max_value=wanted.max_clipped_share),
        between("silent_share", silent, "silent_mostly", max_value=wanted.max_silent_share),
        ("ExpectColumnValuesToBeUnique", unique),
    ]


def _keys_of(fact: str) -> tuple[str, ...]:
    return {"seconds": ("min_seconds", "max_seconds"), "sample_rate_hz": ("min_sample_rate_hz",)}.get(
        fact, (f"max_{fact}",)
    )


def _for_transcripts(name: str, column: Column) -> list[Expectation]:
    wanted, place = column.expectations, f"columns.{name}"
    keys = [f"{place}.expectations.min_phonemes", f"{place}.expectations.phonemes_mostly"]
    least = {
        "column": f"{name}_num_phonemes",
        "min_value": wanted.min_phonemes,
        "mostly": wanted.phonemes_mostly,
        "meta": {"claim": f"at least {wanted.min_phonemes} phonemes", "keys": keys},
    }
    known = {
        "column": f"{name}_unknown",
        "value_set": [""],
        "mostly": wanted.phonemes_mostly,
        "meta": {
            "claim": "no phoneme outside of the inventory",
            "keys": [f"{place}.inventory", f"{place}.front_end", f"{place}.expectations.phonemes_mostly"],
        },
    }
    return [("ExpectColumnValuesToBeBetween", least), ("ExpectColumnValuesToBeInSet", known)]
