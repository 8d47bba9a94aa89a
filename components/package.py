"""package: weights + encoder + scores + lineage -> folders exactly as they will stand on the Hub, card included.

A package counts only after a fresh process has loaded it as its users will, and computed what the trained weights do.
"""

import json
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from components import paths
from components.card import CARD_NAME, OWN_NAMES, Release, write_card
from components.cost import cost_of, total_flops, training_of
from components.curve import training_curve
from components.drawn import card_grid
from components.foreign import files_of, is_missing, place_of
from components.journal import Journal
from components.licences import TEXT_NAME, hand_on, inherited, judged, must_go_along, require_text, text_in
from components.lineage import WEIGHTS_HASH, Lineage, lineage_from
from components.loadback import difference, load_back
from components.manifest import Manifest, read_manifest, tree_hash, writing
from components.measures import told_of
from components.modalities import modality
from components.outcomes import Refused
from components.recipes import Foreign, Library, Recipe
from components.scoring import parsed
from components.sections import section_hashes
from components.standard_errors import standard_errors
from models import FAMILIES, part_of
from models.objective import Mismatch

REVISION = 6


def package(name: str) -> None:
    """Make every layout of a recipe's release in `artifacts/packaged/<name>/`; or take somebody else's model in.

    Raises:
        Refused: the family cannot release as the recipe asks, a state is missing or stale, the package has not exactly
            the files of its layout, does not load in a fresh process, or computes anything else than the weights it
            was made from.
    """
    library = Library()
    recipe = library.read("recipe", name)
    try:
        if isinstance(recipe, Foreign):
            _package_foreign(name, recipe)
        else:
            _package_own(library, name, recipe)
    except Mismatch as error:
        raise Refused(f"Recipe '{name}': {error}") from error


# ---- our own ---------------------------------------------------------------------------------------------------------


def _package_own(library: Library, name: str, recipe: Recipe) -> None:
    how = part_of(recipe.family, "release")
    if problems := [*how.check_package(recipe.package), *_check_published(recipe)]:
        raise Refused("\n  ".join([f"Recipe '{name}' cannot be packaged:", *problems]))
    trained = ("align" if recipe.align else "pretrain", name)
    nodes = [trained, ("fit", recipe.encoder), ("evaluate", name)]
    manifests = _read_untouched(nodes)
    manifest = Manifest(
        verb="package",
        name=name,
        revisions={__name__: REVISION, FAMILIES[recipe.family]: import_module(FAMILIES[recipe.family]).REVISION},
        parents={paths.payload(*node).as_posix(): found.payload_hash for node, found in manifests.items()},
        licence=recipe.licence,
        details={"layouts": list(recipe.package.layouts)},
    )
    lineage = _judged(library, recipe, replace(lineage_from(manifest), sections=section_hashes(library, name)))
    manifest.details |= {"releasable": not lineage.obstacles, "obstacles": list(lineage.obstacles or ())}
    weights, encoder_folder = paths.payload(*trained), paths.payload("fit", recipe.encoder)
    require_text(name, recipe.licence, weights)
    convert = part_of(recipe.family, "convert")
    network = convert.load(weights)
    released = convert.released_part(network)
    encoder = modality(part_of(recipe.family, "schema").MODALITY).open_encoder(encoder_folder)
    scores = json.loads((paths.payload("evaluate", name) / "scores.json").read_text(encoding="utf-8"))
    cost = cost_of(library, name, on_gpu=False, is_compiled=False)
    curve, unit = training_curve(_points(*trained), trained[0])
    release = Release(
        name=name,
        recipe=recipe,
        lineage=lineage,
        scores=scores["tasks"],
        notes=scores.get("notes", {}),
        errors=_errors(name, lineage),
        training_flops=None if cost is None else total_flops(cost, training_of(recipe)),
        num_parameters=sum(parameter.numel() for parameter in released.parameters()),
        class_name=type(released).__name__,
        curve=curve,
        curve_unit=unit,
        has_licence_text=text_in(weights) is not None,
        grid=card_grid(paths.payload("evaluate", name)),
        target=_target(library, name),
    )
    probes = how.probes(recipe.package.example_prompt)
    expected = how.answer(network, encoder, probes)
    journal = Journal("package", name)
    journal.parameters(recipe.package.model_dump())
    with writing(manifest) as folder:
        for layout in recipe.package.layouts:
            place = folder / layout
            convert.write_layout(layout, weights, encoder_folder, recipe.package.generation, place)
            hand_on([weights], place)
            own_package = recipe.package.model_copy(update={"layouts": [layout]})
            program = how.example(name, recipe.network, own_package, encoder.facts)
            printed = _load_back(release, layout, place, probes, expected, program)
            write_card(release, layout, program, printed, place)
            _check_files(recipe.family, layout, place)
        manifest.counts = {"num_parameters": release.num_parameters, "num_bytes": _num_bytes(folder)}
        journal.metrics(0, **manifest.counts)
        journal.note(CARD_NAME, (folder / recipe.package.layouts[0] / CARD_NAME).read_text(encoding="utf-8"))


def _judged(library: Library, recipe: Recipe, lineage: Lineage) -> Lineage:
    corpora = {state.name: library.read("corpus", state.name) for state in lineage.made_from().of("ingest")}
    return judged(lineage, recipe.licence, recipe.package.allowed_licences, corpora)


def _check_published(recipe: Recipe) -> list[str]:
    """A score that would stand beside none of ours, in words."""
    return [
        f"package.published_scores names the task '{row.task}', expected one of {', '.join(recipe.evaluate.tasks)}, or "
        "none. Change the key."
        for row in recipe.package.published_scores
        if row.task and row.task not in recipe.evaluate.tasks
    ]


