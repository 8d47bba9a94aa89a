"""A BLIP of a few kilobytes with its tokenizer, whose weights are chance: it says the same nonsense every time."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil, PreTrainedTokenizerFast

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TEXT = {"vocab_size": 60, "bos_token_id": 4, "sep_token_id": 5, "pad_token_id": 3, "eos_token_id": 5}


def write_captioner(folder: Path, seed: int = 0) -> None:
    """The folder of somebody else's captioner."""
    torch.manual_seed(seed)
    config = BlipConfig(
        text_config=SIZES | TEXT | {"encoder_hidden_size": 32, "max_position_embeddings": 40},
        vision_config=SIZES | {"image_size": 48, "patch_size": 16},
        projection_dim=16,
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 48, "width": 48}).save_pretrained(folder)
    words = {"[UNK]": 0, "[PAD]": 3, "[DEC]": 4, "[SEP]": 5, "[CLS]": 1, "[MASK]": 2}
    words |= {f"word{number}": number for number in range(6, 60)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        bos_token="[DEC]",
        sep_token="[SEP]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
