"""Objectives of speech: units of masked frames, and phonemes by CTC."""

import hashlib
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from models.hubert.cost import forward_flops
from models.hubert.front import front_end
from models.hubert.masks import equal_counts, spans
from models.hubert.network import HubertForUnits, encode, frame_lengths, section_of
from models.hubert.schema import Ctc, MaskedUnits
from models.objective import Batches, Loss, Mismatch, Objective, Setting

SAMPLE_SCALE = 32_768.0


def heard(waveforms: Tensor) -> Tensor:
    """Waveforms between -1 and 1; 16-bit samples are scaled."""
    return waveforms if waveforms.is_floating_point() else waveforms.float() / SAMPLE_SCALE


def own_generator(batch: dict[str, Tensor]) -> torch.Generator:
    """Chance that depends on a batch alone: held-out recordings are hidden alike in every validation."""
    digest = hashlib.blake2b(batch["targets"].cpu().numpy().tobytes(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def with_mask(hidden: Tensor, is_hidden: Tensor, vector: Tensor) -> Tensor:
    """Put a vector in place of the hidden frames: [recordings, frames, width], [recordings, frames], [width]."""
    return torch.where(is_hidden[:, :, None], vector.to(hidden.dtype), hidden)


class MaskedUnitsLoss(nn.Module):
    """Cross-entropy of the units of masked frames, in nats, and the penalty on features; the mean over masked frames.

    fairseq adds up the first over frames and multiplies the second by their number, then divides by it; so both weigh
    here as there. Units of frames that are not masked have the weight 0 there and are not computed here.

    A batch has `waveforms` [recordings, samples], all whole, and `targets` [recordings, frames]; `prepared` adds
    `masked` [recordings, count], the places of the masked frames.
    """

    item = "masked_frames"
    leaves_out_parameters = True
    """Layers that a step leaves out get no gradient."""

    def __init__(self, section: MaskedUnits, network: HubertForUnits) -> None:
        super().__init__()
        self.section, self.network = section, network
        self.sizes = section_of(network.config)

    def prepared(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch with its masks, drawn from torch's generator in training, and from the batch itself else."""
        generator = None if self.network.training else own_generator(batch)
        rows, num_frames = batch["targets"].shape
        part = self.section
        lengths = torch.full((rows,), num_frames)
        found = spans(lengths, num_frames, part.mask_share, part.mask_frames, part.min_masks, generator)
        return {**batch, "masked": equal_counts(found, generator)}

    def forward(self, batch: dict[str, Tensor]) -> Loss:
        """The loss of a prepared batch.

        Raises:
            Mismatch: there is not one target for each frame.
        """
        network, section = self.network, self.section
        hubert, masked, targets = network.hubert, batch["masked"], batch["targets"]
        features = front_end(hubert, heard(batch["waveforms"]), None)
        if features.shape[1] != targets.shape[1]:
            raise Mismatch(
                f"recordings have {features.shape[1]} frames and {targets.shape[1]} units, expected one for each. "
                "Make the shards of both anew."
            )
        if section.front_end_gradient != 1.0:
            # What is added is 0 in any precision, as the sum of two shares would not be in bf16.
            still = features.detach()
            features = still + section.front_end_gradient * (features - still)
        penalty = features.float().square().mean()
        hidden = hubert.feature_projection(features)
        is_masked = torch.zeros(targets.shape, dtype=torch.bool, device=targets.device).scatter(1, masked, True)
        hidden = encode(hubert, with_mask(hidden, is_masked, hubert.masked_spec_embed), None)
        picked = hidden.gather(1, masked[:, :, None].expand(-1, -1, hidden.shape[2])).flatten(0, 1)
        assert network.head is not None  # noqa: S101 - a network in training has one
        logits = network.head(picked, section.temperature)
        wanted = targets.gather(1, masked).flatten().long()
        entropy = nn.functional.cross_entropy(logits, wanted)
        is_right = (logits.detach().argmax(1) == wanted).float().mean()
        parts = {"masked_loss": entropy.detach(), "masked_accuracy": is_right, "feature_penalty": penalty.detach()}
        return Loss(entropy + section.feature_penalty * penalty, parts)

    def num_items(self, batch: dict[str, Any]) -> int:
        """Masked frames."""
        return int(batch["masked"].numel())

    def num_flops(self, batch: dict[str, Any]) -> int:
        """Of forward and backward pass: three times a forward pass, the head on masked frames alone."""
        rows, num_samples = batch["waveforms"].shape
        assert self.network.head is not None  # noqa: S101 - as above
        head = sum(each.numel() for each in self.network.head.parameters() if each.ndim == 2)
        return int(3 * (rows * sum(forward_flops(self.sizes, num_samples)) + 2 * head * self.num_items(batch)))

    def units(self, batch: dict[str, Any], encoder: Any) -> dict[str, int]:  # noqa: ARG002 - of other families
        """Recordings and their frames."""
        return {"recordings": len(batch["targets"]), "frames": int(batch["targets"].numel())}

    def measures(self, loss: float, units: dict[str, int]) -> dict[str, float]:  # noqa: ARG002 - of other families
        """Nothing more: the parts say it."""
        return {}


class CtcLoss(nn.Module):
    """CTC, in nats, with blank 0; added up over frames, the mean over utterances, as fairseq's `sentence_avg`.

    A batch has `waveforms` [utterances, samples], padded, with their `lengths` [utterances], and `targets` [utterances,
    phonemes], padded, with their `target_lengths`; `prepared` adds in training `is_hidden` [utterances, frames] and
    `hidden_channels` [utterances, width]. An utterance too short for its phonemes counts as 0. Unlike fairseq's, masks
    are as long as each utterance asks for, not all as the shortest.
    """

    item = "utterances"
    leaves_out_parameters = True

    def __init__(self, section: Ctc, network: Any) -> None:
        super().__init__()
        self.section, self.network = section, network
        self.sizes = section_of(network.config)
        self.is_frozen = False
        if section.freeze_front_end:
            network.hubert.feature_extractor.requires_grad_(False)

    def begin_step(self, step: int) -> None:
        """Train the head alone in the first steps, counted from 0."""
        self.is_frozen = step < self.section.freeze_steps

    def prepared(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch with its lengths and, in training, with its masks, drawn from torch's generator."""
        rows, num_samples = batch["waveforms"].shape
        whole = {
            "lengths": torch.full((rows,), num_samples),
            "target_lengths": torch.full((rows,), batch["targets"].shape[1]),
        }
        batch = whole | batch
        if not self.network.training:
            return batch
        part, frames = self.section, frame_lengths(batch["lengths"])
        width = self.sizes.hidden_size
        hidden = spans(frames, int(frames.max()), part.time_mask_share, part.time_mask_frames, 2)
        channels = spans(torch.full((rows,), width), width, part.channel_mask_share, part.channel_mask_channels, 0)
        return {**batch, "is_hidden": hidden & (part.time_mask_share > 0), "hidden_channels": channels}

    def forward(self, batch: dict[str, Tensor]) -> Loss:
        """The loss of a prepared batch."""
        network, lengths = self.network, batch["lengths"]
        frames = frame_lengths(lengths)
        with torch.no_grad() if self.is_frozen else nullcontext():
            hidden = self._hidden(heard(batch["waveforms"]), lengths, frames, batch)
        logits = network.lm_head(network.dropout(hidden))
        shares = logits.float().log_softmax(2).transpose(0, 1)
        # On a GPU torch's CTC has no deterministic backward pass; the CPU takes milliseconds for it.
        shares, given = shares.cpu(), (batch["targets"].cpu(), frames.cpu(), batch["target_lengths"].cpu())
        total = nn.functional.ctc_loss(shares, *given, blank=0, reduction="sum", zero_infinity=True)
        total = total.to(logits.device)
        return Loss(total / len(lengths), {})

    def _hidden(self, waveforms: Tensor, lengths: Tensor, frames: Tensor, batch: dict[str, Tensor]) -> Tensor:
        hubert = self.network.hubert
        with torch.no_grad() if self.section.freeze_front_end else nullcontext():
            features = front_end(hubert, waveforms, lengths)
        hidden = hubert.feature_projection(features)
        if "is_hidden" in batch:
            hidden = with_mask(hidden, batch["is_hidden"], hubert.masked_spec_embed)
            hidden = hidden.masked_fill(batch["hidden_channels"][:, None, :], 0.0)
        return encode(hubert, hidden, frames)

    def num_items(self, batch: dict[str, Any]) -> int:
        """Utterances."""
        return len(batch["waveforms"])

    def num_flops(self, batch: dict[str, Any]) -> int:
        """Of forward and backward pass; what is frozen has no backward pass."""
        rows, num_samples = batch["waveforms"].shape
        front, transformer = forward_flops(self.sizes, num_samples)
        head = 6 * self.network.lm_head.weight.numel() * int(frame_lengths(torch.tensor(num_samples)))
        passes = 1 if self.is_frozen else 3
        return int(rows * (front * (1 if self.section.freeze_front_end else passes) + transformer * passes + head))

    def units(self, batch: dict[str, Any], encoder: Any) -> dict[str, int]:  # noqa: ARG002 - of other families
        """Utterances and their phonemes, word boundaries among them."""
        targets = batch["targets"]
        phonemes = batch["target_lengths"].sum() if "target_lengths" in batch else targets.numel()
        return {"utterances": len(targets), "phonemes": int(phonemes)}

    def measures(self, loss: float, units: dict[str, int]) -> dict[str, float]:
        """The loss of all utterances per phoneme; error rates need a decoder, and are the business of tasks."""
        return {"loss_per_phoneme": loss * units["utterances"] / max(1, units["phonemes"])}


def finish(section: Any, network: Any, batches: Batches) -> None:
    """Nothing is left to find out."""


def objective(section: Any, network: Any, setting: Setting) -> Objective:  # noqa: ARG001 - as every family has it
    """The objective that a recipe's section names."""
    return CtcLoss(section, network) if isinstance(section, Ctc) else MaskedUnitsLoss(section, network)
