"""What every test shares: the project's quiet environment, and a place to work in."""

import os
from pathlib import Path

from components.settings import quiet_environment

ROOT = Path(__file__).resolve().parent.parent

# Before any library is imported. State of servers stays out of the checkout: tests that start one set their own home.
os.environ.update({key: value for key, value in quiet_environment().items() if not key.startswith("PREFECT_HOME")})
os.environ["HIRAKU_PROGRESS"] = "lines"
