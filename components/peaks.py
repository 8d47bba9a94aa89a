"""What GPUs can compute at most, from their vendors' data sheets: dense, without sparsity, at boost clock."""

import re
from dataclasses import dataclass

TERA = 1e12


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU."""

    name: str
    """A fragment of the name that CUDA gives, in its words."""
    memory_gb: int
    """Of its largest variant, as its vendor calls it. CUDA finds at least so many 10^9 bytes: in an "80 GB" card about
    84."""
    bf16: float | None
    """TFLOP/s of tensor cores with fp32 sums; None for one that computes in fp16 only."""
    fp32: float
    """TFLOP/s of plain fp32."""

    def peak_flops(self, precision: str) -> float | None:
        """FLOP/s in `bf16` or `fp32`; None if it has no such units."""
        found = self.bf16 if precision == "bf16" else self.fp32
        return found * TERA if found else None


# NVIDIA's data sheets, which mostly print twice as much "with sparsity": H100 (2023; SXM, PCIe, NVL), H200 (2024),
# GH200 (2023; the units of H100 SXM), HGX B200 (2025), A100 (2021), A10, A10G (2022, published by AWS), A30, A40, L4,
# L40S, T4, V100 (2020; SXM2 stands for all); white papers of the chips GA102 (RTX 3090), AD102 (RTX 4090) and GB202
# (RTX 5090), whose consumer cards sum in fp32 at half speed.
GPUS: tuple[Gpu, ...] = (
    Gpu("B200", 180, 2250.0, 75.0),
    Gpu("H200", 141, 989.4, 66.9),
    Gpu("H200 NVL", 141, 835.0, 60.0),
    Gpu("H100", 80, 989.4, 66.9),  # SXM, whose name does not say so
    Gpu("H100 PCIe", 80, 756.0, 51.2),
    Gpu("H100 NVL", 94, 835.0, 60.0),
    Gpu("GH200", 96, 989.4, 66.9),
    Gpu("A100", 80, 312.0, 19.5),
    Gpu("A40", 48, 149.7, 37.4),
    Gpu("A30", 24, 165.0, 10.3),
    Gpu("A10", 24, 125.0, 31.2),
    Gpu("A10G", 24, 70.0, 31.5),
    Gpu("L40S", 48, 362.1, 91.6),
    Gpu("L4", 24, 121.0, 30.3),
    Gpu("RTX 5090", 32, 209.5, 104.8),
    Gpu("RTX 4090", 24, 165.2, 82.6),
    Gpu("RTX 3090", 24, 71.0, 35.6),
    Gpu("V100", 32, None, 15.7),  # 125 in fp16, which no recipe has
    Gpu("T4", 16, None, 8.1),  # 65 in fp16
)

BESIDE = re.compile(r"nvidia|tesla|geforce|pcie|sxm\d?|hbm\d?e?|\d+gb")
"""Words of a name that make no other card of it. Others do, such as Ti, Laptop, MIG, or the 24Q of a virtual one."""


def gpu_of(name: str) -> Gpu | None:
    """The kind of a GPU: the one whose words the name holds, and of several the one with the most.

    Args:
        name: as CUDA gives it, such as `NVIDIA H100 80GB HBM3`.

    Returns:
        None for a card that is not in the table, and for a part of one.
    """
    words = _words(name)
    fitting = [gpu for gpu in GPUS if _words(gpu.name) <= words]
    found = max(fitting, key=lambda gpu: len(_words(gpu.name)), default=None)
    if found is None or not all(BESIDE.fullmatch(word) for word in words - _words(found.name)):
        return None
    return found


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", name.lower()))


def gpu_peak_flops(name: str, precision: str) -> float | None:
    """The peak of a GPU.

    Args:
        name: as CUDA gives it, such as `NVIDIA H100 80GB HBM3`.
        precision: `bf16` or `fp32`.

    Returns:
        FLOP/s; None for one that is not in the table, or has no units for the precision.
    """
    gpu = gpu_of(name)
    return gpu.peak_flops(precision) if gpu else None
