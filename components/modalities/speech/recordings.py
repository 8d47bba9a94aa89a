"""Raw sound to clean recordings: FLAC of 16 kHz, one channel, 16 bits, with reasons where that cannot be.

The rate that the raw file had stands in the comment of the FLAC, since what was resampled from fewer samples a second
lacks the higher frequencies.
"""

import hashlib
import io
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from components.modalities import Rejected
from components.modalities.speech.schema import Column
from models.frames import SAMPLE_RATE_HZ

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_KERNEL = 1 << 24
"""Numbers in the table by which a rate is changed; rates with no common divisor of any size need huge ones."""
LEVEL_FRAME_SAMPLES = 320
SILENT_FRAME_DB = -50.0
"""Root mean square of a frame below which nothing is heard; 0 dB is full scale."""
CLIPPED = (-32_768, 32_767)
MAX_FRAMES = 1 << 48
"""More in a head mean that it does not know: a FLAC written to a pipe has 2**63 - 1."""
MOST_BEHIND_SECONDS = 0.1
"""A segment may end so much after its file: times of a transcript are rounded."""
PROMISED = re.compile(r"^ *([A-Za-z][A-Za-z ]*?) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
"""How libsndfile tells, and only tells, that a chunk of a file is not as long as its head promises."""
OPEN_SIZES = (range(0x7FFF_F000, 0x8000_1000), range(0xFFFF_F000, 1 << 65))
"""What stands for the size of a chunk in a file that was written to a pipe."""
UNREADABLE = "not readable as sound"
TRUNCATED = "the sound ends early: the file is truncated or damaged"


def reader(column: Column) -> Callable[[dict[str, Any]], bytes]:
    """A function from raw sound (bytes, or a mapping with `bytes`) and its bounds to FLAC.

    It raises `Rejected` with a reason in words that are equal for equal reasons.
    """
    limits = column.filters

    def read(parts: dict[str, Any]) -> bytes:
        raw = parts["audio"]
        raw = raw.get("bytes") if isinstance(raw, dict) else raw
        if not isinstance(raw, bytes | bytearray | memoryview):
            raise Rejected("no bytes of a sound file (source.files_field reads the file that a table names)")
        wave, rate_hz = _decoded(bytes(raw), _bounds(parts))
        samples = _in_16_bits(_resampled(wave, rate_hz))
        seconds = len(samples) / SAMPLE_RATE_HZ
        if seconds < limits.min_seconds:
            raise Rejected(f"shorter than {limits.min_seconds:g} s (filters.min_seconds)")
        if seconds > limits.max_seconds:
            raise Rejected(f"longer than {limits.max_seconds:g} s (filters.max_seconds)")
        if level_db(samples) < limits.min_level_db:
            raise Rejected(f"silent: its level is below {limits.min_level_db:g} dB (filters.min_level_db)")
        return encoded(samples, rate_hz)

    return read


def _bounds(parts: dict[str, Any]) -> tuple[float, float]:
    """Seconds from where to where; all of it without them."""
    if "begin" not in parts:
        return 0.0, math.inf
    try:
        begin, end = float(parts["begin"]), float(parts["end"])
    except (TypeError, ValueError):
        raise Rejected("its begin or end is no number of seconds") from None
    if not (math.isfinite(begin) and 0 <= begin < end):
        raise Rejected("its end is not after its begin, in seconds")
    return begin, end


def _decoded(raw: bytes, bounds: tuple[float, float]) -> tuple[np.ndarray, int]:
    """Float32 samples of one channel, the mean of all, at the rate of the file."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            rate_hz = int(file.samplerate)
            first, last = _cut(file, raw, bounds)
            file.seek(first)
            wanted = last - first
            wave = file.read(wanted, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, MemoryError) as error:
        is_cut = "lost sync" in str(error) or "malformed" in str(error) or raw[:4] == b"fLaC"
        raise Rejected(TRUNCATED if is_cut else UNREADABLE) from None
    if len(wave) < wanted:
        raise Rejected(TRUNCATED)
    if not len(wave):
        raise Rejected("no sound in it")
    if not np.isfinite(wave).all():
        raise Rejected("samples that are no numbers")
    return wave.mean(axis=1), rate_hz


def _cut(file: Any, raw: bytes, bounds: tuple[float, float]) -> tuple[int, int]:
    """From which frame to which an open file is to be read.

    Raises:
        Rejected: its head promises what it does not hold, or the bounds lie behind its end.
    """
    rate_hz, num_frames = int(file.samplerate), int(file.frames)
    if num_frames > MAX_FRAMES:
        raise Rejected("its head does not say how long it is: save it again, to a file and not to a pipe")
    if _ends_early(file.format, file.extra_info, raw):
        raise Rejected(TRUNCATED)
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise Rejected(f"its sample rate is not within {MIN_RATE_HZ:,} and {MAX_RATE_HZ:,} Hz")
    if bounds[0] * rate_hz >= num_frames > 0:
        raise Rejected("it begins after the end of its file")
    if math.isfinite(bounds[1]) and bounds[1] * rate_hz > num_frames + MOST_BEHIND_SECONDS * rate_hz:
        raise Rejected("it ends after the end of its file")
    first, last = (round(min(bound * rate_hz, num_frames)) for bound in bounds)
    return first, last


def _ends_early(kind: str, told: str, raw: bytes) -> bool:
    """Whether a file has less than its head promises, which libsndfile reads without an error.

    Args:
        kind: the format, as libsndfile names it.
        told: what it tells of the file.
        raw: the file.
    """
    if kind == "OGG":
        return _lacks_last_page(raw)
    for chunk, promised, found in PROMISED.findall(told):
        is_open = any(int(promised) in sizes for sizes in OPEN_SIZES)
        # Of a WAV the chunk of the samples alone: many a writer counts the whole file wrongly.
        counts = chunk == "data" or not kind.startswith("WAV")
        if counts and not is_open and int(promised) > int(found):
            return True
    return False


def _lacks_last_page(raw: bytes) -> bool:
    """Whether an Ogg stream stops before the page that says it is the last one, or within a page (RFC 3533, 6)."""
    place, flags = 0, 0
    while raw[place : place + 4] == b"OggS":
        head = raw[place : place + 27]
        sizes = raw[place + 27 : place + 27 + head[26]] if len(head) == 27 else b""
        end = place + 27 + len(sizes) + sum(sizes)
        if len(head) < 27 or len(sizes) < head[26] or end > len(raw):
            return True
        place, flags = end, head[5]
    return not flags & 4


def _resampled(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """The same sound at 16 kHz, by windowed sinc interpolation."""
    if rate_hz == SAMPLE_RATE_HZ:
        return wave
    divisor = math.gcd(rate_hz, SAMPLE_RATE_HZ)
    if rate_hz // divisor * (SAMPLE_RATE_HZ // divisor) > MAX_KERNEL:
        raise Rejected("its sample rate has no common divisor with 16,000 Hz worth the name")
    import torch
    from torchaudio.functional import resample

    with torch.inference_mode():
        return resample(torch.from_numpy(wave), rate_hz, SAMPLE_RATE_HZ).numpy()


def _in_16_bits(wave: np.ndarray) -> np.ndarray:
    """Rounded and limited: a bare cast would turn the loudest samples over."""
    return np.clip(np.rint(wave * 32_768.0), *CLIPPED).astype(np.int16)


# ---- clean recordings ------------------------------------------------------------------------------------------------


def encoded(samples: np.ndarray, raw_rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """FLAC of int16 samples at 16 kHz; the same samples give the same bytes.

    Args:
        samples: int16 [samples].
        raw_rate_hz: of the file they come from.
    """
    import soundfile

    stream = io.BytesIO()
    with soundfile.SoundFile(stream, "w", SAMPLE_RATE_HZ, 1, "PCM_16", format="FLAC") as file:
        file.comment = f"{raw_rate_hz} Hz"
        file.write(samples)
    return stream.getvalue()


def decoded(flac: bytes) -> np.ndarray:
    """The samples of a clean recording, int16 [samples]."""
    import soundfile

    return soundfile.read(io.BytesIO(flac), dtype="int16")[0]


def raw_rate_hz(flac: bytes) -> int:
    """Samples a second of the file that a clean recording comes from."""
    import soundfile

    with soundfile.SoundFile(io.BytesIO(flac)) as file:
        return int(file.comment.partition(" ")[0] or file.samplerate)


def num_samples(flac: bytes) -> int:
    """How many samples a clean recording has, by its head alone."""
    import soundfile

    with soundfile.SoundFile(io.BytesIO(flac)) as file:
        return int(file.frames)


def as_waveform(samples: np.ndarray) -> np.ndarray:
    """int16 to float32 in [-1, 1), as networks and MFCC read it."""
    return samples.astype(np.float32) / np.float32(32_768)


# ---- facts -----------------------------------------------------------------------------------------------------------


def digest(samples: np.ndarray) -> str:
    """Equal for equal samples, whatever file they came in: BLAKE2b, 16 bytes, as hex."""
    return hashlib.blake2b(np.ascontiguousarray(samples, "<i2").tobytes(), digest_size=16).hexdigest()


def level_db(samples: np.ndarray) -> float:
    """Root mean square of int16 samples in dB of full scale; of nothing but zeros -120."""
    power = float(np.square(samples, dtype=np.float64).mean()) / 32_768.0**2
    return 10 * math.log10(max(power, 1e-12))


def clipped_share(samples: np.ndarray) -> float:
    """Share of samples at the ends of the range."""
    return float(np.isin(samples, CLIPPED).mean())


def silent_share(samples: np.ndarray) -> float:
    """Share of frames of 20 ms that are silent; what is left at the end counts as one."""
    starts = np.arange(0, len(samples), LEVEL_FRAME_SAMPLES)
    sizes = np.diff(np.append(starts, len(samples)))
    power = np.add.reduceat(np.square(samples, dtype=np.float64), starts) / sizes / 32_768.0**2
    return float((power < 10 ** (SILENT_FRAME_DB / 10)).mean())
