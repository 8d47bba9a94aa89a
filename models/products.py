"""The product of a linear layer by the faster of the libraries that torch brings."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn


@cache
def prefers_onednn() -> bool:
    """Whether this is a CPU on which oneDNN multiplies matrices in fp32 faster than MKL: x86, but not Intel's.

    torch takes MKL for fp32 on x86 wherever it is built with it. On a Zen 4, with one thread and the sizes of a head
    (188 x 256 times 256 x 32,000), MKL reaches 77 to 91 GFLOP/s and oneDNN 95 to 106.
    """
    try:
        vendors = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "AuthenticAMD" in vendors and torch.backends.mkldnn.is_available()


def linear(inputs: Tensor, matrix: Tensor) -> Tensor:
    """`inputs` [rows, in] times `matrix` [out, in], transposed: [rows, out]. Not for autograd to look into."""
    if inputs.device.type == "cpu" and inputs.dtype == matrix.dtype == torch.float32 and prefers_onednn():
        # What torch's own compiler writes for a linear layer without a bias.
        return torch.ops.mkldnn._linear_pointwise(inputs, matrix, None, "none", [], "")  # noqa: SLF001
    return nn.functional.linear(inputs, matrix)
