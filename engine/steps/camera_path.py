"""Camera paths with times: an orbit, a spiral, a flight through the rig, a static camera, or a movement by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import choice, flag, number, validate
from ..frame_counts import nearest_count
from ..geometry.upright import ORIENTATIONS, UPRIGHT
from ..render import camera_moves as moves
from ..render import camera_paths as paths
from ..render.camera_paths import CameraPath, FramedView
from ..scene import Cameras, Scene4D
from ..scene.cameras import AT_ZERO
from ..scene.origins import in_coordinates_of, is_near
from ..scene.rays import WAN_TIME_FACTOR
from ..scene.rigs import is_unturned, rig_up, up_in_words, upright_turn
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "make", "with_cameras"]

MOST_PIXELS = 8192
# image size of a path without a scene: that of ComfyUI's nodes for Wan
SIZE = (832, 480)


@dataclass(frozen=True)
class Config:
    kind: str = choice(
        "orbit",
        ("orbit", "spiral", "rig", "still", *moves.MOVES),
        "orbit circles the subject, spiral sways in front of one captured view, rig flies through all captured views, "
        "still stays at one. The movements after these start at one view: pan, tilt and roll turn the camera, truck, "
        "pedestal and dolly slide it, arc goes around the subject.",
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
        0.0,
        0.0,
        1e6,
        "Scene time at the first frame, in seconds.",
        label="start time (seconds)",
        advanced=True,
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
        words={-1000: "as captured"},
    )
    zoom: float = number(1.0, 0.05, 20.0, "Zoom factor. Higher brings the subject closer.", advanced=True)
    view: int = number(
        0,
        0,
        100_000,
        "Captured view where a still or spiral path is placed and where a named movement starts, from 0.",
    )
    width: int = number(
        0, 0, MOST_PIXELS, "Image width in pixels. 0 uses the captured width.", words={0: "captured"}
    )
    height: int = number(
        0,
        0,
        MOST_PIXELS,
        "Image height in pixels. 0 uses the captured height.",
        words={0: "captured"},
    )
    amount: float = number(
        1.0,
        0.0,
        10.0,
        "Size of a named movement: 1 turns by 30 degrees, slides by half of the distance to the subject, or sways as a "
        "steady hand does. Higher moves further; typical 0.3 to 2.",
        since="0.2",
    )
    fits_video_model: bool = flag(
        False,
        "Rounds the number of frames to 4n + 1, which Wan generates. CogVideoX needs 8n + 1, such as 49 or 81.",
        label="frames of video models (4n + 1)",
        since="0.2",
        advanced=True,
    )
    field_of_view: float = number(
        50.0,
        5.0,
        150.0,
        "Vertical field of view in degrees, if no scene is connected. Higher shows more around the subject.",
        1.0,
        label="vertical field of view (without a scene)",
        since="0.2",
        advanced=True,
    )
    camera_orientation: str = choice(
        UPRIGHT,
        ORIENTATIONS,
        "Axes of the 3D cameras, connected and returned. upright: ComfyUI's 3D world, where 4D Scene to Splat puts the scene. as "
        "stored: the scene's own axes, as in files of Export 4D Scene.",
        label="3D camera orientation",
        advanced=True,
        since="0.3",
    )

    def __post_init__(self) -> None:
        validate(self)


def scene_seconds(scene: Scene4D | None, frames: int, fps: float, speed: float, start: float) -> Tensor:
    """Times [F] inside the scene, in seconds; past the last frame the scene starts over."""
    seconds = start + torch.arange(frames, dtype=torch.float64) * (speed / fps)
    if scene is None:
        return seconds
    first, length = float(scene.times[0]), scene.duration
    if length <= 0:
        return torch.full((frames,), first, dtype=torch.float64)
    over = seconds > length + 1e-9
    return first + torch.where(over, seconds.remainder(length), seconds)


def make(
    scene: Scene4D | None = None,
    config: Config = Config(),
    framed: FramedView | Sequence[FramedView] | None = None,
) -> CameraPath:
    """A camera path with a time for each frame.

    Args:
        scene: The scene that the camera looks at. None: the first camera is at the origin, looks along z and has its
            subject at a distance of 1, for a video model that is to generate the scene.
        config: Kind of path, number of frames, speed, and image size.
        framed: A view that was framed by hand: named movements start there, and it replaces the cameras of the other
            paths. A list of views is a path of its own; another length than the number of frames is interpolated.

    Returns:
        F cameras of one size, with F scene times in seconds.

    Raises:
        InputError: The view of `config` does not exist.

    Example:
        path = camera_path.make(scene, camera_path.Config(kind="orbit", frames=48))
    """
    rig = _rig_without_scene(config.field_of_view) if scene is None else scene.rig
    focus = torch.tensor([0.0, 0.0, 1.0]).double() if scene is None else paths.scene_focus(scene)
    if config.view >= len(rig):
        there = (
            "no scene is connected, so there is one view"
            if scene is None
            else f"the scene has {len(rig)} cameras"
        )
        choices = "0" if len(rig) == 1 else f"0 to {len(rig) - 1}"
        raise InputError("STP-001", f"view is {config.view}, but {there}; choose {choices}.")
    width, height = _size(rig.sizes[config.view], config)
    frames = nearest_count(config.frames, WAN_TIME_FACTOR) if config.fits_video_model else config.frames
    seconds = scene_seconds(scene, frames, config.fps, config.speed, config.start_seconds)
    note = ""
    if framed is None:
        w2c, K = _cameras(rig, focus, config, frames, width, height)
        if config.kind == "orbit" and _elevation(config) is None:
            note = f"elevation {paths.captured_elevation(rig, focus):.0f}°, as captured"
    else:
        views = [framed] if isinstance(framed, FramedView) else framed
        if scene is not None:
            views, note = _in_scene(views, scene, config.camera_orientation)
        w2c, K = paths.through_views(views, frames, width, height)
        if scene is not None:
            # framed in the player: local coordinates; by another program, perhaps the world's
            given = Cameras(w2c, K, ((width, height),) * frames, ("",) * frames)
            w2c = in_coordinates_of(scene, given).world_to_camera
        if config.kind in moves.MOVES and len(views) == 1:
            w2c = moves.move(config.kind, w2c[0], focus, rig_up(rig), frames, config.fps, config.amount)
    names = tuple(f"frame {i}" for i in range(frames))
    cameras = Cameras(w2c, K, ((width, height),) * frames, names, rig.origin)
    turn = upright_turn(rig) if scene is not None and config.camera_orientation == UPRIGHT else None
    return CameraPath(cameras, seconds, config.fps, focus, turn, note)


def _in_scene(views: Sequence[FramedView], scene: Scene4D, orientation: str) -> tuple[list[FramedView], str]:
    """Views in the coordinates of the scene, and what was assumed about those that do not say where they are."""
    turn, note = upright_turn(scene.rig), ""
    made: list[FramedView] = []
    for view in views:
        is_upright = orientation == UPRIGHT if view.is_upright is None else view.is_upright
        # another program's view in the world's coordinates, which lie too far from zero to have been turned about it
        is_world = scene.rig.origin != AT_ZERO and is_near(view.center, scene.rig.origin)
        if not is_upright or is_world:
            made.append(view)
            continue
        made.append(view.as_stored() if turn is None else view.turned_back(turn))
        if view.is_upright is None and turn is None:
            note = "3D cameras were not turned: the scene's cameras do not agree which way is up"
        elif view.is_upright is None and turn is not None and not is_unturned(turn):
            note = f"3D cameras are taken for upright: the scene's up, {up_in_words(rig_up(scene.rig))}, is ComfyUI's up"
    return made, note


def _rig_without_scene(field_of_view: float) -> Cameras:
    """One camera at the origin."""
    pose = torch.eye(4, dtype=torch.float64)
    K = FramedView(pose, field_of_view).intrinsics(*SIZE)
    return Cameras(pose[None], K[None], (SIZE,), ("start",))


def _size(captured: tuple[int, int], config: Config) -> tuple[int, int]:
    """(width, height) of the path's images; a size that is not given follows from the other one."""
    width = config.width or (
        round(captured[0] * config.height / captured[1]) if config.height else captured[0]
    )
    height = config.height or (
        round(captured[1] * config.width / captured[0]) if config.width else captured[1]
    )
    return max(width, 1), max(height, 1)


