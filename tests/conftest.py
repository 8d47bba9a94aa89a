"""What every test shares: the project's quiet environment, and a place to work in."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.settings import quiet_environment, settings

ROOT = Path(__file__).resolve().parent.parent

# Before any library is imported. State of servers stays out of the checkout: tests that start one set their own home.
os.environ.update({key: value for key, value in quiet_environment().items() if not key.startswith("PREFECT_HOME")})
os.environ["HIRAKU_PROGRESS"] = "lines"
if "PYTEST_XDIST_WORKER" in os.environ:
    # As many threads as cores in each of several processes wait for each other most of the time.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HIRAKU_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no worker is left alone with one of them at the end."""
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -num_slow[item.path])


@pytest.fixture(autouse=True)
def _settings_of_its_own() -> Iterator[None]:
    """Settings are read once in a process: no test gets those of the test before."""
    settings.cache_clear()
    yield
    settings.cache_clear()
