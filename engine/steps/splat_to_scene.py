"""Make a scene of splats from elsewhere: one splat gives a static scene, several are stored per frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..deform.moments import mending_note, scene_of_moments
from ..fields import as_record, choice, flag, number, validate
from ..scene import Gaussians, Scene4D
from ..scene.rigs import UPS
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "make"]


@dataclass(frozen=True)
class Config:
    fps: float = number(
        24.0, 0.1, 240.0, "Frame rate of the batch. More plays faster.", label="frames per second"
    )
    up: str = choice(
        "y down",
        tuple(UPS),
        "Up axis of the splat; cameras are placed around it accordingly. ComfyUI's own splats have y down.",
        label="up axis",
    )
    blends_moments: bool = flag(
        True,
        "Interpolates between frames; off holds each frame until the next (for unrelated splats).",
        label="interpolate frames",
    )

    def __post_init__(self) -> None:
        validate(self)


def make(moments: list[Gaussians], config: Config = Config()) -> Scene4D:
    """Make a scene of splats that come from elsewhere.

    Args:
        moments: T ≥ 1 splats, 1/fps seconds apart. Splats with different counts are held instead of interpolated.
        config: Frame rate, up axis, and whether frames are interpolated.

    Returns:
        A scene that a ring of cameras looks at.

    Raises:
        InputError: The splats do not contain Gaussians, or none with finite values.
    """
    up = torch.tensor(UPS[config.up], dtype=torch.float64)
    scene = scene_of_moments(moments, config.fps, up, config.blends_moments)
    return scene.with_history(
        "splat_to_scene",
        config=as_record(config),
        gaussians=len(scene.canonical),
        moments=len(moments),
    )


def summary(scene: Scene4D) -> str:
    """A line about the scene, and one about Gaussians that were left out."""
    return "\n".join(filter(None, (scene.summary(), mending_note(scene))))


STEP = Step(
    name="splat_to_scene",
    node="SplatToScene",
    label="Splat to 4D Scene",
    category="4dgs/convert",
    description="Converts a splat to a static scene, or a batch of splats to a moving one.",
    config=Config,
    run=make,
    inputs=(
        Input(
            "moments",
            Kind.SPLAT,
            "One splat, or one per frame. Frames with equally many Gaussians can be interpolated.",
            id="splat",
        ),
    ),
    outputs=(Output("scene", Kind.SCENE, "The splats as a scene, one frame each."),),
    has_device=False,
    note=summary,
)