def _elevation(config: Config) -> float | None:
    """Degrees above the horizon; None: as captured."""
    return None if config.elevation < -90 else config.elevation


def _cameras(
    rig: Cameras, focus: Tensor, config: Config, frames: int, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """world_to_camera [F, 4, 4] and K [F, 3, 3] of a path without a framed view."""
    if config.kind == "rig":
        w2c, nearest = paths.through_rig(rig, frames)
        return w2c, torch.stack([_fitted(rig, int(v), width, height) for v in nearest])
    K = _fitted(rig, config.view, width, height)
    if config.kind == "still" or config.kind in moves.MOVES:
        start = rig.world_to_camera[config.view].double()
        if config.zoom != 1:
            K[:2, :2] *= config.zoom
        if config.kind == "still":
            return start.repeat(frames, 1, 1), K.repeat(frames, 1, 1)
        w2c = moves.move(config.kind, start, focus, rig_up(rig), frames, config.fps, config.amount)
        return w2c, K.repeat(frames, 1, 1)
    if config.kind == "spiral":
        w2c = paths.spiral(rig, focus, frames, config.turns, config.zoom, config.view)
    else:
        w2c = paths.orbit(rig, focus, frames, config.turns, _elevation(config), config.zoom)
    # these look straight at the subject, so the captured principal point does not apply
    K[0, 2], K[1, 2] = width / 2, height / 2
    return w2c, K.repeat(frames, 1, 1)


def with_cameras(cameras: Cameras, seconds: Tensor, fps: float) -> CameraPath:
    """A path of given cameras [F] of one size at given times [F] in seconds. Raises InputError where they differ."""
    if len(set(cameras.sizes)) > 1 or len(cameras) != len(seconds):
        raise InputError(
            "STP-002",
            f"The path has {len(cameras)} cameras of {len(set(cameras.sizes))} image sizes and {len(seconds)} times; give all "
            "cameras one image size, and one time each.",
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


def summary(path: CameraPath) -> str:
    """One line about a path, and what was assumed."""
    width, height = path.cameras.sizes[0]
    line = f"{len(path)} frames, {width}×{height}, {len(path) / path.fps:.2f} s"
    return "\n".join(filter(None, (line, path.note)))


STEP = Step(
    name="camera_path",
    node="CameraPath",
    label="Camera Path",
    category="4dgs/render",
    description="Sets where the camera goes and how fast the scene plays: orbit, spiral, a flight through the captured "
    "views, standing still, or a movement by name (pan, tilt, dolly, truck, arc, handheld, …).",
    search=(
        "orbit",
        "spiral",
        "slow motion",
        "bullet time",
        "fly through",
        "pan",
        "dolly",
        "handheld",
        "camera motion",
    ),
    config=Config,
    run=make,
    inputs=(
        Input(
            "scene",
            Kind.SCENE,
            "The scene that the camera looks at. Without one, the path starts at the origin, at a distance of 1 from its "
            "subject, for a video model that generates the scene.",
            optional=True,
        ),
        Input(
            "framed",
            Kind.FRAMED_VIEW,
            "A view framed by hand in Load 3D or Preview 4D Scene, from which named movements start and which replaces the "
            "other paths; or a list of cameras, which is a path of its own.",
            id="camera",
            optional=True,
        ),
    ),
    outputs=(
        Output("path", Kind.CAMERA_PATH, "One camera and scene time per frame, for Render 4D Scene."),
        Output(
            "cameras",
            Kind.FRAMED_VIEW,
            "The cameras of all frames as a list, for nodes of ComfyUI that take lists of 3D cameras.",
        ),
    ),
    has_device=False,
    note=summary,
)
