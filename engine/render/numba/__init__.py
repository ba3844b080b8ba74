"""The CPU rasterizer: numba kernels and the rasterizer that launches them. numba is imported on creation."""

from __future__ import annotations

from ... import backends
from ..rasterizer import Rasterizer
from ..registry import Registration, register


def _create() -> Rasterizer:
    from .rasterizer import NumbaRasterizer

    return NumbaRasterizer()


def _obstacle() -> str | None:
    return None if backends.installed("numba") else backends.HINTS["numba"]


register(Registration("numba", {"cpu": 50}, _create, _obstacle))
