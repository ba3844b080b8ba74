"""What this machine has: optional packages and memory, with the sentences to print where one is missing or ends.

The only place that probes.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
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


_GIB = 1 << 30
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


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


@contextmanager
def explains_memory(doing: str, device: torch.device | None = None) -> Generator[None, None, None]:
    """Inside, running out of memory becomes an InputError that says how much was wanted and which number to lower.

    `device`: the card that is meant where it is a card's memory that ends (None: the current one).
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        wanted = _asked(str(error))
        on_card = isinstance(error, torch.OutOfMemoryError)
        if not on_card and not isinstance(error, MemoryError) and wanted is None:
            raise
        if on_card:
            held = torch.cuda.memory_allocated(device)
            total = torch.cuda.get_device_properties(device).total_memory
            needed = f"about {(held + (wanted or 0)) / _GIB:.1f} GB were needed and the card has {total / _GIB:.1f} GB"
            torch.cuda.empty_cache()
        else:
            needed = f"{(wanted or 0) / _GIB:.1f} GB more were needed than there are"
        raise InputError(
            f"Memory ran out while {doing}: {needed}. Lower the resolution, or how many frames are done at once."
        ) from error


def _asked(message: str) -> int | None:
    """Bytes that an allocator's message says it was asked for; None where it is no such message."""
    found = re.search(r"(?:[Tt]ried|[Uu]nable) to allocate ([\d.]+) (bytes|[KMGT]iB)", message)
    return int(float(found[1]) * _UNITS[found[2]]) if found else None
