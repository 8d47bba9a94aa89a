"""What encoders of pictures and captions say in their YAML files."""

from typing import Any

ENCODERS: dict[str, Any] = {}
