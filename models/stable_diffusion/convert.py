"""stable_diffusion networks <-> folders of weights, and the layouts in which they are released.

A text encoder with its U-Net is kept as diffusers keeps a StableDiffusionPipeline, the autoencoder with them, so every
later verb needs nothing else; the tokenizer comes in with the release.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.foreign import PICKLES, copy_files, take_files
from models.objective import Mismatch
from models.packaging import copy_encoder
from models.stable_diffusion import clip_tokenizer
from models.stable_diffusion.schema import FOREIGN, LAYOUTS

if TYPE_CHECKING:
    from torch import nn

HOW_TO_WRITE = "write it with save_pretrained(FOLDER, safe_serialization=True) of diffusers' StableDiffusionPipeline"
"""What to do about somebody else's folder that is not as a layout wants it."""

INDEX_NAME, SCHEDULER_NAME, CONFIG_NAME = "model_index.json", "scheduler/scheduler_config.json", "config.json"
ENCODER_FILES = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "captions.json")
WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
"""Part of a pipeline -> its file of weights."""
TEXT_PREFIX = "text_model."
"""Before the name of each tensor of a text encoder's file: the layout of diffusers, by which versions 4 and 5 of
transformers and other tools read it."""
PIECES = "tokenizer_sha256"
"""The key of our index that names the tokenizer of the text encoder."""


# ---- writing weights -------------------------------------------------------------------------------------------------


def save(network: Any, folder: Path) -> None:
    """Write an autoencoder, or text encoder, U-Net and autoencoder in a folder each; what is frozen as it was."""
    _say_nothing()
    folder.mkdir(parents=True, exist_ok=True)
    if not hasattr(network, "unet"):
        network.save_pretrained(folder)
        return
    for part, weights in WEIGHTS.items():
        source, place = network.sources.get(part), folder / part
        if source is None:
            getattr(network, part).save_pretrained(place)
            if part == "text_encoder":
                _write_text_weights(network.text_encoder, place / weights)
            continue
        place.mkdir()
        for name in (CONFIG_NAME, weights):
            shutil.copyfile(source / name, place / name)
    (folder / "scheduler").mkdir()
    _write(network.scheduler, folder / SCHEDULER_NAME)
    _write(_index(network.scheduler) | {PIECES: network.pieces}, folder / INDEX_NAME)


def _write_text_weights(text_encoder: Any, path: Path) -> None:
    """Write a text encoder's tensors under the names that diffusers' layout has.

    Transformers 5 leaves the prefix out of what its networks are called, and puts it back only into the file of a
    network that came from such a file: not of one that began with random weights.
    """
    from safetensors.torch import save_file

    tensors = {
        name if name.startswith(TEXT_PREFIX) else TEXT_PREFIX + name: tensor.detach().contiguous()
        for name, tensor in text_encoder.state_dict().items()
    }
    save_file(tensors, path, metadata={"format": "pt"})


