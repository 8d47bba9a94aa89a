"""The tokenizer of OpenAI's CLIP in the files that both versions 4 and 5 of transformers read.

Version 5 saves a CLIPTokenizer as tokenizer.json and tokenizer_config.json alone, version 4 as vocab.json, merges.txt
and two files of settings. The second form is the older one and stands in CompVis/stable-diffusion-v1-4; so a layout has
it, whichever of them a folder was saved in.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from models.objective import Mismatch

JSON_NAME, CONFIG_NAME = "tokenizer.json", "tokenizer_config.json"
VOCABULARY_NAME, MERGES_NAME, SPECIAL_NAME = "vocab.json", "merges.txt", "special_tokens_map.json"
FILES = (MERGES_NAME, SPECIAL_NAME, CONFIG_NAME, VOCABULARY_NAME)
WORD_END = "</w>"
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


def is_of_version_5(folder: Path) -> bool:
    """Whether a tokenizer's folder has the files of version 5 alone.

    Raises:
        Mismatch: it has those of neither.
    """
    if (folder / VOCABULARY_NAME).is_file():
        return False
    if not (folder / JSON_NAME).is_file() or not (folder / CONFIG_NAME).is_file():
        raise Mismatch(
            f"{folder} holds no CLIPTokenizer, expected {JSON_NAME} and {CONFIG_NAME}, or {', '.join(FILES)}. Write it "
            "with save_pretrained of diffusers' StableDiffusionPipeline, or change 'source'."
        )
    return True


def write_as_version_4(source: Path, folder: Path) -> None:
    """Write the files of version 4 from those of version 5.

    Args:
        source: the tokenizer's folder.
        folder: receives the files; made if missing.

    Raises:
        Mismatch: it is no CLIPTokenizer, or has tokens for which the older files have no place.
    """
    content = json.loads((source / JSON_NAME).read_text(encoding="utf-8"))
    settings = json.loads((source / CONFIG_NAME).read_text(encoding="utf-8"))
    model: dict[str, Any] = content["model"]
    if model.get("type") != "BPE" or model.get("end_of_word_suffix") != WORD_END:
        raise Mismatch(
            f"{source / JSON_NAME} is of the type {model.get('type')} with words that end in "
            f"{model.get('end_of_word_suffix')!r}, expected a CLIPTokenizer: BPE with {WORD_END!r}. Name another "
            "layout with the key 'layout', or another 'source'."
        )
    added = [each["content"] for each in content.get("added_tokens", []) if each["content"] not in model["vocab"]]
    if added:
        raise Mismatch(
            f"{source / JSON_NAME} has tokens besides its vocabulary: {', '.join(added[:3])}, expected none, as the "
            "tokenizer of CLIP has none. Take them out of it, or change 'source'."
        )
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    (folder / MERGES_NAME).write_text("\n".join(["#version: 0.2", *pairs, ""]), encoding="utf-8")
    named = {key: settings[key] for key in SPECIAL if settings.get(key) is not None}
    for name, found in ((VOCABULARY_NAME, model["vocab"]), (SPECIAL_NAME, named)):
        (folder / name).write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copyfile(source / CONFIG_NAME, folder / CONFIG_NAME)
