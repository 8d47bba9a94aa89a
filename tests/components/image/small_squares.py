"""Pictures of coloured squares with captions, as `ingest` and `validate` would leave them, and encoders of them."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from components import paths
from components.fit import fit
from components.manifest import Manifest, writing
from models.clip import convert
from models.clip.network import build
from models.clip.schema import ImageTower
from tests.components.speech.small_speech import write_records, write_yaml

SIDE = 32
COLOURS = {"赤": (220, 40, 30), "青": (30, 60, 210), "緑": (30, 160, 60), "黄": (240, 210, 40), "白": (240, 240, 240)}
PLACES = {"左上": (3, 3), "右上": (18, 3), "左下": (3, 18), "右下": (18, 18)}
SYMBOLS = ["[CLS]", "[SEP]", "[MASK]"]
COLUMNS: dict[str, Any] = {
    "picture": {"modality": "image", "form": "picture"},
    "captions": {"modality": "image", "form": "captions"},
    "foils": {"modality": "image", "form": "foils"},
    "label": {"modality": "image", "form": "label"},
    "marks": {"modality": "image", "form": "labels"},
}
CORPUS: dict[str, Any] = {
    "description": "Squares.",
    "language": "ja",
    "licence": "CC0-1.0",
    "source": {"kind": "files", "paths": ["squares"]},
    "columns": COLUMNS,
    "splits": {"valid": 0.1, "test": 0.1},
}
WORDS = CORPUS | {"description": "Captions.", "columns": {"text": {"modality": "text"}}}
TOWER: dict[str, Any] = {
    "kind": "image-tower", "num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "size_px": 24,
    "patch_px": 8,
}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {
    "spm": {"kind": "sentencepiece", "corpora": [{"corpus": "words"}], "vocab_size": 320, "symbols": SYMBOLS},
    "pixels": {"kind": "pixels", "size_px": 24},
    "tower": {"kind": "tower", "model": "small-vit", "size_px": 24, "dtype": "fp32"},
    "half": {"kind": "tower", "model": "small-vit", "size_px": 24},
    "captions": {"kind": "captions", "tokenizer": "spm", "corpora": [{"corpus": "squares"}]},
    "labels": {"kind": "labels", "corpora": [{"corpus": "squares"}]},
    "marks": {"kind": "labels", "column": "marks", "many": True, "corpora": [{"corpus": "squares"}]},
}


def square(colour: str, background: str, place: str, side: int = SIDE) -> Image.Image:
    image = Image.new("RGB", (side + 8, side), COLOURS[background])
    left, top = PLACES[place]
    ImageDraw.Draw(image).rectangle([left, top, left + 10, top + 10], fill=COLOURS[colour])
    return image


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def small_records(num_records: int = 48) -> list[dict[str, Any]]:
    """Squares of all kinds; every fourth has the caption of the one before, every sixth its picture."""
    names = list(COLOURS)
    records: list[dict[str, Any]] = []
    for number in range(num_records):
        colour, background = names[number % 5], names[(number + 1 + number // 5 % 4) % 5]
        place = list(PLACES)[number % 4]
        web = f"{background}い背景の{place}に{colour}い四角がある"
        generated = f"{colour}い四角 {number}"
        before = records[-1] if records else {}
        captions = [["web", web], ["generated", generated], ["generated", f"{place}の四角 {number}"]]
        other = next(each for each in names if each not in (colour, background))
        records.append(
            {
                "id": f"{number:03d}",
                "split": "valid" if number % 8 == 1 else "test" if number % 8 == 2 else "train",
                "licence": "CC0-1.0",
                "source": "squares",
                "picture": before["picture"] if number % 6 == 5 else png(square(colour, background, place)),
                "captions": before["captions"] if number % 4 == 3 else json.dumps(captions, ensure_ascii=False),
                "foils": json.dumps([["colour", web.replace(colour, other)]], ensure_ascii=False),
                "label": f"{colour}い四角",
                "marks": json.dumps(sorted([colour, f"後ろ{background}", place]), ensure_ascii=False),
            }
        )
    return records


def write_tower(name: str = "small-vit", width: int = 16, seed: int = 0) -> None:
    """A tower with random weights, as `pretrain` leaves it, and its recipe."""
    section = {**TOWER, "hidden_size": width}
    torch.manual_seed(seed)
    network = build(ImageTower(**section), {"num_labels": 3, "labels": ["a", "b", "c"]})
    with writing(Manifest("pretrain", name, {}, licence="CC0-1.0")) as folder:
        convert.save(network, folder / "weights")
    recipe = {
        "family": "clip", "description": "A tower.", "language": "ja", "licence": "CC0-1.0", "network": section,
        "encoder": "labels",
        "pretrain": {
            "objective": {"kind": "labels"}, "shards": [{"shards": "squares+labels"}], "num_steps": 1,
            "samples": {
                "form": "labelled", "pictures": ["squares+pixels"], "batch_samples": 4, "micro_batch_samples": 4
            },
            "optimizer": {"learning_rate": 0.001},
        },
        "evaluate": {"tasks": ["labels"]},
        "package": {"layouts": ["tower"], "title": "A", "summary": "A.", "limits": "None."},
    }  # fmt: skip
    write_yaml(paths.RECIPES / f"{name}.yaml", recipe)


def write_project(records: list[dict[str, Any]], corpus: str = "squares") -> None:
    """The recipes of two corpora and their encoders, and the records of both, in the folder where this process is."""
    write_yaml(paths.RECIPES / "corpora" / f"{corpus}.yaml", CORPUS)
    write_yaml(paths.RECIPES / "corpora" / "words.yaml", WORDS)
    for name, encoder in ENCODERS.items():
        write_yaml(paths.RECIPES / "encoders" / f"{name}.yaml", encoder)
    write_records(records, corpus)
    texts = [text for record in records for _, text in json.loads(record["captions"])]
    rows = [
        {"id": f"w{number}", "split": "valid" if number % 9 == 1 else "train", "licence": "CC0-1.0", "source": "words",
         "text": text}
        for number, text in enumerate(texts)
    ]  # fmt: skip
    write_records(rows, "words")
    write_tower()
    fit("spm")


def change(path: Path, **keys: Any) -> None:
    """Change keys of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | keys), encoding="utf-8")
