"""hubert networks <-> folders of weights, and the layouts in which they are released."""

import json
import shutil
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.foreign import copy_files, require_safetensors, take_files
from models.frames import SAMPLE_RATE_HZ
from models.hubert.schema import LAYOUTS
from models.objective import Mismatch
from models.packaging import copy_encoder

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

HOW_TO_WRITE = "write it with save_pretrained of transformers 5, model and feature extractor, as one safetensors file"
"""What to do about somebody else's folder that is not as a layout wants it."""

HEAD_NAME = "head.safetensors"
"""Beside the `HubertModel` that it was trained with, which transformers loads without."""
UNITS_FOLDER = "units"
PHONEMES_NAME = "phonemes.json"
EXAMPLE_NAME = "example.wav"
BOUNDARY = "|"


def save(network: Any, folder: Path) -> None:
    """Write `config.json` and one `model.safetensors`, and the head of pre-training beside."""
    _say_nothing()
    released_part(network).save_pretrained(folder, max_shard_size="1TB")
    head = getattr(network, "head", None)
    if head is not None:
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
        save_file(tensors, folder / HEAD_NAME)


def released_part(network: Any) -> "PreTrainedModel":
    """What of a trained network is released: a recogniser whole, else the `HubertModel` without its head."""
    part: PreTrainedModel = network if hasattr(network, "lm_head") else network.hubert
    return part


def load(folder: Path) -> "nn.Module":
    """The network of a folder that `save` or transformers wrote, in the precision of its file, ready to evaluate.

    Returns:
        `transformers.HubertForCTC`, or `models.hubert.network.HubertForUnits`, whose head is None where there is none
        beside; both have the `HubertModel` as `hubert`.

    Raises:
        Mismatch: the folder holds no safetensors, a network of another family, or a file that cannot be read.
    """
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    _say_nothing()
    for needed in ("config.json", "model.safetensors"):
        if not (folder / needed).is_file():
            raise Mismatch(f"{folder} has no {needed}, expected a folder that save_pretrained wrote as safetensors.")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type != "hubert":
            raise Mismatch(f"{folder} holds a network of type '{config.model_type}', expected hubert.")
        found = _read(folder, "HubertForCTC" in (config.architectures or []))
    except Mismatch:
        raise
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise Mismatch(
            f"{folder} holds a config.json, a model.safetensors or a {HEAD_NAME} that cannot be read "
            f"({type(error).__name__}: {str(error).strip().splitlines()[0]}), expected what save_pretrained wrote. "
            "Copy or make that folder again."
        ) from error
    return found.eval()


def _read(folder: Path, is_recogniser: bool) -> "nn.Module":
    """The network of a folder, each of whose tensors must be there.

    Raises:
        Mismatch: one is missing, and would be left to chance; but for the mask vector, which a released model may lack.
    """
    import transformers

    from models.hubert.network import HubertForUnits

    kind: Any = transformers.HubertForCTC if is_recogniser else transformers.HubertModel
    network, told = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, attn_implementation="sdpa", output_loading_info=True
    )
    missing = sorted(name for name in told["missing_keys"] if not name.endswith("masked_spec_embed"))
    if missing:
        raise Mismatch(
            f"{folder / 'model.safetensors'} lacks {', '.join(missing[:3])}"
            f"{f' and {len(missing) - 3} others' if len(missing) > 3 else ''}, expected every tensor of a "
            f"{kind.__name__} with that config.json. Copy or make that folder again."
        )
    return network if is_recogniser else HubertForUnits(network, _head(folder / HEAD_NAME))


def _head(path: Path) -> Any:
    """The head of a file; None where there is none."""
    if not path.is_file():
        return None
    from safetensors.torch import load_file

    from models.hubert.network import UnitsHead

    tensors = load_file(path)
    (num_units, head_size), width = tensors["units"].shape, tensors["projection.weight"].shape[1]
    head = UnitsHead(width, head_size, num_units)
    head.load_state_dict(tensors)
    return head


