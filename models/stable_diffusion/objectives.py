"""Objectives of latent diffusion: pictures that come back, and noise that is said."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from models.objective import Batches, Loss, Objective, Setting
from models.stable_diffusion.cost import text_part, unet_part, vae_part
from models.stable_diffusion.network import Diffusion, require_unmoved
from models.stable_diffusion.schema import Noise, Reconstruction


def own_generator(tensor: Tensor) -> torch.Generator:
    """Chance that depends on a batch alone: held-out pictures get the same noise in every validation."""
    digest = hashlib.blake2b(tensor.cpu().contiguous().numpy().tobytes(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class ReconstructionLoss(nn.Module):
    """The distance of pictures and what becomes of them, the mean over numbers, and a weighted KL divergence.

    The second, in nats, is the sum over a picture's latents, divided by the numbers that a picture has, so that weights
    mean what they mean in Rombach et al.'s code. A batch has `pixels` [pictures, 3, height, width], between -1 and 1;
    `prepared` adds `noise`, of the shape of latents.
    """

    item = "pictures"

    def __init__(self, section: Reconstruction, network: Any) -> None:
        super().__init__()
        self.section, self.network = section, network

    def prepared(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch with the noise by which latents are drawn in training; in evaluation they are the means."""
        rows, _, height, width = batch["pixels"].shape
        config = self.network.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        shape = (rows, config.latent_channels, height // factor, width // factor)
        return {**batch, "noise": torch.randn(shape) if self.network.training else torch.zeros(shape)}

    def forward(self, batch: dict[str, Tensor]) -> Loss:
        """The loss of a prepared batch."""
        pixels = batch["pixels"].float()
        latents = self.network.encode(pixels).latent_dist
        drawn = latents.mean + latents.std * batch["noise"]
        difference = self.network.decode(drawn).sample.float() - pixels
        distance = difference.abs().mean() if self.section.distance == "l1" else difference.square().mean()
        divergence = latents.kl().sum() / pixels.numel()
        squared = difference.detach().square().mean()
        parts = {
            "distance": distance.detach(),
            "kl_divergence": divergence.detach(),
            # Of numbers between -1 and 1, so the peak is 2.
            "psnr_db": 10 * torch.log10(4 / squared.clamp(min=1e-12)),
        }
        return Loss(distance + self.section.kl_weight * divergence, parts)

    def num_items(self, batch: dict[str, Any]) -> int:
        """Pictures."""
        return len(batch["pixels"])

    def num_flops(self, batch: dict[str, Any]) -> int:
        """Of forward and backward pass."""
        return int(3 * len(batch["pixels"]) * vae_part(self.network.config).flops)

    def units(self, batch: dict[str, Any], encoder: Any) -> dict[str, int]:  # noqa: ARG002 - of other families
        """Pictures."""
        return {"pictures": len(batch["pixels"])}

    def measures(self, loss: float, units: dict[str, int]) -> dict[str, float]:  # noqa: ARG002 - of other families
        """Nothing more: the parts say it."""
        return {}


class NoiseLoss(nn.Module):
    """The squared error of what the U-Net says, the mean over a picture's numbers, weighted, and over pictures.

    A batch has `latents` [pictures, channels, height, width], not scaled yet, `ids` int64 [pictures, tokens], and,
    where latents are drawn in every step, their `deviations`; `prepared` adds `noise` and int64 `timesteps`
    [pictures].
    """

    item = "pictures"
    signal: Tensor
    noise_share: Tensor
    weights: Tensor

    def __init__(self, section: Noise, network: Diffusion, facts: dict[str, Any]) -> None:
        super().__init__()
        self.section, self.network = section, network
        self.trains = [part for part in ("text_encoder", "unet") if part not in network.frozen_digests]
        self.empty = empty_caption(facts)
        shares = alphas_of(network.scheduler)
        self.register_buffer("signal", shares.sqrt(), persistent=False)
        self.register_buffer("noise_share", (1 - shares).sqrt(), persistent=False)
        self.register_buffer("weights", self._weights(shares), persistent=False)
        self.num_timesteps = len(shares)
        self.predicts_noise = network.scheduler.get("prediction_type", "epsilon") == "epsilon"
        self.flops = self._flops()

    def _weights(self, shares: Tensor) -> Tensor:
        """Of each timestep: min(SNR, gamma) / SNR, or / (SNR + 1) where the velocity is said; or 1."""
        gamma = self.section.min_snr_gamma
        if gamma is None:
            return torch.ones_like(shares)
        ratio = shares / (1 - shares)
        says_noise = self.network.scheduler.get("prediction_type", "epsilon") == "epsilon"
        return ratio.clamp(max=gamma) / (ratio if says_noise else ratio + 1)

    def _flops(self) -> float:
        """Of a picture: what does not learn passes gradients on, if anything before it learns, and has none itself."""
        unet = unet_part(self.network.unet.config).flops
        text = text_part(self.network.text_encoder.config).flops
        learns_text, learns_unet = "text_encoder" in self.trains, "unet" in self.trains
        return unet * (3 if learns_unet else 2) + text * (3 if learns_text else 1)

    def begin_step(self, step: int) -> None:  # noqa: ARG002 - as every objective has it
        """Make sure that what is frozen got no gradient in the step before.

        Raises:
            AssertionError: it did.
        """
        for part in self.network.frozen_digests:
            if any(each.grad is not None for each in getattr(self.network, part).parameters()):
                raise AssertionError(f"'{part}' has a gradient, but it is frozen")

    def prepared(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch with its noise and timesteps, and with the captions that are left out in training.

        All on the CPU, from torch's generator, which each step seeds; in evaluation from the batch alone.
        """
        latents, ids = batch["latents"], batch["ids"]
        is_training = self.network.training
        generator = None if is_training else own_generator(latents)
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = torch.randint(0, self.num_timesteps, (len(ids),), generator=generator)
        if "deviations" in batch:
            latents = latents + batch["deviations"] * torch.randn(latents.shape, generator=generator)
        if is_training and self.section.caption_dropout:
            is_empty = torch.rand(len(ids)) < self.section.caption_dropout
            ids = torch.where(is_empty[:, None], self.empty, ids)
        return {"latents": latents, "ids": ids, "noise": noise, "timesteps": timesteps}

    def forward(self, batch: dict[str, Tensor]) -> Loss:
        """The loss of a prepared batch."""
        network, noise, timesteps = self.network, batch["noise"], batch["timesteps"]
        latents = batch["latents"] * network.scaling_factor
        signal, share = (table[timesteps][:, None, None, None] for table in (self.signal, self.noise_share))
        states = network.states(batch["ids"])
        said = network.say(signal * latents + share * noise, timesteps, states)
        wanted = noise if self.predicts_noise else signal * noise - share * latents
        errors = (said.float() - wanted).square().flatten(1).mean(1)
        if self.section.min_snr_gamma is None:
            return Loss(errors.mean(), {})
        return Loss((errors * self.weights[timesteps]).mean(), {"unweighted_loss": errors.detach().mean()})

    def num_items(self, batch: dict[str, Any]) -> int:
        """Pictures."""
        return len(batch["ids"])

    def num_flops(self, batch: dict[str, Any]) -> int:
        """Of forward and backward pass."""
        return int(len(batch["ids"]) * self.flops)

    def units(self, batch: dict[str, Any], encoder: Any) -> dict[str, int]:  # noqa: ARG002 - of other families
        """Pictures."""
        return {"pictures": len(batch["ids"])}

    def measures(self, loss: float, units: dict[str, int]) -> dict[str, float]:  # noqa: ARG002 - of other families
        """Nothing more: the parts say it."""
        return {}


def alphas_of(scheduler: dict[str, Any]) -> Tensor:
    """float32 [timesteps]: the share of the signal's variance that is left at each, as diffusers computes it."""
    from diffusers import DDPMScheduler

    keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    given = {key: scheduler[key] for key in keys if key in scheduler}
    found: Tensor = DDPMScheduler(**given).alphas_cumprod
    return found


def empty_caption(facts: dict[str, Any]) -> Tensor:
    """int64 [tokens]: the ids of a caption that says nothing: start, end, padding."""
    found = torch.full((int(facts["max_tokens"]),), int(facts["pad"]), dtype=torch.int64)
    found[:2] = torch.tensor([facts["bos"], facts["eos"]])
    return found


@torch.no_grad()
def finish(section: Any, network: Any, batches: Batches) -> None:
    """Find the scale of an autoencoder's latents; of a Stable Diffusion, see that nothing frozen has moved.

    The scale is 1 over the standard deviation of all latents drawn for pictures that it was trained on (Rombach et al.
    2022, appendix G, which take those of the first batch).
    """
    if not isinstance(section, Reconstruction):
        require_unmoved(network)
        return
    network.eval()
    device = next(network.parameters()).device
    squares, sums, count = 0.0, 0.0, 0
    for batch in batches("train"):
        found = network.encode(batch["pixels"].to(device)).latent_dist
        squares += float((found.mean.double().square() + found.var.double()).sum())
        sums += float(found.mean.double().sum())
        count += found.mean.numel()
    deviation = (squares / count - (sums / count) ** 2) ** 0.5
    network.register_to_config(scaling_factor=round(1 / max(deviation, 1e-6), 6))


def objective(section: Any, network: Any, setting: Setting) -> Objective:
    """The objective that a recipe's section names."""
    if isinstance(section, Reconstruction):
        return ReconstructionLoss(section, network)
    return NoiseLoss(section, network, setting.facts)
