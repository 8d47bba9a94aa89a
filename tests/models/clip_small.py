"""Towers of a few thousand parameters, and pairs of chance for them."""

import json
from pathlib import Path
from typing import Any

import torch

from models.clip.network import build, equip
from models.clip.schema import Clip, Cloob, Dual, ImageTower, Siglip

VISION: dict[str, Any] = {
    "kind": "image-tower", "num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "size_px": 48,
    "patch_px": 16,
}  # fmt: skip
TEXT = {"num_layers": 2, "hidden_size": 24, "num_heads": 2, "intermediate_size": 48, "num_positions": 80}
PAIR: dict[str, Any] = {"kind": "dual", "tower": "small", "tower_width": 32, "text": TEXT, "projection_size": 16}
FACTS = {"vocab_size": 300, "pad": 3, "cls": 4, "max_tokens": 77}
OBJECTIVES: dict[str, Any] = {"clip": Clip, "cloob": Cloob, "siglip": Siglip}


def tower(seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return build(ImageTower(**(VISION | changes)), {"num_labels": 3, "labels": ["a", "b", "c"]}).eval()


def pair(kind: str = "clip", seed: int = 0, with_tower: bool = True, **changes: Any) -> Any:
    torch.manual_seed(seed)
    network: Any = build(Dual(**(PAIR | changes)), FACTS)
    equip(network, OBJECTIVES[kind](kind=kind))
    if with_tower:
        network.tower = tower(seed).vit.requires_grad_(False)
    return network.eval()


def pairs(rows: int = 7, tokens: int = 9, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, tokens + 1, (rows, 1), generator=generator)
    mask = (torch.arange(tokens) < lengths).long()
    ids = torch.randint(5, FACTS["vocab_size"], (rows, tokens), generator=generator)
    features = torch.randn(rows, 32, generator=generator)
    return {"features": features, "ids": torch.where(mask > 0, ids, FACTS["pad"]), "mask": mask}


def in_double(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: each.double() if each.is_floating_point() else each for key, each in batch.items()}


def write_encoder(folder: Path) -> Any:
    """An encoder of captions as `fit` leaves it, of 300 pieces of a few sentences."""
    import io

    import sentencepiece

    from components import tokenizer_json
    from components.modalities.image.encoder_schema import CLS, MASK, SEP
    from components.modalities.image.tokens import open_encoder

    folder.mkdir(parents=True)
    names = tokenizer_json.SPECIALS
    colours, things, places = "赤青黄白黒緑", ("丸", "四角", "三角", "星"), ("左", "右", "上", "下")
    lines = [f"{place}に{one}い{thing}、{other}い背景" for one in colours for other in colours for thing in things
             for place in places]  # fmt: skip
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=stream, model_type="bpe", vocab_size=300, byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
        user_defined_symbols=[CLS, SEP, MASK], minloglevel=2, hard_vocab_limit=False,
        **{f"{role}_id": number for number, role in enumerate(names)},
        **{f"{role}_piece": piece for role, piece in names.items()},
    )  # fmt: skip
    model = tokenizer_json.reserved(stream.getvalue(), [CLS, SEP, MASK])
    more = {"cls_token": CLS, "sep_token": SEP, "mask_token": MASK, "padding_side": "right", "model_max_length": 77}
    tokenizer_json.write(model, folder, True, CLS, **more)
    (folder / "captions.json").write_text(json.dumps({"max_tokens": 77, "lower_case": True}))
    return open_encoder(folder)
