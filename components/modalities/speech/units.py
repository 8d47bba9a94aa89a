"""Units of speech: for every 20 ms the number of the nearest of k centroids.

The centroids are computed from a sample of whole recordings, drawn by the seed as they stream by, so neither features
nor recordings of a corpus are ever kept as a whole; `shard` assigns in a second pass.
"""

import heapq
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from components.curve import Line, draw, thin
from components.modalities.speech import clustering
from components.modalities.speech.features import Extract, num_frames, open_features
from components.modalities.speech.recordings import decoded, num_samples
from components.modalities.speech.schema import (
    KMeans,
    LayerFeatures,
    Mfcc,
)
from components.outcomes import Refused
from components.weights import weights_hash
from models.frames import FRAME_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES

NAME = "units.json"
CENTROIDS_NAME = "centroids.npy"
PICTURE_NAME = "units.svg"
MAX_HELD_OUT_FRAMES = 200_000
"""Of the valid split that the report is made of: 67 minutes."""


# ---- the encoder -----------------------------------------------------------------------------------------------------


class UnitEncoder:
    """FLAC to units. What computes the features is opened when the first recording comes."""

    kind = "units"

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder, self.content = folder, content
        self.centroids: np.ndarray = np.load(folder / CENTROIDS_NAME)
        num_units = len(self.centroids)
        self.dtype = np.dtype("u1" if num_units <= 1 << 8 else "<u2")
        self.facts: dict[str, Any] = {"num_units": num_units, "frame_samples": FRAME_SAMPLES}
        self.opened: tuple[Extract, Any] | None = None

    def encode(self, values: list[bytes]) -> list[np.ndarray]:
        """uint8 or uint16 [frames] of each; a recording of fewer than 400 samples has none.

        Raises:
            Refused: the network whose layer the units are clusters of is not there, or is another one.
        """
        return [self.units_of(decoded(value)) for value in values]

    def units_of(self, samples: np.ndarray) -> np.ndarray:
        """int16 [samples] -> units [frames]."""
        if self.opened is None:
            self.opened = self._open(), clustering.index_of(self.centroids)
        extract, index = self.opened
        labels = clustering.nearest(_features(extract, samples), index)[0]
        return labels.astype(self.dtype)

    def _open(self) -> Extract:
        kept = self.content["features"]
        section = {key: value for key, value in kept.items() if key not in ("weights", "weights_hash")}
        if section["kind"] == "mfcc":
            return open_features(Mfcc.model_validate(section), None)
        weights = Path(kept["weights"])
        if not weights.is_dir() or weights_hash(weights, section["family"]) != kept["weights_hash"]:
            found = "others are there" if weights.is_dir() else "nothing is there"
            raise Refused(
                f"The units in {self.folder} are clusters of layer {section['layer']} of the weights in {weights}, and "
                f"{found}. Make them again with: hiraku release {section['model']}, then fit the encoder anew."
            )
        return open_features(LayerFeatures.model_validate(section), weights)

    def vocabulary(self) -> dict[int, str]:
        """Units have numbers only."""
        return {number: f"unit {number}" for number in range(len(self.centroids))}


def open_encoder(folder: Path) -> UnitEncoder:
    """What `fit` left."""
    return UnitEncoder(folder, json.loads((folder / NAME).read_text(encoding="utf-8")))


def _features(extract: Extract, samples: np.ndarray) -> np.ndarray:
    """float32 [frames, numbers], as many frames as HuBERT has.

    Raises:
        ValueError: the network has a front end of another stride.
    """
    if len(samples) < WINDOW_SAMPLES:
        return np.empty((0, 1), np.float32)
    found, wanted = extract(samples), int(num_frames(len(samples)))
    if len(found) != wanted:
        raise ValueError(f"{len(samples)} samples gave {len(found)} rows of features, expected {wanted}")
    return found


# ---- fitting ---------------------------------------------------------------------------------------------------------


