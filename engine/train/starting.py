"""A training that starts from a finished scene: what it takes over, and what is refused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..deform import PerFrame
from ..errors import InputError
from ..finite import is_finite
from ..scene import Deformation, Gaussians, MultiViewVideo, Scene4D, Static, harmonics

# difference of frame times that still counts as the same frame, in gaps between frames
SAME_TIME = 0.05


def start_for(video: MultiViewVideo, config: Any, scene: Scene4D) -> tuple[Scene4D, str]:
    """Check a start scene and bring it to the training's SH degree.

    Args:
        video: What is trained on.
        config: The training's FitConfig.
        scene: The scene to start from.

    Returns:
        The scene as the training takes it, and a line that says where the first Gaussians come from.

    Raises:
        InputError: The scene has no Gaussians, more than the training may have, or NaN or infinite values, or it moves at
            other times than the video.
    """
    count, degree = len(scene.canonical), scene.canonical.sh_degree
    tensors = [*scene.canonical.tensors().values(), *scene.deformation.tensors().values()]
    if not count or not all(is_finite(t) for t in tensors if t.is_floating_point()):
        what = "contains NaN or infinite values" if count else "does not contain Gaussians"
        raise InputError(
            "TRN-030", f"The start scene {what}, so training cannot start from it; load another scene."
        )
    if config.density != "none" and count > config.budget:
        raise InputError(
            "TRN-031",
            f"The start scene has {count} Gaussians and max Gaussians is {config.budget}; raise it to at least {count}, or set "
            "densification to none.",
        )
    moves = not isinstance(scene.deformation, Static)
    if moves:
        _check_times(video, scene)
    note = f"the start scene ({count} Gaussians"
    if degree != config.sh_degree:
        lost = ", higher bands are dropped" if degree > config.sh_degree else ""
        note += f", SH degree {degree} → {config.sh_degree}{lost}"
    if moves:
        note += f", its motion is {'kept' if config.start_motion == 'frozen' else 'trained on'}"
    bases = harmonics.bases(config.sh_degree)
    canonical = _with_bases(scene.canonical, bases)
    return scene.with_(
        canonical=canonical, deformation=_changes_with_bases(scene.deformation, bases)
    ), note + ")"


def _check_times(video: MultiViewVideo, scene: Scene4D) -> None:
    """InputError where a frame of the video is not one of the scene's."""
    wanted, there = video.times.double(), scene.times.double()
    gaps = torch.cat([wanted.diff(), there.diff()])
    tolerance = SAME_TIME * float(gaps.min()) if len(gaps) else 1e-3
    apart = (wanted[:, None] - there[None]).abs().amin(dim=1)
    if float(apart.max()) > tolerance:
        raise InputError(
            "TRN-032",
            f"The start scene has {len(there)} frames from {float(there[0]):.4g} s to {float(there[-1]):.4g} s, "
            f"{video.name} {len(wanted)} from {float(wanted[0]):.4g} s to {float(wanted[-1]):.4g} s, up to "
            f"{float(apart.max()):.3g} s from the scene's. Load the video with the scene's first frame and frame rate.",
        )


def _with_bases(gaussians: Gaussians, bases: int) -> Gaussians:
    return gaussians.with_(sh=_resized(gaussians.sh, bases))


def _changes_with_bases(deformation: Deformation, bases: int) -> Deformation:
    """Per-frame changes of colors follow the SH degree; other motions fit any degree."""
    if not isinstance(deformation, PerFrame) or "sh" not in deformation.changes:
        return deformation
    changes = {**deformation.changes, "sh": _resized(deformation.changes["sh"], bases)}
    return PerFrame(deformation.seconds, changes, deformation.blends)


def _resized(sh: Tensor, bases: int) -> Tensor:
    """SH coefficients [..., K, 3] of another degree: cut off, or filled up with zeros."""
    return F.pad(sh[..., :bases, :], (0, 0, 0, max(0, bases - sh.shape[-2])))
