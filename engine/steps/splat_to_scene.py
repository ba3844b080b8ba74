"""Make a scene of splats that came from elsewhere: one splat stands still, several are the moments of a flip-book."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..deform.flipbook import Flipbook
from ..errors import InputError
from ..scene import Gaussians, Scene4D
from ..scene.rigs import UPS, bounds_of, ring_of_cameras
from .step import choice, flag, number, validate

__all__ = ["Config", "make"]


@dataclass(frozen=True)
class Config:
    fps: float = number(
        24.0, 0.1, 240.0, "How fast a batch plays: larger makes the motion quicker and the scene shorter."
    )
    up: str = choice(
        "y down",
        tuple(UPS),
        "Which way is up in the splat; cameras are put round it accordingly. ComfyUI's own splats have y down.",
    )
    blends_moments: bool = flag(
        True, "Moves smoothly between moments; off, each moment stays until the next (for unrelated splats)."
    )

    def __post_init__(self) -> None:
        validate(self)


def make(moments: list[Gaussians], config: Config = Config()) -> Scene4D:
    """A scene of T ≥ 1 moments, 1/fps apart, seen by a ring of cameras.

    Moments with unlike counts are padded with invisible Gaussians and held instead of blended, since the i-th of one is
    not the i-th of another. Raises InputError where there is nothing to show.
    """
    if not moments or not any(len(m) for m in moments):
        raise InputError("The splat has no Gaussians; wire one that has.")
    if not all(bool(torch.isfinite(t).all()) for m in moments for t in m.tensors().values()):
        raise InputError(
            "The splat has values that are no numbers (NaN or infinite); clean it where it was made."
        )
    blends = config.blends_moments and len({len(m) for m in moments}) == 1
    most, bases = max(len(m) for m in moments), max(m.sh.shape[1] for m in moments)
    moments = [_padded(m, most, bases) for m in moments]
    seconds = torch.arange(len(moments), dtype=torch.float64) / config.fps
    bounds = bounds_of(torch.cat([m.means[m.logit_opacities > -10] for m in moments]))
    rig = ring_of_cameras(bounds, torch.tensor(UPS[config.up], dtype=torch.float64))
    scene = Scene4D.still(moments[0], seconds, rig, bounds, torch.ones(3))
    if len(moments) > 1:
        scene = scene.with_(deformation=Flipbook.of(moments, seconds, blends))
    return scene.with_history(
        "splat_to_scene", config=config.__dict__.copy(), gaussians=most, moments=len(moments)
    )


def _padded(gaussians: Gaussians, count: int, bases: int) -> Gaussians:
    """`count` Gaussians with `bases` SH bases: the missing ones are invisible and lie on the first."""
    missing = count - len(gaussians)
    sh = torch.nn.functional.pad(gaussians.sh, (0, 0, 0, bases - gaussians.sh.shape[1]))
    gaussians = gaussians.with_(sh=sh)
    if missing == 0:
        return gaussians
    if len(gaussians) == 0:
        return Gaussians(
            torch.zeros(count, 3),
            torch.full((count, 3), -10.0),
            torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
            torch.full((count,), -20.0),
            torch.zeros(count, bases, 3),
        )
    extra = gaussians.map(lambda t: t[:1].expand(missing, *t.shape[1:]).clone())
    return Gaussians.concatenate([gaussians, extra.with_(logit_opacities=torch.full((missing,), -20.0))])
