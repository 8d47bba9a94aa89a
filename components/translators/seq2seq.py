"""Translation by an encoder-decoder of transformers on this machine."""

import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.devices import set_threads, uses_gpu
from components.manifest import tree_hash
from components.outcomes import Refused
from components.translators.schema import Seq2Seq
from components.translators.units import WITHOUT_SPACES
from components.wording import one_line

LONGEST_TOKENS = 1024
"""Of one text, where neither model nor tokenizer says less."""
CUT = re.compile(r"[\s,、，;；]+")
MADE_BY_TORCH = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def open_engine(section: Seq2Seq, source: str, target: str) -> "Translator":
    """Load the model and its tokenizer.

    Args:
        section: names them.
        source: the language of the texts.
        target: the language of the translations.

    Raises:
        Refused: there is no such folder or commit, it holds weights only as a pickle, or is no encoder-decoder.
    """
    folder = _located(section)
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in MADE_BY_TORCH)
        there = f"only {', '.join(pickles)}, which may run code when it is read" if pickles else "no weights"
        raise Refused(
            f"{section.model} holds {there}; expected safetensors. Load it where you trust it and write it anew with "
            "save_pretrained, or name another model under source.engine.model."
        )
    set_threads()
    return Translator(section, source, target, folder)


def _located(section: Seq2Seq) -> Path:
    if section.folder is not None:
        folder = Path(section.folder)
        if not (folder / "config.json").is_file():
            raise Refused(
                f"{folder} has no config.json, so it is no model, expected a folder that save_pretrained filled. Bring "
                "it there, or change source.engine.model."
            )
        return folder
    from huggingface_hub import snapshot_download

    name, _, revision = section.model.removeprefix("hub:").partition("@")
    try:
        wanted = ["*.json", "*.safetensors", "*.model", "*.spm", "*.txt"]
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except Exception as error:  # the library raises many kinds: no network, no such commit, no right to it
        raise Refused(
            f"{section.model} cannot be had: {one_line(error)}. Check name, commit and network, or bring a folder and "
            "name it as path:FOLDER under source.engine.model."
        ) from error


class Translator:
    """A loaded encoder-decoder; the same texts in the same batches give the same translations on one machine."""

    def __init__(self, section: Seq2Seq, source: str, target: str, folder: Path) -> None:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self.section = section
        codes = {"src_lang": section.source_code, "tgt_lang": section.target_code}
        codes = {key: code for key, code in codes.items() if code}
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, **codes)
            self.network: Any = AutoModelForSeq2SeqLM.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        except (ValueError, OSError, KeyError, RuntimeError) as error:
            raise Refused(
                f"{section.model} is no encoder-decoder that transformers {version('transformers')} loads: "
                f"{one_line(error)}. Name another one under source.engine.model."
            ) from error
        self.device = "cuda" if uses_gpu() else "cpu"
        self.network.eval()
        self.options: dict[str, Any] = {
            "num_beams": section.num_beams,
            "max_new_tokens": section.max_new_tokens,
            "do_sample": False,
        }
        if section.target_code:
            begin = self.tokenizer.convert_tokens_to_ids(section.target_code)
            if begin is None or begin == self.tokenizer.unk_token_id:
                raise Refused(
                    f"The tokenizer of {section.model} does not know '{section.target_code}', expected the name of a "
                    "language in its vocabulary. Change source.engine.target_code."
                )
            self.options["forced_bos_token_id"] = begin
        positions = getattr(self.network.config, "max_position_embeddings", None) or LONGEST_TOKENS
        self.longest = min(positions, self.tokenizer.model_max_length, LONGEST_TOKENS)
        self.space = "" if target.split("-")[0] in WITHOUT_SPACES else " "
        decides = ("kind", "model", "prefix", "source_code", "target_code", "num_beams", "max_new_tokens")
        self.facts: dict[str, Any] = section.model_dump(include=set(decides), exclude_none=True)
        self.facts |= {"source": source, "target": target, "transformers": version("transformers")}
        if section.folder is not None:
            self.facts["content_hash"] = tree_hash(folder)

    def translate(self, texts: list[str]) -> Iterator[dict[str, str]]:
        """Translate texts, those of like length together; one too long for the model part by part."""
        import torch

        self.network.to(self.device)  # not before: whoever opens it may not hold the GPUs yet
        ordered = sorted(texts, key=lambda text: (len(text), text))
        for start in range(0, len(ordered), self.section.batch_texts):
            batch = {text: self._parts(text) for text in ordered[start : start + self.section.batch_texts]}
            asked = [self.section.prefix + part for parts in batch.values() for part in parts]
            inputs = self.tokenizer(asked, return_tensors="pt", padding=True)
            inputs.pop("token_type_ids", None)
            with torch.inference_mode():
                ids = self.network.generate(**inputs.to(self.device), **self.options)
            said = iter(self.tokenizer.batch_decode(ids, skip_special_tokens=True))
            yield {text: self.space.join(next(said).strip() for _ in parts) for text, parts in batch.items()}

    def _parts(self, text: str) -> list[str]:
        """A text, cut near its middle as often as it takes to fit the model, if it can be after a blank or a comma."""
        num_tokens = len(self.tokenizer(self.section.prefix + text, verbose=False)["input_ids"])
        if num_tokens <= self.longest or len(text) < 2:
            return [text]
        middle = len(text) // 2
        places = [found.end() for found in CUT.finditer(text) if found.end() < len(text)]
        place = min(places, key=lambda each: abs(each - middle), default=middle)
        return [*self._parts(text[:place].strip() or text[:place]), *self._parts(text[place:].strip() or text[place:])]
