"""Which device and which rasterizer draw here, and why."""

from __future__ import annotations

import logging
from typing import Any

import torch

from .. import fields
from ..errors import InputError

# each of these modules registers a rasterizer; the order is that of the options
from . import gsplat_cuda, numba, torch_reference  # noqa: F401  # pyright: ignore[reportUnusedImport]
from .rasterizer import Rasterizer
from .registry import NAMES, Registration, find, ranked

log = logging.getLogger("gs4d")


def rasterizer_field() -> Any:
    """The Config field that chooses a rasterizer: "auto" or a registered name."""
    return fields.choice("auto", NAMES, "Rasterizer; auto picks the fastest that works.", advanced=True)


def choose_device(rasterizer: str = "auto") -> str:
    """The device type, "cuda" or "cpu", where the `rasterizer` of that name is fastest; "auto": where any is.

    A CUDA card without a working gsplat is left alone while numba is there: its CPU kernel is far quicker than the torch
    rasterizer on the card. One log line says so. Raises InputError where no rasterizer has that name.
    """
    here = ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)
    if rasterizer != "auto":
        priorities = find(rasterizer).priorities
        return max(here, key=lambda kind: priorities.get(kind, -1))
    _, device, obstacles = _fastest(*here)
    if device == "cpu" and obstacles.get("cuda"):
        why = "; ".join(f"no working {name}: {reason}" for name, reason in obstacles["cuda"].items())
        log.info("device: cpu (there is a CUDA card but %s)", why)
    return device


def choose(name: str = "auto", device: torch.device | str = "cpu") -> Rasterizer:
    """The rasterizer called `name`, or for "auto" the fastest that works on `device`; one log line says which and why.

    Raises InputError where a named one cannot run, with what is missing.
    """
    if name == "auto":
        chosen, kind, obstacles = _fastest(torch.device(device).type)
        slower = "".join(
            f"; {other} would be faster: {reason}" for other, reason in obstacles.get(kind, {}).items()
        )
        log.info("rasterizer: %s (%s tensors%s)", chosen.name, "CUDA" if kind == "cuda" else "CPU", slower)
    else:
        chosen = find(name)
        obstacle = (chosen.prepare or chosen.obstacle)()
        if obstacle is not None:
            raise InputError(
                "REN-001", f"The {name} rasterizer cannot run here: {obstacle}; or choose rasterizer 'auto'."
            )
    return chosen.create()


def _fastest(*device_types: str) -> tuple[Registration, str, dict[str, dict[str, str]]]:
    """The fastest that works, its device type, and what keeps the faster ones from working: {device type: {name: why}}."""
    obstacles: dict[str, dict[str, str]] = {}
    for registration, kind in ranked(*device_types):
        obstacle = registration.obstacle()
        if obstacle is None:
            return registration, kind, obstacles
        obstacles.setdefault(kind, {})[registration.name] = obstacle
    raise InputError("REN-002", f"No rasterizer works on {' or '.join(device_types)}; choose device cpu.")