def fit(
    encoder: KMeans, values: Iterable[Any], held_out: Iterable[Any], parents: dict[str, Path], folder: Path
) -> dict[str, Any]:
    """Compute centroids into a folder, and report what the clustering is worth.

    Raises:
        Refused: there are too few frames, or the clustering is degenerate.
    """
    features: dict[str, Any] = encoder.features.model_dump()
    weights = parents.get(features.get("model", ""))
    if weights is not None:
        features |= {"weights": weights.as_posix(), "weights_hash": weights_hash(weights, features["family"])}
    extract = open_features(encoder.features, weights)
    drawn = drawn_recordings((_sound(encoder, value) for value in values), encoder.frame_budget, encoder.seed)
    frames, lengths = _frames_of(drawn, extract, encoder.frame_budget)
    if len(frames) < encoder.num_clusters:
        raise Refused(
            f"The accepted training recordings have {len(frames):,} frames of 20 ms, expected at least as many as "
            f"clusters: {encoder.num_clusters:,}. Add recordings, or lower 'num_clusters'."
        )
    centroids = clustering.centroids_of(frames, encoder.num_clusters, encoder.num_passes, encoder.seed)
    index = clustering.index_of(centroids)
    labels, distances = clustering.nearest(frames, index)
    counts = np.bincount(labels, minlength=encoder.num_clusters)
    report: dict[str, Any] = {
        "num_recordings": len(lengths),
        "seconds": round(len(frames) * FRAME_SAMPLES / SAMPLE_RATE_HZ, 2),
        **quality(counts, float(distances.mean()), labels, lengths),
    }
    _check(encoder, counts, report)
    report |= {f"held_out_{key}": value for key, value in _held_out(encoder, held_out, extract, index).items()}
    np.save(folder / CENTROIDS_NAME, centroids)
    content = {"num_units": len(centroids), "frame_samples": FRAME_SAMPLES, "features": features, "seed": encoder.seed}
    text = json.dumps(content | {"report": report}, ensure_ascii=False, indent=1)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")
    return report | {"pictures": {PICTURE_NAME: picture(counts)}}


def _sound(encoder: KMeans, value: Any) -> bytes:
    return value[encoder.column] if isinstance(value, dict) else value


def drawn_recordings(recordings: Iterable[bytes], frame_budget: int, seed: int) -> list[bytes]:
    """A sample of recordings with at least so many frames, or all; which ones, only the seed and their order decide.

    Every recording is given a random number, and those with the smallest ones are kept.
    """
    generator = np.random.default_rng(seed)
    kept: list[tuple[float, int, int, bytes]] = []  # a heap with the greatest number first: -number, place, frames
    total = 0
    for place, flac in enumerate(recordings):
        size = int(num_frames(num_samples(flac)))
        heapq.heappush(kept, (-generator.random(), place, size, flac))
        total += size
        while total - kept[0][2] >= frame_budget:
            total -= heapq.heappop(kept)[2]
    return [flac for _, _, _, flac in sorted(kept, key=lambda each: each[1])]


def _frames_of(recordings: list[bytes], extract: Extract, frame_budget: int) -> tuple[np.ndarray, list[int]]:
    """float32 [frames, numbers] of recordings one after another, cut at the budget, and how many each has."""
    sizes = [int(num_frames(num_samples(flac))) for flac in recordings]
    total = min(sum(sizes), frame_budget)
    frames: np.ndarray | None = None
    lengths: list[int] = []
    start = 0
    for flac in recordings:
        found = _features(extract, decoded(flac))[: total - start]
        if not len(found):
            continue
        if frames is None:
            frames = np.empty((total, found.shape[1]), np.float32)
        frames[start : start + len(found)] = found
        start += len(found)
        lengths.append(len(found))
    return (np.empty((0, 1), np.float32) if frames is None else frames), lengths


# ---- what it is worth ------------------------------------------------------------------------------------------------


