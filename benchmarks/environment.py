"""The machine and versions that every benchmark reports."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from engine.render.hardware import cpu_name


def environment(device: str, seed: int) -> dict[str, Any]:
    """Machine, device, seed and versions, as plain JSON."""
    versions: dict[str, str | None] = {}
    for package in ("torch", "numba", "gsplat", "warp-lang", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    name = torch.cuda.get_device_name() if device.startswith("cuda") else cpu_name()
    return {
        "machine": name,
        "device": device,
        "seed": seed,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "versions": versions,
    }
