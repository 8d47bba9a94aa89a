"""How a released tower or pair of towers is used and proven equal to its weights, by libraries of its users only.

Probes are pictures, told by what is drawn, and captions. Answers are named tensors: features or logits of each picture,
features and ids of each caption; of a captioner the ids that it writes.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.clip.schema import LAYOUTS, Dual
from models.packaging import layout_problems, useless_keys

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

COLOURS = ((220, 30, 30), (30, 60, 210), (250, 210, 40))
# The size that a tower takes is one side of the second; the others are scaled and cut.
PROBES = (
    {"kind": "picture", "size_px": (48, 48)},
    {"kind": "picture", "size_px": (97, 64)},
    {"kind": "picture", "size_px": (256, 300)},
    {"kind": "caption", "text": "白い背景に赤い丸"},
    {"kind": "caption", "text": "左に青い四角、右に黄色い三角"},
    {"kind": "caption", "text": "Ａ4の紙とcafé、🙂"},
)
NUM_WRITTEN = 8
"""Ids that a captioner is asked for."""


def check_package(package: Any) -> list[str]:
    """What this family cannot release as the section `package` asks, in words; empty if it can."""
    why = "a model of pictures says no text"
    return layout_problems(package, LAYOUTS) + useless_keys(package, ("generation", "example_prompt"), why)


def probes(example: str | None) -> list[dict[str, Any]]:  # noqa: ARG001 - a prompt is of text
    """What a model is asked."""
    return [dict(each) for each in PROBES]


def drawn(probe: dict[str, Any]) -> "Image":
    """The picture that a probe tells of: a disc, a square and a triangle over a gradient."""
    import numpy as np
    from PIL import Image, ImageDraw

    width, height = probe["size_px"]
    across, down = np.meshgrid(np.arange(width) * 255 // width, np.arange(height) * 255 // height)
    image = Image.fromarray(np.stack([across, down, (across + down) // 2], axis=2).astype(np.uint8))
    draw, (x, y) = ImageDraw.Draw(image), (width // 8, height // 8)
    draw.ellipse((x, y, 3 * x, 3 * y), fill=COLOURS[0])
    draw.rectangle((4 * x, y, 6 * x, 4 * y), fill=COLOURS[1])
    draw.polygon([(2 * x, 7 * y), (4 * x, 5 * y), (6 * x, 7 * y)], fill=COLOURS[2])
    return image


# ---- answers ---------------------------------------------------------------------------------------------------------


def answer(network: Any, encoder: Any, asked: list[dict[str, Any]]) -> dict[str, "torch.Tensor"]:
    """What trained weights compute, with the ids that the encoder makes of captions."""
    from models.clip import convert

    size = (network.tower if hasattr(network, "tower") else network).config.image_size
    ids_of = (lambda text: encoder.ids_of([text])[0].tolist()) if hasattr(network, "tower") else None
    return _answer(network, asked, convert.processor(size), ids_of)


def answer_of_folder(folder: Path, asked: list[dict[str, Any]]) -> dict[str, "torch.Tensor"]:
    """What a release computes, loaded the way its card says; other people's as transformers loads them."""
    from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, AutoTokenizer

    from models.clip import convert
    from models.clip.client import is_client
    from models.clip.timm import is_timm, processor_of

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    processor = processor_of(folder) if is_timm(folder) else AutoImageProcessor.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder) if (folder / "tokenizer.json").is_file() else None
    network: Any
    if is_timm(folder) or is_client(config) or config["model_type"] == "blip":
        network = convert.load(folder)
    elif "ViTForImageClassification" in (config.get("architectures") or []):
        network = AutoModelForImageClassification.from_pretrained(folder, use_safetensors=True)
    else:
        network = AutoModel.from_pretrained(folder, use_safetensors=True)
    ids_of = (lambda text: tokenizer(text, truncation=True)["input_ids"]) if tokenizer is not None else None
    return _answer(network.eval(), asked, processor, ids_of)


