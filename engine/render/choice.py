"""Which device and which rasterizer draw here, and why."""

from __future__ import annotations

import logging

import torch

from .. import backends
from ..errors import InputError
from .rasterizer import Rasterizer

log = logging.getLogger("gs4d")


def choose_device(rasterizer: str = "auto") -> str:
    """ "cuda" or "cpu", where the one who asks says "auto": where the `rasterizer` of that name is fastest.

    A CUDA card without a working gsplat is left alone while numba is there: its CPU kernel is far quicker than the torch
    rasterizer on the card. One log line says so.
    """
    if not torch.cuda.is_available() or rasterizer == "numba":
        return "cpu"
    if rasterizer != "auto" or backends.gsplat_works() or not backends.installed("numba"):
        return "cuda"
    log.info("device: cpu (there is a CUDA card but no working gsplat: %s)", backends.HINTS["gsplat"])
    return "cpu"


def choose(name: str = "auto", device: torch.device | str = "cpu") -> Rasterizer:
    """The rasterizer called `name`, or for "auto" the fastest that works on `device`; one log line says which and why.

    Raises InputError where a named one cannot run, with what is missing.
    """
    on_cuda = torch.device(device).type == "cuda"
    if name == "auto":
        if on_cuda and backends.gsplat_works():
            name, why = "gsplat", "CUDA tensors and gsplat's kernels are there"
        elif on_cuda:
            name, why = (
                "torch",
                "CUDA tensors but no working gsplat (pip install gsplat makes this much faster)",
            )
        elif backends.installed("numba"):
            name, why = "numba", "CPU tensors"
        else:
            name, why = "torch", f"CPU tensors and no numba ({backends.HINTS['numba']})"
        log.info("rasterizer: %s (%s)", name, why)
    if name == "gsplat":
        if not backends.gsplat_works():
            raise InputError(
                f"The gsplat rasterizer cannot run here: {backends.HINTS['gsplat']}; or choose rasterizer 'auto'."
            )
        from .gsplat_cuda import GsplatRasterizer

        return GsplatRasterizer()
    if name == "numba":
        backends.require("numba")
        from .numba.rasterizer import NumbaRasterizer

        return NumbaRasterizer()
    if name == "torch":
        from .torch_reference import TorchRasterizer

        return TorchRasterizer()
    raise InputError(f"No rasterizer is called '{name}'; choose auto, gsplat, numba or torch.")
