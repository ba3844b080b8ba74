"""Choose the device and the rasterizer, and log the reason."""

from __future__ import annotations

import logging
from typing import Any

import torch

from .. import fields
from ..errors import InputError

# each of these modules registers a rasterizer; the order is that of the options
from . import gsplat_cuda, numba, torch_reference, warp  # noqa: F401  # pyright: ignore[reportUnusedImport]
from .rasterizer import Rasterizer
from .registry import NAMES, Registration, find, ranked

log = logging.getLogger("gs4d")


def rasterizer_field() -> Any:
    """Config field for a rasterizer: "auto" or a registered name."""
    return fields.choice("auto", NAMES, "Rasterizer; auto picks the fastest that works.", advanced=True)


def choose_device(rasterizer: str = "auto") -> str:
    """Choose the device type on which a rasterizer is fastest.

    With numba but without a working gsplat or Warp, this is the CPU even if there is a CUDA GPU: numba's CPU kernel is much
    faster than the torch rasterizer on the GPU. A log line says so.

    Args:
        rasterizer: Name of a rasterizer; "auto": the fastest of all.

    Returns:
        "cuda" or "cpu".

    Raises:
        InputError: Unknown rasterizer.
    """
    here = ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)
    if rasterizer != "auto":
        priorities = find(rasterizer).priorities
        return max(here, key=lambda kind: priorities.get(kind, -1))
    _, device, obstacles = _fastest(*here)
    if device == "cpu" and obstacles.get("cuda"):
        why = "; ".join(f"{name} cannot run: {reason}" for name, reason in obstacles["cuda"].items())
        log.info("device: cpu (there is a CUDA GPU, but %s)", why)
    return device


def choose(name: str = "auto", device: torch.device | str = "cpu") -> Rasterizer:
    """Create a rasterizer. For "auto", a log line says which one and why.

    Args:
        name: Name of a rasterizer; "auto": the fastest that works on `device`.
        device: Torch device of the Gaussians.

    Raises:
        InputError: The named rasterizer is unknown or cannot run on this machine.

    Example:
        image = render_gaussians(scene.at(0.0), scene.rig, choose("auto", scene.device)).rgb
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
    """The fastest that works, its device type, and why the faster ones do not work: {device type: {name: reason}}."""
    obstacles: dict[str, dict[str, str]] = {}
    for registration, kind in ranked(*device_types):
        obstacle = registration.obstacle()
        if obstacle is None:
            return registration, kind, obstacles
        obstacles.setdefault(kind, {})[registration.name] = obstacle
    raise InputError("REN-002", f"No rasterizer works on {' or '.join(device_types)}; choose device cpu.")
