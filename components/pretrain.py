"""`pretrain`: shards + objective -> weights, from a random start, as a folder that `save_pretrained` wrote."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from components import paths, ranks
from components.checkpoints import Checkpoints, fingerprint_of
from components.devices import gpu_held
from components.journal import Journal
from components.manifest import Manifest, read_manifest, writing
from components.modalities import MODALITIES, modality
from components.outcomes import Refused, leave_scratch
from components.recipes import Library, Recipe
from components.training_schema import deciding
from models import FAMILIES, part_of
from models.objective import Mismatch

REVISION = 1

SECTIONS = ("family", "network", "encoder", "pretrain")
"""Keys of a recipe that decide what comes out."""

CURVE_NAME = "curve.json"
PREVIEWS_NAME = "previews.md"


def pretrain(name: str) -> None:
    """Train a recipe's network from random weights.

    Leaves `artifacts/pretrained/<name>/` with `weights/`, `curve.json` (losses by step) and `previews.md`. Killed
    anywhere, the next run goes on from its last checkpoint and ends with the same bits.

    Raises:
        Refused: the recipe is no base model, its sections and encoder do not fit each other, its shards are older than
            their encoder, or more steps go wrong than the guard allows.
        Busy: another process trains it.
        Stopped: a signal asked for the end; the next run goes on from there.
    """
    library = Library()
    recipe = library.read("recipe", name)
    if getattr(recipe, "pretrain", None) is None:
        verb = "align" if isinstance(recipe, Recipe) else "package"
        raise Refused(
            f"Recipe '{name}' has no section 'pretrain', so there is nothing to train. Run: hiraku {verb} {name}"
        )
    manifest = _manifest(name, recipe)
    sections = {key: getattr(recipe, key) for key in SECTIONS}
    sections = {key: each.model_dump() if hasattr(each, "model_dump") else each for key, each in sections.items()}
    facts = {
        "sections": sections | {"pretrain": deciding(sections["pretrain"])},
        "parents": manifest.parents,
        "revisions": manifest.revisions,
    }
    checkpoints = Checkpoints("pretrain", name, fingerprint_of(facts))
    if not ranks.is_main():
        _train(recipe, checkpoints, sections)
        return
    with checkpoints.held(), gpu_held():
        _pretrain(recipe, manifest, checkpoints, sections)
        # The last one stays until the result is recorded: a kill before that costs no training.
        checkpoints.keep_last()
        leave_scratch(checkpoints.folder)


def _manifest(name: str, recipe: Recipe) -> Manifest:
    """What the state will say of itself; refuses shards older than their encoder."""
    parents = {paths.payload("fit", recipe.encoder).as_posix(): read_manifest("fit", recipe.encoder).payload_hash}
    for each in recipe.pretrain.shards:
        shards, encoder = read_manifest("shard", each.shards), each.shards.partition("+")[2]
        made_with, fitted = shards.parents[paths.payload("fit", encoder).as_posix()], read_manifest("fit", encoder)
        if made_with != fitted.payload_hash:
            raise Refused(
                f"The shards '{each.shards}' were made before the encoder '{encoder}' was fitted anew. "
                f"Run: hiraku shard {each.shards}"
            )
        parents[paths.payload("shard", each.shards).as_posix()] = shards.payload_hash
    modules = [__name__, FAMILIES[recipe.family], MODALITIES[part_of(recipe.family, "schema").MODALITY]]
    revisions = {module: import_module(module).REVISION for module in modules}
    return Manifest(verb="pretrain", name=name, revisions=revisions, parents=parents)


def _train(recipe: Recipe, checkpoints: Checkpoints, sections: dict[str, Any]) -> Any:
    from components.training import train

    journal = Journal("pretrain", checkpoints.name)
    journal.parameters(sections)
    return train(_job(recipe), checkpoints, journal)


def _pretrain(recipe: Recipe, manifest: Manifest, checkpoints: Checkpoints, sections: dict[str, Any]) -> None:
    trained = _train(recipe, checkpoints, sections)
    manifest.counts = {
        "parameters": sum(parameter.numel() for parameter in trained.network.parameters()),
        "steps": trained.num_steps,
        trained.item: trained.num_items,
        "skipped_batches": len(trained.skipped),
    }
    manifest.details = {"skipped_batches": trained.skipped}
    with writing(manifest) as folder:
        part_of(recipe.family, "convert").save(trained.network, folder / paths.PAYLOAD["pretrain"])
        _write_curve(trained.points, folder / CURVE_NAME)
        (folder / PREVIEWS_NAME).write_text("\n".join(trained.previews), encoding="utf-8")


def _job(recipe: Recipe) -> Any:
    """Open everything that training needs, cheapest first, so that what does not fit is refused before long work."""
    from components import randomness
    from components.training_module import Job

    section = recipe.pretrain
    own = modality(part_of(recipe.family, "schema").MODALITY)
    network_part = part_of(recipe.family, "network")
    encoder = own.open_encoder(paths.payload("fit", recipe.encoder))
    try:
        network_part.check(recipe.network, encoder.facts, section.samples)
    except Mismatch as error:
        raise Refused(f"{error}") from error
    folders = [(paths.payload("shard", each.shards), each.weight) for each in section.shards]
    train_samples = own.open_samples(folders, "train", section.samples)
    valid_samples = own.open_samples(folders, "valid", section.samples)

    def build() -> Any:
        randomness.seed_everything(section.seed)
        return network_part.build(recipe.network, encoder.facts)

    network = build()
    return Job(
        training=section,
        objective=part_of(recipe.family, "objectives").objective(section.objective, network),
        build=build,
        blocks=network_part.blocks(network),
        train_samples=train_samples,
        valid_samples=valid_samples,
        encoder=encoder,
        preview=lambda: str(part_of(recipe.family, "convert").preview(network, encoder, section.preview)),
    )


def _write_curve(points: list[dict[str, Any]], path: Path) -> None:
    """The journal's points without what differs from run to run: times, speeds, memory."""
    varying = ("_per_second", "_bytes", "_seconds", "_share")
    rows = []
    for point in points:
        metrics = {key: value for key, value in point["metrics"].items() if not key.endswith(varying)}
        if metrics:
            rows.append(json.dumps({"step": point["step"], "metrics": metrics}))
    path.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
