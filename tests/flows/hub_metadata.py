"""What a Hub refuses in the metadata of a card: the rules of its schema that a wrong card of ours could break."""

import re
from typing import Any

import yaml

LICENCES = frozenset(
    {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense"}
    | {"cc0-1.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "odc-by", "openrail"}
    | {"creativeml-openrail-m", "unknown", "other"}
)
TASKS = frozenset(
    {"text-generation", "text-classification", "automatic-speech-recognition", "feature-extraction", "text-to-image"}
    | {"image-classification", "zero-shot-image-classification", "image-feature-extraction", "image-to-image"}
)


def problems_of(card: str) -> list[str]:
    """Every problem of the YAML block at the head of a card, in words; a card without one has none."""
    block = re.match(r"---\s*\n(.*?)\n---", card, re.DOTALL)
    if block is None:
        return []
    data = yaml.safe_load(block[1])
    if not isinstance(data, dict):
        return ["metadata must be an object"]
    problems = []
    if data.get("license") not in LICENCES:
        problems.append(f'"license" must be one of {sorted(LICENCES)}')
    if data.get("license") == "other" and not data.get("license_name"):
        problems.append('"license_name" is required when "license" is "other"')
    problems += [
        f'"language" must be ISO 639-1, 639-2 or 639-3, not {code!r}'
        for code in _listed(data.get("language"))
        if not re.fullmatch(r"[a-z]{2,3}", str(code))
    ]
    problems += [
        f'"base_model" must be the name of a model, not {name!r}'
        for name in _listed(data.get("base_model"))
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name))
    ]
    if data.get("pipeline_tag", "text-generation") not in TASKS:
        problems.append('"pipeline_tag" is not known')
    for entry in data.get("model-index", []):
        problems += _problems_of_results(entry)
    return problems


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _problems_of_results(entry: dict[str, Any]) -> list[str]:
    """Of one entry of model-index."""
    problems = [] if entry.get("name") else ['"model-index[].name" is required']
    for result in entry.get("results", []):
        if not result.get("task", {}).get("type"):
            problems.append('"results[].task.type" is required')
        if not (result.get("dataset", {}).get("type") and result.get("dataset", {}).get("name")):
            problems.append('"results[].dataset" needs a type and a name')
        metrics = result.get("metrics", [])
        if not all(each.get("type") and isinstance(each.get("value"), int | float | str) for each in metrics):
            problems.append('"results[].metrics[]" needs a type and a value')
    return problems
