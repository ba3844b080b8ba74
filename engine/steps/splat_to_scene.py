"""Make a scene of splats from elsewhere: one splat gives a static scene, several are stored per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..deform.moments import mending_note, scene_of_moments
from ..fields import as_record, choice, flag, number, validate
from ..geometry.upright import AS_STORED, ORIENTATIONS, UPRIGHT, Splats, turned_back
from ..scene import Gaussians, Scene4D
from ..scene.rigs import UPS, is_unturned, rig_up, up_in_words, upright_turn
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "make"]

AUTO = "auto"


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
    orientation: str = choice(
        AUTO,
        (AUTO, *ORIENTATIONS),
        "Orientation of the splat, if an original is connected: upright is turned back to the original's axes. auto takes it "
        "from the splat; one that does not say it, after Transform Splat or from a file, is taken for upright.",
        since="0.3",
    )

    def __post_init__(self) -> None:
        validate(self)


def make(moments: Sequence[Gaussians], config: Config = Config(), original: Scene4D | None = None) -> Scene4D:
    """Make a scene of splats that come from elsewhere.

    Args:
        moments: T ≥ 1 splats, 1/fps seconds apart. Splats with different counts are held instead of interpolated.
        config: Frame rate, up axis, and whether frames are interpolated.
        original: The scene that the splats were sampled from; the new scene gets its axes, rig, times and background.

    Returns:
        A scene that the original's cameras look at, or else a ring of cameras.

    Raises:
        InputError: The splats do not contain Gaussians, or none with finite values.
    """
    splats = moments if isinstance(moments, Splats) else Splats(moments)
    if original is not None:
        scene, note = _like(splats, original, config)
    else:
        # up axes other than ComfyUI's are those of the scene that was sampled: graphs from before splats were turned say so
        splats = splats if config.up == "y down" else splats.as_stored()
        up = torch.tensor(UPS[config.up], dtype=torch.float64)
        scene, note = scene_of_moments(list(splats), config.fps, up, config.blends_moments), ""
    return scene.with_history(
        "splat_to_scene",
        config=as_record(config),
        gaussians=len(scene.canonical),
        moments=len(splats),
        note=note,
    )


def _like(splats: Splats, original: Scene4D, config: Config) -> tuple[Scene4D, str]:
    """The splats as a scene with the axes, rig, times and background of the original, and a note on what was assumed."""
    turn, notes = _turn_to(splats, original, config)
    moments = list(splats) if turn is None or is_unturned(turn) else turned_back(splats, turn)
    seconds, note = _times_in(splats, original, config.fps)
    scene = scene_of_moments(
        moments,
        config.fps,
        rig_up(original.rig),
        config.blends_moments,
        [original.rig.origin] * len(moments),
        seconds,
    )
    rig = original.rig.with_origin(scene.rig.origin)
    bounds = original.bounds if rig is original.rig else scene.bounds
    scene = scene.with_(rig=rig, bounds=bounds, background=original.background)
    return scene, "\n".join(filter(None, (*notes, note)))


def _turn_to(splats: Splats, original: Scene4D, config: Config) -> tuple[Tensor | None, list[str]]:
    """The rotation [3, 3] from the original to the splats, and what was assumed about it."""
    known = splats.sampled_from
    if config.orientation == AS_STORED:
        return None, []
    if config.orientation == AUTO and known is not None:
        return known.turn, []
    turn = upright_turn(original.rig)
    if turn is None:
        return None, ["not turned back: the original's cameras do not agree which way is up"]
    if config.orientation == UPRIGHT or is_unturned(turn):
        return turn, []
    up = up_in_words(rig_up(original.rig))
    return turn, [f"The splat is taken for upright and turned back to the original's axes ({up} up)."]


def _times_in(splats: Splats, original: Scene4D, fps: float) -> tuple[Tensor, str]:
    """Times of the frames in seconds, and what was assumed about them."""
    known = splats.sampled_from
    count, times = len(splats), original.times.double()
    # a still splat stands still for as long as the original lasts
    if count == 1:
        return times, ""
    if known is not None and len(known.seconds) == count and bool((known.seconds.diff() > 0).all()):
        return known.seconds.double(), ""
    if count == len(times):
        return times, ""
    seconds = times[0] + torch.arange(count, dtype=torch.float64) / fps
    return seconds, (
        f"The original has {len(times)} frames and the splat {count}: they are {fps:g} per second, from {float(times[0]):g} s on."
    )


def summary(scene: Scene4D) -> str:
    """A line about the scene, and one about Gaussians that were left out."""
    note = str((scene.last_entry("splat_to_scene") or {}).get("note", ""))
    return "\n".join(filter(None, (scene.summary(), note, mending_note(scene))))


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
        Input(
            "original",
            Kind.SCENE,
            "The scene that the splat was sampled from, by 4D Scene to Splat. Its axes, cameras, times and background are "
            "restored.",
            optional=True,
            since="0.3",
        ),
    ),
    outputs=(Output("scene", Kind.SCENE, "The splats as a scene, one frame each."),),
    has_device=False,
    note=summary,
)
