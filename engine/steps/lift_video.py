"""Lift Video to 4D: any video and its depth become a moving scene, without a network for it.

Cameras are solved from tracked points (unless they are known), the static background is fused from all frames, and moving
parts follow their tracks. It stands in for the reconstruction model of Diff4Splat (Pan et al., CVPR 2026), of which no
weights are published; what no frame shows stays a hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import __version__
from ..errors import InputError
from ..fields import as_record, choice, number, validate
from ..figures.lifted import depth_shades, lift_sheet
from ..generation.lift.background import fused_background
from ..generation.lift.capture import lifted_capture
from ..generation.lift.clip_checks import check_cuts
from ..generation.lift.clip_input import MOST_FRAMES, chosen_frames, clip_input
from ..generation.lift.moving_masks import grown, moving_masks
from ..generation.lift.moving_parts import moving_parts
from ..generation.lift.placing import PlacedClip, placed_clip
from ..generation.lift.scene import lifted_scene
from ..generation.lift.seen_through import corrected
from ..messages import Finished, Preview, Progress, Started, Stream, progress_of
from ..render.camera_paths import CameraPath
from ..scene import MultiViewVideo, Scene4D
from ..tracking.patches import registered
from ..tracking.tracks import ClipFlow, clip_flow, grid_tracks
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

# cells of the grid of tracks across the image's longer side, and frames between two beginnings
CELLS, EVERY = 20, 6
# share of moving pixels below which nothing is said to move
LEAST_MOVING = 0.0005


class Lifted(NamedTuple):
    """A scene made of a video."""

    scene: Scene4D
    moving: Tensor  # [T, H, W] in 0..1: what was taken to move
    depth: Tensor  # [T, H, W, 3] depth as gray: near is bright; not distances
    video: MultiViewVideo  # what the scene is refined with
    note: str


@dataclass(frozen=True)
class Config:
    cameras: str = choice(
        "auto",
        ("auto", "solve", "fixed"),
        "Where cameras come from. auto uses the connected cameras, else those of the depth, else recognizes a fixed camera or "
        "solves. solve ignores given poses; fixed is for a camera that does not move.",
    )
    depth_kind: str = choice(
        "auto",
        ("auto", "depth", "disparity"),
        "What bright means in depth images: depth (bright is far) or disparity (bright is near). auto takes the one that the "
        "cameras fit better. Not used for geometry of Depth Anything 3 and MoGe nodes.",
    )
    fov: float = number(
        0.0,
        0.0,
        150.0,
        "Horizontal field of view in degrees. 0 uses that of the depth, else solves it; a known value makes cameras more "
        "accurate.",
        1.0,
        label="horizontal field of view",
        words={0: "auto"},
    )
    first_frame: int = number(0, 0, 1_000_000, "First frame to use.", step=1)
    frame_count: int = number(
        0,
        0,
        MOST_FRAMES,
        "Number of frames to use. 0 uses all to the end.",
        step=1,
        words={0: "all"},
    )
    frame_step: int = number(
        0,
        0,
        1000,
        "Uses every n-th frame. More is faster, but motion between frames becomes hard to follow. 0 uses every frame, or of a "
        f"long video as many as stay within {MOST_FRAMES}.",
        step=1,
        words={0: "auto"},
    )
    frames_per_second: float = number(
        24.0, 0.1, 1000.0, "Frame rate of the video, such as that of Get Video Components."
    )
    mask_growth: int = number(
        1,
        0,
        32,
        "Pixels by which moving parts are widened before the background is fused. More keeps their edges out of it, but makes "
        "larger holes; typical 1 to 4.",
        step=1,
    )

    def __post_init__(self) -> None:
        validate(self)


def run(
    images: Tensor,
    depth: Any,
    cameras: CameraPath | None = None,
    masks: Tensor | None = None,
    config: Config = Config(),
) -> Stream:
    """Lift a video to a moving scene.

    Args:
        images: Frames [F, H, W, 3] in 0..1.
        depth: Depth images [F, h, w, 3] or maps [F, h, w], or a dictionary with `depth` and perhaps `intrinsics`, `extrinsics`
            and `mask`, as Depth Anything 3 and MoGe nodes give it. Scale and shift may differ per frame.
        cameras: A camera for each frame; None: see `Config.cameras`.
        masks: 1 on what moves, [F, H, W] or [1, H, W]; None: found where the flow is not the camera's.
        config: Frames, cameras and kind of depth.

    Yields:
        Started, Progress, a Preview of the camera path, depth and what moves, and Finished with a `Lifted`.

    Raises:
        InputError: Frames, depth, cameras or masks do not fit together, there is a cut, or cameras cannot be solved.

    Example:
        made = result(lift_video.run(frames, depth, config=Config(fov=60)))
    """
    chosen = chosen_frames(len(images), config.first_frame, config.frame_count, config.frame_step)
    clip = clip_input(images, depth, cameras, masks, chosen, config.depth_kind == "depth")
    frames, (width, height), count = clip.images, clip.size, len(clip.images)
    yield Started(6 * count, f"{count} frames of {width}×{height}")
    flow = yield from progress_of(clip_flow(frames))
    check_cuts(flow, chosen.start, chosen.step)
    tracks = grid_tracks(flow, frames, max(4, round(max(width, height) / CELLS)), EVERY)
    tracks = registered(flow, frames, tracks)
    yield Progress(2 * count)
    placed = placed_clip(clip, tracks, config.cameras, config.depth_kind, config.fov)
    yield Progress(3 * count)
    moving, sentence = _moving(flow, placed, clip.masks)
    yield Progress(4 * count)
    static = ~grown(moving, config.mask_growth)
    if not bool((static & ~placed.depth.isnan()).any()):
        covers = "Motion was found in" if clip.masks is None else "The mask covers"
        raise InputError("STP-086", f"{covers} the whole video; connect a mask that is 1 only on what moves.")
    background = yield from progress_of(
        fused_background(frames, placed.depth, placed.cameras, static), 4 * count, share=0.5
    )
    parts = yield from progress_of(
        moving_parts(frames, placed.depth, placed.cameras, moving, flow), 5 * count
    )
    seconds = torch.arange(count, dtype=torch.float64) * (chosen.step / config.frames_per_second)
    scene = lifted_scene(background, parts, placed.cameras, seconds).with_history(
        "lift_video",
        config=as_record(config),
        frames=count,
        background=len(background.places),
        moving=0 if parts is None else len(parts.places[0]),
        engine=__version__,
    )
    notes = [*clip.notes, *placed.notes, sentence, scene.summary()]
    if placed.agreement is not None:
        notes.insert(-2, f"depth agreement between frames: median difference {placed.agreement:.1%}")
    shades = depth_shades(placed.depth)
    yield Preview(lift_sheet(frames, moving, placed.depth, placed.cameras, chosen), 6 * count)
    video = lifted_capture(frames, placed.depth, placed.cameras, tracks, seconds)
    yield Finished(Lifted(scene, moving.float(), shades, video, "\n".join(filter(None, notes))))


def _moving(flow: ClipFlow, placed: PlacedClip, given: Tensor | None) -> tuple[Tensor, str]:
    if given is not None:
        return given, f"moving: the mask, {float(given.float().mean()):.1%} of the pixels"
    depth = placed.depth.float()
    found = moving_masks(flow, depth, placed.cameras)
    found = corrected(found, depth, placed.cameras, placed.agreement)
    share = float(found.float().mean())
    if share < LEAST_MOVING:
        return torch.zeros_like(found), "moving: nothing was found"
    return found, f"moving: {share:.1%} of the pixels, where motion is not the camera's"


STEP = Step(
    name="lift_video",
    node="LiftVideo",
    label="Lift Video to 4D",
    category="4dgs/generate",
    description="Makes a moving scene of any video and its depth: solves the cameras, fuses the static background of all frames "
    "and lets moving parts follow their tracks.",
    search=(
        "video to 4d",
        "monocular",
        "camera solve",
        "structure from motion",
        "depth to splat",
        "diff4splat",
    ),
    config=Config,
    run=run,
    inputs=(
        Input(
            "images",
            Kind.FRAMES,
            "The frames of a video in one shot, filmed or generated, such as those of Get Video Components.",
        ),
        Input(
            "depth",
            Kind.DEPTH,
            "Depth of the same frames: depth images, or the geometry of a Depth Anything 3 or MoGe node. Scale and shift may "
            "differ from frame to frame.",
        ),
        Input(
            "cameras",
            Kind.CAMERA_PATH,
            "A path with one camera per frame, such as the one that the video was generated with. Without it, see cameras.",
            id="camera_path",
            label="camera path",
            optional=True,
        ),
        Input(
            "masks",
            Kind.MASKS,
            "1 on what moves, one per frame. Without it, what does not move with the camera is found.",
            id="mask",
            optional=True,
        ),
    ),
    outputs=(
        Output(
            "scene",
            Kind.SCENE,
            "The moving scene, with motion stored per frame and the video's cameras.",
            of=lambda made: made.scene,
        ),
        Output(
            "moving",
            Kind.MASKS,
            "What was taken to move, one mask per frame.",
            label="moving",
            of=lambda made: made.moving,
        ),
        Output(
            "depth_images",
            Kind.IMAGES,
            "Depth as gray images: near is bright; not distances.",
            label="depth",
            of=lambda made: made.depth,
        ),
        Output(
            "video",
            Kind.CAPTURE,
            "The frames with their cameras, depth and tracked points, for Train 4D Scene with the scene as its start.",
            of=lambda made: made.video,
        ),
    ),
    verb="lift-video",
    has_device=False,
    figure=Figure.PREVIEW,
    note=lambda made: made.note,
    lowers=("frame_count",),
)
