"""Coordinates around a local origin, for captures so far from zero that float32 cannot resolve them (UTM, ECEF).

Cameras, points and Gaussians are then stored relative to an origin in float64, which `Cameras.origin` keeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InputError
from .cameras import AT_ZERO, Cameras, Origin, in_words
from .gaussians import Gaussians
from .scene4d import Scene4D
from .video import MultiViewVideo

# Farther from zero than this many times its width, a scene is moved. There, a step of float32 is 1e-5 of the width, which
# is less than a tenth of a pixel, and the training's own steps are still resolved.
FAR = 100.0
# world units: the width of positions that show none, such as one static camera
UNKNOWN_WIDTH = 100.0
# of the width: positions that are resolved no finer are visibly rounded
COARSE = 0.005
SAMPLES = 100_000


def origin_for(positions: Tensor, reach: float = 0.0) -> Origin:
    """The origin around which positions should be stored; zero where float32 resolves them as they are.

    A few round numbers: captures of one place mostly get the same origin.

    Args:
        positions: Camera centers or Gaussians [P, 3], P ≥ 1, in world units.
        reach: A length in world units that the positions themselves may fall short of, such as the nearest depth.
    """
    middle, width = middle_and_width(positions)
    width = max(width, reach) or UNKNOWN_WIDTH
    if not float(middle.norm()) > FAR * width:
        return AT_ZERO
    digits = -(math.floor(math.log10(width)) + 1)
    x, y, z = (round(c, digits) + 0.0 for c in middle.tolist())
    return x, y, z


def middle_and_width(positions: Tensor) -> tuple[Tensor, float]:
    """The median [3] of positions [P, 3] on each axis (float64), and the distance from it within which 90 % of them lie."""
    exact = _sample(positions)
    middle = exact.median(dim=0).values
    apart = (exact - middle).norm(dim=1).sort().values
    return middle, float(apart[int(0.9 * (len(apart) - 1))])


def _sample(positions: Tensor) -> Tensor:
    """At most about SAMPLES of positions [P, 3], in float64: good enough for percentiles."""
    return positions.detach()[:: max(1, len(positions) // SAMPLES)].double()


def coarse_step(positions: Tensor, width: float) -> float:
    """The step of float32 at positions [P, 3] that are rounded to it and too coarse for their width; 0.0 elsewhere."""
    exact = _sample(positions)
    exact = exact[torch.isfinite(exact).all(dim=1)]
    if not len(exact):
        return 0.0
    step = float(torch.finfo(torch.float32).eps) * 2.0 ** math.floor(
        math.log2(float(exact.abs().amax()) or 1.0)
    )
    is_rounded = bool(((exact - exact.float().double()).abs() <= 1e-3 * step).all())
    return step if step > COARSE * width and is_rounded else 0.0


def coarse_note(positions: Tensor) -> str:
    """A sentence about Gaussians [N, 3] that lie so far from zero that float32 has rounded them; empty for others."""
    if not len(positions):
        return ""
    middle, width = middle_and_width(positions)
    step = coarse_step(positions, width)
    if not step:
        return ""
    return (
        f"The Gaussians lie {float(middle.norm()):.4g} units from zero, where float32 resolves steps of {step:.2g}: detail is "
        "lost. Export them again relative to a local origin, or with double positions."
    )


def shifted(positions: Tensor, origin: Origin) -> Tensor:
    """Positions [..., 3] relative to `origin`: subtracted in float64, returned in float32."""
    return (positions.double() - torch.tensor(origin, dtype=torch.float64, device=positions.device)).float()


def around_origin(
    moments: Sequence[Gaussians], origins: Sequence[Origin] = ()
) -> tuple[list[Gaussians], Origin]:
    """Frames of Gaussians in float32, where necessary around a local origin.

    Args:
        moments: T ≥ 1 frames; positions may be float64.
        origins: What the positions of each frame are relative to; empty stands for zero.

    Returns:
        The frames, and the one origin that all their positions are relative to.
    """
    first = origins[0] if origins else AT_ZERO
    means = [g.means for g in moments]
    for i, origin in enumerate(origins):
        if origin != first:
            moved = torch.tensor(origin, dtype=torch.float64) - torch.tensor(first, dtype=torch.float64)
            means[i] = means[i].double() + moved.to(means[i].device)
    every = max(1, sum(map(len, means)) // SAMPLES)
    places = torch.cat([m.detach()[::every] for m in means])
    local = origin_for(places) if len(places) else AT_ZERO
    made = [
        g.with_(means=m.float() if local == AT_ZERO else shifted(m, local))
        for g, m in zip(moments, means, strict=True)
    ]
    x, y, z = (a + b for a, b in zip(first, local, strict=True))
    return made, (x, y, z)


def origin_note(origin: Origin, is_turned: bool = False) -> str:
    """A sentence for what leaves in local coordinates; empty where these are the world's own.

    `is_turned`: positions were also turned about zero.
    """
    if origin == AT_ZERO:
        return ""
    first = "turn them back and " if is_turned else ""
    return f"Positions are relative to {in_words(origin)}; {first}add it for the coordinates of the capture."


def is_near(place: Tensor, origin: Origin) -> bool:
    """Whether a place [3] lies nearer to `origin` than to zero: whether it is given in world coordinates."""
    exact = place.detach().double().cpu()
    return float((exact - torch.tensor(origin, dtype=torch.float64)).norm()) < float(exact.norm())


def in_coordinates_of(scene: Scene4D, cameras: Cameras) -> Cameras:
    """Cameras of a capture, a path or another scene in the coordinates of `scene`.

    Files of other programs do not keep an origin. Where only one side has one, the numbers of the other are taken for local
    ones, unless they lie nearer to that origin than to zero: then they are the world's.
    """
    theirs, ours = cameras.origin, scene.rig.origin
    if theirs == ours:
        return cameras
    if theirs == AT_ZERO:
        middle, _ = middle_and_width(cameras.centers)
        return cameras.with_origin(ours) if is_near(middle, ours) else replace(cameras, origin=ours)
    if ours == AT_ZERO:
        is_world = is_near(scene.bounds.mean(dim=0), theirs)
        return cameras.with_origin(ours) if is_world else replace(cameras, origin=ours)
    return cameras.with_origin(ours)


def check_same_origin(scenes: Sequence[Scene4D]) -> None:
    """InputError where scenes that are shown together have different local origins; one without an origin goes with any."""
    known = dict.fromkeys(scene.rig.origin for scene in scenes if scene.rig.origin != AT_ZERO)
    if len(known) > 1:
        listed = " and ".join(in_words(origin) for origin in known)
        raise InputError(
            "SCN-017",
            f"The scenes have coordinates around different places, {listed}, and cannot be shown together. Train the second one "
            "with the first as its start scene, which gives both the same.",
        )


def video_in_coordinates_of(scene: Scene4D, video: MultiViewVideo) -> MultiViewVideo:
    """A capture in the coordinates of `scene`; see `in_coordinates_of`."""
    cameras = in_coordinates_of(scene, video.cameras)
    if cameras is video.cameras:
        return video
    points = video.points
    if points is not None:
        moved = (cameras.centers - video.cameras.centers).double().mean(dim=0)
        points = (points.double() + moved).float()
    return replace(video, cameras=cameras, points=points)
