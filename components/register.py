"""`register`: a packaged model becomes a version in the model registry, with the alias challenger.

Not a DVC stage: it acts on a server. Running it again with the same package changes nothing, since the registry is
asked for the content hash; the receipt is a copy of its answer.
"""

import json
from dataclasses import asdict
from typing import Any

from components import paths, registry, tracking
from components.manifest import read_manifest


def register(name: str, release: tracking.Release) -> dict[str, Any]:
    """Register the package of a recipe.

    Args:
        name: the recipe, which names the model in the registry.
        release: the run that keeps the files.

    Returns:
        The receipt, also left at `artifacts/registered/<recipe>.json`.

    Raises:
        Refused: there is no package.
        components.tracking.troubles: the tracking server does not answer as it should; trying again may help.
    """
    manifest = read_manifest("package", name)
    found = registry.find_version(name, manifest.payload_hash)
    is_new = found is None
    if found is None:
        folder = paths.state("package", name)
        tags = {
            "content_hash": manifest.payload_hash,
            "recipe": name,
            "licence": manifest.licence,
            **{f"revision {module}": str(number) for module, number in manifest.revisions.items()},
        }
        found = registry.add_version(name, release.open(), folder, tags)
    registry.set_alias(name, registry.CHALLENGER, found.version)
    receipt = {**asdict(found), "alias": registry.CHALLENGER, "uri": f"models:/{name}/{found.version}"}
    del receipt["tags"]  # they tell decisions still to come
    place = paths.receipt("register", name)
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".partial")
    partial.write_text(json.dumps(receipt, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    partial.replace(place)
    return {**receipt, "is_new": is_new}
