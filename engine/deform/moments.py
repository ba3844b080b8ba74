"""Separate frames (a batch of splats, a folder of files) as one moving scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry.boxes import gaussian_bounds
from ..scene import Gaussians, Scene4D
from ..scene.cameras import Origin
from ..scene.mending import mended
from ..scene.origins import around_origin, coarse_note
from ..scene.rigs import ring_of_cameras
from ..scene.scene4d import Deformation
from .per_frame import PerFrame

# logit opacity of Gaussians that only pad a frame to the common count
HIDDEN = -20.0
# name of the history's entry
MENDED = "mended"


def mending_note(scene: Scene4D) -> str:
    """What `scene_of_moments` left out of a scene or found rounded ("" if nothing)."""
    return str((scene.last_entry(MENDED) or {}).get("note", ""))


def scene_of_moments(
    moments: list[Gaussians],
    fps: float,
    up: Tensor,
    blends: bool,
    origins: Sequence[Origin] = (),
    seconds: Tensor | None = None,
) -> Scene4D:
    """A scene of T ≥ 1 frames, 1/fps seconds apart, seen by a ring of cameras with the up axis `up` [3].

    `seconds` [T] (float64, ascending) are the times of the frames where they are known; one frame may have several.

    Frames with different counts are padded with invisible Gaussians and held instead of interpolated, since equal indices
    are then not the same Gaussian. Positions far from zero are stored around a local origin (`scene.origins`); `origins` says
    what those of each frame are relative to already. Infinite and NaN values are mended (`scene.mending`); what was left
    out is in the scene's history, see `mending_note`. Raises InputError where no frame has Gaussians with finite values.
    """
    if not any(len(m) for m in moments):
        raise InputError("DEF-015", "The splat does not contain Gaussians; connect one that does.")
    moments, note = mended(moments)
    if not any(len(m) for m in moments):
        raise InputError(
            "DEF-016",
            "Every Gaussian of the splat contains NaN or infinite values; clean it in the program that made it.",
        )
    rounded = next(filter(None, (coarse_note(m.means) for m in moments)), "")
    note = "\n".join(filter(None, (note, rounded)))
    moments, origin = around_origin(moments, origins)
    blends = blends and len({len(m) for m in moments}) == 1
    most, bases = max(len(m) for m in moments), max(m.sh.shape[1] for m in moments)
    moments = [_padded(m, most, bases) for m in moments]
    if seconds is None:
        seconds = torch.arange(len(moments), dtype=torch.float64) / fps
    visible = torch.cat([m.means[m.logit_opacities > HIDDEN / 2] for m in moments])
    bounds = gaussian_bounds(visible if len(visible) else torch.cat([m.means for m in moments]))
    rig = replace(ring_of_cameras(bounds, up.double()), origin=origin)
    scene = Scene4D.still(moments[0], seconds, rig, bounds, torch.ones(3))
    if note:
        scene = scene.with_history(MENDED, note=note)
    if len(moments) == 1:
        return scene
    return scene.with_(deformation=PerFrame.of(moments, seconds, blends))


def is_held(deformation: Deformation | None) -> bool:
    """Whether a deformation, or one that it changes, holds stored frames: equal rows of two frames are different Gaussians."""
    while deformation is not None and not isinstance(deformation, PerFrame):
        deformation = getattr(deformation, "inner", None)
    return deformation is not None and not deformation.blends


def shown(frame: Gaussians) -> Gaussians:
    """The Gaussians of a held frame without those that only pad it; one where there are no others."""
    rows = frame.logit_opacities > HIDDEN / 2
    return frame.map(lambda t: t[rows] if bool(rows.any()) else t[:1])


def _padded(gaussians: Gaussians, count: int, bases: int) -> Gaussians:
    """`count` Gaussians with `bases` SH bases: the missing ones are invisible and lie on the first."""
    missing = count - len(gaussians)
    # padding by nothing would copy harmonics that all frames share
    if gaussians.sh.shape[1] < bases:
        sh = torch.nn.functional.pad(gaussians.sh, (0, 0, 0, bases - gaussians.sh.shape[1]))
        gaussians = gaussians.with_(sh=sh)
    if missing == 0:
        return gaussians
    if len(gaussians) == 0:
        return Gaussians(
            torch.zeros(count, 3),
            torch.full((count, 3), -10.0),
            torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
            torch.full((count,), HIDDEN),
            torch.zeros(count, bases, 3),
        )
    extra = gaussians.map(lambda t: t[:1].expand(missing, *t.shape[1:]).clone())
    return Gaussians.concatenate([gaussians, extra.with_(logit_opacities=torch.full((missing,), HIDDEN))])
