"""What tasks of pictures and captions say in their YAML files."""

from typing import Any

TASKS: dict[str, Any] = {}
