"""clip networks <-> folders of weights, and the layouts in which they are released.

A pair of towers is kept as transformers' VisionTextDualEncoderModel (see `poolers.py`), so weights and release are one
file.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.clip.schema import LAYOUTS
from models.foreign import require_safetensors, take_files
from models.objective import Mismatch
from models.packaging import copy_encoder
from models.pixels import MEAN, STD

if TYPE_CHECKING:
    from torch import nn

HOW_TO_WRITE = "write it with save_pretrained of transformers 5, model and processor, as one safetensors file"
"""What to do about somebody else's folder that is not as a layout wants it."""

CONFIG_NAME, WEIGHTS_NAME, PICTURES_NAME = "config.json", "model.safetensors", "preprocessor_config.json"
PROCESSOR_NAME, TOKENIZER_NAME, TOKENIZER_CONFIG_NAME = (
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
SENTENCEPIECE_NAME, CAPTIONS_NAME = "spiece.model", "captions.json"

MAX_TOKENS = 77
"""Of a caption in a release whose tokenizer says nothing else."""


# ---- writing weights -------------------------------------------------------------------------------------------------


def save(network: Any, folder: Path) -> None:
    """Write `config.json` and one `model.safetensors`, of a pair of towers with the locked one whole."""
    _say_nothing()
    released_part(network).save_pretrained(folder, max_shard_size="1TB")


def released_part(network: Any) -> Any:
    """What of a network is released: a classifier as it is, a pair of towers with poolers that do nothing.

    Raises:
        Mismatch: the locked tower is not there.
    """
    if not hasattr(network, "text_tower"):
        return network
    from models.clip.poolers import with_poolers

    return with_poolers(network)


# ---- reading weights -------------------------------------------------------------------------------------------------


def load(folder: Path) -> "nn.Module":
    """The network of a folder that `save`, transformers or timm wrote, in the precision of its file, ready to evaluate.

    Returns:
        `models.clip.network.DualEncoder` of a pair of towers, whoever made it; `ViTForImageClassification`, `ViTModel`
        or `BlipForConditionalGeneration` of transformers else.

    Raises:
        Mismatch: the folder holds no safetensors, a network of another kind, or a file that cannot be read.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    from models.clip.foreign import read

    _say_nothing()
    for needed in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / needed).is_file():
            raise Mismatch(f"{folder} has no {needed}, expected a folder that save_pretrained wrote as safetensors.")
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        found = read(folder, config)
    except Mismatch:
        raise
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise Mismatch(
            f"{folder} holds a {CONFIG_NAME} or a {WEIGHTS_NAME} that cannot be read "
            f"({type(error).__name__}: {str(error).strip().splitlines()[0]}), expected what save_pretrained wrote. "
            "Copy or make that folder again."
        ) from error
    return found.eval()


def _say_nothing() -> None:
    """No progress bar of one file on a log's standard error."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def preview(network: Any, encoder: Any, section: Any) -> str:  # noqa: ARG001 - as every family has it
    """Nothing: a network of pictures says no words that a person could read during training."""
    return ""


# ---- releases --------------------------------------------------------------------------------------------------------


def write_layout(
    layout: str, weights_folder: Path, encoder_folder: Path, generation: dict[str, Any], folder: Path
) -> None:
    """Write the files of a released layout, the card excepted.

    Args:
        layout: a key of `schema.LAYOUTS`.
        weights_folder: what `save` wrote.
        encoder_folder: the fitted tokenizer of captions, or the names of labels.
        generation: empty; these models generate nothing.
        folder: receives the files; made if missing.

    Raises:
        Mismatch: the encoder has no tokenizer, or these weights have no such layout.
    """
    if generation:
        raise Mismatch("package.generation is set, but models of pictures generate nothing. Remove the key.")
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "japanese-clip":
        from models.clip.client import write

        write(load(weights_folder), folder)
    else:
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            shutil.copyfile(weights_folder / name, folder / name)
    processor(image_size(json.loads((weights_folder / CONFIG_NAME).read_text(encoding="utf-8")))).save_pretrained(
        folder
    )
    if layout != "tower":
        _write_tokenizer(encoder_folder, folder)
    if layout == "transformers":
        _write_joint_processor(folder)


def image_size(config: dict[str, Any]) -> int:
    """Height and width of the pictures that a configuration of transformers tells of."""
    return int(config.get("vision_config", config)["image_size"])


def processor(size_px: int, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Any:
    """Shorter side to the size, bilinear, and the middle cut out, as the encoders of pixels and towers do.

    Pillow's, since torchvision's resize gives other numbers.
    """
    from PIL.Image import Resampling
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size={"shortest_edge": size_px},
        crop_size={"height": size_px, "width": size_px},
        resample=int(Resampling.BILINEAR),
        image_mean=list(mean),
        image_std=list(std),
    )


def _write_tokenizer(encoder_folder: Path, folder: Path) -> None:
    """The tokenizer's files as they were fitted, in a form that versions 4 and 5 of transformers read.

    Raises:
        Mismatch: one is missing.
    """
    names = (TOKENIZER_NAME, TOKENIZER_CONFIG_NAME, SENTENCEPIECE_NAME, CAPTIONS_NAME)
    copy_encoder(encoder_folder, names, "captions", folder)
    config = json.loads((folder / TOKENIZER_CONFIG_NAME).read_text(encoding="utf-8"))
    config |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    config = {"model_max_length": MAX_TOKENS, "padding_side": "right"} | config
    written = json.dumps(config, ensure_ascii=False, indent=2)
    (folder / TOKENIZER_CONFIG_NAME).write_text(written + "\n", encoding="utf-8")


def _write_joint_processor(folder: Path) -> None:
    """What AutoProcessor of version 5 reads; version 4 reads `preprocessor_config.json` alone."""
    pictures = json.loads((folder / PICTURES_NAME).read_text(encoding="utf-8"))
    found = {"image_processor": pictures, "processor_class": "VisionTextDualEncoderProcessor"}
    (folder / PROCESSOR_NAME).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def take_in(source: Path, layout: str, folder: Path) -> None:
    """Copy somebody else's model, the files of a layout alone; of timm, its tensors under transformers' names.

    Args:
        source: a folder that save_pretrained wrote, or an image tower from timm.
        layout: a key of `schema.LAYOUTS`.
        folder: receives the files; made if missing.

    Raises:
        Mismatch: the folder is not there, has no safetensors, lacks a file, or is of a kind that cannot be loaded.
    """
    from models.clip.timm import is_timm, write_as_transformers

    where = f"'source: path:{source}'"
    require_safetensors(where, source, "AutoModel")
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "tower" and is_timm(source):
        write_as_transformers(source, folder)
        return
    take_files(where, source, layout, LAYOUTS, folder)
    try:
        network = load(folder)
    except Mismatch as error:
        raise Mismatch(f"{where}: {str(error).replace(str(folder), str(source))} Or {HOW_TO_WRITE}.") from error
    if kind_of(network) != KINDS[layout]:
        raise Mismatch(f"{where} holds a {type(network).__name__}, but 'layout' is '{layout}'. Change one of them.")


KINDS = {"transformers": "pair", "japanese-clip": "pair", "clip": "pair", "tower": "tower", "captioner": "captioner"}


def kind_of(network: Any) -> str:
    """`pair`, `captioner` or `tower`."""
    if hasattr(network, "text_tower"):
        return "pair"
    return "captioner" if hasattr(network, "text_decoder") else "tower"
