"""What `pretrain` and `align` share: from a section of a recipe to a state with weights, `curve.json` and previews.

Killed anywhere, the next run goes on from its last checkpoint and ends with the same bits.
"""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from components import paths, ranks
from components.checkpoints import Checkpoints, fingerprint_of
from components.devices import gpu_held
from components.grids import Strip, Tile, strips
from components.journal import Journal
from components.licences import hand_on
from components.manifest import Manifest, read_manifest, writing
from components.mixtures import demand_of, weighted_folders
from components.modalities import MODALITIES, modality
from components.outcomes import Refused, leave_scratch
from components.recipes import Foreign, Library, Recipe, references
from components.training_schema import deciding
from components.weights import parents_of, weights_folder, weights_hash
from models import FAMILIES, has_part, part_of, reads_ids
from models.objective import Mismatch, Setting

CURVE_NAME = "curve.json"
PREVIEWS_NAME = "previews.md"


def run(verb: str, name: str, revisions: dict[str, int], keys: tuple[str, ...]) -> None:
    """Train what a recipe's section of the verb's name says, and leave the verb's state.

    Args:
        verb: `pretrain` or `align`, whose section the recipe has.
        name: the recipe.
        revisions: of the verb's own code.
        keys: of the recipe, that decide what comes out.

    Raises:
        Refused: the recipe's sections, encoder, shards and the models it names do not fit each other, or more steps go
            wrong than the guard allows.
        Busy: another process trains it.
        Stopped: a signal asked for the end; the next run goes on from there.
    """
    library = Library()
    recipe = library.read("recipe", name)
    manifest = _manifest(library, verb, name, revisions)
    sections = {key: getattr(recipe, key) for key in keys}
    sections = {key: each.model_dump() if hasattr(each, "model_dump") else each for key, each in sections.items()}
    facts = {
        "sections": sections | {verb: deciding(sections[verb])},
        "parents": manifest.parents,
        "revisions": manifest.revisions,
    }
    checkpoints = Checkpoints(verb, name, fingerprint_of(facts))
    if not ranks.is_main():
        _train(library, recipe, checkpoints, sections)
        return
    with checkpoints.held(), gpu_held():
        trained = _train(library, recipe, checkpoints, sections)
        _finish(recipe, getattr(recipe, verb), trained.network)
        _leave(library, recipe, manifest, trained)
        # The last one stays until the result is recorded: a kill before that costs no training.
        checkpoints.keep_last()
        leave_scratch(checkpoints.folder)


def _manifest(library: Library, verb: str, name: str, revisions: dict[str, int]) -> Manifest:
    """What the state will say of itself; refuses shards older than their encoder."""
    recipe = library.read("recipe", name)
    section = getattr(recipe, verb)
    parents = {paths.payload("fit", recipe.encoder).as_posix(): read_manifest("fit", recipe.encoder).payload_hash}
    for name_of_shards in dict.fromkeys(name for kind, name in references(section) if kind == "shards"):
        shards, encoder = read_manifest("shard", name_of_shards), name_of_shards.partition("+")[2]
        made_with, fitted = shards.parents[paths.payload("fit", encoder).as_posix()], read_manifest("fit", encoder)
        if made_with != fitted.payload_hash:
            raise Refused(
                f"The shards '{name_of_shards}' were made before the encoder '{encoder}' was fitted anew. "
                f"Run: hiraku shard {name_of_shards}"
            )
        parents[paths.payload("shard", name_of_shards).as_posix()] = shards.payload_hash
    parents |= parents_of(library, parent_recipes(recipe, verb))
    modules = [FAMILIES[recipe.family], MODALITIES[part_of(recipe.family, "schema").MODALITY]]
    known = {module: import_module(module).REVISION for module in modules}
    return Manifest(verb=verb, name=name, revisions=revisions | known, parents=parents)


def parent_recipes(recipe: Recipe, verb: str) -> list[str]:
    """The recipes whose weights a training takes, the one it starts from first."""
    keys = ("starts_from", "network", verb)
    found = [name for kind, name in references(recipe, keys) if kind in ("weights", "package")]
    return list(dict.fromkeys(found))


def _train(library: Library, recipe: Recipe, checkpoints: Checkpoints, sections: dict[str, Any]) -> Any:
    from components.training import train

    journal = Journal(checkpoints.verb, checkpoints.name)
    journal.parameters(sections)
    demand = demand_of(library, checkpoints.name) if checkpoints.verb == "pretrain" else None
    if demand is not None and demand.is_short and ranks.is_main():
        sys.stderr.write(f"{demand.words()}\n")
    try:
        return train(_job(library, recipe, checkpoints.verb, journal), checkpoints, journal)
    except Mismatch as error:  # of a batch, which nobody has seen before
        raise Refused(f"{error}") from error


def _finish(recipe: Recipe, section: Any, network: Any) -> None:
    """Let the objective find out what is asked of its network afterwards.

    On the samples of the last validation, or on as many of those it was trained on.
    """
    from components.batches import valid_batches

    own = modality(part_of(recipe.family, "schema").MODALITY)
    folders = weighted_folders(section, own)

    def batches(split: str) -> Iterator[dict[str, Any]]:
        return valid_batches(section, own.open_samples(folders, split, section.samples))

    part_of(recipe.family, "objectives").finish(section.objective, network, batches)


