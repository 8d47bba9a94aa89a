"""Parts of a work, on this machine and on a Ray that is started here."""

import os
import sys
from pathlib import Path

import pytest

from components.executor_schema import Local, Ray, Slurm
from components.executors import run_parts
from components.outcomes import Refused
from tests.components.small_parts import Note
from tests.conftest import ROOT


def runs(folder: Path) -> dict[int, int]:
    """How often each part was run."""
    found: dict[int, int] = {}
    for path in folder.iterdir():
        part = int(path.name.partition("-")[0])
        found[part] = found.get(part, 0) + 1
    return found


@pytest.fixture
def notes(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def test_each_part_runs_once_and_what_is_done_stays_done(notes, tmp_path):
    for _ in range(2):
        run_parts("a work", [Note(str(notes))], 3, tmp_path / "work", Local())
    assert runs(notes) == {0: 1, 1: 1, 2: 1}
    assert (notes / "2-0").read_text() == "2 of 3"


def test_a_killed_worker_is_named_and_the_next_run_does_what_is_missing(notes, tmp_path):
    step = Note(str(notes), killed=2)
    with pytest.raises(RuntimeError, match=r"a work: .* parts are not done .*killed.*\n?.*run the same command again"):
        run_parts("a work", [step], 4, tmp_path / "work", Local(workers=2))
    done = {int(path.name) for path in (tmp_path / "work" / "completions").iterdir()}
    assert 2 not in done
    run_parts("a work", [step], 4, tmp_path / "work", Local(workers=1))
    assert runs(notes)[2] == 2
    assert all(runs(notes)[part] == 1 for part in done)


def test_slurm_is_refused_where_it_is_not(notes, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"'sbatch' is not on this machine.*kind: local"):
        run_parts("a work", [Note(str(notes))], 1, tmp_path / "work", Slurm(kind="slurm", partition="cpu"))


STAND_INS = {
    "sbatch": """#!/bin/bash
for each in "$@"; do script=$each; done
if grep -q merge_stats "$script"; then echo "Submitted batch job 8"; exit 0; fi
cp "$script" "$STAND_IN/script"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for part in $(seq 0 "$last"); do
  SLURM_ARRAY_TASK_ID=$part SLURM_NODELIST=localhost bash "$script" > /dev/null 2>&1
done
echo "Submitted batch job 7"
""",
    "srun": '#!/bin/bash\nwhile [ "$1" != launch_pickled_pipeline ]; do shift; done\nexec "$@"\n',
    "squeue": "#!/bin/bash\n",
    "scontrol": '#!/bin/bash\necho "localhost"\n',
}


@pytest.mark.slow
def test_on_slurm_jobs_of_one_array_run_the_parts(notes, tmp_path, monkeypatch):
    """There is no Slurm here: stand-ins run the script that sbatch would get, with Slurm's variables."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in STAND_INS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    own = Path(sys.executable).parent.as_posix()
    rest = [each for each in os.environ["PATH"].split(":") if each != own]
    monkeypatch.setenv("PATH", ":".join([str(folder), *rest]))
    monkeypatch.setenv("STAND_IN", str(tmp_path))
    section = Slurm(kind="slurm", partition="cpu", workers=5, poll_seconds=0.01)
    run_parts("a work", [Note(str(notes))], 2, tmp_path / "work", section)
    assert runs(notes) == {0: 1, 1: 1}
    script = (tmp_path / "script").read_text()
    assert "#SBATCH --partition=cpu" in script
    assert "#SBATCH --array=0-1%5" in script


@pytest.mark.slow
def test_on_ray_the_parts_run_in_its_workers(notes, tmp_path):
    pytest.importorskip("ray", reason="Ray is an extra: hiraku[ray]")
    run_parts("a work", [Note(str(notes))], 2, tmp_path / "work", Ray(kind="ray", mem_per_cpu_gb=0.1))
    assert runs(notes) == {0: 1, 1: 1}
    run_parts("a work", [Note(str(notes))], 2, tmp_path / "work", Local())
    assert runs(notes) == {0: 1, 1: 1}
