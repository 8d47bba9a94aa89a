"""The committed version of the raw data is exactly what the generators write."""

import hashlib
import json
import subprocess
from pathlib import Path

import yaml

from components.generators import GENERATORS
from tests.conftest import ROOT


def test_data_dvc_names_exactly_the_raw_text_that_the_generators_write(tmp_path: Path) -> None:
    committed = subprocess.run(["git", "show", "HEAD:data.dvc"], cwd=ROOT, capture_output=True, text=True, check=True)
    (out,) = yaml.safe_load(committed.stdout)["outs"]
    for write in GENERATORS.values():
        write(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    # DVC's own hash of a folder: the MD5 of a JSON list of its files, sorted by path.
    listing = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(tmp_path).as_posix()}
        for path in files
    ]
    digest = hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest()
    assert out["path"] == "data"
    assert out["nfiles"] == len(files)
    assert out["md5"] == f"{digest}.dir"