def _leave(library: Library, recipe: Recipe, manifest: Manifest, trained: Any) -> None:
    manifest.counts = {
        "parameters": sum(parameter.numel() for parameter in trained.network.parameters()),
        "steps": trained.num_steps,
        trained.item: trained.num_items,
        "skipped_batches": len(trained.skipped),
    }
    manifest.details = {"skipped_batches": trained.skipped}
    with writing(manifest) as folder:
        place = folder / paths.PAYLOAD[manifest.verb]
        part_of(recipe.family, "convert").save(trained.network, place)
        hand_on((weights_folder(library, each) for each in parent_recipes(recipe, manifest.verb)), place)
        _write_curve(trained.points, folder / CURVE_NAME)
        (folder / PREVIEWS_NAME).write_text("\n".join(trained.previews), encoding="utf-8")


def _job(library: Library, recipe: Recipe, verb: str, journal: Journal) -> Any:
    """Open everything that training needs, cheapest first, so that what does not fit is refused before long work."""
    from components import randomness
    from components.job import Job

    section = getattr(recipe, verb)
    own = modality(part_of(recipe.family, "schema").MODALITY)
    network_part = part_of(recipe.family, "network")
    encoder = own.open_encoder(paths.payload("fit", recipe.encoder))
    folders = weighted_folders(section, own)
    _require_same_pieces(library, recipe, verb)
    setting = Setting(
        encoder.facts,
        weights_folder(library, recipe.starts_from) if recipe.starts_from else None,
        {name: weights_folder(library, name) for name in parent_recipes(recipe, verb)},
    )

    def build() -> Any:
        randomness.seed_everything(section.seed)
        return network_part.begin(recipe.network, section.objective, setting)

    try:
        train_samples = own.open_samples(folders, "train", section.samples)
        network_part.check(recipe.network, encoder.facts | getattr(train_samples, "facts", {}), section.samples)
        maker = network_part.sample_maker(recipe.network) if hasattr(network_part, "sample_maker") else None
        _require_own_weights(recipe.family, setting, getattr(train_samples, "facts", {}), maker)
        valid_samples = own.open_samples(folders, "valid", section.samples)
        network = build()
        objective = part_of(recipe.family, "objectives").objective(section.objective, network, setting)
    except Mismatch as error:
        raise Refused(f"{error}") from error
    return Job(
        training=section,
        objective=objective,
        build=build,
        blocks=network_part.blocks(network),
        train_samples=train_samples,
        valid_samples=valid_samples,
        encoder=encoder,
        preview=lambda step: _preview(recipe.family, network, encoder, section.preview, journal, step),
        can_be_shared=not has_part(recipe.family, "cost") or part_of(recipe.family, "cost").can_be_shared(section),
        starts_trained=recipe.starts_from is not None,
    )


def _preview(family: str, network: Any, encoder: Any, section: Any, journal: Journal, step: int) -> str:
    """What a network says now, in Markdown; what it draws becomes a page of the journal, for the tracking server."""
    part = part_of(family, "convert")
    drawn = part.preview_pictures(network, encoder, section) if hasattr(part, "preview_pictures") else {}
    if drawn:
        rows = [Strip(prompt, [Tile(picture)]) for prompt, picture in drawn.items()]
        journal.note(f"samples-{step:07d}.svg", strips(f"{journal.verb} {journal.name}, step {step:,}", rows))
    return str(part.preview(network, encoder, section))


def _require_own_weights(family: str, setting: Setting, facts: dict[str, Any], maker: str | None) -> None:
    """Refuse samples that were computed with weights of a recipe which this one does not name, or no longer has.

    Args:
        family: of all of them.
        setting: says where the weights of the recipes lie that this one names.
        facts: of the samples.
        maker: the recipe among them that computes its samples, where the family knows; else any of them may.
    """
    made_with, parents = facts.get("weights_hash"), setting.parents
    makers = parents if maker is None else {maker: parents[maker]}
    if made_with is not None and made_with not in (weights_hash(each, family) for each in makers.values()):
        raise Refused(
            f"The samples were computed with weights {made_with[:12]}, which are not those of "
            f"{', '.join(makers) or 'a recipe that this one names'} as they are now. Fit and shard their "
            "encoder anew, or name the shards of another one in 'samples'."
        )


def _require_same_pieces(library: Library, recipe: Recipe, verb: str) -> None:
    """Refuse somebody else's model whose tokenizer gives the ids other meanings; of ours, the recipes tell."""
    if not reads_ids(recipe.family):
        return
    vocabulary = modality(part_of(recipe.family, "schema").MODALITY).vocabulary
    for parent in parent_recipes(recipe, verb):
        if not isinstance(library.read("recipe", parent), Foreign):
            continue
        ours, theirs = vocabulary(paths.payload("fit", recipe.encoder)), vocabulary(weights_folder(library, parent))
        if ours != theirs:
            other = min(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
            raise Refused(
                f"The encoder '{recipe.encoder}' has {len(ours):,} pieces and the tokenizer of '{parent}' "
                f"{len(theirs):,}; the first that differs is id {other}: {ours.get(other)!r} here, "
                f"{theirs.get(other)!r} there. Its embeddings mean other pieces: change the key 'encoder', or name "
                "another model."
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
