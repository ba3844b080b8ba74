"""Choose the device and the rasterizer, and log the reason."""

from __future__ import annotations

import logging
from typing import Any

import torch

from .. import fields
from ..backends import HINTS
from ..errors import InputError

# each of these modules registers a rasterizer; the order is that of the options
from . import gsplat_cuda, numba, torch_reference, warp  # noqa: F401  # pyright: ignore[reportUnusedImport]
from .hardware import current, gpus
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
        with current(device):
            chosen, kind, obstacles = _fastest(torch.device(device).type)
        slower = "".join(
            f"; {other} would be faster: {reason}" for other, reason in obstacles.get(kind, {}).items()
        )
        log.info("rasterizer: %s (%s tensors%s)", chosen.name, "CUDA" if kind == "cuda" else "CPU", slower)
    else:
        chosen = find(name)
        with current(device):
            obstacle = (chosen.prepare or chosen.obstacle)()
        if obstacle is not None:
            raise InputError(
                "REN-001", f"The {name} rasterizer cannot run here: {obstacle}; or choose rasterizer 'auto'."
            )
    return chosen.create()


def remark(name: str, device: torch.device | str, is_free: bool = False) -> str:
    """One line for the user on what rendered, and why a faster rasterizer did not.

    Args:
        name: The rasterizer's setting.
        device: Torch device of the Gaussians.
        is_free: Whether "auto" chose the device, so that a GPU might have been used.

    Returns:
        Such as "warp rasterizer on cuda:0 (NVIDIA GeForce RTX 4090, 24.0 GB)".
    """
    device = torch.device(device)
    types = ("cuda", "cpu") if is_free and torch.cuda.is_available() else (device.type,)
    if name != "auto":
        chosen, reasons = name, {}
    else:
        with current(device):
            registration, _, obstacles = _fastest(*types)
        chosen, reasons = registration.name, {k: v for found in obstacles.values() for k, v in found.items()}
    # gsplat need not be installed: it is no loss where Warp works, and not what to mend where it does not
    if len(reasons) > 1 or chosen == "warp":
        reasons = {other: reason for other, reason in reasons.items() if reason != HINTS["gsplat"]}
    why = "".join(f"; {other} would be faster: {reason}" for other, reason in reasons.items())
    return f"{chosen} rasterizer on {_place(device)}{why}"


def _place(device: torch.device) -> str:
    """A device for the user; GPUs with their names."""
    if device.type != "cuda":
        return "the CPU" if device.type == "cpu" else str(device)
    index = device.index or 0
    return next((str(gpu) for gpu in gpus() if gpu.name == f"cuda:{index}"), str(device))


def _fastest(*device_types: str) -> tuple[Registration, str, dict[str, dict[str, str]]]:
    """The fastest that works, its device type, and why the faster ones do not work: {device type: {name: reason}}."""
    obstacles: dict[str, dict[str, str]] = {}
    for registration, kind in ranked(*device_types):
        obstacle = registration.obstacle()
        if obstacle is None:
            return registration, kind, obstacles
        obstacles.setdefault(kind, {})[registration.name] = obstacle
    raise InputError("REN-002", f"No rasterizer works on {' or '.join(device_types)}; choose device cpu.")