def quality(counts: np.ndarray, inertia: float, labels: np.ndarray, lengths: list[int]) -> dict[str, float]:
    """Numbers about a clustering.

    Args:
        counts: frames of each cluster.
        inertia: mean squared distance of a frame to its centroid.
        labels: of recordings one after another.
        lengths: frames of each recording.
    """
    shares = counts / max(1, counts.sum())
    there = shares[shares > 0]
    segments = sum(clustering.num_segments(part) for part in np.split(labels, np.cumsum(lengths)[:-1]))
    return {
        "num_frames": int(counts.sum()),
        "num_clusters": len(counts),
        "num_clusters_used": len(there),
        "smallest_share": float(shares.min()),
        "largest_share": float(shares.max()),
        "entropy_bits": -float((there * np.log2(there)).sum()),
        "inertia": inertia,
        "mean_segment_seconds": len(labels) / max(1, segments) * FRAME_SAMPLES / SAMPLE_RATE_HZ,
    }


def _check(encoder: KMeans, counts: np.ndarray, report: dict[str, Any]) -> None:
    """Refuse a clustering from which a network would learn nothing."""
    num_empty = int((counts == 0).sum())
    if num_empty > encoder.gates.max_empty:
        raise Refused(
            f"{num_empty} of {len(counts)} clusters hold no frame, at most {encoder.gates.max_empty} may: the "
            f"{report['num_frames']:,} frames do not differ enough. Lower 'num_clusters', raise 'frame_budget', look "
            "at the corpus's report for silent or repeated recordings, or change 'gates.max_empty'."
        )
    if report["largest_share"] > encoder.gates.max_share:
        raise Refused(
            f"One cluster holds {report['largest_share']:.1%} of all frames, at most {encoder.gates.max_share:.0%} "
            "may: it is silence, mostly. Filter the corpus (columns.*.expectations.max_silent_share), cut silence, or "
            "change 'gates.max_share'."
        )


def _held_out(encoder: KMeans, held_out: Iterable[Any], extract: Extract, index: Any) -> dict[str, float]:
    """The same numbers of recordings that no centroid was computed from, and the agreement with phones."""
    counts = np.zeros(encoder.num_clusters, np.int64)
    by_phone: dict[str, np.ndarray] = {}
    labels, lengths, distance = [], [], 0.0
    for value in held_out:
        found, distances = clustering.nearest(_features(extract, decoded(_sound(encoder, value))), index)
        counts += np.bincount(found, minlength=len(counts))
        labels.append(found)
        lengths.append(len(found))
        distance += float(distances.sum())
        if encoder.phones:
            for frame, phone in enumerate(phones_of_frames(value[encoder.phones], len(found))):
                if phone is not None:
                    by_phone.setdefault(phone, np.zeros_like(counts))[found[frame]] += 1
        if counts.sum() >= MAX_HELD_OUT_FRAMES:
            break
    if not counts.sum():
        return {}
    report = quality(counts, distance / int(counts.sum()), np.concatenate(labels), lengths)
    return report | (vars(clustering.agreement_of(np.stack(list(by_phone.values())))) if by_phone else {})


def phones_of_frames(phones: str, num_labels: int) -> Iterator[str | None]:
    """The phone that is said in the middle of each frame; None between phones.

    Args:
        phones: JSON of [phone, begin, end] in seconds, by time.
        num_labels: how many frames there are.
    """
    rows: list[tuple[str, float, float]] = json.loads(phones)
    ends = np.array([end for _, _, end in rows])
    for frame in range(num_labels):
        middle = (frame * FRAME_SAMPLES + WINDOW_SAMPLES / 2) / SAMPLE_RATE_HZ
        place = int(np.searchsorted(ends, middle, side="right"))
        yield rows[place][0] if place < len(rows) and rows[place][1] <= middle else None


def picture(counts: np.ndarray) -> str:
    """An SVG of the clusters' shares, the largest first, beside the even one."""
    shares = np.sort(counts)[::-1] / max(1, counts.sum()) * 100
    found = Line("share", thin([(rank, float(share)) for rank, share in enumerate(shares, start=1)]))
    even = Line("even share", ((1, 100 / len(counts)), (len(counts), 100 / len(counts))))
    top = math.ceil(float(shares[0]))
    return draw([found, even], "clusters by size", f"frames (%), the largest below {top}")
