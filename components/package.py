"""package: weights + encoder + scores + lineage -> folders exactly as they will stand on the Hub, card included.

A package counts only after a fresh process has loaded it as its users will, and computed what the trained weights do.
"""

import json
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from components import paths
from components.card import CARD_NAME, Release, write_card
from components.curve import loss_curve
from components.journal import Journal
from components.lineage import lineage_from
from components.loadback import difference, load_back
from components.manifest import Manifest, read_manifest, tree_hash, writing
from components.modalities import modality
from components.outcomes import Refused
from components.recipes import Foreign, Library, Recipe
from components.wording import nearest_name
from models import FAMILIES, part_of
from models.objective import Mismatch

REVISION = 1

# Formats that run code when they are read.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")


def package(name: str) -> None:
    """Make every layout of a recipe's release in `artifacts/packaged/<name>/`; or take somebody else's model in.

    Raises:
        Refused: a generation setting is unknown, a state is missing or stale, a file of the layout is missing, the
            package does not load in a fresh process, or computes anything else than the weights it was made from.
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
    _check_generation(name, recipe.package.generation)
    trained = ("align" if recipe.align else "pretrain", name)
    nodes = [trained, ("fit", recipe.encoder), ("evaluate", name)]
    manifests = {node: read_manifest(*node) for node in nodes}
    for node, found in manifests.items():
        _check_untouched(node, found)
    manifest = Manifest(
        verb="package",
        name=name,
        revisions={__name__: REVISION, FAMILIES[recipe.family]: import_module(FAMILIES[recipe.family]).REVISION},
        parents={paths.payload(*node).as_posix(): found.payload_hash for node, found in manifests.items()},
        licence=recipe.licence,
        details={"layouts": list(recipe.package.layouts)},
    )
    lineage = lineage_from(manifest)
    weights, encoder_folder = paths.payload(*trained), paths.payload("fit", recipe.encoder)
    network = part_of(recipe.family, "convert").load(weights)
    encoder = modality(part_of(recipe.family, "schema").MODALITY).open_encoder(encoder_folder)
    scores = json.loads((paths.payload("evaluate", name) / "scores.json").read_text(encoding="utf-8"))
    release = Release(
        name=name,
        recipe=recipe,
        lineage=lineage,
        scores=scores["tasks"],
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        class_name=type(network).__name__,
        curve=loss_curve(_points(*trained), trained[0]),
        target=_target(library, name),
    )
    how = part_of(recipe.family, "release")
    probes = how.probes(recipe.package.example_prompt)
    expected = how.answer(network, encoder, probes)
    journal = Journal("package", name)
    journal.parameters(recipe.package.model_dump())
    with writing(manifest) as folder:
        for layout in recipe.package.layouts:
            place = folder / layout
            write = part_of(recipe.family, "convert").write_layout
            write(layout, weights, encoder_folder, recipe.package.generation, place)
            program = how.example(name, recipe.network, recipe.package)
            printed = _load_back(release, layout, place, probes, expected, program)
            write_card(release, layout, program, printed, place)
            _check_files(recipe.family, layout, place)
        manifest.counts = {"num_parameters": release.num_parameters, "num_bytes": _num_bytes(folder)}
        journal.metrics(0, **manifest.counts)
        journal.note(CARD_NAME, (folder / recipe.package.layouts[0] / CARD_NAME).read_text(encoding="utf-8"))


def _check_generation(name: str, generation: dict[str, Any]) -> None:
    """Refuse a setting that `generation_config.json` does not know: transformers would keep and ignore it."""
    from transformers import GenerationConfig

    known = {key for key in vars(GenerationConfig()) if not key.startswith("_")} - {"transformers_version"}
    for key in generation:
        if key not in known:
            near = nearest_name(key, known)
            hint = f"Did you mean '{near}'?" if near else f"Known are: {', '.join(sorted(known))}."
            raise Refused(
                f"Recipe '{name}': 'package.generation.{key}' is no setting of generation_config.json. {hint} "
                "Change the key."
            )


def _check_untouched(node: tuple[str, str], manifest: Manifest) -> None:
    """A release must not hold bytes that its lineage does not tell of."""
    found = tree_hash(paths.payload(*node))
    if found != manifest.payload_hash:
        raise Refused(
            f"{paths.payload(*node)} has the content {found[:12]}, but its manifest says {manifest.payload_hash[:12]}: "
            f"it was changed after it was made. Run: hiraku {node[0]} {node[1]}"
        )


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
    """Every file of the layout, and nothing that runs code when it is read."""
    missing = [file for file in part_of(family, "schema").LAYOUTS[layout] if not (place / file).is_file()]
    pickles = sorted(file.name for pattern in PICKLES for file in place.rglob(pattern))
    if missing or pickles:
        raise Refused(
            f"The layout '{layout}' lacks {missing or 'no file'} and holds {pickles or 'no'} pickles; expected every "
            f"file of models/{family}/schema.py LAYOUTS, and safetensors only. Nothing is kept."
        )


def _num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# ---- somebody else's -------------------------------------------------------------------------------------------------


def _package_foreign(name: str, recipe: Foreign) -> None:
    source = Path(recipe.source.removeprefix("path:"))
    files = part_of(recipe.family, "schema").LAYOUTS.get(recipe.layout)
    if files is None:
        known = ", ".join(part_of(recipe.family, "schema").LAYOUTS)
        raise Refused(f"Recipe '{name}': family '{recipe.family}' has no layout '{recipe.layout}'. There are: {known}.")
    _check_source(name, source, files)
    manifest = Manifest(
        verb="package",
        name=name,
        revisions={__name__: REVISION, FAMILIES[recipe.family]: import_module(FAMILIES[recipe.family]).REVISION},
        parents={source.as_posix(): tree_hash(source)},
        licence=recipe.licence,
        details={"layouts": [recipe.layout], "source": recipe.source},
    )
    how = part_of(recipe.family, "release")
    journal = Journal("package", name)
    journal.parameters(recipe.model_dump())
    with writing(manifest) as folder:
        place = folder / recipe.layout
        place.mkdir()
        for file in files:
            if (source / file).is_file():
                shutil.copyfile(source / file, place / file)
        _complete_generation(place)
        origin = f"Somebody else's model, taken from `{recipe.source}`; licence {recipe.licence}."
        (place / CARD_NAME).write_text(f"# {name}\n\n{recipe.description}\n\n{origin}\n", encoding="utf-8")
        _check_files(recipe.family, recipe.layout, place)
        with tempfile.TemporaryDirectory() as temporary:
            found, _ = load_back(recipe.family, place, how.probes(None), Path(temporary))
        if gap := difference(how.answer_of_folder(source, how.probes(None)), found):
            raise Refused(
                f"The copy of {source} computes something else than the original: {gap}. It needs files besides "
                f"{', '.join(files)}; write it anew with save_pretrained by transformers 5."
            )
        manifest.counts = {"num_bytes": _num_bytes(folder)}
        journal.metrics(0, **manifest.counts)


def _check_source(name: str, source: Path, files: tuple[str, ...]) -> None:
    """A folder that can be taken in: there, safetensors, complete, of a kind that transformers knows."""
    from transformers import AutoConfig

    where = f"Recipe '{name}': 'source: path:{source}'"
    if not source.is_dir():
        raise Refused(f"{where} is no folder. Put the model there as save_pretrained writes it, or change 'source'.")
    pickles = sorted(file.name for pattern in PICKLES for file in source.glob(pattern))
    if not (source / "model.safetensors").is_file():
        found = f"holds {', '.join(pickles)}" if pickles else "holds no weights"
        raise Refused(
            f"{where} {found}, expected model.safetensors in one file: a pickle can run code when it is read. Convert "
            "it once, on a machine you can lose: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained("
            "NEW_FOLDER, max_shard_size='1000GB')"
        )
    missing = [file for file in files if file != "generation_config.json" and not (source / file).is_file()]
    if missing:
        raise Refused(
            f"{where} holds no {', '.join(missing)}; the layout has {', '.join(files)}. Add them: save_pretrained of "
            "model and tokenizer writes them, spiece.model is the tokenizer's SentencePiece file."
        )
    try:
        AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        raise Refused(f"{where}: config.json is not one transformers can load: {error}. Change 'source'.") from error


def _complete_generation(place: Path) -> None:
    """Older folders have no generation_config.json; transformers then derives it from config.json, as here."""
    from transformers import AutoConfig, GenerationConfig

    if not (place / "generation_config.json").is_file():
        GenerationConfig.from_model_config(AutoConfig.from_pretrained(place)).save_pretrained(place)
