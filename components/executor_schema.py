"""Where the parts of a work on text run; whatever is chosen, the same comes out, so no stage depends on it."""

from typing import Annotated, Literal

from pydantic import Field

from models.schema import Strict


class Local(Strict):
    """On this machine."""

    kind: Literal["local"] = "local"
    workers: int = Field(default=1, ge=1)
    """Processes at the same time; 1 works within the stage's own process."""


class Slurm(Strict):
    """As array jobs of a Slurm cluster, whose nodes see this folder and the checkpoint root under the same paths."""

    kind: Literal["slurm"]
    partition: str
    time: str = "08:00:00"
    """The limit of one job, as sbatch takes it."""
    workers: int = Field(default=-1, ge=-1)
    """Jobs at the same time; -1 sets no limit."""
    cpus_per_task: int = Field(default=1, ge=1)
    mem_per_cpu_gb: int = Field(default=4, ge=1)
    qos: str = "normal"
    env_command: str | None = None
    """What a job runs first, such as `source .venv/bin/activate`; without it, the environment of this command."""
    poll_seconds: float = Field(default=30.0, gt=0)
    """Between two looks whether the jobs are done."""


class Ray(Strict):
    """On a Ray cluster, whose nodes see this folder and the checkpoint root under the same paths: `hiraku[ray]`."""

    kind: Literal["ray"]
    address: str | None = None
    """Of a cluster that runs; without it, one is started on this machine and ended after."""
    workers: int = Field(default=-1, ge=-1)
    """Tasks at the same time; -1 sets no limit."""
    cpus_per_task: int = Field(default=1, ge=1)
    mem_per_cpu_gb: float = Field(default=2, gt=0)


Executor = Annotated[Local | Slurm | Ray, Field(discriminator="kind")]
