"""Lift Video to 4D: any video and its depth become a moving scene, without a network for it.

Cameras are solved from tracked points (unless they are known), the static background is fused from all frames, and moving
parts follow their tracks. It stands in for the reconstruction model of Diff4Splat (Pan et al., CVPR 2026), of which no
weights are published; what no frame shows stays a hole.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import __version__
from ..errors import InputError
from ..fields import as_record, choice, number, validate
from ..figures.color_maps import depth_picture, marked, spread
from ..figures.contact_sheets import below, sheet
from ..figures.drawing import as_tensor
from ..figures.lifted import path_picture
from ..finite import is_finite
from ..generation.lift.background import fused_background
from ..generation.lift.clip_checks import check_cuts, picture_box
from ..generation.lift.depth_maps import DepthMaps, cropped, depth_maps
from ..generation.lift.moving_masks import grown, moving_masks
from ..generation.lift.moving_parts import moving_parts
from ..generation.lift.placing import PlacedClip, fixed_clip, given_clip, rests, solved_clip, with_focal
from ..generation.lift.scene import lifted_scene
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render.camera_paths import CameraPath
from ..scene import Cameras, Scene4D
from ..scene.cameras import have_one_shape
from ..tracking.patches import registered
from ..tracking.tracks import ClipFlow, ClipTracks, clip_flow, grid_tracks
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

# tracks are followed through at least 3 frames
LEAST_FRAMES, MOST_FRAMES, SHOWN = 3, 121, 4
# cells of the grid of tracks across the image's longer side, and frames between two beginnings
CELLS, EVERY = 20, 6
# share of moving pixels below which nothing is said to move
LEAST_MOVING = 0.0005


class Lifted(NamedTuple):
    """A scene made of a video."""

    scene: Scene4D
    moving: Tensor  # [T, H, W] in 0..1: what was taken to move
    depth: Tensor  # [T, H, W, 3] depth as gray: near is bright; not distances
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
        label="field of view (0 = auto)",
    )
    first_frame: int = number(0, 0, 1_000_000, "First frame to use.", step=1)
    frame_count: int = number(
        0,
        0,
        MOST_FRAMES,
        "Number of frames to use. 0 uses all to the end.",
        step=1,
        label="frame count (0 = all)",
    )
    frame_step: int = number(
        0,
        0,
        1000,
        "Uses every n-th frame. More is faster, but motion between frames becomes hard to follow. 0 uses every frame, or of a "
        f"long video as many as stay within {MOST_FRAMES}.",
        step=1,
        label="frame step (0 = auto)",
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
    chosen, step = _chosen(len(images), config)
    if not is_finite(images[chosen]):
        raise InputError("STP-081", "The video contains NaN or infinite values; load or make it again.")
    frames = images[chosen].detach().cpu().float()[..., :3].clamp(0, 1)
    size = (frames.shape[2], frames.shape[1])
    maps = depth_maps(_at(depth, chosen, len(images)), len(chosen), size, config.depth_kind == "depth")
    rig = _rig(cameras, chosen, len(images), size)
    given = _masks(masks, chosen, len(images), size)
    box = picture_box(frames)
    left, top, width, height = box
    notes = [_about(chosen, step, len(images)), maps.note]
    if (width, height) != size:
        notes.append(f"letterbox bars cropped: {width}×{height} of {size[0]}×{size[1]} pixels are used")
        frames = frames[:, top : top + height, left : left + width]
        maps = cropped(maps, box)
        rig = None if rig is None else rig.cropped([box] * len(rig))
        given = None if given is None else given[:, top : top + height, left : left + width]
    count = len(frames)
    yield Started(6 * count, f"{count} frames of {width}×{height}")
    flow = yield from _flow(frames)
    check_cuts(flow, config.first_frame, step)
    tracks = grid_tracks(flow, frames, max(4, round(max(width, height) / CELLS)), EVERY)
    tracks = registered(flow, frames, tracks)
    yield Progress(2 * count)
    placed = _placed(frames, maps, rig, given, tracks, config)
    yield Progress(3 * count)
    moving, sentence = _moving(flow, placed, given)
    yield Progress(4 * count)
    static = ~grown(moving, config.mask_growth)
    if not bool((static & ~placed.depth.isnan()).any()):
        covers = "Motion was found in" if given is None else "The mask covers"
        raise InputError("STP-086", f"{covers} the whole video; connect a mask that is 1 only on what moves.")
    background = yield from _followed(
        fused_background(frames, placed.depth, placed.cameras, static), 4 * count, 0.5
    )
    parts = yield from _followed(
        moving_parts(frames, placed.depth, placed.cameras, moving, flow), 5 * count, 1.0
    )
    seconds = torch.arange(count, dtype=torch.float64) * (step / config.frames_per_second)
    scene = lifted_scene(background, parts, placed.cameras, seconds).with_history(
        "lift_video",
        config=as_record(config),
        frames=count,
        background=len(background.places),
        moving=0 if parts is None else len(parts.places[0]),
        engine=__version__,
    )
    notes += [*placed.notes, sentence, scene.summary()]
    if placed.agreement is not None:
        notes.insert(-2, f"depth agreement between frames: median difference {placed.agreement:.1%}")
    yield Preview(_preview(frames, placed, moving, chosen), 6 * count)
    covered = (~placed.depth.isnan()).float()
    shades = depth_picture(torch.nan_to_num(placed.depth), covered)
    yield Finished(Lifted(scene, moving.float(), shades, "\n".join(filter(None, notes))))


def _chosen(available: int, config: Config) -> tuple[list[int], int]:
    """Numbers of the frames to use, and their step."""
    rest = available - config.first_frame
    if rest < LEAST_FRAMES:
        raise InputError(
            "STP-082",
            f"The video has {available:,} frames and 'first frame' is {config.first_frame}; at least {LEAST_FRAMES} "
            "frames are needed.",
        )
    step = config.frame_step or (1 if config.frame_count else -(-rest // MOST_FRAMES))
    chosen = list(range(config.first_frame, available, step))[: config.frame_count or None]
    if not LEAST_FRAMES <= len(chosen) <= MOST_FRAMES:
        raise InputError(
            "STP-083",
            f"A frame step of {step} leaves {len(chosen):,} frames; {LEAST_FRAMES} to {MOST_FRAMES} are possible. Change "
            "'frame count' or 'frame step'; a frame step of 0 spreads the frames over the whole video.",
        )
    return chosen, step


def _about(chosen: list[int], step: int, available: int) -> str:
    return f"{len(chosen)} of {available:,} frames" + (f", frame step {step}" if step > 1 else "")


def _at(given: Any, chosen: list[int], available: int) -> Any:
    """The depth of the chosen frames; another number is left for the check of depth maps to report."""
    if isinstance(given, Tensor):
        return given[chosen] if len(given) == available else given
    picked = {
        name: value[chosen]
        for name, value in given.items()
        if isinstance(value, Tensor) and value.ndim >= 3 and len(value) == available
    }
    # Depth Anything 3 puts all frames of a video into one batch of views
    for name in ("extrinsics", "intrinsics"):
        value = given.get(name)
        if isinstance(value, Tensor) and value.ndim == 4 and value.shape[1] == available:
            picked[name] = value[0, chosen]
    return {**given, **picked}


def _rig(
    cameras: CameraPath | None, chosen: list[int], available: int, size: tuple[int, int]
) -> Cameras | None:
    if cameras is None:
        return None
    if len(cameras) not in (available, len(chosen)):
        raise InputError(
            "STP-084",
            f"There are {len(cameras)} cameras for {available} frames. Connect a path with one camera per frame.",
        )
    rig = cameras.cameras[chosen] if len(cameras) == available else cameras.cameras
    for wide, tall in rig.sizes:
        if not have_one_shape((wide, tall), size):
            raise InputError(
                "STP-088",
                f"The cameras have images of {wide}×{tall}, but the video is {size[0]}×{size[1]}, which is another aspect ratio. "
                f"Set width and height of Camera Path to {size[0]} and {size[1]}.",
            )
    return rig.resized((size,) * len(rig))


def _masks(masks: Tensor | None, chosen: list[int], available: int, size: tuple[int, int]) -> Tensor | None:
    if masks is None:
        return None
    if len(masks) not in (1, available):
        raise InputError(
            "STP-085",
            f"There are {len(masks)} masks for {available} frames. Make the mask from the same frames, or connect a single one.",
        )
    picked = masks.expand(len(chosen), -1, -1) if len(masks) == 1 else masks[chosen]
    sized = torch.nn.functional.interpolate(picked.detach().cpu().float()[:, None], (size[1], size[0]))
    return sized[:, 0] > 0.5


def _flow(frames: Tensor) -> Generator[Progress, None, ClipFlow]:
    work = clip_flow(frames)
    while True:
        try:
            yield Progress(next(work))
        except StopIteration as end:
            return end.value


def _followed(work: Generator[int, None, Any], done: int, share: float) -> Generator[Progress, None, Any]:
    while True:
        try:
            yield Progress(done + int(share * next(work)))
        except StopIteration as end:
            return end.value


def _placed(
    frames: Tensor,
    maps: DepthMaps,
    rig: Cameras | None,
    given: Tensor | None,
    tracks: ClipTracks,
    config: Config,
) -> PlacedClip:
    """Cameras and depth in one world, from where `config.cameras` says."""
    width = frames.shape[2]
    focal = None
    if config.fov:
        focal = width / 2 / math.tan(math.radians(config.fov) / 2)
        maps = maps if maps.K is None else maps._replace(K=with_focal(maps.K, focal))
        rig = None if rig is None else replace(rig, K=with_focal(rig.K, focal))
    elif maps.K is not None:
        focal = float(maps.K[:, 0, 0].median())
    kind = config.depth_kind if maps.may_be_disparity else "depth"
    if config.cameras == "auto" and rig is not None:
        return given_clip(rig, maps, tracks, kind, "connected")
    trusted = None if given is None else _outside(tracks, given)
    still = tracks if trusted is None else tracks.take(trusted)
    if config.cameras == "auto" and maps.world_to_camera is not None and maps.K is not None:
        size = (width, frames.shape[1])
        names = tuple(f"frame{i:04}" for i in range(len(frames)))
        of_depth = Cameras(maps.world_to_camera, maps.K, (size,) * len(frames), names)
        return given_clip(of_depth, maps, tracks, kind, "those of the depth")
    if config.cameras == "fixed" or (config.cameras == "auto" and len(still) and rests(still, width)):
        placed = fixed_clip(maps, still, kind, focal)
        if config.cameras == "auto":
            placed.notes[0] = "cameras: the camera does not move"
        return placed
    return solved_clip(tracks, maps, kind, focal, trusted)


def _outside(tracks: ClipTracks, masks: Tensor) -> Tensor:
    """Tracks [N] bool that begin outside of the masks."""
    at = torch.arange(len(tracks))
    column, row = tracks.pixels[tracks.anchors, at].floor().long().unbind(1)
    return ~grown(masks, 2)[tracks.anchors, row, column]


def _moving(flow: ClipFlow, placed: PlacedClip, given: Tensor | None) -> tuple[Tensor, str]:
    if given is not None:
        return given, f"moving: the mask, {float(given.float().mean()):.1%} of the pixels"
    found = moving_masks(flow, placed.depth.float(), placed.cameras)
    share = float(found.float().mean())
    if share < LEAST_MOVING:
        return torch.zeros_like(found), "moving: nothing was found"
    return found, f"moving: {share:.1%} of the pixels, where motion is not the camera's"


def _preview(frames: Tensor, placed: PlacedClip, moving: Tensor, chosen: list[int]) -> Tensor:
    shown = spread(len(frames), SHOWN)
    shades = depth_picture(torch.nan_to_num(placed.depth[shown]), (~placed.depth[shown].isnan()).float())
    stacks = [[marked(frames[t], moving[t].float()), shades[i].to(frames)] for i, t in enumerate(shown)]
    captions = [f"frame {chosen[t]}" for t in shown]
    made = sheet(stacks, captions, len(shown), "red: moving; below: depth, near is bright")
    return as_tensor(below(made, path_picture(placed.cameras, placed.depth, made.width)))


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
    ),
    verb="lift-video",
    has_device=False,
    figure=Figure.PREVIEW,
    note=lambda made: made.note,
)
