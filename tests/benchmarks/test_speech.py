"""Both sides of the benchmarks of speech do the same work; what does not is found out."""

from dataclasses import replace

import pytest

from benchmarks import speech_loss, speech_step
from benchmarks.speech_loss import largest_gap, take_pass
from benchmarks.speech_step import SIDES, Run, check_same_work
from components.outcomes import Refused


def test_the_head_and_the_cosine_expand_form_give_the_same_loss_and_gradients() -> None:
    ours, theirs = (take_pass(is_ours, 20, 60) for is_ours in (True, False))
    assert largest_gap(ours, theirs) <= speech_loss.TOLERANCE
    assert [each.shape for each in ours.gradients] == [(60, 768), (20, 256), (256, 768), (256,)]
    with pytest.raises(Refused, match="gradients differ by up to"):
        largest_gap(ours, replace(theirs, loss=theirs.loss * 1.001))
    with pytest.raises(Refused, match="gradients differ by up to 1"):
        largest_gap(ours, replace(theirs, gradients=[each + 1 for each in theirs.gradients]))


def test_steps_with_another_loss_are_refused() -> None:
    runs = dict.fromkeys(SIDES, Run(first_loss=6.7, step_seconds=1.0, peak_bytes=1))
    check_same_work(runs)
    with pytest.raises(Refused, match=r"The first loss is 6.7000 on our side and 7.7000 of torchaudio"):
        check_same_work(runs | {"torchaudio hubert_pretrain_base": Run(7.7, 1.0, 1)})


def test_a_precision_that_is_none_is_refused_before_any_step() -> None:
    with pytest.raises(Refused, match="--precisions is fp16, expected one or more of fp32, bf16"):
        speech_step.measure(precisions=["fp32", "fp16"])


def test_the_rows_of_a_step_ask_for_one_and_a_half_of_what_torchaudio_ships() -> None:
    runs = [[Run(6.7, 1.0, 100)], [Run(6.7, 2.0, 200)], [Run(6.7, 1.25, 150)]]
    rows = speech_step._rows("fp32", dict(zip(SIDES, runs, strict=True)), 8.0)
    assert [row.ratio.median for row in rows if row.ratio] == pytest.approx([2.0, 1.25, 0.5])
    assert [row.verdict for row in rows] == ["at least 1.5: yes", "", ""]


def test_torchaudio_takes_every_weight_of_ours() -> None:
    network, _ = SIDES["torchaudio hubert_pretrain_base"]()
    ours, _ = SIDES["ours"]()
    assert sum(each.numel() for each in network.parameters()) == sum(each.numel() for each in ours.parameters())
