"""The GPU rasterizer that needs no compiler: kernels of NVIDIA Warp. Warp is imported on creation.

Why Warp: gsplat's package has no compiled kernels for most machines, and compiling them takes a CUDA toolkit and a C++ compiler,
which ComfyUI's portable version lacks. Warp's wheel (Windows and Linux) contains its compiler, shares memory with torch, and
compiles the same source for the CPU, so that every test run checks these kernels without a GPU. torch's own NVRTC interface is
private and cannot run on a CPU; numba's CUDA target needs further packages of NVIDIA's, and its simulator is pure Python.
"""

from __future__ import annotations

import torch

from ... import backends
from .. import self_check
from ..hardware import ROCM, current_gpu
from ..rasterizer import Rasterizer
from ..registry import Registration, register

# in messages
NAME = "Warp"


def _create() -> Rasterizer:
    from .rasterizer import WarpRasterizer

    return WarpRasterizer()


def _obstacle() -> str | None:
    if not backends.installed("warp"):
        return backends.HINTS["warp"]
    if torch.version.hip:
        return ROCM
    if not torch.cuda.is_available():
        return None
    return _wrong_here(current_gpu())


def _wrong_here(index: int) -> str | None:
    return self_check.wrong_here(NAME, index, _create, _problem)


def _problem() -> str | None:
    import warp as wp

    found = wp.is_cuda_available()
    return None if found else "Warp does not find the GPU's driver; update the NVIDIA driver"


# on a CPU it is a slow twin for tests: numba and torch are faster there
register(Registration("warp", {"cuda": 80, "cpu": 5}, _create, _obstacle))