def _index(scheduler: dict[str, Any]) -> dict[str, Any]:
    import diffusers

    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _write(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def released_part(network: Any) -> Any:
    """What of a network is released: all of it."""
    return network


# ---- reading weights -------------------------------------------------------------------------------------------------


def load(folder: Path) -> "nn.Module":
    """The network of a folder that `save` or diffusers wrote, ready to evaluate.

    Returns:
        diffusers' AutoencoderKL, or `models.stable_diffusion.network.Diffusion`.

    Raises:
        Mismatch: the folder lacks a part, holds no safetensors, or a file that cannot be read.
    """
    if not (folder / INDEX_NAME).is_file():
        found: nn.Module = part_of_folder(folder, "vae")
        return found.eval()
    require_parts(folder, f"{folder}")
    from models.stable_diffusion.network import Diffusion

    parts = {part: part_of_folder(folder / part, part) for part in WEIGHTS}
    network = Diffusion(parts["vae"], parts["unet"], parts["text_encoder"], scheduler_of(folder))
    network.pieces = pieces_of(folder)
    return network.eval()


def part_of_folder(folder: Path, part: str) -> Any:
    """A text encoder, a U-Net or an autoencoder, each of whose tensors must be there.

    Raises:
        Mismatch: it is not there, not whole, of another class, or cannot be read.
    """
    import diffusers
    import transformers
    from safetensors import SafetensorError

    _say_nothing()
    _require_part(folder, part)
    kinds: dict[str, Any] = {
        "unet": diffusers.UNet2DConditionModel,
        "vae": diffusers.AutoencoderKL,
        "text_encoder": transformers.CLIPTextModel,
    }
    kind = kinds[part]
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    name = config.get("_class_name") or (config.get("architectures") or [kind.__name__])[0]
    if name != kind.__name__:
        raise Mismatch(f"{folder} holds a {name}, expected a {kind.__name__}.")
    try:
        network, told = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        raise Mismatch(
            f"{folder} holds a {CONFIG_NAME} or a {WEIGHTS[part]} that cannot be read "
            f"({type(error).__name__}: {str(error).strip().splitlines()[0]}), expected what save_pretrained wrote. "
            "Copy or make that folder again."
        ) from error
    missing = sorted(each for each in told["missing_keys"] if not each.endswith("position_ids"))
    if missing:
        raise Mismatch(
            f"{folder / WEIGHTS[part]} lacks {', '.join(missing[:3])}"
            f"{f' and {len(missing) - 3} others' if len(missing) > 3 else ''}, expected every tensor of a {name} with "
            "that config.json. Copy or make that folder again."
        )
    return network


def _require_part(folder: Path, part: str) -> None:
    for name in (CONFIG_NAME, WEIGHTS[part]):
        if (folder / name).is_file():
            continue
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        found = f"has {', '.join(pickles)} but no {name}: a pickle can run code when it is read" if pickles else ""
        raise Mismatch(
            f"{folder} {found or f'has no {name}'}, expected the {part} of a Stable Diffusion as safetensors."
        )


def require_parts(folder: Path, where: str) -> None:
    """Refuse a pipeline that lacks a part, with all that it lacks.

    Raises:
        Mismatch: as it says.
    """
    needed = [SCHEDULER_NAME, *(f"{part}/{name}" for part in WEIGHTS for name in (CONFIG_NAME, WEIGHTS[part]))]
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise Mismatch(
            f"{where} lacks {', '.join(missing)}, expected a Stable Diffusion with {', '.join(WEIGHTS)} and scheduler "
            f"as safetensors: {HOW_TO_WRITE}, or name another folder."
        )


def scheduler_of(folder: Path) -> dict[str, Any]:
    """The configuration of a pipeline's scheduler."""
    path = folder / SCHEDULER_NAME
    if not path.is_file():
        raise Mismatch(f"{folder} has no {SCHEDULER_NAME}, expected a Stable Diffusion as diffusers writes it.")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def pieces_of(folder: Path) -> str:
    """The hash of the tokenizer that the text encoder of one of our folders was trained with; empty of others'."""
    found = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
    return str(found.get(PIECES, ""))


def _say_nothing() -> None:
    """No progress bar of one file on a log's standard error."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()


# ---- while it trains -------------------------------------------------------------------------------------------------


def preview(network: Any, encoder: Any, section: Any) -> str:  # noqa: ARG001 - as every family has it
    """Nothing: pictures are shown by `preview_pictures`."""
    return ""


def preview_pictures(network: Any, encoder: Any, section: Any) -> dict[str, bytes]:
    """Prompt -> a PNG of what is drawn for it now, with the same noise at every time."""
    if not section.prompts:
        return {}
    from models.stable_diffusion.sampling import pictures, pipeline_of, png

    pipeline = pipeline_of(network, encoder.folder)
    seeds = [section.seed] * len(section.prompts)
    drawn = pictures(pipeline, section.prompts, seeds, section.num_steps, section.guidance_scale)
    return {prompt: png(picture) for prompt, picture in zip(section.prompts, drawn, strict=True)}


# ---- releases --------------------------------------------------------------------------------------------------------


def write_layout(
    layout: str, weights_folder: Path, encoder_folder: Path, generation: dict[str, Any], folder: Path
) -> None:
    """Write the files of a released layout, the card excepted.

    Args:
        layout: a key of `schema.LAYOUTS`.
        weights_folder: what `save` wrote.
        encoder_folder: the fitted tokenizer of captions.
        generation: empty; a card's example says how pictures are drawn.
        folder: receives the files; made if missing.

    Raises:
        Mismatch: the encoder has no tokenizer, or these weights have no such layout.
    """
    if generation:
        raise Mismatch("package.generation is set, but diffusers keeps no such settings. Remove the key.")
    folder.mkdir(parents=True, exist_ok=True)
    own = [name for name in LAYOUTS[layout] if not name.startswith("tokenizer/")]
    copy_files(weights_folder, own, folder)
    if layout == "vae":
        return
    _write(_index(scheduler_of(weights_folder)), folder / INDEX_NAME)
    write_tokenizer(encoder_folder, folder / "tokenizer")


def write_tokenizer(encoder_folder: Path, folder: Path) -> None:
    """The tokenizer's files as they were fitted, in a form that versions 4 and 5 of transformers read.

    Raises:
        Mismatch: one is missing.
    """
    copy_encoder(encoder_folder, ENCODER_FILES, "captions", folder)


def _require_table(network: Any, tokenizer_folder: Path, where: str) -> None:
    from transformers import AutoTokenizer

    rows = network.text_encoder.config.vocab_size
    pieces = len(AutoTokenizer.from_pretrained(str(tokenizer_folder), local_files_only=True))
    if pieces > rows:
        raise Mismatch(
            f"{where} has a tokenizer of {pieces:,} pieces, but the table of its text encoder has {rows:,} rows, so "
            "some prompts have ids without a row. They are of two models: get that folder again."
        )


def _take_files(where: str, source: Path, layout: str, folder: Path) -> None:
    """Copy the files of a layout; the tokenizer of CLIP in one form, whichever version of transformers wrote it."""
    own = LAYOUTS[layout]
    if layout in FOREIGN and clip_tokenizer.is_of_version_5(source / "tokenizer"):
        own = tuple(name for name in own if not name.startswith("tokenizer/"))
        clip_tokenizer.write_as_version_4(source / "tokenizer", folder / "tokenizer")
    take_files(where, source, layout, {**LAYOUTS, layout: own}, folder)


def take_in(source: Path, layout: str, folder: Path) -> None:
    """Copy somebody else's model, the files of a layout alone, without its safety checker.

    Args:
        source: a folder that save_pretrained wrote.
        layout: a key of `schema.LAYOUTS`.
        folder: receives the files; made if missing.

    Raises:
        Mismatch: the folder is not there, has no safetensors, lacks a file, a part cannot be loaded, or its tokenizer
            has more pieces than its text encoder has rows.
    """
    where = f"'source: path:{source}'"
    if not source.is_dir():
        raise Mismatch(f"{where} is no folder. Put the model there as save_pretrained writes it, or change 'source'.")
    if layout == "vae":
        part_of_folder(source, "vae")
    else:
        require_parts(source, where)
    _take_files(where, source, layout, folder)
    if layout != "vae":
        index = json.loads((source / INDEX_NAME).read_text(encoding="utf-8"))
        left_out = {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
        _write(index | left_out, folder / INDEX_NAME)
    network = load(folder)
    if layout != "vae":
        _require_table(network, folder / "tokenizer", where)