def _say_nothing() -> None:
    """No progress bar of one file on a log's standard error."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def preview(network: Any, encoder: Any, section: Any) -> str:  # noqa: ARG001 - as every family has it
    """Nothing: a network of speech says no words that a person could read during training."""
    return ""


def symbols_of(folder: Path) -> list[str]:
    """The phonemes of an encoder or a release in the order of their ids: blank, word boundary, phonemes.

    Raises:
        Mismatch: the file is not there, or its first two symbols are others.
    """
    path = folder / PHONEMES_NAME
    if not path.is_file():
        raise Mismatch(f"{folder} has no {PHONEMES_NAME}, expected the folder of an encoder of kind 'phonemes'.")
    found = json.loads(path.read_text(encoding="utf-8"))
    symbols = [str(each) for each in (found["symbols"] if isinstance(found, dict) else found)]
    if symbols[1:2] != [BOUNDARY]:
        raise Mismatch(f"{path} begins with {symbols[:2]}, expected the blank and '{BOUNDARY}'. Fit the encoder anew.")
    return symbols


def write_layout(
    layout: str, weights_folder: Path, encoder_folder: Path, generation: dict[str, Any], folder: Path
) -> None:
    """Write the files of a released layout, the card excepted.

    Args:
        layout: a key of `schema.LAYOUTS`.
        weights_folder: what `save` wrote.
        encoder_folder: the fitted k-means units or phonemes.
        generation: empty; these models generate nothing.
        folder: receives the files; made if missing.

    Raises:
        Mismatch: the encoder is of the other kind.
    """
    if generation:
        raise Mismatch("package.generation is set, but models of speech generate nothing. Remove the key.")
    folder.mkdir(parents=True, exist_ok=True)
    copy_files(weights_folder, ("config.json", "model.safetensors"), folder)
    _write_extractor(folder)
    if layout == "transformers":
        copy_encoder(encoder_folder, ("centroids.npy", "units.json"), "kmeans", folder / UNITS_FOLDER)
    elif layout == "ctc":
        _write_tokenizer(symbols_of(encoder_folder), folder)
        shutil.copyfile(encoder_folder / PHONEMES_NAME, folder / PHONEMES_NAME)
        if (encoder_folder / EXAMPLE_NAME).is_file():
            shutil.copyfile(encoder_folder / EXAMPLE_NAME, folder / EXAMPLE_NAME)
        else:
            write_example(folder / EXAMPLE_NAME)


def _write_extractor(folder: Path) -> None:
    """Waveforms go in as they are: fairseq normalises them for the large models only, and this trainer for none.

    With group norm, transformers' own rule is to give no mask of padding, which would not reach the norm.
    """
    from transformers import AutoConfig, Wav2Vec2FeatureExtractor

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    extractor = Wav2Vec2FeatureExtractor(
        feature_size=1,
        sampling_rate=SAMPLE_RATE_HZ,
        padding_value=0.0,
        do_normalize=False,
        return_attention_mask=config.feat_extract_norm == "layer",
    )
    extractor.save_pretrained(folder)


def _write_tokenizer(symbols: list[str], folder: Path) -> None:
    """Phonemes that are separated by spaces <-> ids."""
    from transformers import Wav2Vec2PhonemeCTCTokenizer

    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({symbol: number for number, symbol in enumerate(symbols)}), encoding="utf-8")
    tokenizer = Wav2Vec2PhonemeCTCTokenizer(
        str(vocabulary),
        bos_token=None,
        eos_token=None,
        unk_token=None,
        pad_token=symbols[0],
        phone_delimiter_token=" ",  # noqa: S106 - no password
        word_delimiter_token=BOUNDARY,
        do_phonemize=False,
    )
    tokenizer.save_pretrained(folder)


def write_example(path: Path) -> None:
    """A short synthetic recording: vowels by two resonances over a buzz."""
    from models.hubert.release import vowels

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(vowels("aiueo", 0.4).tobytes())


def take_in(source: Path, layout: str, folder: Path) -> None:
    """Copy somebody else's model, the files of a layout alone.

    Args:
        source: a folder that save_pretrained wrote.
        layout: a key of `schema.LAYOUTS`.
        folder: receives the files; made if missing.

    Raises:
        Mismatch: the folder is not there, has no safetensors, lacks a file, or is of a kind transformers cannot load.
    """
    where = f"'source: path:{source}'"
    require_safetensors(where, source, "AutoModel")
    take_files(where, source, layout, LAYOUTS, folder)
    try:
        load(folder)
    except Mismatch as error:
        raise Mismatch(f"{where}: {str(error).replace(str(folder), str(source))} Or {HOW_TO_WRITE}.") from error
