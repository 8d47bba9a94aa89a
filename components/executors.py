"""Parts of a work on text, each run once: on this machine, on Slurm or on Ray, by datatrove's executors.

A part that is done leaves a mark, so a killed worker, stage or machine costs the parts on their way and no more.
"""

import errno
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from datatrove.executor.base import DistributedEnvVars, PipelineExecutor

from components.executor_schema import Executor, Local, Ray, Slurm
from components.outcomes import Refused


class LocalParts(PipelineExecutor):
    """Parts in processes of this machine.

    datatrove's own local executor waits for ever when a worker is killed, since the pool it uses (`multiprocessing`)
    starts another worker and forgets the task of the first.

    Args:
        pipeline: datatrove's steps.
        tasks: how many parts there are.
        workers: processes at the same time.
        logging_dir: where logs and marks go.
    """

    def __init__(self, pipeline: list[Any], tasks: int, workers: int, logging_dir: str) -> None:
        super().__init__(pipeline, logging_dir)
        self.tasks, self.workers = tasks, workers

    @property
    def world_size(self) -> int:
        """The number of parts."""
        return self.tasks

    def get_distributed_env(self, node_rank: int = -1) -> DistributedEnvVars:  # noqa: ARG002 - datatrove's signature
        """What datatrove tells its steps of the machine."""
        return DistributedEnvVars(
            datatrove_node_ips="localhost",
            datatrove_cpus_per_task="-1",
            datatrove_mem_per_cpu="-1",
            datatrove_gpus_on_node="-1",
            datatrove_executor="LOCAL",
        )

    def run(self) -> None:
        """Run what is not done.

        Raises:
            RuntimeError: a worker was killed.
        """
        ranks = list(self.get_incomplete_ranks(range(self.tasks)))
        if self.workers == 1 or len(ranks) <= 1:
            for rank in ranks:
                self.run_part(rank)
            return
        with ProcessPoolExecutor(min(self.workers, len(ranks)), mp_context=get_context("spawn")) as pool:
            try:
                for done in as_completed([pool.submit(self.run_part, rank) for rank in ranks]):
                    done.result()
            except BrokenProcessPool as error:
                raise RuntimeError("a worker process was killed, perhaps since memory was short") from error
            finally:
                pool.shutdown(cancel_futures=True)

    def run_part(self, rank: int) -> None:
        """Run one part; its log goes to a file."""
        self._run_for_rank(rank, 1)  # 0 would print to the terminal as well


def run_parts(
    what: str, pipeline: Sequence[Callable[..., Any]], num_parts: int, folder: Path, section: Executor
) -> None:
    """Run a pipeline on each part that is not done.

    Args:
        what: the work in words, for messages.
        pipeline: datatrove's steps, or functions of (documents, part, number of parts).
        num_parts: how many parts there are.
        folder: where marks and logs of this work lie; what decides the outcome must be in its name.
        section: where to run.

    Raises:
        Refused: the executor is not there, or the disk is full.
        RuntimeError: some parts failed; those that are done stay done.
    """
    _silence()
    own = _OPENERS[type(section)](what, list(pipeline), num_parts, folder.resolve().as_posix(), section)
    problem = ""
    with room_for(what, folder), own as executor:
        try:
            _START[type(section)](executor, section)
        except RuntimeError as error:
            problem = f": {error}"
        missing = list(executor.get_incomplete_ranks(range(num_parts), skip_completed=True))
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        raise RuntimeError(
            f"{what}: {len(missing):,} of {num_parts:,} parts are not done ({shown}){problem}. Logs: "
            f"{folder / 'logs'}. The parts that are done are kept: run the same command again."
        )


@contextmanager
def room_for(what: str, folder: Path) -> Iterator[None]:
    """Tell a full disk by the folder that has no room.

    Raises:
        Refused: in place of the system's error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Refused(
            f"The disk is full: {folder} keeps what {what} needs. Free some, or set HIRAKU_CHECKPOINT_ROOT to a larger "
            "disk, and run the same command again; the parts that are done are kept."
        ) from error


def _silence() -> None:
    """Lines of datatrove go to files beside the marks, not into ours."""
    from loguru import logger

    logger.remove()


@contextmanager
def _local(_what: str, pipeline: list[Any], num_parts: int, folder: str, section: Local) -> Iterator[Any]:
    yield LocalParts(pipeline, num_parts, section.workers, folder)


@contextmanager
def _slurm(what: str, pipeline: list[Any], num_parts: int, folder: str, section: Slurm) -> Iterator[Any]:
    if shutil.which("sbatch") is None:
        raise Refused(
            f"{what}: 'sbatch' is not on this machine. Run where Slurm is, or change 'executor' to kind: local."
        )
    from datatrove.executor.slurm import SlurmPipelineExecutor

    yield SlurmPipelineExecutor(
        pipeline,
        tasks=num_parts,
        logging_dir=folder,
        job_name=f"hiraku-{what.replace(' ', '-')}",
        partition=section.partition,
        time=section.time,
        workers=section.workers,
        cpus_per_task=section.cpus_per_task,
        mem_per_cpu_gb=section.mem_per_cpu_gb,
        qos=section.qos,
        env_command=section.env_command or _this_environment(),
    )


def _this_environment() -> str:
    """The line that lets a job find the programs that are installed beside this interpreter, such as datatrove's."""
    return f'export PATH={shlex.quote(Path(sys.executable).parent.as_posix())}:"$PATH"'


@contextmanager
def _ray(what: str, pipeline: list[Any], num_parts: int, folder: str, section: Ray) -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise Refused(f"{what}: Ray is not installed. Run: pip install 'hiraku[ray]', or change 'executor'.") from error
    from datatrove.executor.ray import RayPipelineExecutor

    begun = not ray.is_initialized()
    if begun:
        try:
            ray.init(address=section.address, include_dashboard=False if section.address is None else None)
        except ConnectionError as error:
            raise Refused(
                f"{what}: no Ray cluster answers at {section.address}: {error}. Change 'executor'."
            ) from error
    try:
        yield RayPipelineExecutor(
            pipeline,
            tasks=num_parts,
            logging_dir=folder,
            workers=section.workers,
            cpus_per_task=section.cpus_per_task,
            mem_per_cpu_gb=section.mem_per_cpu_gb,
        )
    finally:
        if begun:
            ray.shutdown()


def _run(executor: Any, _section: Any) -> None:
    executor.run()


def _submit_and_wait(executor: Any, section: Slurm) -> None:
    """Slurm's own executor comes back as soon as its jobs are queued."""
    executor.run()
    while executor.job_id != -1 and executor.get_incomplete_ranks(skip_completed=True):
        time.sleep(section.poll_seconds)
        queue = subprocess.run(
            ["squeue", "--noheader", "--jobs", str(executor.job_id)], capture_output=True, text=True, check=False
        )
        if not queue.stdout.strip() and executor.get_incomplete_ranks(skip_completed=True):
            raise RuntimeError(f"Slurm job {executor.job_id} ended without them")


_OPENERS: dict[type, Callable[..., Any]] = {Local: _local, Slurm: _slurm, Ray: _ray}
_START: dict[type, Callable[[Any, Any], None]] = {Local: _run, Slurm: _submit_and_wait, Ray: _run}
