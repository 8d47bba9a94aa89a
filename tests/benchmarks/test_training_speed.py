"""The arithmetic of training speed by hand, and both sides in miniature."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import our_trainer, project
from benchmarks.figures import Spread
from benchmarks.project import Schedule, Shape, write_project
from benchmarks.training_speed import (
    CPU_SHAPE,
    GPU_SHAPES,
    Comparison,
    Run,
    check_same_work,
    compare,
    measure,
    result_of,
)
from components.outcomes import Refused
from tests.conftest import ROOT

TINY = Shape(1, 32, 2, 64, vocab_size=300, window_tokens=16, batch_windows=4)
OURS = Run("Hiraku", (20.0, 40.0), (10.0, 20.0), (3.0, 3.0), 10.4, 8.0, 8.1, 1_000_000)
THEIRS = Run("another", (40.0, 60.0), (20.0, 30.0), (6.0, 6.0), 10.4, 8.0, 8.1, 2_000_000)


def _comparison(device="cpu", ours=(OURS,), theirs=(THEIRS,)):
    return Comparison("fp32", CPU_SHAPE, Schedule(30, 10, 256), "fp32", device, list(ours), list(theirs), 100e9)


def _section(shape):
    """What stands in the recipe of a shape."""
    from models.gpt.schema import GPT2

    return GPT2(**project.recipe_of(shape, Schedule(30, 10, 256), "fp32")["network"])


def test_the_flops_of_a_step_are_those_counted_by_hand():
    # Of each token: 6 layers of 4 * 256^2 + 2 * 256 * 1024 weights, a head of 32,000 * 256, and attention.
    weights = 6 * 786_432 + 8_192_000
    assert weights == 12_910_592
    assert CPU_SHAPE.step_flops() == 4096 * (6 * weights + 12 * 6 * 256 * 256) == 336_618_061_824
    # language models' rule of thumb, 6 * parameters * tokens, is near where the vocabulary is a small part
    assert GPU_SHAPES["1.3B"].step_flops() == pytest.approx(6 * 1.3027e9 * 8192, rel=0.1)


def test_the_flops_of_a_step_are_those_that_a_plan_of_a_training_counts():
    from models.gpt.cost import training_cost
    from models.gpt.schema import Samples

    for shape in (CPU_SHAPE, *GPU_SHAPES.values()):
        samples = Samples(
            window_tokens=shape.window_tokens, batch_tokens=shape.batch_tokens, micro_batch_tokens=shape.batch_tokens
        )
        training = SimpleNamespace(samples=samples, precision="fp32")
        cost = training_cost(
            _section(shape), training, SimpleNamespace(vocab_size=shape.num_ids), on_gpu=False, is_compiled=False
        )
        assert cost.step_flops == shape.step_flops()


def test_speeds_are_tokens_over_seconds_of_the_measured_steps():
    comparison = _comparison()
    assert comparison.step_seconds(OURS) == 1.0
    assert comparison.speed(OURS) == 4096.0
    assert _comparison("gpu").step_seconds(OURS) == 2.0  # by the wall clock


def test_a_validation_each_200_steps_and_a_checkpoint_each_300_seconds_have_their_share():
    # 1 s of a step and 10 / 200 s of validation; each 300 s of that, 3 s of checkpoint.
    assert _comparison().whole_speed(OURS) == pytest.approx(4096 / (1.05 * 1.01))


def test_utilisation_is_the_share_of_the_measured_peak():
    assert _comparison().utilisation(OURS) == pytest.approx(3.36618061824)


def test_rows_hold_ratios_of_pairs():
    slower = replace(OURS, steady=(25.0, 25.0))
    rows = _comparison(ours=(OURS, slower, OURS), theirs=(THEIRS, THEIRS, THEIRS)).rows()
    assert rows[0].figure == "fp32: tokens per CPU second"
    assert rows[0].ratio == Spread(2.0, pytest.approx(1.6), 2.0)
    assert rows[0].verdict == "at least 1.3: yes"
    assert rows[3].ratio == Spread(0.5, 0.5, 0.5)
    assert len(_comparison("gpu").rows()) == 3


@pytest.mark.parametrize("key", ["first_loss", "last_loss", "valid_loss"])
def test_sides_that_do_other_work_are_refused(key):
    check_same_work(OURS, replace(THEIRS, **{key: getattr(THEIRS, key) * 1.00009}), "fp32")
    for other in (getattr(THEIRS, key) * 1.001, float("nan")):
        with pytest.raises(Refused, match=key):
            check_same_work(OURS, replace(THEIRS, **{key: other}), "fp32")


def test_networks_of_the_gpu_shapes_have_the_sizes_of_their_names():
    from models.gpt.schema import num_parameters

    counts = {name: num_parameters(_section(shape), shape.num_ids) for name, shape in GPU_SHAPES.items()}
    assert counts == {"37M": 37_398_016, "110M": 110_418_432, "336M": 336_128_000, "1.3B": 1_302_712_320}


@pytest.fixture
def settings_of_a_run(monkeypatch, tmp_path):
    """`our_trainer.run` changes the folder and the settings of its process."""
    monkeypatch.chdir(tmp_path)
    for name in ("ACCELERATOR", "CHECKPOINT_ROOT", "CHECKPOINT_EVERY_SECONDS", "NUM_THREADS", "PROGRESS"):
        monkeypatch.setenv(f"HIRAKU_{name}", "")
        monkeypatch.delenv(f"HIRAKU_{name}")


def test_our_side_reports_two_steps_and_a_peer_is_given_what_it_reads(settings_of_a_run, tmp_path):
    folder = tmp_path / "project"
    write_project(folder, TINY, Schedule(num_steps=2, warmup_steps=1, valid_windows=8))
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    assert len(work["learning_rates"]) == 2
    windows, held_out = np.load(folder / "train.npy"), np.load(folder / "valid.npy")
    assert windows.shape == (2 * 4, 17)
    assert held_out.shape == (8, 17)
    our_trainer.run(folder, "fp32", "cpu", tmp_path / "outcome.json")
    run = Run(**json.loads((tmp_path / "outcome.json").read_text(encoding="utf-8")))
    assert run.last_loss < run.first_loss
    assert min(*run.steady, *run.validation, *run.checkpoint) >= 0
    # The peer's windows and weights give the loss of our first step, so it is given the same work.
    assert run.first_loss == pytest.approx(_plain_loss(folder, windows[:4]), rel=1e-5)


def _plain_loss(folder, windows):
    import torch
    from transformers import AutoModelForCausalLM

    ids = torch.from_numpy(windows.astype(np.int64))
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder / "initial")(input_ids=ids[:, :-1]).logits
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))


@pytest.mark.slow
def test_both_sides_in_miniature_do_the_same_work(tmp_path):
    peer = ROOT / ".bench" / "transformers" / "bin" / "python"
    if not peer.exists():
        pytest.skip("the peer's environment is made by `make bench`")
    schedule = Schedule(num_steps=10, warmup_steps=1, valid_windows=8, learning_rate=0.01)
    comparison = compare("tiny", TINY, schedule, "fp32", "cpu", 1, peer)
    assert comparison.ours[0].last_loss < comparison.ours[0].first_loss - 0.01
    result = result_of([comparison], "none", [])
    assert [row.peer.split()[0] for row in result.rows] == ["transformers"] * 4
    assert json.loads(json.dumps(result.measured))[0]["precision"] == "fp32"


def test_a_first_measured_step_that_is_not_seen_is_refused():
    for warmup_steps in (0, 5, 20):
        with pytest.raises(Refused, match="expected 1 or a multiple of 10"):
            measure(num_steps=20, warmup_steps=warmup_steps)


def test_the_recorded_command_of_a_gpu_is_one_that_can_be_given():
    from benchmarks.__main__ import app

    result = result_of([_comparison("gpu")], "python -m benchmarks training-speed --device gpu --shapes 37M 1.3B", [])
    _, bound, _ = app.parse_args(result.command.split()[3:], exit_on_error=False, print_error=False)
    assert bound.arguments["shapes"] == ("37M", "1.3B")


def test_a_benchmark_with_a_misspelt_name_gets_the_nearest_one(capsys):
    from cyclopts import CycloptsError

    from benchmarks.__main__ import app

    with pytest.raises(CycloptsError):
        app(["training-sped"], exit_on_error=False)
    assert "training-speed" in capsys.readouterr().err
