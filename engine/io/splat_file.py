"""Gaussians of one frame as `.splat`, the format of antimatter15's viewer.

No header: 32 bytes for each Gaussian, its position and linear scale (float32 each), color and opacity (a byte each), and
rotation wxyz (bytes around 128). The harmonics are of degree 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.paths import read_regular
from ..scene import Gaussians, harmonics, rotations
from ..scene.gaussians import ActivatedGaussians
from .writable import writable

ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def read_splat_file(path: Path) -> Gaussians:
    """Read a .splat file.

    Args:
        path: The file.

    Returns:
        N Gaussians of SH degree 0.

    Raises:
        InputError: The file is missing, or its size is not that of whole Gaussians.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputError(
            "IO-084", f"{path.name} cannot be read: {error.strerror}; check the path."
        ) from error
    if not data or len(data) % ROW.itemsize:
        raise InputError(
            "IO-085",
            f"{path.name} has {len(data):,} bytes, but a .splat file has {ROW.itemsize} for each Gaussian; copy or "
            "export it again.",
        )
    rows = np.frombuffer(data, dtype=ROW)
    rgba = torch.from_numpy(rows["rgba"].astype(np.float32) / 255)
    quats = torch.from_numpy((rows["quat"].astype(np.float32) - 128) / 128)
    # all bytes 128 would be no rotation at all
    quats[quats.norm(dim=1) == 0, 0] = 1
    return Gaussians.from_activated(
        ActivatedGaussians(
            means=torch.from_numpy(rows["mean"].astype(np.float32)),
            quats=rotations.normalise(quats),
            scales=torch.from_numpy(rows["scale"].astype(np.float32)),
            opacities=rgba[:, 3].clamp(1 / 1020, 1 - 1 / 1020),
            sh=((rgba[:, :3] - 0.5) / harmonics.C0)[:, None],
        )
    )


def write_splat_file(gaussians: Gaussians, path: Path | str) -> Path:
    """Write the Gaussians of one frame, atomically, without harmonics above degree 0: the format has none.

    Args:
        gaussians: N Gaussians.
        path: The .splat file; it is replaced if it exists.

    Returns:
        The path.

    Raises:
        InputError: A value is not finite, or the file cannot be written.
    """
    path = Path(path)
    a = writable(gaussians, path.name).activated()
    rows = np.zeros(len(a.means), ROW)
    rows["mean"], rows["scale"] = a.means.numpy(), a.scales.numpy()
    rgb = a.sh[:, 0] * harmonics.C0 + 0.5
    rows["rgba"] = (torch.cat([rgb, a.opacities[:, None]], dim=1).clamp(0, 1) * 255).round().byte().numpy()
    # of 256 steps the last one is missing, so that the largest part is best negative
    largest = a.quats.gather(1, a.quats.abs().argmax(dim=1, keepdim=True))
    quats = torch.where(largest > 0, -a.quats, a.quats)
    rows["quat"] = (quats * 128 + 128).round().clamp(0, 255).byte().numpy()
    with write_atomically(path) as partial:
        partial.write_bytes(rows.tobytes())
    return path
