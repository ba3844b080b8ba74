"""A moving scene as one `.4dgs` file, through the optional package `fourdgs`.

The format's Gaussians exist in a time window and move at constant velocity in it. Between two frames, each moving
Gaussian becomes one of those, with the scale, rotation, opacity and color of the first frame: positions are exact at the
frames and linear between them, everything else holds until the next frame. Static Gaussians are stored once.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import backends
from ..errors import InputError
from ..files.atomic import write_atomically
from ..scene import Gaussians, Scene4D, harmonics
from ..scene.cameras import AT_ZERO

# Gaussians × frames
MOST = 20_000_000
# the format's bytes span −4..4
SH_RANGE = 4.0


def write_fourdgs(scene: Scene4D, seconds: list[float], path: Path | str) -> Path:
    """Write a scene as one .4dgs file, atomically.

    Colors outside 0..1 and harmonics outside −4..4 are clipped, because the format cannot store them.

    Args:
        scene: The scene.
        seconds: Times to sample, ascending, in seconds; the file's own time starts at 0.
        path: The .4dgs file; it is replaced if it exists.

    Returns:
        The path.

    Raises:
        InputError: The package is missing, the times do not ascend, or the scene is empty or too large.
    """
    backends.require("fourdgs")
    import fourdgs  # pyright: ignore[reportMissingTypeStubs]

    path = Path(path)
    times = np.asarray(seconds, dtype=np.float64)
    if len(times) == 0 or not np.isfinite(times).all() or bool((np.diff(times) <= 0).any()):
        raise InputError(
            "IO-001", f"{path.name} was not written: its {len(times)} times must be in ascending order."
        )
    if len(scene.canonical) == 0:
        raise InputError(
            "IO-002",
            f"{path.name} was not written: the scene has no Gaussians. Check the step that created it.",
        )
    if len(scene.canonical) * len(times) > MOST:
        raise InputError(
            "IO-003",
            f"{path.name} was not written: {len(scene.canonical):,} Gaussians in {len(times)} frames exceed the limit of "
            f"{MOST:,}. Export fewer frames.",
        )
    with torch.no_grad():
        moments = [scene.at(float(t)).map(lambda x: x.detach().cpu().float()) for t in times]
    steps = np.diff(times)
    end = float(times[-1] - times[0]) + (float(steps[-1]) if len(steps) else 1.0)
    parts = [part for part in _pieces(moments, times - times[0], end) if part["mu_t"].size]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    sh = joined.pop("sh")
    degree = moments[0].sh_degree
    gaussians = fourdgs.GaussianSet(**joined, sh=sh if degree else None, sh_degree=degree)
    # the format's metadata is text
    place = scene.rig.origin
    origin = None if place == AT_ZERO else {"origin": " ".join(repr(c) for c in place)}
    options = fourdgs.WriteOptions(profile="default", library="gs4d-studio", sh_bands=degree, metadata=origin)
    with write_atomically(path) as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fourdgs.write(str(partial), gaussians, end, options=options)
        except fourdgs.FourdgsError as error:
            raise InputError(
                "IO-004", f"{path.name} was not written: {' '.join(str(error).split())[:200]}."
            ) from error
    return path


def _pieces(moments: list[Gaussians], times: Any, end: float) -> list[dict[str, Any]]:
    """The static Gaussians once, then the moving ones for each interval."""
    still = torch.ones(len(moments[0]), dtype=torch.bool)
    for moment in moments[1:]:
        for a, b in zip(moments[0].tensors().values(), moment.tensors().values(), strict=True):
            still &= (a == b).flatten(1).all(dim=1) if a.ndim > 1 else a == b
    everything = [_piece(moments[0], still, torch.zeros(len(still), 3), 0.0, end)]
    for i, moment in enumerate(moments):
        stop = float(times[i + 1]) if i + 1 < len(moments) else end
        following = moments[i + 1] if i + 1 < len(moments) else moment
        velocity = (following.means - moment.means) / (stop - float(times[i]))
        everything.append(_piece(moment, ~still, velocity, float(times[i]), stop))
    return everything


def _piece(g: Gaussians, chosen: Tensor, velocity: Tensor, start: float, stop: float) -> dict[str, Any]:
    a = g.map(lambda t: t[chosen]).activated()
    count = len(a.means)
    color = torch.cat([harmonics.dc_to_rgb(a.sh[:, 0]).clamp(0, 1), a.opacities[:, None]], dim=1)
    # channel by channel
    rest = a.sh[:, 1:].transpose(1, 2).reshape(count, 3 * (a.sh.shape[1] - 1))
    byte = ((rest + SH_RANGE) * (255 / (2 * SH_RANGE))).round().clamp(0, 255).to(torch.uint8)
    return {
        "positions": a.means.numpy(),
        "scales": a.scales.numpy(),
        "rotations": a.quats[:, [1, 2, 3, 0]].numpy(),
        "colors": color.numpy(),
        "motions": velocity[chosen].numpy(),
        "mu_t": np.full(count, start, dtype=np.float32),
        "sigma_t": np.full(count, np.inf, dtype=np.float32),
        "win_lo": np.full(count, start),
        "win_hi": np.full(count, stop),
        "sh": byte.numpy(),
    }
