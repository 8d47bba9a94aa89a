"""Captions that a released captioner (BLIP) writes of pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from models.clip.convert import load
from models.objective import Mismatch

if TYPE_CHECKING:
    from PIL.Image import Image


class Captioner:
    """A captioner with what turns pictures into its inputs and ids into words.

    Args:
        folder: the layout `captioner` of a package.
        device: where it computes.

    Raises:
        Mismatch: the folder holds another kind of network.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        from transformers import AutoImageProcessor, AutoTokenizer

        self.network: Any = load(folder)
        if not hasattr(self.network, "text_decoder"):
            raise Mismatch(f"{folder} holds no captioner (BlipForConditionalGeneration), so it cannot write captions.")
        self.network.to(device)
        self.device = device
        self.processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, use_fast=False)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    @torch.inference_mode()
    def describe(self, pictures: "list[Image]", **generation: Any) -> list[str]:
        """One caption of each picture, in the words of its network; empty where it says nothing.

        Args:
            pictures: in RGB, of any size.
            generation: settings of `generate`, such as `num_beams` and `max_new_tokens`.
        """
        pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"].to(self.device)
        ids = self.network.generate(pixel_values=pixels, **generation)
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]
