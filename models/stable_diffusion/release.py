"""How a released Stable Diffusion or autoencoder is used and proven equal to its weights, by its users' libraries only.

Probes are prompts, or pictures told by what is drawn. Answers are named tensors: of prompts the ids, the states of the
text encoder and one picture; of an autoencoder the latents and what becomes of them.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.packaging import layout_problems, useless_keys
from models.stable_diffusion.schema import FOREIGN, LAYOUTS, Vae

if TYPE_CHECKING:
    import torch

PROMPTS = ("サラリーマン 油絵", "白い背景に赤い丸", "Ａ4の紙とcafé、🙂", "")
"""The first is that of the paper's figure 1."""
SEED, NUM_STEPS, GUIDANCE_SCALE = 0, 2, 7.5
"""Of the one picture that is compared."""
EXAMPLE_STEPS = 25


def check_package(package: Any) -> list[str]:
    """What this family cannot release as the section `package` asks, in words; empty if it can."""
    own = [layout for layout in LAYOUTS if layout not in FOREIGN]
    why = "diffusers keeps no settings of this kind"
    return layout_problems(package, own) + useless_keys(package, ("generation",), why)


def probes(example: str | None) -> list[dict[str, Any]]:
    """What a model is asked; the first prompt is drawn."""
    return [{"text": text} for text in dict.fromkeys([*([example] if example else []), *PROMPTS])]


# ---- answers ---------------------------------------------------------------------------------------------------------


def answer(network: Any, encoder: Any, asked: list[dict[str, Any]]) -> dict[str, "torch.Tensor"]:
    """What trained weights compute, with the ids that the encoder makes of prompts."""
    if not hasattr(network, "unet"):
        return _of_autoencoder(network)
    import torch

    from models.stable_diffusion.sampling import pipeline_of

    pipeline = pipeline_of(network, encoder.folder)
    rows = [torch.from_numpy(encoder.padded(encoder.ids_of([each["text"]]))) for each in asked]
    return _of_pipeline(pipeline, asked, rows)


def answer_of_folder(folder: Path, asked: list[dict[str, Any]]) -> dict[str, "torch.Tensor"]:
    """What a release computes, loaded the way its card says; other people's without their safety checkers."""
    from diffusers import AutoencoderKL

    from models.stable_diffusion.sampling import open_pipeline

    if not (folder / "model_index.json").is_file():
        return _of_autoencoder(AutoencoderKL.from_pretrained(str(folder), use_safetensors=True).eval())
    pipeline = open_pipeline(folder)
    tokenizer = pipeline.tokenizer
    padding = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True}
    rows = [tokenizer([each["text"]], return_tensors="pt", **padding).input_ids for each in asked]
    return _of_pipeline(pipeline, asked, rows)


def _of_pipeline(pipeline: Any, asked: list[dict[str, Any]], rows: list["torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    import torch

    from models.stable_diffusion.sampling import pictures

    found: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for number, ids in enumerate(rows):
            found[f"the ids of prompt {number}"] = ids[0].clone()
            found[f"the states of prompt {number}"] = pipeline.text_encoder(input_ids=ids)[0][0].clone()
    drawn = pictures(pipeline, [asked[0]["text"]], [SEED], NUM_STEPS, GUIDANCE_SCALE)
    found["the picture of prompt 0"] = torch.from_numpy(drawn[0])
    return found


def _of_autoencoder(network: Any) -> dict[str, "torch.Tensor"]:
    import torch

    side = int(network.config.sample_size)
    across = torch.linspace(-1, 1, side)
    pixels = torch.stack([across.expand(side, side), across[:, None].expand(side, side), torch.zeros(side, side)])[None]
    with torch.inference_mode():
        latents = network.encode(pixels).latent_dist.mean
        return {"the latents": latents[0].clone(), "what becomes of them": network.decode(latents).sample[0].clone()}


# ---- the card --------------------------------------------------------------------------------------------------------


def example(name: str, network: Any, package: Any, facts: dict[str, Any]) -> str:
    """The program on a card: a picture for a prompt, and another one from it; or a picture through an autoencoder.

    Args:
        name: what the release is called; the program finds its folder under this name.
        network: the recipe's section of the network.
        package: the recipe's section of the package, whose first layout it is for.
        facts: the encoder's.
    """
    del facts
    if isinstance(network, Vae):
        lines = _through(name, network.size_px)
    else:
        lines = _drawing(name, getattr(package, "example_prompt", None) or PROMPTS[0])
    return "\n".join(lines) + "\n"


def _drawing(name: str, prompt: str) -> list[str]:
    return [
        "import torch",
        "from diffusers import AutoPipelineForImage2Image, AutoPipelineForText2Image",
        "",
        f'name = "{name}"  # the folder of this page, or its repository on the Hub',
        "pipeline = AutoPipelineForText2Image.from_pretrained(name)",
        "pipeline.set_progress_bar_config(disable=True)",
        f"prompt = {json.dumps(prompt, ensure_ascii=False)}",
        "generator = torch.Generator().manual_seed(0)",
        f"picture = pipeline(prompt, num_inference_steps={EXAMPLE_STEPS}, generator=generator).images[0]",
        'picture.save("picture.png")',
        "",
        "# The same weights change a picture towards a prompt.",
        "changing = AutoPipelineForImage2Image.from_pipe(pipeline)",
        f"changed = changing(prompt, picture, strength=0.5, num_inference_steps={EXAMPLE_STEPS}).images[0]",
        "print(picture.size, changed.size)",
    ]


def _through(name: str, size_px: int) -> list[str]:
    return [
        "import torch",
        "from diffusers import AutoencoderKL",
        "",
        f'name = "{name}"  # the folder of this page, or its repository on the Hub',
        "model = AutoencoderKL.from_pretrained(name)",
        f"pixels = torch.zeros(1, 3, {size_px}, {size_px})  # between -1 and 1",
        "with torch.inference_mode():",
        "    latents = model.encode(pixels).latent_dist.mean * model.config.scaling_factor",
        "    restored = model.decode(latents / model.config.scaling_factor).sample",
        "print(tuple(latents.shape), tuple(restored.shape))",
    ]


def limits(network: Any, layout: str) -> str:  # noqa: ARG001 - as every family has it
    """What a card says of a layout beside what its recipe knows.

    Args:
        network: the recipe's section of the network.
        layout: a key of `schema.LAYOUTS`.
    """
    if isinstance(network, Vae):
        return ""
    return (
        "There is no safety checker in this folder: whoever shows pictures to others looks at them first, or adds one. "
        "The model draws what its captions and pictures associate, also about people and groups of people; it must not "
        "be used to make pictures of real persons without their consent, or that deceive, demean or harm.\n\n"
        "The text encoder reads prompts with their padding and without a mask, as it was trained: give prompts to the "
        "pipeline, which pads them."
    )
