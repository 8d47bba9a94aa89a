"""`register`: a packaged model becomes a version in the model registry, with the alias challenger.

Not a DVC stage: it acts on a server. Running it again with the same package changes nothing, since the registry is
asked for the content hash; the receipt is a copy of its answer. The scores that the package tells of are kept with the
version's run, item by item: a later version is compared with it on them, on whatever machine.
"""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components import locks, paths, registry, scoring, tracking
from components.lineage import lineage_from
from components.manifest import Manifest, read_manifest
from components.outcomes import Refused
from components.settings import STATE


def register(name: str, release: tracking.Release) -> dict[str, Any]:
    """Register the package of a recipe.

    Args:
        name: the recipe, which names the model in the registry.
        release: the run that keeps the files.

    Returns:
        The receipt, also left at `artifacts/registered/<recipe>.json`.

    Raises:
        Refused: there is no package.
        Busy: another process registers a version of it.
        components.tracking.troubles: the tracking server does not answer as it should; trying again may help.
    """
    manifest = read_manifest("package", name)
    with locks.held(lock_of(name)):
        found = registry.find_version(name, manifest.payload_hash) or _added(name, manifest, release)
        registry.set_alias(name, registry.CHALLENGER, found.version)
    is_new = found.run_id == release.run_id
    receipt = {**asdict(found), "alias": registry.CHALLENGER, "uri": f"models:/{name}/{found.version}"}
    del receipt["tags"]  # they tell decisions still to come
    place = paths.receipt("register", name)
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".partial")
    partial.write_text(json.dumps(receipt, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    partial.replace(place)
    return {**receipt, "is_new": is_new}


def lock_of(name: str) -> Path:
    """Held while a version of a model is looked for and made, so that two flows at once make one of the same files."""
    return STATE / f"register-{name}.lock"


def _added(name: str, manifest: Manifest, release: tracking.Release) -> registry.Version:
    """The version that there was not; if another machine has made it meanwhile, that one."""
    tags = {
        "content_hash": manifest.payload_hash,
        "recipe": name,
        "licence": manifest.licence,
        registry.DATA_LICENCES: json.dumps(_data_licences(manifest), ensure_ascii=False),
        **{f"revision {module}": str(number) for module, number in manifest.revisions.items()},
    }
    _keep_scores(manifest, release)
    return registry.add_version(name, release.open(), paths.state("package", name), tags)


def _data_licences(package: Manifest) -> list[str]:
    """The licences of all that a package was made from, as far as its ancestors still lie here as they were then."""
    try:
        return lineage_from(package).made_from().licences()
    except Refused:
        return []


def _keep_scores(package: Manifest, release: tracking.Release) -> None:
    """Before the version is there: one without its scores is never seen."""
    found = scoring.scores_behind(package)
    if found is None:
        return
    folder, tasks = found
    with tempfile.TemporaryDirectory() as temporary:
        scoring.gather(folder, tasks, Path(temporary))
        registry.keep(release.open(), Path(temporary), registry.SCORES)
