"""What this machine has: optional packages, with the sentence to print when one is missing, and memory.

The only place that probes.
"""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache

import torch

from .errors import InputError

HINTS = {
    "numba": "the fast CPU rasterizer needs the package numba: pip install numba",
    "gsplat": "the CUDA rasterizer needs the package gsplat and a CUDA build of torch: pip install gsplat",
    "av": "reading and writing video needs the package av: pip install av",
    "fourdgs": "writing .4dgs files needs the package fourdgs: pip install fourdgs",
    "diffusers": "diffusion models need the package diffusers: pip install diffusers",
    "transformers": "diffusion models need the package transformers: pip install transformers",
    "accelerate": "diffusion models need the package accelerate: pip install accelerate",
    "scipy": "this step needs the package scipy: pip install scipy",
}


@lru_cache
def installed(package: str) -> bool:
    """Whether `package` can be imported; it is not imported to find out."""
    return importlib.util.find_spec(package) is not None


def require(package: str) -> None:
    """InputError with the remedy where an optional package is missing."""
    if not installed(package):
        raise InputError(f"{package} is not installed: {HINTS.get(package, f'pip install {package}')}.")


@lru_cache
def memory() -> float:
    """Bytes of main memory that this machine has; 64 GB where it does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 64e9


@lru_cache
def gsplat_works() -> bool:
    """gsplat's CUDA kernels are usable. CUDA is asked first: without it, importing the backend may start a compiler."""
    if not torch.cuda.is_available() or not installed("gsplat"):
        return False
    try:
        from gsplat.cuda._backend import _C  # pyright: ignore
    except (ImportError, RuntimeError, OSError):
        return False
    return _C is not None
