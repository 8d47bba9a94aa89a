"""Load a package as its users will, in a fresh process that asks no Hub, and compare what it computes.

    python -m components.loadback FAMILY FOLDER PROBES ANSWER [EXAMPLE]

FOLDER is a package, PROBES a JSON file of what it is asked, ANSWER a folder that is made, EXAMPLE a Python file that is
run as it stands. The family's `release.py` says how a release is read, with the libraries of its users only.
"""

import io
import json
import os
import runpy
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.outcomes import Refused
from models import part_of

if TYPE_CHECKING:
    import torch

ANSWER_NAME = "answer.safetensors"
ORDER_NAME = "order.json"  # safetensors keeps none
EXAMPLE_NAME = "example.txt"


ROUNDING = 64
"""Steps of the number format, of the largest value, by which equal weights may answer otherwise: libraries of matrix
products add in an order that depends on where weights lie, and those of a package lie where its file puts them."""
LEVELS = 1
"""Of 255, by which a pixel may answer otherwise: what lies between two levels goes to either."""


def difference(expected: dict[str, "torch.Tensor"], found: dict[str, "torch.Tensor"]) -> str | None:
    """What differs between two answers, in words; None when they are equal but for the rounding of sums."""
    import torch

    if list(expected) != list(found):
        return f"it answered {len(found)} things, expected {len(expected)}"
    for name, want in expected.items():
        got = found[name]
        if want.dtype != got.dtype or want.shape != got.shape:
            return f"{name} are {got.dtype} {list(got.shape)}, expected {want.dtype} {list(want.shape)}"
        if not torch.equal(want, got):
            is_picture = want.dtype == torch.uint8
            if not (want.is_floating_point() or is_picture):
                return f"{name} are {got.flatten()[:12].tolist()}, expected {want.flatten()[:12].tolist()}"
            gap = (want.double() - got.double()).abs().max().item()
            largest = want.double().abs().max().item()
            allowed = LEVELS if is_picture else ROUNDING * torch.finfo(want.dtype).eps * largest
            if not gap <= allowed:  # not a number is no rounding
                return f"{name} differ by up to {gap:.3g}, expected at most {allowed:.1g}"
    return None


def load_back(
    family: str, folder: Path, probes: Any, workspace: Path, example: str = ""
) -> tuple[dict[str, "torch.Tensor"], str]:
    """Start the fresh process on a package.

    Args:
        family: whose `release.py` reads it.
        folder: the package.
        probes: what the model is asked; goes through JSON.
        workspace: an empty folder for what goes back and forth. The example runs there and finds the package under
            the package's recipe name, so the card's program runs word for word.
        example: a Python program; empty for none.

    Returns:
        What the package computes, and what the example printed.

    Raises:
        Refused: the package does not load or its example fails; the message ends with the process's own words.
    """
    import torch
    from safetensors.torch import load_file

    (workspace / "probes.json").write_text(json.dumps(probes), encoding="utf-8")
    command = [sys.executable, "-m", "components.loadback", family, str(folder.resolve()), "probes.json", "answer"]
    if example:
        (workspace / "example.py").write_text(example, encoding="utf-8")
        command.append("example.py")
    # The package is read from the disk: whoever made it gets no token of ours.
    environment = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"} | {
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONIOENCODING": "utf-8",
        # Sums are split among threads, so equal bits take an equal number.
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise RuntimeError(f"loading {folder.name} back was ended by signal {-done.returncode}: out of memory?")
    if done.returncode:
        words = " ".join(done.stderr.strip().splitlines()[-3:])
        raise Refused(f"The package does not load in a fresh process, expected it to load without a Hub: {words}")
    answer = workspace / "answer"
    tensors = load_file(answer / ANSWER_NAME)
    order = json.loads((answer / ORDER_NAME).read_text(encoding="utf-8"))
    printed = (answer / EXAMPLE_NAME).read_text(encoding="utf-8") if example else ""
    return {name: tensors[name] for name in order}, printed


def gap_between(family: str, probes: Any, one: Path, other: Path) -> str | None:
    """What differs between the answers of two packages, each from a fresh process; None when they are equal.

    Raises:
        Refused: one of them does not load.
    """
    found = []
    for folder in (one, other):
        with tempfile.TemporaryDirectory() as workspace:
            found.append(load_back(family, folder, probes, Path(workspace))[0])
    return difference(*found)


def main(arguments: list[str]) -> int:
    """The fresh process."""
    from safetensors.torch import save_file

    from components.lifeline import die_with_parent

    die_with_parent()
    family, (folder, probes, answer_folder) = arguments[0], (Path(argument) for argument in arguments[1:4])
    answer_folder.mkdir()
    answer = part_of(family, "release").answer_of_folder(folder, json.loads(probes.read_text(encoding="utf-8")))
    save_file(answer, answer_folder / ANSWER_NAME)
    (answer_folder / ORDER_NAME).write_text(json.dumps(list(answer)), encoding="utf-8")
    if arguments[4:]:
        printed = io.StringIO()
        with redirect_stdout(printed):
            runpy.run_path(arguments[4], run_name="__main__")
        (answer_folder / EXAMPLE_NAME).write_text(printed.getvalue(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
