"""Prefect's limit `gpu`: how many stages compute on GPUs at once, over all machines.

A machine's own GPUs are held by a lock of the kernel (`components.devices.gpu_held`); the limit counts across machines,
so that a stage waits in Prefect's pages and not on a machine. A slot is leased: a holder that is killed loses it within
`LEASE_SECONDS`, also when the server was started anew meanwhile, since leases lie on its disk.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from components.devices import uses_gpu
from components.outcomes import Busy
from components.settings import settings
from flows.side_by_side import COMPUTING

LIMIT = "gpu"
LEASE_SECONDS = 60.0
DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
"""Of NVIDIA, AMD and Windows' Linux. Where there is none, torch, which takes seconds to import, need not be asked."""


@contextmanager
def slot(verb: str) -> Iterator[None]:
    """Hold a slot of the limit while the block runs, if the verb computes on a GPU.

    Without the limit, as under a server that nobody has deployed to, there is nothing to hold. A lease that cannot be
    renewed, as while a server is started anew, ends no training.

    Raises:
        Busy: none is free. Prefect's own wait for one could not be ended by a failure beside it.
    """
    with ExitStack() as held:
        if takes_slot(verb):
            _take(held)
        yield


def _take(held: ExitStack) -> None:
    """Take a slot, to be given back with the stack."""
    now = concurrency(LIMIT, max_retries=0, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False)
    try:
        held.enter_context(now)
    except ConcurrencySlotAcquisitionError as error:
        if getattr(getattr(error.__cause__, "response", None), "status_code", None) != HTTPStatus.LOCKED:
            raise
        raise Busy(f"All slots of Prefect's limit '{LIMIT}' are taken.") from error


def takes_slot(verb: str) -> bool:
    """Whether stages of a verb take a slot here: on a GPU, or as HIRAKU_LIMIT_COMPUTING says."""
    wanted = settings().limit_computing
    if verb not in COMPUTING or wanted == "off":
        return False
    return wanted == "on" or (any(device.exists() for device in DRIVERS) and uses_gpu())


def ensure(num_slots: int | None) -> int:
    """Have the limit on the server; return its slots.

    Args:
        num_slots: how many; None makes one and leaves a limit that is there as it is.
    """
    with get_client(sync_client=True) as client:
        if num_slots is None:
            try:
                return int(client.read_global_concurrency_limit_by_name(LIMIT).limit)
            except ObjectNotFound:
                num_slots = 1
        client.upsert_global_concurrency_limit_by_name(LIMIT, num_slots)
    return num_slots
