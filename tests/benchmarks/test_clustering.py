"""The benchmark of k-means judges by the definition, and goes on where it was stopped."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import clustering


def test_inertia_is_the_mean_squared_distance_to_the_nearest_centroid() -> None:
    frames = np.array([[0, 0], [0, 2], [5, 5]], np.float32)
    centroids = np.array([[0, 1], [5, 4], [9, 9]], np.float32)
    assert clustering.inertia_of(frames, centroids) == pytest.approx((1 + 1 + 1) / 3)


def test_seeds_that_were_measured_are_not_measured_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(clustering.WORK, "layer", ("few", clustering.layer_like_frames, 5, 1.0))
    first = clustering.compare("layer", 2_000, 2)
    assert min(run["cpu_seconds"] for runs in first.values() for run in runs) > 0
    [last] = tmp_path.glob(".bench/kmeans/*/theirs-1.json")
    last.write_text(json.dumps({"inertia": 1.0, "cpu_seconds": 2.0}), encoding="utf-8")
    again = clustering.compare("layer", 2_000, 3)
    assert again["ours"][:2] == first["ours"]
    assert again["theirs"][:2] == [first["theirs"][0], {"inertia": 1.0, "cpu_seconds": 2.0}]
    assert len(again["theirs"]) == 3


def test_what_was_measured_of_other_frames_is_not_taken() -> None:
    frames = clustering.layer_like_frames(100)
    before = clustering._key(frames)
    assert clustering._key(frames.copy()) == before
    frames[-1, -1] += 1e-3
    assert clustering._key(frames) != before