def _errors(name: str, lineage: Lineage) -> dict[str, dict[str, float]]:
    """Task -> metric -> standard error, of the scores that the card tells."""
    import pyarrow.parquet as pq

    items = pq.read_table(paths.payload("evaluate", name) / "items.parquet")
    scored = lineage.without_judges().of("evaluate")
    tasks = {task: each for state in scored for task, each in state.details["tasks"].items()}
    return {task: standard_errors(items, task, told_of(parsed(each))) for task, each in tasks.items()}


def _read_untouched(nodes: list[tuple[str, str]]) -> dict[tuple[str, str], Manifest]:
    """Manifests of states; a release must not hold bytes that its lineage does not tell of."""
    manifests = {node: read_manifest(*node) for node in nodes}
    for node, manifest in manifests.items():
        found = tree_hash(paths.payload(*node))
        if found != manifest.payload_hash:
            raise Refused(
                f"{paths.payload(*node)} has the content {found[:12]}, but its manifest says "
                f"{manifest.payload_hash[:12]}: it was changed after it was made. Run: hiraku {node[0]} {node[1]}"
            )
    return manifests


def _points(verb: str, name: str) -> list[dict[str, Any]]:
    """The curve that training left beside its weights."""
    path = paths.state(verb, name) / "curve.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def _target(library: Library, name: str) -> str:
    graph = f"{paths.RECIPES.as_posix()}/mine/dvc.yaml:" if library.is_mine("recipe", name) else ""
    return f"{graph}package-{name}"


def _load_back(release: Release, layout: str, place: Path, probes: Any, expected: dict[str, Any], program: str) -> str:
    """Load a layout in a fresh process, compare, and return what the card's example printed there."""
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Path(temporary)
        (workspace / release.name).symlink_to(place.resolve(), target_is_directory=True)
        found, printed = load_back(release.recipe.family, place, probes, workspace, program)
    if gap := difference(expected, found):
        raise Refused(
            f"The package of '{release.name}' computes something else than its weights: {gap}. The layout '{layout}' "
            f"of family '{release.recipe.family}' or encoder '{release.recipe.encoder}' is at fault. Nothing is kept."
        )
    return printed


def _check_files(family: str, layout: str, place: Path) -> None:
    """Every file of the layout and nothing else but the card, so nothing that runs code when it is read."""
    expected = set(part_of(family, "schema").LAYOUTS[layout])
    found = {file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()}
    missing, strange = sorted(expected - found), sorted(found - expected - OWN_NAMES - {TEXT_NAME})
    if missing or strange:
        raise Refused(
            f"The layout '{layout}' lacks {', '.join(missing) or 'no file'} and has {', '.join(strange) or 'no file'} "
            f"besides; expected the files of models/{family}/schema.py LAYOUTS and the card. Nothing is kept."
        )


def _num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# ---- somebody else's -------------------------------------------------------------------------------------------------


def _package_foreign(name: str, recipe: Foreign) -> None:
    if is_missing(recipe.source):
        raise Refused(f"{place_of(recipe.source)} is not here. Run: hiraku collect {name}")
    source = files_of(recipe.source, recipe.layout)
    files = part_of(recipe.family, "schema").LAYOUTS.get(recipe.layout)
    if files is None:
        known = ", ".join(part_of(recipe.family, "schema").LAYOUTS)
        raise Refused(f"Recipe '{name}': family '{recipe.family}' has no layout '{recipe.layout}'. There are: {known}.")
    if place_of(recipe.source).is_dir() and not source.is_dir():
        there = ", ".join(sorted(path.name for path in source.parent.iterdir() if path.is_dir()))
        raise Refused(f"{source.parent} has no layout '{recipe.layout}', but {there}. Change 'layout' of '{name}'.")
    require_text(name, recipe.licence, source)
    manifest = Manifest(
        verb="package",
        name=name,
        revisions={__name__: REVISION, FAMILIES[recipe.family]: import_module(FAMILIES[recipe.family]).REVISION},
        licence=recipe.licence,
        details={"layouts": [recipe.layout], "source": recipe.source, "obstacles": inherited(source)},
    )
    how, convert = part_of(recipe.family, "release"), part_of(recipe.family, "convert")
    with writing(manifest) as folder:
        place = folder / recipe.layout
        convert.take_in(source, recipe.layout, place)
        if must_go_along(recipe.licence):
            hand_on([source], place)
        manifest.parents = {source.as_posix(): tree_hash(source)}
        journal = Journal("package", name)
        journal.parameters(recipe.model_dump())
        origin = f"Somebody else's model, taken from `{recipe.source}`; licence {recipe.licence}."
        (place / CARD_NAME).write_text(f"# {name}\n\n{recipe.description}\n\n{origin}\n", encoding="utf-8")
        _check_files(recipe.family, recipe.layout, place)
        with tempfile.TemporaryDirectory() as temporary:
            found, _ = load_back(recipe.family, place, how.probes(None), Path(temporary))
        if gap := difference(how.answer_of_folder(source, how.probes(None)), found):
            raise Refused(
                f"The copy of {source} computes something else than the original: {gap}. It needs files besides "
                f"{', '.join(files)}: {convert.HOW_TO_WRITE}."
            )
        manifest.details[WEIGHTS_HASH] = tree_hash(place, only=files)
        manifest.counts = {"num_bytes": _num_bytes(folder)}
        journal.metrics(0, **manifest.counts)
