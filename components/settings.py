"""What belongs to a machine and not to a recipe: read from the environment, in one place.

`set_quiet_environment` also switches off every phone-home of the libraries; entry points call it before they import
one.
"""

import os
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from components.outcomes import Refused
from components.wording import unknown_name

PREFIX = "HIRAKU_"
STATE = Path(".hiraku")
"""Embedded servers, checkpoints and caches of this project; safe to delete when nothing runs."""


HEARTBEATS = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
"""Seconds between the signs of life of a flow run; without it Prefect's own 180 are longer than our server waits."""


class Settings(BaseSettings):
    """Settings of this machine, each an environment variable `HIRAKU_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    checkpoint_root: Path = STATE / "checkpoints"
    """Where partial work lives. A shared disk lets another machine or clone go on with it."""
    checkpoint_every_seconds: float = Field(default=300.0, ge=0)
    """Seconds between checkpoints of a training stage."""
    hub_mirror: Path | None = None
    """Where data sets of a Hub lie on this machine or network, read in place of the Hub; see `components.hub_files`."""
    num_workers: int = Field(default=0, ge=0)
    """Loader processes. Batches are the same for any number."""
    num_threads: int = Field(default=0, ge=0)
    """Threads of torch on the CPU; 0 takes one per core."""
    side_by_side: Literal["on", "off"] = "on"
    """Whether a flow runs a second stage beside one that needs nothing of it; two never compute at once."""
    num_devices: int = Field(default=0, ge=0)
    """Devices that a training with strategy `ddp` or `fsdp2` takes; 0 takes every GPU, or one process on a CPU."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Blocks of a network by torch.compile. `auto` does so on a GPU; on a CPU it is slower than our loss in eager."""
    profile_steps: int = Field(default=0, ge=0)
    """Steps of a training that are profiled, from its third on; the trace stands in the run's journal."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """What to train on; `auto` takes a GPU when there is one."""
    progress: Literal["auto", "bar", "lines"] = "auto"
    """A progress bar in a terminal, plain lines in a log; `auto` looks at standard error."""
    limit_computing: Literal["auto", "on", "off"] = "auto"
    """Whether a stage that trains or evaluates takes a slot of Prefect's limit `gpu`; `auto`: on a GPU."""
    notify_block: str = ""
    """TYPE/NAME of the Prefect block through which automations tell people; empty takes one named `hiraku-notify`."""
    outlive_parent: bool = False
    """A stage goes on when whatever started it dies, as a person with nohup wants; under a flow it must not."""


@cache
def settings() -> Settings:
    """The settings of this process.

    Raises:
        Refused: a variable has a value that cannot be, or a name that nothing reads.
    """
    known = {f"{PREFIX}{key.upper()}" for key in Settings.model_fields}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            raise Refused(unknown_name("setting", name, known, f"Run: unset {name}"))
    try:
        return Settings()
    except ValidationError as error:
        problems = [
            f"{PREFIX}{each['loc'][0]}".upper() + f" is {each['input']!r}: {each['msg']}" for each in error.errors()
        ]
        raise Refused(f"{'; '.join(problems)}. Change or unset the variable.") from error


def quiet_environment() -> dict[str, str]:
    """The environment in which no library phones home or spins for long, and servers keep files under `.hiraku/`."""
    home = STATE.resolve()
    return {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
        # The default of 20 s was exceeded on a loaded two-core machine.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        # In memory, a slot stays taken for ever after the server was killed.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        **HEARTBEATS,
        # The terminal shows our lines; Prefect keeps them, and its own, for its pages.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "prefect" / "results"),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # MLflow's own 7 tries of 120 s hold every stage up for minutes when a server has fallen silent.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # Its warnings are for programmers, such as to install torchvision, which nothing here needs.
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        # How often threads of torch that wait for each other look before they sleep; by themselves 300,000 times. On
        # two cores a product of 512 x 256 by 256 x 256 took 0.59 ms with 1,000, 0.29 with 20,000 and 0.26 with 300,000;
        # beside another busy process 0.60, 1.24 and 1.91.
        "GOMP_SPINCOUNT": "20000",
        # Bars of libraries beside our own; DVC's has a switch of its own.
        "TQDM_DISABLE": "1",
    }


def set_quiet_environment() -> None:
    """Apply `quiet_environment` to this process and its children; what the user has set stays."""
    for key, value in quiet_environment().items():
        os.environ.setdefault(key, value)