def _answer(network: Any, asked: list[dict[str, Any]], processor: Any, ids_of: Any) -> dict[str, "torch.Tensor"]:
    """Pass pictures and captions through a network one at a time."""
    import torch

    found: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for number, probe in enumerate(asked):
            if probe["kind"] == "picture":
                pixels = processor(drawn(probe), return_tensors="pt")["pixel_values"]
                found[f"what it sees in {number} picture"] = _seen(network, pixels)[0].clone()
            elif ids_of is not None and not hasattr(network, "text_decoder"):
                ids = torch.tensor([ids_of(probe["text"])])
                found[f"the ids of {number} caption"] = ids[0]
                found[f"what it reads in {number} caption"] = _read(network, ids)[0].clone()
    return found


def _seen(network: Any, pixels: "torch.Tensor") -> "torch.Tensor":
    """Features or logits of a picture, ids of what is written about it; whatever class a network is of."""
    found: Any
    if hasattr(network, "text_decoder"):
        return network.generate(pixel_values=pixels, max_new_tokens=NUM_WRITTEN, do_sample=False, num_beams=1)
    if hasattr(network, "image_features"):
        return network.image_features(pixels)
    if hasattr(network, "get_image_features"):
        found = network.get_image_features(pixel_values=pixels)
        return getattr(found, "pooler_output", found)  # a tensor in version 4 of transformers
    found = network(pixel_values=pixels)
    return found.logits if hasattr(found, "logits") else found.last_hidden_state[:, 0]


def _read(network: Any, ids: "torch.Tensor") -> "torch.Tensor":
    """Features of a caption."""
    import torch

    mask = torch.ones_like(ids)
    if hasattr(network, "text_features"):
        return network.text_features(ids, mask)
    found = network.get_text_features(input_ids=ids, attention_mask=mask)
    return getattr(found, "pooler_output", found)


# ---- the card --------------------------------------------------------------------------------------------------------


def example(name: str, network: Any, package: Any, facts: dict[str, Any]) -> str:
    """The program on a card: how near a drawn picture is to three captions, or what a tower sees in it.

    Args:
        name: what the release is called; the program finds its folder under this name.
        network: the recipe's section of the network.
        package: the recipe's section of the package, whose first layout it is for.
        facts: the encoder's.
    """
    if not isinstance(network, Dual):
        lines = _naming_by_group(name) if facts.get("groups") else _naming(name, bool(facts.get("many")))
    elif package.layouts[0] == "japanese-clip":
        lines = _comparing_by_hand(name)
    else:
        lines = _comparing(name)
    return "\n".join(lines) + "\n"


_PICTURE = [
    'picture = Image.new("RGB", (256, 256), "white")  # or Image.open(PATH).convert("RGB")',
    'ImageDraw.Draw(picture).ellipse((80, 80, 176, 176), fill="red")',
]
_CAPTIONS = 'captions = ["赤い丸", "青い四角", "黄色い三角"]'
_PRINT = ["for caption, cosine in zip(captions, cosines.tolist()):", '    print(f"{cosine:6.3f}  {caption}")']


def _comparing(name: str) -> list[str]:
    return [
        "import torch",
        "from PIL import Image, ImageDraw",
        "from transformers import AutoModel, AutoProcessor",
        "",
        f'name = "{name}"  # the folder of this page, or its repository on the Hub',
        "model, processor = AutoModel.from_pretrained(name), AutoProcessor.from_pretrained(name)",
        *_PICTURE,
        _CAPTIONS,
        'inputs = processor(text=captions, images=picture, padding=True, truncation=True, return_tensors="pt")',
        "with torch.inference_mode():",
        "    found = model(**inputs)",
        "cosines = (found.image_embeds @ found.text_embeds.T)[0]",
        *_PRINT,
    ]


