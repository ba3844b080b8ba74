"""The machine and versions that every benchmark reports."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def environment(device: str, seed: int) -> dict[str, Any]:
    """Machine, device, seed and versions, as plain JSON."""
    versions: dict[str, str | None] = {}
    for package in ("torch", "numba", "gsplat", "warp-lang", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    name = torch.cuda.get_device_name() if device.startswith("cuda") else processor()
    return {
        "machine": name,
        "device": device,
        "seed": seed,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "versions": versions,
    }
