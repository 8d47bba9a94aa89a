"""Peaks of GPUs by the names that CUDA gives them."""

import pytest

from components.peaks import GPUS, gpu_of, gpu_peak_flops


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
    ],
)
def test_a_gpu_is_known_by_the_words_of_its_name(name: str, kind: str) -> None:
    found = gpu_of(name)
    assert found is not None
    assert found.name == kind


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA Nothing 9000",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A40-48Q",
        "GRID T4-16Q",
    ],
)
def test_an_unknown_gpu_and_one_that_is_named_after_another_have_no_peak(name: str) -> None:
    assert gpu_of(name) is None
    assert gpu_peak_flops(name, "bf16") is None


def test_fp32_is_not_tf32_and_a_v100_has_no_bf16() -> None:
    assert gpu_peak_flops("NVIDIA A100-SXM4-40GB", "bf16") == 312e12
    assert gpu_peak_flops("NVIDIA A100-SXM4-40GB", "fp32") == 19.5e12
    assert gpu_peak_flops("Tesla V100-SXM2-32GB", "bf16") is None
    assert gpu_peak_flops("Tesla V100-SXM2-32GB", "fp32") == 15.7e12


def test_tensor_cores_are_faster_in_fewer_bits_and_names_differ() -> None:
    for gpu in GPUS:
        assert gpu.bf16 is None or gpu.bf16 > gpu.fp32, gpu.name
    assert len({gpu.name for gpu in GPUS}) == len(GPUS)
