"""gpt networks <-> folders of weights, and the layout in which they are released."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.foreign import WEIGHTS_NAME, join_weights, require_safetensors
from models.gpt.schema import FOREIGN, LAYOUTS, Preview
from models.objective import Mismatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HOW_TO_WRITE = "write it with save_pretrained of transformers 5, model and tokenizer, as one safetensors file"
"""What to do about somebody else's folder that is not as a layout wants it."""

KINDS = {
    "gpt2": ("GPT2LMHeadModel", "GPT2ForSequenceClassification"),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXForSequenceClassification"),
}
"""transformers' name of an architecture -> its classes that this family trains, the usual one first."""

PREVIEW_SEED = 0
PREVIEW_TOP_P = 0.9


def save(network: Any, folder: Path) -> None:
    """Write `config.json`, `generation_config.json` and one `model.safetensors`."""
    _say_nothing()
    released_part(network).save_pretrained(folder, max_shard_size="1TB")


def released_part(network: Any) -> "PreTrainedModel":
    """What of a trained network is released: of a policy and its critic, the policy."""
    part: PreTrainedModel = getattr(network, "policy", network)
    return part


def load(folder: Path) -> "PreTrainedModel":
    """The network of a folder that `save` or transformers wrote, in the precision of its file, ready to evaluate.

    Raises:
        Mismatch: the folder holds no safetensors, or a network of another family.
    """
    return _load(folder, any_kind=False)


def load_foreign(folder: Path) -> "PreTrainedModel":
    """As `load`, every causal language model that transformers knows: to be scored, not to be trained."""
    return _load(folder, any_kind=True)


def _load(folder: Path, any_kind: bool) -> "PreTrainedModel":
    import transformers

    _say_nothing()
    for needed in ("config.json", "model.safetensors"):
        if not (folder / needed).is_file() and not (folder / f"{needed}.index.json").is_file():
            raise Mismatch(f"{folder} has no {needed}, expected a folder that save_pretrained wrote as safetensors.")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    kinds = KINDS.get(config.model_type, ())
    if any_kind and not kinds:
        return _load_foreign(folder, config)
    named = [each for each in config.architectures or kinds[:1] if each in kinds]
    if not named:
        found = ", ".join(config.architectures or []) if kinds else config.model_type
        known = ", ".join(kinds or KINDS)
        raise Mismatch(f"{folder} holds a network of type '{found}', expected one of {known}.")
    network: PreTrainedModel = getattr(transformers, named[0]).from_pretrained(
        folder, local_files_only=True, use_safetensors=True, attn_implementation="sdpa"
    )
    return network.eval()


def _load_foreign(folder: Path, config: Any) -> "PreTrainedModel":
    """A language model of an architecture that this family does not train."""
    import transformers

    _require_language_model(folder, config)
    network: PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    return network.eval()


