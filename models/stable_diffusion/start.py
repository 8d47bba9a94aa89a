"""What a training takes from other weights: the autoencoder, and text encoder, U-Net and scheduler to begin with."""

import filecmp
from pathlib import Path
from typing import Any

from models.objective import Mismatch, Setting
from models.stable_diffusion.schema import AlignedNoise, LatentDiffusion

SCHEDULER_KEYS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")


def autoencoder(section: LatentDiffusion, folder: Path) -> tuple[Any, Path]:
    """The autoencoder of a folder, ready to evaluate, and the folder of its files.

    Raises:
        Mismatch: there is none, or it is of another size.
    """
    from models.stable_diffusion.convert import INDEX_NAME, part_of_folder

    place = folder / "vae" if (folder / INDEX_NAME).is_file() else folder
    vae = part_of_folder(place, "vae")
    found, expected = sum(each.numel() for each in vae.parameters()), section.expected_vae_parameters
    if expected is not None and found != expected:
        raise Mismatch(
            f"the autoencoder of '{section.vae}' has {found:,} parameters, expected {expected:,} "
            "(network.expected_vae_parameters). Change the key network.vae, or the number if that one is meant."
        )
    if vae.config.latent_channels != section.latent_channels:
        raise Mismatch(
            f"the autoencoder of '{section.vae}' has {vae.config.latent_channels} channels, but "
            f"network.latent_channels is {section.latent_channels}. Change one of them."
        )
    return vae.eval(), place


def require_same_autoencoder(section: LatentDiffusion, start: Path, place: Path) -> None:
    """Refuse a U-Net to start from that has learnt the latents of another autoencoder than the recipe's.

    Args:
        section: the recipe's network.
        start: the folder of the weights to start from.
        place: that of the recipe's autoencoder.

    Raises:
        Mismatch: as it says.
    """
    from models.stable_diffusion.convert import WEIGHTS

    theirs, ours = start / "vae" / WEIGHTS["vae"], place / WEIGHTS["vae"]
    if theirs.is_file() and not theirs.samefile(ours) and not filecmp.cmp(theirs, ours, shallow=False):
        raise Mismatch(
            f"the U-Net in {start} was trained on the latents of the autoencoder beside it, which is not that of "
            f"'{section.vae}'. Name that one's recipe in the key network.vae, or change the key 'starts_from'."
        )


def started(section: LatentDiffusion, objective: AlignedNoise, setting: Setting) -> Any:
    """Text encoder, U-Net and scheduler as a training that starts from other weights begins with them.

    Raises:
        Mismatch: a part is missing, of another shape, or its captions had another tokenizer.
    """
    from models.stable_diffusion import network as networks
    from models.stable_diffusion.convert import part_of_folder, pieces_of, scheduler_of

    folder = setting.start
    assert folder is not None  # noqa: S101 - `begin` has looked
    unet = part_of_folder(folder / "unet", "unet")
    wanted = networks.unet_configuration(section.unet, section.latent_channels, section.text.hidden_size)
    _require_alike(wanted, dict(unet.config), "unet", "network.unet, network.text.hidden_size")
    scheduler = scheduler_of(folder)
    own = networks.scheduler_configuration(section.scheduler)
    _require_alike({key: own[key] for key in SCHEDULER_KEYS}, own | scheduler, "scheduler", "network.scheduler")
    if objective.text_encoder_start == "random":
        text = networks.CLIPTextModel(networks.text_configuration(section.text, setting.facts))
    else:
        text = part_of_folder(folder / "text_encoder", "text_encoder")
        sizes = networks.text_configuration(section.text, setting.facts)
        keys = (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "max_position_embeddings", "hidden_act",
        )  # fmt: skip
        given = {key: getattr(sizes, key) for key in keys}
        _require_alike(
            given, {key: getattr(text.config, key) for key in keys}, "text_encoder", "network.text, 'encoder'"
        )
        _require_same_pieces(pieces_of(folder), str(setting.facts.get("pieces", "")), folder)
    return networks.Diffusion(None, unet, text, scheduler)


def _require_alike(wanted: dict[str, Any], found: dict[str, Any], part: str, keys: str) -> None:
    for key, value in wanted.items():
        there = found.get(key)
        same = list(value) == list(there) if isinstance(value, tuple) and there is not None else value == there
        if not same:
            raise Mismatch(
                f"the {part} of the weights to start from has {key} {there}, but the recipe's is {value}. Change "
                f"{keys}, or the key 'starts_from'."
            )


def _require_same_pieces(theirs: str, ours: str, folder: Path) -> None:
    if theirs != ours:
        raise Mismatch(
            f"the text encoder in {folder} was trained on the ids of another tokenizer, so its embeddings mean other "
            "pieces. Change the key 'encoder', or set align.objective.text_encoder_start to random."
        )
