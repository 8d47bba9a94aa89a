"""K-means of ours beside scikit-learn's MiniBatchKMeans with the settings of fairseq's HuBERT recipe.

Both get the same frames in memory, and both are judged alike: by the mean squared distance of all frames to their
nearest centroid, computed in float64 from the centroids alone.
"""

import hashlib
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.clustering_frames import layer_like_frames, spoken_frames
from benchmarks.figures import Row
from benchmarks.machine import describe, one_core
from benchmarks.report import Result, require_repeats
from components.markdown import number

NAME = "kmeans"
PEER = "scikit-learn MiniBatchKMeans, fairseq's settings"
NUM_PASSES = 20
"""At most; the default of encoders."""
JUDGED_AT_ONCE = 50_000
KEPT = Path(".bench") / NAME
"""What each seed gave: five of scikit-learn take most of an hour, and a run that was stopped goes on."""

Features = Literal["mfcc", "layer"]
WORK: dict[Features, tuple[str, Callable[[int], np.ndarray], int, float]] = {
    "mfcc": ("39-d MFCC of generated speech, 100 clusters", spoken_frames, 100, 1.01),
    "layer": ("768-d vectors spread like a layer's, 500 clusters", layer_like_frames, 500, 1.002),
}
"""What it is, how it is made, clusters, and what the ratio of inertias must not pass."""
MAX_TIME_RATIO = 0.5


def _ours(frames: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    from components.modalities.speech.clustering import centroids_of

    return centroids_of(frames, num_clusters, NUM_PASSES, seed)


def _theirs(frames: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """As examples/hubert/simple_kmeans/learn_kmeans.py of fairseq sets it up."""
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(
        n_clusters=num_clusters,
        init="k-means++",
        max_iter=100,
        batch_size=10_000,
        tol=0.0,
        max_no_improvement=100,
        n_init=20,
        reassignment_ratio=0.0,
        compute_labels=False,
        random_state=seed,
    )
    found: np.ndarray = model.fit(frames).cluster_centers_
    return found


def inertia_of(frames: np.ndarray, centroids: np.ndarray) -> float:
    """Mean squared distance of frames to their nearest centroid."""
    centres = centroids.astype(np.float64)
    squares, total = (centres**2).sum(axis=1), 0.0
    for start in range(0, len(frames), JUDGED_AT_ONCE):
        part = frames[start : start + JUDGED_AT_ONCE].astype(np.float64)
        nearest = (squares - 2 * part @ centres.T).argmin(axis=1)
        total += float(((part - centres[nearest]) ** 2).sum())
    return total / len(frames)


def compare(features: Features, num_frames: int, seeds: int) -> dict[str, list[dict[str, float]]]:
    """Inertia and CPU seconds of both, for each seed; what this code has measured before is not measured anew."""
    _, make, num_clusters, _ = WORK[features]
    frames = make(num_frames)
    folder = KEPT / f"{features}-{num_frames}-{_key(frames)}"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for seed in range(seeds):
        for side, cluster in (("ours", _ours), ("theirs", _theirs)):
            file = folder / f"{side}-{seed}.json"
            if not file.is_file():
                began = time.process_time()
                centroids = cluster(frames, num_clusters, seed)
                seconds = time.process_time() - began
                text = json.dumps({"inertia": inertia_of(frames, centroids), "cpu_seconds": seconds})
                part = file.with_suffix(".part")
                part.write_text(text, encoding="utf-8")
                part.replace(file)
                print(f"{features}, seed {seed}, {side}: {text}", flush=True)
            found[side].append(json.loads(file.read_text(encoding="utf-8")))
    return found


def _key(frames: np.ndarray) -> str:
    """What the figures hang on: the frames, how both sides are set up, and their code."""
    from components.modalities.speech import clustering

    parts = [Path(str(each)).read_bytes() for each in (__file__, clustering.__file__)]
    parts += [version(each).encode() for each in ("faiss-cpu", "numpy", "scikit-learn", "torch")]
    digest = hashlib.md5(b"".join(parts), usedforsecurity=False)
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()[:8]


def measure(
    *, num_frames: int = 1_000_000, seeds: int = 5, features: tuple[Features, ...] = ("mfcc", "layer")
) -> Result:
    """Inertia and CPU time of k-means on MFCC and on vectors like those of a layer.

    Args:
        num_frames: frames that are clustered.
        seeds: how often each side starts anew.
        features: which work; the second takes an hour of one core with five seeds.
    """
    require_repeats(seeds)
    rows: list[Row] = []
    measured: dict[str, Any] = {}
    with one_core():
        for each in features:
            words, _, _, most = WORK[each]
            found = measured[each] = compare(each, num_frames, seeds)
            for figure, key, wanted in (("inertia", "inertia", most), ("CPU seconds", "cpu_seconds", MAX_TIME_RATIO)):
                ours, theirs = ([run[key] for run in found[side]] for side in ("ours", "theirs"))
                rows.append(Row.compare(f"{words}: {figure}", PEER, ours, theirs, at_most=wanted))
    notes = [f"{number(num_frames)} frames, one thread, {seeds} seeds; inertia is the mean squared distance per frame."]
    command = f"python -m benchmarks {NAME} --num-frames {num_frames} --seeds {seeds} --features {' '.join(features)}"
    return Result(NAME, command, rows, notes, describe(), measured)
