"""Losses against a worked example, the plain forms with a whole matrix of logits, and finite differences."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from models.clip import rows
from models.clip.losses import Pairs, clip_loss, cloob_terms, loob_loss, siglip_loss
from models.clip.objectives import objective
from models.objective import Setting
from tests.conftest import ROOT
from tests.models.clip_small import OBJECTIVES, in_double, pair, pairs

X = torch.tensor([(1.0, 0.0), (0.6, 0.8), (0.0, 1.0)], dtype=torch.float64)
Y = torch.tensor([(0.8, 0.6), (0.6, 0.8), (-0.6, 0.8)], dtype=torch.float64)


def whole(features: Tensor) -> Pairs:
    return Pairs(features, features)


def near(found: Tensor, expected: list[list[float]], digits: int) -> bool:
    return bool((found - torch.tensor(expected, dtype=torch.float64)).abs().max() <= 0.51 * 10.0**-digits)


def test_every_value_of_the_worked_example_of_cloob_comes_out() -> None:
    # Computed in plain Python with fsum, and with mpmath at 50 digits, and by rinna's and ml-jku's own code.
    found = [rows.retrieved(states, stored, 8.0) for states, stored in ((X, X), (Y, X), (X, Y), (Y, Y))]
    u_x, u_y, v_x, v_y = found
    weights = (8.0 * X[0] @ X.T).softmax(0)
    assert near(weights[None], [[0.96052468, 0.03915310, 0.00032222]], 8)
    assert near(u_x, [[0.99948331, 0.03214209], [0.53878430, 0.84244375], [0.10401437, 0.99457579]], 8)
    assert near(u_y, [[0.71598041, 0.69812037], [0.53878430, 0.84244375], [0.00926216, 0.99995711]], 8)
    assert near(v_x, [[0.77071728, 0.63717727], [0.68958789, 0.72420200], [0.09343276, 0.99562559]], 8)
    assert near(v_y, [[0.72281240, 0.69104430], [0.68958789, 0.72420200], [-0.59731058, 0.80201002]], 8)
    image = [[7.380495, 5.655838, 0.413981], [9.738861, 10.0, 8.473979], [7.688059, 8.939155, 9.954965]]
    text = [[9.974017, 9.988983, 7.555558], [9.929224, 10.0, 7.854641], [0.506650, 1.689191, 7.426933]]
    assert near(10 * u_x @ u_y.T, image, 6)
    assert near(10 * v_y @ v_x.T, text, 6)
    terms = cloob_terms(whole(X), whole(Y), 10.0, 8.0)
    assert terms.image.item() == pytest.approx(-0.832003538490765, abs=1e-9)
    assert terms.text.item() == pytest.approx(-1.77459301985707, abs=1e-9)
    assert sum(terms).item() / 2 == pytest.approx(-1.30329827917392, abs=1e-9)
    assert sum(terms).item() / 10 == pytest.approx(-0.260659655834783, abs=1e-9)


@pytest.mark.parametrize(
    ("scale", "hopfield", "image", "text", "rinna", "plain", "info_nce"),
    [
        (10, 8, -0.832003538, -1.774593020, -1.303298279, -1.286319477, 0.558971403),
        (30, 8, -2.986468822, -5.783205242, -4.384837032, -3.999171372, 0.961807037),
        (30, 15, -2.387485054, -6.165053788, -4.276269421, -3.999171372, 0.961807037),
        (14.3, 14.3, -1.046639154, -2.887079851, -1.966859502, -1.887127438, 0.612311950),
    ],
)
def test_the_table_of_the_worked_example_comes_out(
    scale: float, hopfield: float, image: float, text: float, rinna: float, plain: float, info_nce: float
) -> None:
    terms = cloob_terms(whole(X), whole(Y), scale, hopfield)
    found = (*terms, (terms.image + terms.text) / 2, loob_loss(whole(X), whole(Y), scale),
             clip_loss(whole(X), whole(Y), scale))  # fmt: skip
    assert [float(each) for each in found] == pytest.approx([image, text, rinna, plain, info_nce], abs=1e-9)


def plain_forms(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Each loss as its paper writes it, with all logits at once."""
    places, others = torch.arange(len(images)), ~torch.eye(len(images), dtype=torch.bool)

    def loob(anchors: Tensor, candidates: Tensor) -> Tensor:
        logits = scale * anchors @ candidates.T
        return (logits.masked_fill(~others, -torch.inf).logsumexp(1) - logits.diagonal()).mean()

    def hopfield(states: Tensor, stored: Tensor) -> Tensor:
        return normalize((15.0 * states @ stored.T).softmax(1) @ stored, dim=1)

    logits = scale * images @ texts.T
    signs = 2.0 * torch.eye(len(images), dtype=images.dtype) - 1
    return {
        "clip": (cross_entropy(logits, places) + cross_entropy(logits.T, places)) / 2,
        "cloob": (
            loob(hopfield(images, images), hopfield(texts, images))
            + loob(hopfield(texts, texts), hopfield(images, texts))
        )
        / 2,
        "siglip": -logsigmoid(signs * (logits + bias)).sum(1).mean(),
    }


