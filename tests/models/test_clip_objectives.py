"""Contrasts of whole batches in chunks, what is locked and what is learned, and batches that cannot be."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from models.clip.cost import contrast_flops, text_flops, tower_flops
from models.clip.network import build, first_states
from models.clip.objectives import in_chunks, objective
from models.clip.schema import Clip, Cloob, ImageTower, Labels
from models.objective import Mismatch, Setting
from tests.models.autograd import kept_bytes
from tests.models.clip_small import OBJECTIVES, VISION, in_double, pair, pairs, tower


def made(kind: str, network: Any, **changes: Any) -> Any:
    return objective(OBJECTIVES[kind](kind=kind, **changes), network, Setting({}))


@pytest.mark.parametrize("kind", ["clip", "cloob", "siglip"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_chunks_give_the_loss_and_the_gradient_of_the_whole_batch(kind: str, dropout: float) -> None:
    network, found = pair(kind, text={"num_layers": 2, "hidden_size": 24, "num_heads": 2, "intermediate_size": 48,
                                      "dropout": dropout}).double().train(), []  # fmt: skip
    pixels = torch.randn(7, 3, 48, 48, dtype=torch.float64)
    batch = {key: value for key, value in in_double(pairs()).items() if key != "features"} | {"pixels": pixels}
    for chunk in (None, 3) if not dropout else (4, 4):
        network.zero_grad()
        torch.manual_seed(1)
        loss = made(kind, network, chunk_samples=chunk)(batch)
        loss.total.backward()
        gradients = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
        found.append((loss.total.detach(), gradients))
    (whole, gradients), (chunked, others) = found
    assert float(whole) == pytest.approx(float(chunked), abs=1e-12)
    assert not any(name.startswith("tower.") for name in gradients)
    assert {name.split(".")[0] for name in gradients} >= {"text_tower", "visual_projection", "text_projection"}
    for name, each in gradients.items():
        torch.testing.assert_close(each, others[name], rtol=0, atol=1e-12, msg=name)


def test_a_chunked_step_keeps_the_activations_of_no_chunk() -> None:
    batch, kept = pairs(64), {}
    for chunk in (None, 4):
        network = pair("clip", with_tower=False).train()
        whole = made("clip", network, chunk_samples=chunk)
        kept[chunk] = kept_bytes(network, lambda whole=whole: whole(batch).total, "fp32")
    assert kept[4] < kept[None] / 10


def test_features_in_place_of_pixels_give_the_same_loss() -> None:
    network = pair("clip").train()
    whole, batch = made("clip", network), pairs()
    pixels = torch.randn(7, 3, 48, 48)
    with_features = batch | {"features": network.tower_features(pixels)}
    with_pixels = {key: each for key, each in batch.items() if key != "features"} | {"pixels": pixels}
    assert torch.equal(whole(with_features).total, whole(with_pixels).total)


def plain_loss(network: Any, pixels: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """As open_clip takes it: both towers whole in each step, every logit, cross-entropy along rows and columns."""
    seen = network.tower(pixel_values=pixels).last_hidden_state[:, 0]
    read = network.text_tower(input_ids=batch["ids"], attention_mask=batch["mask"]).last_hidden_state[:, 0]
    images = nn.functional.normalize(network.visual_projection(seen))
    texts = nn.functional.normalize(network.text_projection(read))
    logits, right = network.logit_scale.exp() * images @ texts.T, torch.arange(len(pixels))
    return (nn.functional.cross_entropy(logits, right) + nn.functional.cross_entropy(logits.T, right)) / 2


def test_twenty_steps_on_features_have_the_losses_of_plain_steps_on_pixels() -> None:
    pixels, batch, found = torch.randn(8, 3, 48, 48), pairs(8), []
    for is_plain in (False, True):
        network, losses = pair("clip").train(), []
        given = batch | {"features": network.tower_features(pixels)}
        whole = made("clip", network, chunk_samples=3)
        trained = [each for each in network.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
        for _ in range(20):
            loss = plain_loss(network, pixels, batch) if is_plain else whole(given).total
            losses.append(float(loss.detach()))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        found.append(losses)
    ours, plain = found
    assert ours == pytest.approx(plain, rel=1e-5)
    assert ours[-1] < 0.7 * ours[0]


def test_the_locked_tower_stays_as_it_evaluates() -> None:
    network = pair("clip", with_tower=False)
    network.tower = tower(dropout=0.5).vit
    network.train()
    pixels = torch.randn(2, 3, 48, 48)
    assert torch.equal(network.tower_features(pixels), network.tower_features(pixels))
    assert network.text_tower.training


def test_a_learned_scale_stops_at_one_hundred_and_a_fixed_one_is_no_parameter() -> None:
    network = pair("clip", with_tower=False).train()
    whole = made("clip", network)
    assert float(network.scale().detach()) == pytest.approx(1 / 0.07)
    with torch.no_grad():
        network.logit_scale.fill_(6.0)
    assert float(whole(pairs()).parts["scale"]) == pytest.approx(100.0)
    whole.begin_step(5)
    assert network.logit_scale.item() == pytest.approx(math.log(100))
    whole(pairs()).total.backward()
    assert network.logit_scale.grad is not None
    fixed = pair("cloob", with_tower=False)
    assert fixed.scale() == 30.0
    assert "logit_scale" not in dict(fixed.named_parameters())


def test_the_retrieval_of_cloob_begins_as_the_recipe_says_and_validation_has_it_whole() -> None:
    network = pair("cloob", with_tower=False).train()
    whole = made("cloob", network, hopfield_warmup_steps=10, hopfield_ramp_steps=4)
    shares = {}
    for step in (0, 9, 10, 12, 14, 100):
        whole.begin_step(step)
        shares[step] = whole.retrieved_share
    assert shares == {0: 0.0, 9: 0.0, 10: 0.0, 12: 0.5, 14: 1.0, 100: 1.0}
    whole.begin_step(0)
    first = float(whole(pairs()).total)
    network.eval()
    assert float(whole(pairs()).total) != pytest.approx(first)
    plain = made("cloob", network)
    plain.begin_step(0)
    assert plain.retrieved_share == 1.0


def test_a_pair_alone_and_the_features_of_another_tower_are_refused_with_what_to_change() -> None:
    network = pair("clip", with_tower=False)
    whole, batch = made("clip", network), pairs()
    alone = {key: each[:1] for key, each in batch.items()}
    for refuse in (lambda: whole(alone), lambda: whole.units(alone, None)):
        with pytest.raises(Mismatch, match=r"a batch has 1 pair, expected at least 2.*valid_samples"):
            refuse()
    with pytest.raises(Mismatch, match=r"features have 31 numbers a picture, but the projection takes 32"):
        whole(batch | {"features": batch["features"][:, :31]})
    without = {key: each for key, each in batch.items() if key != "features"} | {"pixels": torch.zeros(7, 3, 48, 48)}
    with pytest.raises(Mismatch, match="without its image tower"):
        whole(without)


def test_captions_are_read_alike_however_far_they_are_padded() -> None:
    network, batch = pair(), pairs()
    found = network.text_features(batch["ids"], batch["mask"])
    for row in range(7):
        length = int(batch["mask"][row].sum())
        alone = network.text_features(batch["ids"][row : row + 1, :length], batch["mask"][row : row + 1, :length])
        torch.testing.assert_close(alone[0], found[row], rtol=1e-5, atol=1e-5)


def test_training_computes_the_first_tokens_state_alone_and_gets_the_same_of_it() -> None:
    network, batch, found = pair().double(), pairs(), []
    for is_training in (False, True):
        network.train(is_training).zero_grad()
        features = network.text_features(batch["ids"], batch["mask"])
        features.square().sum().backward()
        gradients = {name: each.grad for name, each in network.text_tower.named_parameters()}
        found.append((features.detach(), gradients))
    (whole, gradients), (first, others) = found
    torch.testing.assert_close(first, whole, rtol=0, atol=1e-12)
    for name, each in gradients.items():
        torch.testing.assert_close(each, others[name], rtol=0, atol=1e-11, msg=name)


def test_a_tower_learns_names() -> None:
    network = build(ImageTower(**VISION), {"num_labels": 3}).train()
    whole: Any = objective(Labels(kind="labels", label_smoothing=0.1), network, Setting({}))
    batch = {"pixels": torch.randn(6, 3, 48, 48), "labels": torch.tensor([0, 1, 2, 0, 1, 2])}
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = whole(batch)
        loss.total.backward()
        optimizer.step()
    assert float(loss.parts["accuracy"]) == 1.0
    network.eval()
    expected = torch.nn.functional.cross_entropy(network(pixel_values=batch["pixels"]).logits, batch["labels"])
    torch.testing.assert_close(whole(batch).total, expected)  # no smoothing in validation


def test_flops_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network, batch = pair("clip"), pairs(8, 16)
    for function, expected in (
        (lambda: network.tower(pixel_values=torch.zeros(8, 3, 48, 48)), 8 * tower_flops(network.tower.config)),
        (
            lambda: first_states(network.text_tower, batch["ids"], batch["mask"]),
            8 * text_flops(network.text_tower.config, 16),
        ),
    ):
        with (
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
            FlopCounterMode(display=False) as count,
        ):
            function()
        assert expected == count.get_total_flops()
    assert contrast_flops("cloob", 8, 16) == 10 * contrast_flops("clip", 8, 16)
    assert in_chunks(lambda each: each + 1, 2, torch.arange(5)).tolist() == [1, 2, 3, 4, 5]
    assert isinstance(made("cloob", pair("cloob", with_tower=False)).section, Cloob)
    assert isinstance(made("clip", pair(with_tower=False)).section, Clip)