def _comparing_by_hand(name: str) -> list[str]:
    """Without the client, whose library of transformers is another one than that of this page."""
    return [
        "# With rinna's client: model, transform = japanese_clip.load(name)",
        "import json",
        "from pathlib import Path",
        "",
        "import torch",
        "from PIL import Image, ImageDraw",
        "from safetensors.torch import load_file",
        "from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, BertModel, ViTModel",
        "from transformers.utils import cached_file",
        "",
        f'name = "{name}"  # the folder of this page, or its repository on the Hub',
        'config = json.loads(Path(cached_file(name, "config.json")).read_text())',
        'tensors = load_file(cached_file(name, "model.safetensors"))',
        "",
        "def tower(kind, part):",
        "    own = {key.removeprefix(part): value for key, value in tensors.items() if key.startswith(part)}",
        '    sizes = AutoConfig.for_model(**config[part.replace("model.", "config")])',
        "    return kind.from_pretrained(None, config=sizes, state_dict=own, add_pooling_layer=False)",
        "",
        'images, texts = tower(ViTModel, "vision_model."), tower(BertModel, "text_model.")',
        "processor, tokenizer = AutoImageProcessor.from_pretrained(name), AutoTokenizer.from_pretrained(name)",
        *_PICTURE,
        _CAPTIONS,
        "with torch.inference_mode():",
        '    seen = images(**processor(picture, return_tensors="pt")).last_hidden_state[:, 0]',
        '    read = texts(**tokenizer(captions, padding=True, return_tensors="pt")).last_hidden_state[:, 0]',
        'seen, read = seen @ tensors["visual_projection.weight"].T, read @ tensors["text_projection.weight"].T',
        "cosines = torch.cosine_similarity(seen, read)",
        *_PRINT,
    ]


def _naming(name: str, is_many: bool) -> list[str]:
    shares = "sigmoid()" if is_many else "softmax(1)"
    return [
        *_seeing(name),
        f'    shares = model(**processor(picture, return_tensors="pt")).logits.{shares}[0]',
        "for number in shares.topk(min(3, len(shares))).indices.tolist():",
        '    print(f"{shares[number]:.3f}  {model.config.id2label[number]}")',
    ]


def _naming_by_group(name: str) -> list[str]:
    return [
        *_seeing(name),
        '    logits = model(**processor(picture, return_tensors="pt")).logits[0]',
        "first = 0",
        "for size in model.config.label_groups.values():  # one name of each group",
        "    share, number = logits[first : first + size].softmax(0).max(0)",
        '    print(f"{share:.3f}  {model.config.id2label[first + int(number)]}")',
        "    first += size",
    ]


def _seeing(name: str) -> list[str]:
    return [
        "import torch",
        "from PIL import Image, ImageDraw",
        "from transformers import AutoImageProcessor, AutoModelForImageClassification",
        "",
        f'name = "{name}"  # the folder of this page, or its repository on the Hub',
        "processor = AutoImageProcessor.from_pretrained(name)",
        "model = AutoModelForImageClassification.from_pretrained(name)",
        *_PICTURE,
        "with torch.inference_mode():",
    ]


def limits(network: Any, layout: str) -> str:
    """What a card says of a layout beside what its recipe knows.

    Args:
        network: the recipe's section of the network.
        layout: a key of `schema.LAYOUTS`.
    """
    if not isinstance(network, Dual):
        return ""
    scaled = "Pictures are scaled by Pillow. Where torchvision is installed, transformers scales with it instead, and"
    told = [f"{scaled} features differ a little."]
    if layout == "transformers":
        told.append(
            "The towers of this model have no poolers. VisionTextDualEncoderModel wants some, so they multiply by a "
            "small power of two, and the projections by its inverse: in fp32 the features are exactly those of the "
            "model that was trained. bf16 rounds as it always does; fp16 is too narrow for these numbers. Whoever "
            "trains on freezes the poolers."
        )
    elif layout == "japanese-clip":
        told.append(
            "This layout is for rinna's client `japanese_clip` 0.2, which needs transformers 4.44 and huggingface_hub "
            "0.25 or older; `japanese_clip.tokenize` takes the tokenizer of this folder. Do not load it with "
            "`AutoModel`: a folder of type `clip` becomes a network of another architecture with random weights there, "
            "without an error. The layout `transformers` has the same weights for everybody else."
        )
    return "\n\n".join(told)
