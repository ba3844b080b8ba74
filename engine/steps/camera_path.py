"""Camera paths with times: an orbit around the subject, a spiral, a flight through the rig, or a static camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import choice, number, validate
from ..render import camera_paths as paths
from ..render.camera_paths import CameraPath, FramedView
from ..scene import Cameras, Scene4D
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "make", "with_cameras"]

MOST_PIXELS = 8192


@dataclass(frozen=True)
class Config:
    kind: str = choice(
        "orbit",
        ("orbit", "spiral", "rig", "still"),
        "orbit circles the subject, spiral sways in front of one captured view, rig flies through all captured views, "
        "still stays at one.",
        label="path",
    )
    frames: int = number(60, 1, 100_000, "Number of frames. More makes a longer video.")
    fps: float = number(24.0, 0.1, 240.0, "Frames per second of the video.", label="frames per second")
    speed: float = number(
        1.0,
        0.0,
        100.0,
        "Playback speed of the scene: 0.5 is half speed, 0 freezes it at the start time.",
    )
    start_seconds: float = number(
        0.0, 0.0, 1e6, "Scene time at the first frame, in seconds.", label="start time (seconds)"
    )
    turns: float = number(
        1.0, -100.0, 100.0, "Number of revolutions of an orbit or spiral; negative turns the other way."
    )
    elevation: float = number(
        -1000.0,
        -1000.0,
        89.0,
        "Elevation of an orbit in degrees above the horizon. -1000 uses the height of the captured cameras.",
        1.0,
        label="elevation (-1000 = as captured)",
    )
    zoom: float = number(1.0, 0.05, 20.0, "Zoom factor. Higher brings the subject closer.")
    view: int = number(0, 0, 100_000, "Captured view where a still or spiral path is placed, from 0.")
    width: int = number(
        0, 0, MOST_PIXELS, "Image width in pixels. 0 uses the captured width.", label="width (0 = captured)"
    )
    height: int = number(
        0,
        0,
        MOST_PIXELS,
        "Image height in pixels. 0 uses the captured height.",
        label="height (0 = captured)",
    )

    def __post_init__(self) -> None:
        validate(self)


def scene_seconds(scene: Scene4D, frames: int, fps: float, speed: float, start: float) -> Tensor:
    """Times [F] inside the scene, in seconds; past the last frame the scene starts over."""
    seconds = start + torch.arange(frames, dtype=torch.float64) * (speed / fps)
    first, length = float(scene.times[0]), scene.duration
    if length <= 0:
        return torch.full((frames,), first, dtype=torch.float64)
    over = seconds > length + 1e-9
    return first + torch.where(over, seconds.remainder(length), seconds)


def make(
    scene: Scene4D, config: Config = Config(), framed: FramedView | Sequence[FramedView] | None = None
) -> CameraPath:
    """A camera path with a time for each frame.

    Args:
        scene: The scene that the camera looks at.
        config: Kind of path, number of frames, speed, and image size.
        framed: A view that was framed by hand, or a list of views, which is a path of its own. It replaces the path's
            cameras; a list of another length than the number of frames is interpolated.

    Returns:
        F cameras of one size, with F scene times in seconds.

    Raises:
        InputError: The view of `config` does not exist.

    Example:
        path = camera_path.make(scene, camera_path.Config(kind="orbit", frames=48))
    """
    rig = scene.rig
    if config.view >= len(rig):
        raise InputError(
            "STP-001",
            f"view is {config.view}, but the scene has {len(rig)} cameras; choose 0 to {len(rig) - 1}.",
        )
    captured_w, captured_h = rig.sizes[config.view]
    width = config.width or (round(captured_w * config.height / captured_h) if config.height else captured_w)
    height = config.height or (round(captured_h * config.width / captured_w) if config.width else captured_h)
    width, height = max(width, 1), max(height, 1)
    frames = config.frames
    seconds = scene_seconds(scene, frames, config.fps, config.speed, config.start_seconds)
    K = _fitted(rig, config.view, width, height)
    if framed is not None:
        views = [framed] if isinstance(framed, FramedView) else framed
        w2c, K = paths.through_views(views, frames, width, height)
        return _path(w2c, K, width, height, seconds, config.fps)
    if config.kind == "still":
        w2c = rig.world_to_camera[config.view].double().repeat(frames, 1, 1)
        if config.zoom != 1:
            K[:2, :2] *= config.zoom
    elif config.kind == "rig":
        w2c, nearest = paths.through_rig(rig, frames)
        Ks = torch.stack([_fitted(rig, int(v), width, height) for v in nearest])
        return _path(w2c, Ks, width, height, seconds, config.fps)
    elif config.kind == "spiral":
        w2c = paths.spiral(scene, frames, config.turns, config.zoom, config.view)
    else:
        elevation = None if config.elevation <= -999 else config.elevation
        w2c = paths.orbit(scene, frames, config.turns, elevation, config.zoom)
    # the other paths look straight at the subject, so the captured principal point does not apply
    if config.kind != "still":
        K[0, 2], K[1, 2] = width / 2, height / 2
    return _path(w2c, K.repeat(frames, 1, 1), width, height, seconds, config.fps)


def with_cameras(cameras: Cameras, seconds: Tensor, fps: float) -> CameraPath:
    """A path of given cameras [F] of one size at given times [F] in seconds. Raises InputError where they differ."""
    if len(set(cameras.sizes)) > 1 or len(cameras) != len(seconds):
        raise InputError(
            "STP-002",
            f"The path has {len(cameras)} cameras of {len(set(cameras.sizes))} sizes and {len(seconds)} times; give cameras "
            "of one size and one time for each.",
        )
    return CameraPath(cameras, seconds.double(), fps)


def _fitted(rig: Cameras, view: int, width: int, height: int) -> Tensor:
    """Intrinsics [3, 3] of a captured view for another image size: all of the captured height stays in it."""
    w, h = rig.sizes[view]
    K = rig.K[view].double().clone()
    scale = height / h
    K[:2] *= scale
    K[0, 2] += (width - w * scale) / 2
    return K


def _path(w2c: Tensor, K: Tensor, width: int, height: int, seconds: Tensor, fps: float) -> CameraPath:
    names = tuple(f"frame {i}" for i in range(len(seconds)))
    return CameraPath(Cameras(w2c, K, ((width, height),) * len(seconds), names), seconds, fps)


def summary(path: CameraPath) -> str:
    """One line about a path."""
    width, height = path.cameras.sizes[0]
    return f"{len(path)} frames, {width}×{height}, {len(path) / path.fps:.2f} s"


STEP = Step(
    name="camera_path",
    node="CameraPath",
    label="Camera Path",
    category="4dgs/render",
    description="Sets where the camera goes and how fast the scene plays: orbit, spiral, a flight through the captured "
    "views, or standing still.",
    search=("orbit", "spiral", "slow motion", "bullet time", "fly through"),
    config=Config,
    run=make,
    inputs=(
        Input("scene", Kind.SCENE, "The scene that the camera looks at."),
        Input(
            "framed",
            Kind.FRAMED_VIEW,
            "A view framed by hand in Load 3D or Preview 4D Scene, or a list of cameras, which is a path; it replaces the "
            "path above.",
            id="camera",
            optional=True,
        ),
    ),
    outputs=(Output("path", Kind.CAMERA_PATH),),
    has_device=False,
    note=summary,
)
