"""Objectives, against the forms in which fairseq, torchaudio and transformers have them."""

import math
from collections import Counter

import pytest
import torch
from torchaudio.models import hubert_pretrain_model
from torchaudio.models.wav2vec2.components import _compute_logits
from transformers import HubertForCTC

from models.hubert.masks import spans
from models.hubert.network import UnitsHead, frame_lengths
from models.hubert.objectives import CtcLoss, MaskedUnitsLoss
from models.hubert.schema import Ctc, MaskedUnits
from models.objective import Mismatch
from tests.models.hubert_small import PHONEMES, SHAPE, crops, small, utterances

STILL = {"dropout": 0.0, "attention_dropout": 0.0, "projection_dropout": 0.0, "layerdrop": 0.0}


def test_the_head_gives_the_loss_and_the_gradients_of_the_form_that_compares_copies() -> None:
    torch.manual_seed(0)
    head, hidden, targets = UnitsHead(32, 16, 50), torch.randn(200, 32), torch.randint(0, 50, (200,))
    found = []
    for of_copies in (False, True):
        head.zero_grad()
        given = hidden.clone().requires_grad_()
        if of_copies:
            scores = _compute_logits(head.projection(given), targets, head.units)
            loss = torch.nn.functional.cross_entropy(scores, torch.zeros(200, dtype=torch.long))
        else:
            loss = torch.nn.functional.cross_entropy(head(given, 0.1), targets)
        loss.backward()
        found.append([loss.detach(), given.grad, *(each.grad for each in head.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None
        assert theirs is not None
        assert (ours - theirs).abs().max() < 1e-6


def test_a_step_is_that_of_torchaudio_with_the_same_weights_and_masks() -> None:
    network = small(**STILL).train()
    theirs = hubert_pretrain_model(
        extractor_mode="group_norm",
        extractor_conv_layer_config=[(8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 2, 2), (8, 2, 2)],
        extractor_conv_bias=False, encoder_embed_dim=32, encoder_projection_dropout=0.0, encoder_pos_conv_kernel=16,
        encoder_pos_conv_groups=4, encoder_num_layers=2, encoder_num_heads=2, encoder_attention_dropout=0.0,
        encoder_ff_interm_features=64, encoder_ff_interm_dropout=0.0, encoder_dropout=0.0,
        encoder_layer_norm_first=False, encoder_layer_drop=0.0, mask_prob=0.8, mask_selection="static", mask_other=0.0,
        mask_length=10, no_mask_overlap=False, mask_min_space=1, mask_channel_prob=0.0, mask_channel_selection="static",
        mask_channel_other=0.0, mask_channel_length=10, no_mask_channel_overlap=False, mask_channel_min_space=1,
        skip_masked=False, skip_nomask=True, num_classes=10, final_dim=8, feature_grad_mult=0.1,
    ).train()  # fmt: skip
    batch = crops()
    objective = MaskedUnitsLoss(MaskedUnits(kind="masked-units"), network)
    given = objective.prepared(batch)
    mask = torch.zeros(batch["targets"].shape, dtype=torch.bool).scatter(1, given["masked"], True)
    weights = {}
    for name, tensor in network.hubert.state_dict().items():
        new = name.replace("encoder.", "encoder.transformer.") if name.startswith("encoder.") else name
        new = new.replace("feature_projection.", "encoder.feature_projection.")
        weights["mask_generator.mask_embedding" if name == "masked_spec_embed" else f"wav2vec2.{new}"] = tensor
    assert network.head is not None
    weights["logit_generator.final_proj.weight"] = network.head.projection.weight
    weights["logit_generator.final_proj.bias"] = network.head.projection.bias
    weights["logit_generator.label_embeddings"] = network.head.units
    theirs.load_state_dict(weights)

    def masked(x: torch.Tensor, padding: None) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.where(mask[:, :, None], theirs.mask_generator.mask_embedding, x), mask

    theirs.mask_generator.forward = masked  # type: ignore[method-assign,assignment]
    scores, _, penalty = theirs(batch["waveforms"], batch["targets"])
    entropy = torch.nn.functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long))
    (entropy + 10 * penalty).backward()
    loss = objective(given)
    loss.total.backward()
    assert abs(loss.total - entropy - 10 * penalty) < 1e-5
    assert abs(loss.parts["masked_loss"] - entropy) < 1e-5
    own, others = dict(network.hubert.named_parameters()), dict(theirs.named_parameters())
    first = "feature_extractor.conv_layers.0.conv.weight"
    for ours, name in ((own[first], f"wav2vec2.{first}"), (own["masked_spec_embed"], "mask_generator.mask_embedding")):
        assert ours.grad is not None
        assert others[name].grad is not None
        assert torch.allclose(ours.grad, others[name].grad, rtol=1e-3, atol=1e-5)


def test_masks_follow_the_seed_in_training_and_the_recordings_in_evaluation() -> None:
    objective, batch = MaskedUnitsLoss(MaskedUnits(kind="masked-units"), small()), crops()
    objective.network.train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(objective.prepared(batch)["masked"])
    assert torch.equal(drawn[0], drawn[1])
    assert drawn[0].shape != drawn[2].shape or not torch.equal(drawn[0], drawn[2])
    objective.network.eval()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    held_out = [objective.prepared(batch)["masked"] for _ in range(2)]
    assert torch.equal(*held_out)
    assert torch.equal(state, torch.get_rng_state())
    assert objective.num_items(objective.prepared(batch)) == held_out[0].numel()


def test_units_that_do_not_pair_with_frames_are_refused() -> None:
    objective, batch = MaskedUnitsLoss(MaskedUnits(kind="masked-units"), small()), crops()
    with pytest.raises(Mismatch, match="49 frames and 48 units"):
        objective(objective.prepared(batch | {"targets": batch["targets"][:, :48]}))


def test_sixteen_bit_samples_are_scaled() -> None:
    objective = MaskedUnitsLoss(MaskedUnits(kind="masked-units"), small().eval())
    batch = objective.prepared(crops())
    whole = (batch["waveforms"] * 32_768).round().to(torch.int16)
    ours, theirs = (objective(batch | {"waveforms": each}).total for each in (whole, whole.float() / 32_768))
    assert ours == theirs


def test_ctc_is_that_of_torch_and_of_transformers() -> None:
    network: HubertForCTC = small(PHONEMES).eval()
    objective, batch = CtcLoss(Ctc(kind="ctc"), network), utterances()
    loss = objective(objective.prepared(batch)).total
    alone = []
    for row, (length, wanted) in enumerate(zip(batch["lengths"], batch["target_lengths"], strict=True)):
        labels = batch["targets"][row : row + 1, :wanted]
        alone.append(network(batch["waveforms"][row : row + 1, :length], labels=labels).loss)
        shares = network(batch["waveforms"][row : row + 1, :length]).logits.log_softmax(2).transpose(0, 1)
        frames = frame_lengths(length)[None]
        own = torch.nn.functional.ctc_loss(shares, labels, frames, wanted[None], reduction="sum")
        assert abs(own - alone[-1]) < 1e-4
    assert abs(loss - sum(alone) / 3) < 1e-4
    assert objective.num_items(batch) == 3
    assert objective.units(batch, None) == {"utterances": 3, "phonemes": 11}


def test_the_loss_per_phoneme_of_several_batches_is_that_of_all_their_phonemes() -> None:
    objective = CtcLoss(Ctc(kind="ctc"), small(PHONEMES).eval())
    whole = utterances()
    parts = [{key: value[rows] for key, value in whole.items()} for rows in (slice(0, 1), slice(1, 3))]
    total, units = 0.0, Counter[str]()
    for part in parts:
        loss = objective(objective.prepared(part))
        assert not loss.parts
        total += float(loss.total.detach()) * len(part["lengths"])
        units.update(objective.units(part, None))
    assert objective.measures(total / 3, units) == {"loss_per_phoneme": pytest.approx(total / 11)}


def test_the_front_ends_smaller_gradient_changes_no_value_in_bf16() -> None:
    batch, found = crops(), []
    for share in (1.0, 0.1):
        network = small(**STILL).train()
        section = MaskedUnits(kind="masked-units", front_end_gradient=share)
        objective = MaskedUnitsLoss(section, network)
        torch.manual_seed(0)
        given = objective.prepared(batch)
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(given)
        loss.total.backward()
        own = dict(network.named_parameters())["hubert.feature_extractor.conv_layers.0.conv.weight"].grad
        assert own is not None
        found.append((loss.total.detach(), own.norm()))
    (total, norm), (other, smaller) = found
    assert total == other
    assert smaller / norm == pytest.approx(0.1, rel=0.02)


def test_an_utterance_too_short_for_its_phonemes_counts_as_nothing() -> None:
    objective, batch = CtcLoss(Ctc(kind="ctc"), small(PHONEMES).eval()), utterances()
    short = batch | {"lengths": torch.tensor([16_000, 9_000, 400])}
    loss = objective(objective.prepared(short)).total
    assert math.isfinite(loss.detach())
    rest = {key: value[:2] for key, value in batch.items()}
    assert abs(loss * 3 - objective(objective.prepared(rest)).total * 2) < 1e-3


def test_the_head_alone_is_trained_at_first_and_the_front_end_never() -> None:
    objective = CtcLoss(Ctc(kind="ctc", freeze_steps=2), small(PHONEMES).train())
    batch = objective.prepared(utterances())
    for step, expected in ((0, {"lm_head"}), (1, {"lm_head"}), (2, {"lm_head", "hubert"}), (0, {"lm_head"})):
        objective.begin_step(step)
        objective.network.zero_grad(set_to_none=True)
        objective(batch).total.backward()
        trained = [name for name, each in objective.network.named_parameters() if each.grad is not None]
        assert {name.split(".")[0] for name in trained} == expected
        assert not [name for name in trained if "feature_extractor" in name]


def test_time_and_channels_are_hidden_in_training_alone_and_never_beyond_an_utterance() -> None:
    network = small(PHONEMES)
    objective = CtcLoss(Ctc(kind="ctc", channel_mask_channels=8), network)
    batch = utterances()
    network.train()
    torch.manual_seed(0)
    given = objective.prepared(batch)
    frames = frame_lengths(batch["lengths"])
    assert given["is_hidden"].shape == (3, 49)
    assert not given["is_hidden"][torch.arange(49) >= frames[:, None]].any()
    assert all(row.any() for row in given["is_hidden"])
    assert given["hidden_channels"].shape == (3, SHAPE["hidden_size"])
    network.eval()
    assert "is_hidden" not in objective.prepared(batch)


def test_no_share_hides_no_frame() -> None:
    network = small(PHONEMES).train()
    objective = CtcLoss(Ctc(kind="ctc", time_mask_share=0.0, channel_mask_share=0.0), network)
    given = objective.prepared(utterances())
    assert not given["is_hidden"].any()
    assert spans(torch.tensor([9]), 9, 0.0, 3, 0).sum() == 0
