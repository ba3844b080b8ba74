"""A whole moving scene as one `.4dgs` file, through the package `fourdgs` where it is installed.

The format's Gaussians live in a window of time and move at constant speed in it. Between two neighboring moments each
moving Gaussian becomes one of those, with the moment's own size, rotation, opacity and color: positions are exact at
the moments and linear between, the rest holds from one moment to the next. What never changes is stored once.
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

MOST = 20_000_000  # Gaussians × moments
SH_RANGE = 4.0  # the format's bytes span −4..4


def write_fourdgs(scene: Scene4D, seconds: list[float], path: Path | str) -> Path:
    """Write `scene` at the ascending times `seconds`; the file's own time starts at 0.

    Colors outside 0..1 and harmonics outside −4..4 are clipped, as the format demands. Raises InputError: package
    missing, times that do not ascend, no Gaussians, or too large a scene.
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
    options = fourdgs.WriteOptions(profile="default", library="gs4d-studio", sh_bands=degree)
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
    """What stands still, once; then what moves, for each interval."""
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
    rest = a.sh[:, 1:].transpose(1, 2).reshape(count, 3 * (a.sh.shape[1] - 1))  # channel by channel
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