def _require_language_model(folder: Path, config: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise Mismatch(f"{folder} holds a network of type '{config.model_type}', expected a causal language model.")
    if getattr(config, "max_position_embeddings", None) is None:
        raise Mismatch(f"{folder}/config.json does not tell the longest context (max_position_embeddings). Add it.")


def _say_nothing() -> None:
    """No progress bar of one file on a log's standard error."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def preview(network: Any, encoder: Any, section: Preview) -> str:
    """What a person reads during training: a recipe's prompts and how the network goes on, as Markdown; or nothing."""
    speaker = released_part(network)
    if not speaker.can_generate():
        return ""
    texts = continue_texts(speaker, encoder, section.prompts, section.new_tokens)
    return "\n".join(f"> {' '.join(text.split())}\n" for text in texts)


def continue_texts(network: "PreTrainedModel", encoder: Any, prompts: list[str], new_tokens: int) -> list[str]:
    """Continue texts as if they began a document: after an end-of-text token, which is what training saw there.

    With an encoder that has a prompt format, each is what a user says, and is answered. Sampled with seeds of their
    own; torch's global generators are left as they were.

    Returns:
        Each prompt with its continuation.
    """
    import torch

    limit = network.config.max_position_embeddings
    new_tokens = min(new_tokens, limit - 1)
    unused = list(range(encoder.facts["vocab_size"], network.config.vocab_size))
    was_training = network.training
    generate: Any = network.generate
    network.eval()
    texts = []
    is_chat = "chat" in encoder.facts
    for number, prompt in enumerate(prompts):
        start = _asked(encoder, prompt) if is_chat else _begun(encoder, prompt)
        start = start[-(limit - new_tokens) :]
        given = torch.tensor([start], device=network.device)
        with torch.random.fork_rng(devices=[network.device] if network.device.type == "cuda" else []):
            torch.manual_seed(PREVIEW_SEED + number)
            output = generate(
                given,
                attention_mask=torch.ones_like(given),
                do_sample=True,
                top_k=0,
                top_p=PREVIEW_TOP_P,
                max_new_tokens=new_tokens,
                use_cache=True,
                suppress_tokens=unused or None,
            )
        continued = [token for token in output[0, len(start) :].tolist() if token != encoder.facts["eos"]]
        texts.append(f"{prompt} → {encoder.decode(continued)}" if is_chat else prompt + encoder.decode(continued))
    network.train(was_training)
    return texts


def _begun(encoder: Any, text: str) -> list[int]:
    """A text at the beginning of a document."""
    return [encoder.facts["eos"], *encoder.encode_texts([text])[0].tolist()]


def _asked(encoder: Any, text: str) -> list[int]:
    """A question to be answered."""
    return [int(each) for each in encoder.prompt([{"role": "user", "content": text}])]


def write_layout(
    layout: str, weights_folder: Path, encoder_folder: Path, generation: dict[str, Any], folder: Path
) -> None:
    """Write the files of a released layout, the card excepted.

    Args:
        layout: a key of `schema.LAYOUTS`.
        weights_folder: what `save` wrote.
        encoder_folder: a fitted tokenizer, loadable by AutoTokenizer.
        generation: fields of `generation_config.json` besides the ids of special tokens, as `release.check_package`
            accepts them.
        folder: receives the files; made if missing.
    """
    from transformers import AutoConfig, GenerationConfig

    ids = AutoConfig.from_pretrained(weights_folder, local_files_only=True)
    settings = GenerationConfig(
        bos_token_id=ids.bos_token_id, eos_token_id=ids.eos_token_id, pad_token_id=ids.pad_token_id, **generation
    )
    folder.mkdir(parents=True, exist_ok=True)
    if "generation_config.json" in LAYOUTS[layout]:
        settings.save_pretrained(folder)
    for name in LAYOUTS[layout]:
        if name == "generation_config.json":
            continue
        source = weights_folder if (weights_folder / name).is_file() else encoder_folder
        shutil.copyfile(source / name, folder / name)


def take_in(source: Path, layout: str, folder: Path) -> None:
    """Copy somebody else's model, the files of a layout alone, adding what older folders derive when they are loaded.

    Args:
        source: a folder that save_pretrained wrote.
        layout: a key of `schema.LAYOUTS`.
        folder: receives the files; made if missing.

    Raises:
        Mismatch: the folder is not there, has no safetensors, lacks a file, or is of a kind transformers cannot load.
    """
    from transformers import AutoConfig, GenerationConfig

    where = f"'source: path:{source}'"
    require_safetensors(where, source, "AutoModelForCausalLM", in_parts=layout in FOREIGN)
    derived = "generation_config.json"
    made = (derived, WEIGHTS_NAME)
    missing = [file for file in LAYOUTS[layout] if file not in made and not (source / file).is_file()]
    if missing:
        raise Mismatch(f"{where} holds no {', '.join(missing)}; {_what_to_add(source, layout)}")
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, OSError) as error:
        raise Mismatch(f"{where}: config.json is not one transformers can load: {error}. Change 'source'.") from error
    if layout in FOREIGN:
        _require_language_model(source, config)
    folder.mkdir(parents=True, exist_ok=True)
    for file in LAYOUTS[layout]:
        if file != WEIGHTS_NAME and (source / file).is_file():
            shutil.copyfile(source / file, folder / file)
    join_weights(source, folder / WEIGHTS_NAME)
    if not (folder / derived).is_file():
        GenerationConfig.from_model_config(config).save_pretrained(folder)


def _what_to_add(source: Path, layout: str) -> str:
    """What to do about a folder that lacks files of a layout."""
    if layout == "causal-lm" and (source / "spiece.model").is_file():
        return "its tokenizer is a SentencePiece model alone, so write 'layout: causal-lm-spiece' into the recipe."
    hint = "save_pretrained of model and tokenizer writes them"
    if layout not in FOREIGN:
        hint += ", spiece.model is the tokenizer's SentencePiece file"
    return f"the layout '{layout}' has {', '.join(LAYOUTS[layout])}. Add them: {hint}."