def our_forms(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> dict[str, Tensor]:
    return {
        "clip": clip_loss(whole(images), whole(texts), scale),
        "cloob": sum(cloob_terms(whole(images), whole(texts), scale, 15.0)) / 2,  # type: ignore[dict-item]
        "siglip": siglip_loss(whole(images), whole(texts), scale, bias),
    }


def drawn(num_pairs: int, width: int, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    images = normalize(torch.randn(num_pairs, width, dtype=dtype), dim=1)
    texts = normalize(images + 0.7 * torch.randn(num_pairs, width, dtype=dtype) / width**0.5, dim=1)
    return [images, texts, torch.tensor(14.0, dtype=dtype), torch.tensor(-7.0, dtype=dtype)]


@pytest.mark.parametrize("kind", ["clip", "cloob", "siglip"])
def test_blocks_of_rows_give_the_loss_and_gradients_of_a_whole_matrix(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of fp32 the gradients differ by more than the loss: a scale of 14 takes four bits of what is exponentiated.
    for num_pairs, dtype, tolerance, gradient_tolerance in (
        (2048, torch.float32, 1e-6, 1e-5),
        (67, torch.float64, 1e-13, 1e-12),
    ):
        monkeypatch.setattr(rows, "BLOCK_BYTES", 300 * num_pairs * 4 if num_pairs > 100 else 8 * num_pairs * 9)
        found = []
        for forms in (our_forms, plain_forms):
            given = [each.requires_grad_() for each in drawn(num_pairs, 64, dtype)]
            loss = forms(*given)[kind]
            loss.backward()
            found.append((loss.detach(), [each.grad for each in given if each.grad is not None]))
        (ours, our_gradients), (plain, plain_gradients) = found
        assert float(ours) == pytest.approx(float(plain), rel=tolerance)
        used = [each for each in our_gradients if each.any()]
        assert len(used) == len(plain_gradients)
        for mine, other in zip(used, plain_gradients, strict=True):
            assert float((mine - other).norm() / other.norm()) < gradient_tolerance


@pytest.mark.parametrize("kind", ["clip", "cloob", "siglip"])
def test_gradients_are_finite_differences(kind: str) -> None:
    images, texts, scale, bias = drawn(5, 3, torch.float64)
    given = (images.requires_grad_(), texts.requires_grad_(), scale.requires_grad_(), bias.requires_grad_())
    forms = {
        "clip": lambda x, y, t, b: clip_loss(whole(normalize(x)), whole(normalize(y)), t),
        "cloob": lambda x, y, t, b: sum(cloob_terms(whole(normalize(x)), whole(normalize(y)), t, 15.0, 0, 0.7)),
        "siglip": lambda x, y, t, b: siglip_loss(whole(normalize(x)), whole(normalize(y)), t, b),
    }
    assert torch.autograd.gradcheck(forms[kind], given)


def test_without_retrieval_cloob_is_info_loob_and_half_of_it_lies_between() -> None:
    images, texts, scale, _ = drawn(20, 8, torch.float64)
    none, half, full = (
        sum(cloob_terms(whole(images), whole(texts), scale, 8.0, 0, share)) / 2 for share in (0.0, 0.5, 1.0)
    )
    assert float(none) == pytest.approx(float(loob_loss(whole(images), whole(texts), scale)), abs=1e-12)
    assert len({round(float(each), 6) for each in (none, half, full)}) == 3


def step_of_a_rank(kind: str, rank: int, world: int) -> list[Tensor]:
    """Loss and gradients of the whole batch, as one of several ranks has them after the exchange."""
    network = pair(kind, with_tower=False).double().train()
    batch = {key: value[rank::world] for key, value in in_double(pairs(8)).items()}
    whole = objective(OBJECTIVES[kind](kind=kind, chunk_samples=3), network, Setting({}))
    loss = whole(batch).total
    # As the trainer weighs it: a rank's share of the pairs, and gradients are averaged.
    (loss * whole.num_items(batch) / 8 * world).backward()
    found = [loss.detach(), *(each.grad for each in network.parameters() if each.grad is not None)]
    for each in found if world > 1 else []:
        torch.distributed.all_reduce(each)
        each /= world
    return found


def run_rank(rank: int, folder: str) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {kind: step_of_a_rank(kind, rank, 2) for kind in OBJECTIVES}
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_have_the_loss_and_the_gradient_of_one(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = "import sys; from tests.models.test_clip_losses import run_rank; run_rank(int(sys.argv[1]), sys.argv[2])"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(rank), str(tmp_path)], env=environment, cwd=ROOT)
        for rank in range(2)
    ]
    alone = {kind: step_of_a_rank(kind, 0, 1) for kind in OBJECTIVES}
    assert [process.wait(300) for process in processes] == [0, 0]
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for kind, tensors in alone.items():
        assert len(tensors) == len(found[kind]) > 20
        for mine, theirs in zip(tensors, found[kind], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12, msg=kind)
