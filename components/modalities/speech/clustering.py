"""K-means, and what a clustering is worth.

Starts are greedy k-means++ (Arthur and Vassilvitskii 2007, section 2.2) on a part of the frames, improved there; the
best one is improved on all of them by Lloyd's algorithm, until a pass gains next to nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_STARTS = 4
START_PASSES = 10
START_FRAMES_PER_CLUSTER = 100
MIN_START_FRAMES = 20_000
LEAST_GAIN = 1e-3
"""Of the inertia: a pass that gains less ends it."""


def centroids_of(frames: np.ndarray, num_clusters: int, num_passes: int, seed: int) -> np.ndarray:
    """float32 [frames, numbers] -> float32 [num_clusters, numbers]; the same on one machine for the same arguments.

    Args:
        frames: at least `num_clusters`.
        num_clusters: how many centroids.
        num_passes: at most, over all frames.
        seed: of the starts.
    """
    generator = np.random.default_rng(seed)
    size = max(MIN_START_FRAMES, START_FRAMES_PER_CLUSTER * num_clusters)
    part = frames
    if len(frames) > size:
        part = frames[np.sort(generator.choice(len(frames), size, replace=False))]
    starts = [_start(part, num_clusters, int(generator.integers(1 << 31))) for _ in range(NUM_STARTS)]
    best, _ = min(starts, key=lambda start: start[1])
    return _improved(frames, best, num_passes)[0]


def _start(part: np.ndarray, num_clusters: int, seed: int) -> tuple[np.ndarray, float]:
    from sklearn.cluster import kmeans_plusplus

    chosen, _ = kmeans_plusplus(part, num_clusters, random_state=seed)
    return _improved(part, chosen, START_PASSES)


def _improved(frames: np.ndarray, centroids: np.ndarray, num_passes: int) -> tuple[np.ndarray, float]:
    """Centroids after Lloyd's algorithm, and the inertia of those before its last pass."""
    import faiss

    num_clusters, size = centroids.shape
    bounds = {"min_points_per_centroid": 1, "max_points_per_centroid": -(-len(frames) // num_clusters) + 1}
    before = float("inf")
    for _ in range(num_passes):
        # One pass each: faiss has no end but a number of passes. It fills empty clusters by splitting large ones.
        step = faiss.Kmeans(size, num_clusters, niter=1, **bounds)
        step.train(frames, init_centroids=centroids)
        centroids, inertia = np.array(step.centroids), float(np.asarray(step.obj)[-1])
        if before - inertia <= LEAST_GAIN * inertia:
            return centroids, inertia
        before = inertia
    return centroids, before


def index_of(centroids: np.ndarray) -> Any:
    """What finds the nearest centroid, exactly."""
    import faiss

    index = faiss.IndexFlatL2(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids, np.float32))
    return index


def nearest(frames: np.ndarray, index: Any) -> tuple[np.ndarray, np.ndarray]:
    """Number of the nearest centroid, int64 [frames], and the squared distance to it, float32 [frames]."""
    if not len(frames):
        return np.empty(0, np.int64), np.empty(0, np.float32)
    distances, labels = index.search(np.ascontiguousarray(frames, np.float32), 1)
    return labels[:, 0], np.maximum(distances[:, 0], 0)


# ---- what it is worth ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How well units agree with phones, by the frames that have both (Hsu et al. 2021, HuBERT, section IV-D)."""

    pnmi: float
    """Share of the phones' entropy that the units tell."""
    phone_purity: float
    """Share of frames whose phone is the commonest one of their unit."""
    unit_purity: float
    """Share of frames whose unit is the commonest one of their phone."""


def agreement_of(counts: np.ndarray) -> Agreement:
    """Of the frames by phone and unit, [phones, units]."""
    joint = counts / counts.sum()
    phones, units = joint.sum(axis=1), joint.sum(axis=0)
    entropy = -float((phones[phones > 0] * np.log(phones[phones > 0])).sum())
    there = joint > 0
    information = float((joint[there] * np.log(joint[there] / np.outer(phones, units)[there])).sum())
    return Agreement(
        information / entropy if entropy > 0 else 0.0, float(joint.max(axis=0).sum()), float(joint.max(axis=1).sum())
    )


def num_segments(labels: np.ndarray) -> int:
    """Runs of equal labels in one recording."""
    return int((np.diff(labels) != 0).sum()) + bool(len(labels))
