"""Objectives of pictures: names of what is seen, and contrasts of pictures and captions."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.clip.cost import contrast_flops, text_flops, tower_flops
from models.clip.losses import Pairs, clip_loss, cloob_terms, gathered, siglip_loss
from models.clip.network import MAX_SCALE, DualEncoder, equip
from models.clip.schema import Cloob, Contrast, Labels
from models.heap import give_back_freed
from models.objective import Batches, Loss, Mismatch, Objective, Setting


class LabelLoss(nn.Module):
    """Cross-entropy in nats, the mean over pictures; of pictures with several names, the sum over all names or groups.

    A batch has `pixels`, normalised, [pictures, 3, height, width], and `labels`: int64 [pictures]; or float [pictures,
    names], 1 for each that holds, which are then decided one by one, or of each group one against the others.
    """

    item = "pictures"

    def __init__(self, section: Labels, network: Any) -> None:
        super().__init__()
        self.section, self.network = section, network

    def forward(self, batch: dict[str, Tensor]) -> Loss:
        """The loss of a batch; smoothed in training alone."""
        logits, labels = self.network(pixel_values=batch["pixels"]).logits.float(), batch["labels"]
        smoothing = self.section.label_smoothing if self.network.training else 0.0
        if labels.ndim == 1:
            entropy = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
            return Loss(entropy, {"accuracy": (logits.detach().argmax(1) == labels).float().mean()})
        if groups := getattr(self.network.config, "label_groups", None):
            return _grouped(logits, labels, groups, smoothing)
        wanted = labels * (1 - smoothing) + smoothing / 2
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / len(labels)
        is_said, holds = logits.detach() > 0, labels > 0
        right = (is_said & holds).sum()
        return Loss(entropy, {"f1": 2 * right / (is_said.sum() + holds.sum())})

    def num_items(self, batch: dict[str, Any]) -> int:
        """Pictures."""
        return len(batch["labels"])

    def num_flops(self, batch: dict[str, Any]) -> int:
        """Of forward and backward pass."""
        return int(3 * len(batch["labels"]) * tower_flops(self.network.config))

    def units(self, batch: dict[str, Any], encoder: Any) -> dict[str, int]:  # noqa: ARG002 - of other families
        """Pictures."""
        return {"pictures": len(batch["labels"])}

    def measures(self, loss: float, units: dict[str, int]) -> dict[str, float]:  # noqa: ARG002 - of other families
        """Nothing more: the parts say it."""
        return {}


def _grouped(logits: Tensor, labels: Tensor, groups: dict[str, int], smoothing: float) -> Loss:
    """The sum of a cross-entropy for each group of names, and how often the likeliest of each is the right one."""
    entropy, parts = logits.new_zeros(()), {}
    sizes = list(groups.values())
    for group, ours, theirs in zip(groups, logits.split(sizes, dim=1), labels.split(sizes, dim=1), strict=True):
        entropy = entropy + nn.functional.cross_entropy(ours, theirs, label_smoothing=smoothing)
        parts[f"{group}_accuracy"] = (ours.detach().argmax(1) == theirs.argmax(1)).float().mean()
    return Loss(entropy, parts)


def in_chunks(function: Callable[..., Tensor], size: int | None, *tensors: Tensor) -> Tensor:
    """A function of rows, some of them at a time, whose activations are computed again in the backward pass.

    Chance, such as dropout, is the same when they are computed again.

    Args:
        function: of tensors with as many rows -> a tensor of as many rows.
        size: rows of one time; None for all at once, with activations kept.
        tensors: each of the same number of rows.
    """
    rows = tensors[0].shape[0]
    if size is None:
        return function(*tensors)
    parts = ([each[start : start + size] for each in tensors] for start in range(0, rows, size))
    if not torch.is_grad_enabled():
        return torch.cat([function(*part) for part in parts])
    found = []
    for part in parts:
        found.append(checkpoint(function, *part, use_reentrant=False))
        if not found[-1].is_cuda:
            give_back_freed()
    return torch.cat(found)


class ContrastLoss(nn.Module):
    """CLIP, CLOOB or SigLIP, in nats, the mean over pairs.

    A batch has `ids` and `mask`, int64 [pairs, tokens], and `features` [pairs, width], or `pixels`, normalised, [pairs,
    3, height, width]. In training the contrast is over the batches of all ranks, which have as many pairs each; in
    validation each batch is one by itself. Cosines and what is made of them are in fp32 or better.
    """

    item = "pairs"

    def __init__(self, section: Contrast, network: DualEncoder) -> None:
        super().__init__()
        self.section, self.network = section, network
        self.retrieved_share = 1.0

    def begin_step(self, step: int) -> None:
        """Keep the learned scale below its limit, and let CLOOB's retrieval begin; steps are counted from 0."""
        if self.network.logit_scale is not None:
            with torch.no_grad():
                self.network.logit_scale.clamp_(max=math.log(MAX_SCALE))
        if isinstance(self.section, Cloob):
            gone, ramp = step - self.section.hopfield_warmup_steps, self.section.hopfield_ramp_steps
            self.retrieved_share = float(gone >= 0) if ramp == 0 else min(1.0, max(0.0, gone / ramp))

    def forward(self, batch: dict[str, Tensor]) -> Loss:
        """The loss of a batch.

        Raises:
            Mismatch: it is one pair alone; or the features are of another width than the projection takes.
        """
        network, size = self.network, self.section.chunk_samples
        with torch.no_grad():
            pixels = "features" not in batch
            seen = in_chunks(network.tower_features, size, batch["pixels"]) if pixels else batch["features"]
        with torch.autocast(seen.device.type, enabled=False):
            images = network.image_features(seen)
        texts = in_chunks(network.text_features, size, batch["ids"], batch["mask"])
        with torch.autocast(seen.device.type, enabled=False):
            return self._contrast(_normalised(images), _normalised(texts))

    def _contrast(self, images: Tensor, texts: Tensor) -> Loss:
        ours, theirs, first = Pairs(images, images), Pairs(texts, texts), 0
        if self.network.training:
            (ours, first), (theirs, _) = gathered(images), gathered(texts)
        _require_two(ours.all.shape[0])
        scale = self.network.scale()
        parts = {"positive_cosine": (images * texts).sum(1).detach().mean()}
        if isinstance(self.section, Cloob):
            share = self.retrieved_share if self.network.training else 1.0
            terms = cloob_terms(ours, theirs, scale, self.section.hopfield_scale, first, share)
            told = {"image_loss": terms.image.detach(), "text_loss": terms.text.detach()}
            return Loss((terms.image + terms.text) / 2, parts | told)
        assert isinstance(scale, Tensor)  # noqa: S101 - the others learn it
        parts["scale"] = scale.detach()
        if self.network.logit_bias is None:
            return Loss(clip_loss(ours, theirs, scale, first), parts)
        bias = self.network.logit_bias
        return Loss(siglip_loss(ours, theirs, scale, bias, first), parts | {"bias": bias.detach()})

    def num_items(self, batch: dict[str, Any]) -> int:
        """Pairs."""
        return len(batch["ids"])

    def num_flops(self, batch: dict[str, Any]) -> int:
        """Of forward and backward pass; the locked tower has no backward pass."""
        rows, tokens = batch["ids"].shape
        network = self.network
        seen = tower_flops(network.tower.config) if "pixels" in batch and network.tower is not None else 0.0
        width = network.text_projection.out_features
        inputs = network.visual_projection.in_features + network.text_projection.in_features
        trained = 3 * (text_flops(network.text_tower.config, tokens) + 2 * inputs * width)
        return int(rows * (seen + trained) + contrast_flops(self.section.kind, rows, width))  # type: ignore[attr-defined]

    def units(self, batch: dict[str, Any], encoder: Any) -> dict[str, int]:  # noqa: ARG002 - of other families
        """Pairs, and tokens of their captions.

        Raises:
            Mismatch: it is one pair alone.
        """
        _require_two(len(batch["ids"]))
        return {"pairs": len(batch["ids"]), "tokens": int(batch["mask"].sum())}

    def measures(self, loss: float, units: dict[str, int]) -> dict[str, float]:  # noqa: ARG002 - of other families
        """Nothing more: the parts say it."""
        return {}


def _normalised(features: Tensor) -> Tensor:
    """Of length 1, in fp32 or better."""
    kind = torch.promote_types(features.dtype, torch.float32)
    return nn.functional.normalize(features.to(kind), dim=1)


def _require_two(num_pairs: int) -> None:
    """Refuse a contrast without another pair.

    Raises:
        Mismatch: as it says.
    """
    if num_pairs < 2:
        raise Mismatch(
            "a batch has 1 pair, expected at least 2, since each is held against the others. Where it is the rest of "
            "the validation, change valid_samples so that dividing it by samples.batch_samples leaves no 1; or change "
            "samples.batch_samples."
        )


def finish(section: Any, network: Any, batches: Batches) -> None:
    """Nothing is left to find out."""


def objective(section: Any, network: Any, setting: Setting) -> Objective:  # noqa: ARG001 - as every family has it
    """The objective that a recipe's section names."""
    if isinstance(section, Labels):
        return LabelLoss(section, network)
    equip(network, section)
    return ContrastLoss(section, network)
