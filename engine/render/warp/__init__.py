"""The GPU rasterizer that needs no compiler: kernels of NVIDIA Warp. Warp is imported on creation.

Why Warp: gsplat's package has no compiled kernels for most machines, and compiling them takes a CUDA toolkit and a C++ compiler,
which ComfyUI's portable version lacks. Warp's wheel (Windows and Linux) contains its compiler, shares memory with torch, and
compiles the same source for the CPU, so that every test run checks these kernels without a GPU. torch's own NVRTC interface is
private and cannot run on a CPU; numba's CUDA target needs further packages of NVIDIA's, and its simulator is pure Python.
"""

from __future__ import annotations

import functools

import torch

from ... import backends
from ..hardware import FAILED, ROCM, current_gpu
from ..rasterizer import Rasterizer
from ..registry import Registration, register


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
    return FAILED.get(("warp", current_gpu())) or _wrong_here(current_gpu())


def forget() -> None:
    """Try Warp again when it is next asked for."""
    _wrong_here.cache_clear()


@functools.cache
def _wrong_here(index: int) -> str | None:
    """Why this GPU cannot be used, or its images cannot be trusted; None if they equal the reference's.

    Tried once, since kernels are compiled. Catches everything that a driver may raise.
    """
    try:
        import warp as wp

        from .self_check import difference, is_close

        if not wp.is_cuda_available():
            return "Warp does not find the GPU's driver; update the NVIDIA driver"
        off = difference(f"cuda:{index}")
    except (Exception, SystemExit) as error:
        return f"Warp failed on this GPU ({backends.short(error)})"
    return None if is_close(off) else f"Warp's images on this GPU differ from the reference by {off:.2g}"


# on a CPU it is a slow twin for tests: numba and torch are faster there
register(Registration("warp", {"cuda": 80, "cpu": 5}, _create, _obstacle))
