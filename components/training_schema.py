"""The keys of a training in every family: the sections `pretrain` and `align` of a recipe."""

from typing import Any, Literal

from pydantic import Field, model_validator

from models.schema import ShardsRef, Strict, require_whole


class WeightedShards(Strict):
    """Shards and their weight in a mixture."""

    shards: ShardsRef
    weight: float = Field(default=1.0, gt=0)
    """How many times an epoch reads them: 1 is once, 2 twice, 0.5 half of them, another half each epoch."""
    share: float | None = Field(default=None, gt=0, le=1)
    """In place of a weight: the share of all samples that comes from them. Shares of a mixture add up to 1, and its
    epoch has as many samples as all of its shards together."""


class Optimizer(Strict):
    """AdamW with decoupled weight decay; biases and norms are never decayed."""

    learning_rate: float = Field(gt=0)
    """The peak of the schedule."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    """The gradient's norm over all parameters is clipped to this."""


class LearningRate(Strict):
    """How the learning rate moves, counted in optimiser steps."""

    kind: Literal["cosine", "linear", "constant", "wsd", "tri-stage"] = "cosine"
    """After a linear warm-up. `wsd` (warm-up, stable, decay: Hu et al. 2024, MiniCPM) stays at the peak until the last
    `decay_steps`, over which it falls linearly. `tri-stage` (Park et al. 2019, SpecAugment, section 5.1) begins at
    `initial_share` of the peak, holds the peak for `hold_steps` after the warm-up, and falls exponentially to
    `final_share` at the last step; fairseq's of this name ends earlier or later, whatever its `max_update`."""
    warmup_steps: int = Field(default=0, ge=0)
    decay_steps: int | None = Field(default=None, ge=1)
    """Of `wsd` alone."""
    hold_steps: int | None = Field(default=None, ge=0)
    """Of `tri-stage` alone; None is 0."""
    initial_share: float | None = Field(default=None, ge=0, le=1)
    """Of `tri-stage` alone: where the warm-up begins; None is 0.01, as in fairseq."""
    final_share: float = Field(default=0.1, ge=0, le=1)
    """The last step's rate as a share of the peak; 1 for `constant`."""

    @model_validator(mode="after")
    def keys_fit_the_kind(self) -> "LearningRate":
        """A key that would do nothing is a mistake."""
        if (self.decay_steps is not None) != (self.kind == "wsd"):
            raise ValueError("'decay_steps' belongs to kind 'wsd', which needs it")
        for key in ("hold_steps", "initial_share"):
            if getattr(self, key) is not None and self.kind != "tri-stage":
                raise ValueError(f"'{key}' belongs to kind 'tri-stage' alone: remove it, or choose that kind")
        if self.kind == "tri-stage" and not self.final_share:
            raise ValueError("'final_share' is 0, which no exponential reaches: raise it, or choose kind 'linear'")
        if self.kind == "constant" and "final_share" in self.model_fields_set:
            raise ValueError("'final_share' does nothing with kind 'constant': remove it, or choose another kind")
        return self


class Guard(Strict):
    """What the trainer does about a step that goes wrong: back to the last good checkpoint, without that batch."""

    spike_ratio: float | None = Field(default=2.0, gt=1)
    """A loss above this many times the mean of the window is a spike; None lets every finite loss pass."""
    window_steps: int = Field(default=100, ge=1)
    """Good steps that the mean is taken over; before there are so many, only a loss that is not finite is bad."""
    max_skipped_batches: int = Field(default=10, ge=0)
    """One bad batch more refuses the training."""


class Training(Strict):
    """What a trainer needs besides the objective, in every family."""

    shards: list[WeightedShards] = Field(min_length=1)
    num_steps: int = Field(ge=1)
    """Optimiser steps."""
    optimizer: Optimizer
    learning_rate: LearningRate = LearningRate()
    precision: Literal["fp32", "bf16"] = "fp32"
    strategy: Literal["single", "ddp", "fsdp2"] = "single"
    """One device, or several that share a batch: each holds the whole network (`ddp`), or a share of its weights,
    gradients and moments (`fsdp2`). How many there are belongs to the machine: HIRAKU_NUM_DEVICES."""
    activation_checkpointing: bool = False
    """Compute each block's activations again in the backward pass instead of keeping them."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Keep an exponential moving average of the weights, and validate and release that. The decay rises to this one
    by (1 + n) / (10 + n) after n steps, as Stable Diffusion's."""
    guard: Guard = Guard()
    seed: int = 0
    validate_every_steps: int = Field(default=200, ge=1)
    valid_samples: int = Field(default=256, ge=1)
    """Samples of the valid split that each validation reads, the same ones every time."""
    log_every_steps: int = Field(default=10, ge=1)
    objective: Any
    samples: Any
    preview: Any

    @model_validator(mode="after")
    def shares_add_up(self) -> "Training":
        """A mixture is told by weights or by shares, which leave nothing open."""
        shares = {each.shards: each.share for each in self.shards if each.share is not None}
        if not shares:
            return self
        if len(shares) < len(self.shards) or any("weight" in each.model_fields_set for each in self.shards):
            raise ValueError("'share' belongs to all shards of a mixture, once each, and stands in place of 'weight'")
        require_whole(shares, "share")
        return self


def deciding(section: dict[str, Any]) -> dict[str, Any]:
    """What of a training section decides its outcome, but for rounding; the rest may change while it goes on.

    So what a message advises to someone who is short of memory, or whose batches are bad, costs no step.
    """
    rest = {"strategy", "activation_checkpointing", "guard"}
    samples = {key: value for key, value in section["samples"].items() if not key.startswith("micro_batch_")}
    return {key: value for key, value in section.items() if key not in rest} | {"samples": samples}
