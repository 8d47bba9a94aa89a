"""What a stage reads of the recipes, as hashes: which keys of which file decided a state."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from components.graph import Stage, plan
from components.recipes import Library


def section_hashes(library: Library, recipe: str) -> dict[tuple[str, str], dict[str, str]]:
    """Every stage of a recipe -> file -> SHA-256 of the values of the keys that it reads there."""
    return {(stage.verb, stage.name): sections_of(stage) for stage in plan(library, recipe)}


def sections_of(stage: Stage) -> dict[str, str]:
    """The files of recipes that a stage reads -> the hash of what it reads; the package reads its card's words too."""
    return {path: _digest(Path(path), keys) for path, keys in stage.params if path.endswith(".yaml")}


def _digest(path: Path, keys: Iterable[str]) -> str:
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    values = {key: _value(raw, key) for key in keys} or raw
    return hashlib.sha256(json.dumps(values, ensure_ascii=False, sort_keys=True, default=str).encode()).hexdigest()


def _value(raw: Any, key: str) -> Any:
    """The value of `columns.text.filters`; None where a part of the way is missing."""
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw
