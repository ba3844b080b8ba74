"""Render a 4D scene along a camera path: color, alpha, depth, and the flow of Gaussian centers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .. import backends
from ..errors import InputError
from ..fields import choice, flag, validate
from ..figures.color_maps import depth_picture, flow_picture
from ..files.mp4 import mp4_writer, pixels_of
from ..files.part_file import PartHeader, part_writer
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render import CameraPath, RasterSettings, choose, rasterizer_field, render_gaussians
from ..render.part import in_words
from ..scene import Scene4D
from ..scene.origins import in_coordinates_of
from ..train.identity import identity, key_of
from ..train.threads import on_one_thread
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "Rendering", "run", "to_part", "to_video"]

BACKDROPS = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "grey": (0.5, 0.5, 0.5),
    "green": (0.0, 1.0, 0.0),
}
# steps of a unit in which camera paths are compared
PRECISION = 1e6


@dataclass(frozen=True)
class Config:
    background: str = choice(
        "scene", ("scene", *BACKDROPS), "Background color; scene uses the scene's own.", label="background"
    )
    wants_depth: bool = flag(True, "Also renders a depth map.", label="render depth")
    wants_flow: bool = flag(
        False,
        "Also renders optical flow: motion of the Gaussian centers to the next frame, in pixels.",
        label="render flow",
    )
    antialiased: bool = flag(
        False,
        "Keeps small Gaussians from getting too bright at low resolution (Mip-Splatting).",
        advanced=True,
    )
    rasterizer: str = rasterizer_field()

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Rendering:
    """F frames on the CPU."""

    images: Tensor  # [F, H, W, 3] in 0..1
    alpha: Tensor  # [F, H, W] in 0..1
    depth: Tensor | None  # [F, H, W] world units; 0 where nothing is
    flow: Tensor | None  # [F, H, W, 2] pixels to the next frame; the last frame repeats the one before
    fps: float


@on_one_thread
def run(
    scene: Scene4D, path: CameraPath, config: Config = Config(), device: torch.device | str = "cpu"
) -> Stream:
    """Render a scene along a camera path.

    Args:
        scene: The scene.
        path: The cameras and their times.
        config: Background, and whether depth and flow are rendered.
        device: Device to render on.

    Yields:
        Started, Progress and Preview for each frame, and Finished with a `Rendering` on the CPU.

    Raises:
        InputError: The images would not fit in memory.

    Example:
        images = messages.result(render_scene.run(scene, camera_path.make(scene))).images
    """
    frames = len(path)
    width, height = path.cameras.sizes[0]
    need = frames * width * height * bytes_per_pixel(config)
    shortage = backends.shortage(need)
    if shortage:
        raise InputError(
            "STP-027",
            f"{frames} frames of {width}×{height} pixels need {shortage}; lower frames, width or height, or close other "
            "programs.",
        )
    images = torch.empty(frames, height, width, 3)
    alpha = torch.empty(frames, height, width)
    depth = torch.empty(frames, height, width) if config.wants_depth else None
    flow = torch.zeros(frames, height, width, 2) if config.wants_flow else None
    every = range(frames)
    yield _started(path, every, choose(config.rasterizer, device).name, device)
    for i, drawn in enumerate(_frames(scene, path, every, config, device)):
        images[i], alpha[i] = drawn.image, drawn.alpha
        if depth is not None and drawn.depth is not None:
            depth[i] = drawn.depth
        if flow is not None and drawn.flow is not None:
            flow[i] = drawn.flow
        yield Progress(i + 1, count=drawn.count)
        yield Preview(images[i], i + 1)
    if flow is not None and frames > 1:
        flow[-1] = flow[-2]
    yield Finished(Rendering(images, alpha, depth, flow, path.fps))


@on_one_thread
def to_video(
    scene: Scene4D,
    path: CameraPath,
    config: Config,
    target: Path,
    device: torch.device | str = "cpu",
) -> Stream:
    """Render the images of a scene along a camera path into an mp4, frame by frame: memory does not grow with the path.

    Args:
        scene: The scene.
        path: The cameras and their times.
        config: Background; depth and flow are not rendered.
        target: The .mp4 file; it is replaced when the last frame is written, and untouched if the stream is closed before.
        device: Device to render on.

    Yields:
        Started, Progress and Preview for each frame, and Finished with `target`.

    Raises:
        InputError: The file cannot be written.
    """
    config = replace(config, wants_depth=False, wants_flow=False)
    every = range(len(path))
    with mp4_writer(path.fps, target) as add:
        yield _started(path, every, choose(config.rasterizer, device).name, device)
        for i, drawn in enumerate(_frames(scene, path, every, config, device)):
            add(drawn.image)
            yield Progress(i + 1, count=drawn.count)
            yield Preview(drawn.image, i + 1)
    yield Finished(target)


@on_one_thread
def to_part(
    scene: Scene4D,
    path: CameraPath,
    config: Config,
    frames: range,
    target: Path,
    device: torch.device | str = "cpu",
) -> Stream:
    """Render some frames of a camera path into a lossless file, frame by frame; `join_parts` makes the video of all parts.

    Args:
        scene: The scene.
        path: The cameras and their times: the whole path.
        config: Background; depth and flow are not rendered.
        frames: The frames of the path to render, such as `Part.parse("1/3").of(len(path))`.
        target: The .mkv file; it is replaced when the last frame is written, and untouched if the stream is closed before.
        device: Device to render on.

    Yields:
        Started, Progress and Preview for each frame, and Finished with `target`.

    Raises:
        InputError: The file cannot be written.
    """
    config = replace(config, wants_depth=False, wants_flow=False)
    rasterizer = choose(config.rasterizer, device).name
    renderer = f"{rasterizer} on {torch.device(device).type}"
    with part_writer(_part_header(scene, path, config, frames, renderer), target) as add:
        yield _started(path, frames, rasterizer, device)
        for i, drawn in enumerate(_frames(scene, path, frames, config, device)):
            add(pixels_of(drawn.image))
            yield Progress(i + 1, count=drawn.count)
            yield Preview(drawn.image, i + 1)
    yield Finished(target)


def bytes_per_pixel(config: Config) -> int:
    """Memory for each pixel of a `Rendering`, with the images of depth and flow that the node returns."""
    return 4 * (3 + 1 + (1 + 3) * int(config.wants_depth) + (2 + 3) * int(config.wants_flow))


@dataclass(frozen=True, eq=False)
class _Drawn:
    """One frame on the CPU: as in `Rendering`, and the number of Gaussians."""

    image: Tensor
    alpha: Tensor
    depth: Tensor | None
    flow: Tensor | None
    count: int


def _started(path: CameraPath, frames: range, rasterizer: str, device: torch.device | str) -> Started:
    width, height = path.cameras.sizes[0]
    of = "" if len(frames) == len(path) else f" ({in_words(frames)} of {len(path)})"
    return Started(
        len(frames), f"{len(frames)} frames{of} of {width}×{height}; {rasterizer} rasterizer on {device}"
    )


def _background(scene: Scene4D, config: Config) -> Tensor:
    """[3] in 0..1."""
    return scene.background if config.background == "scene" else torch.tensor(BACKDROPS[config.background])


def _part_header(
    scene: Scene4D, path: CameraPath, config: Config, frames: range, renderer: str
) -> PartHeader:
    (width, height), (red, green, blue) = path.cameras.sizes[0], _background(scene, config).tolist()
    cameras = in_coordinates_of(scene, path.cameras)
    # other CPUs compute the same path up to the last bits
    rounded = [
        (values.double() * PRECISION).round().long()
        for values in (cameras.world_to_camera, cameras.K, path.seconds)
    ]
    # the rasterizer may differ from part to part; joining tells
    settings = identity(replace(config, rasterizer="auto"), scene, *rounded)
    return PartHeader(
        first=frames.start,
        stop=frames.stop,
        frames=len(path),
        width=width,
        height=height,
        fps=path.fps,
        background=config.background,
        color=(red, green, blue),
        fingerprint=key_of(settings, width, height, path.fps),
        renderer=renderer,
    )


@torch.no_grad()
def _frames(
    scene: Scene4D, path: CameraPath, frames: range, config: Config, device: torch.device | str
) -> Iterator[_Drawn]:
    """Some frames of a path, one after the other."""
    rasterizer = choose(config.rasterizer, device)
    moving, cameras = scene.to(device), in_coordinates_of(scene, path.cameras)
    color = _background(scene, config)
    settings = RasterSettings(antialiased=config.antialiased)
    for i in frames:
        now = moving.at(float(path.seconds[i]))
        later = min(i + 1, len(path) - 1)
        ahead = moving.at(float(path.seconds[later])).means if config.wants_flow else None
        picture = render_gaussians(
            now,
            cameras[i],
            rasterizer,
            color.to(device),
            want_depth=config.wants_depth,
            next_means=ahead,
            next_cameras=cameras[later],
            settings=settings,
        )
        yield _Drawn(
            picture.rgb[0].clamp(0, 1).cpu(),
            picture.alpha[0].clamp(0, 1).cpu(),
            None if picture.depth is None else picture.depth[0].cpu(),
            None if picture.flow is None else picture.flow[0].cpu(),
            len(now),
        )


def summary(rendering: Rendering) -> str:
    """One line about a rendering."""
    frames, height, width = rendering.images.shape[:3]
    return f"{frames} frames, {width}×{height}, {frames / rendering.fps:.2f} s"


STEP = Step(
    name="render_scene",
    node="Render4DScene",
    label="Render 4D Scene",
    category="4dgs/render",
    description="Renders a scene along a camera path: images, mask, depth, optical flow and a video.",
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The scene to render."),
        Input("path", Kind.CAMERA_PATH, "The path of the camera, from Camera Path."),
    ),
    outputs=(
        Output("images", Kind.IMAGES, "The frames, as a batch.", of=lambda r: r.images),
        Output("mask", Kind.MASKS, "Coverage of the scene at each pixel.", of=lambda r: r.alpha),
        Output(
            "depth",
            Kind.IMAGES,
            "Depth map: near is bright, far is dark, empty is black.",
            of=lambda r: None if r.depth is None else depth_picture(r.depth, r.alpha),
            absent="Render 4D Scene: turn 'render depth' on to use this output.",
        ),
        Output(
            "flow",
            Kind.IMAGES,
            "Optical flow to the next frame: hue is its direction.",
            of=lambda r: None if r.flow is None else flow_picture(r.flow),
            absent="Render 4D Scene: turn 'render flow' on to use this output.",
        ),
        Output(
            "clip",
            Kind.VIDEO,
            "The frames at the path's frame rate.",
            "video",
            of=lambda r: (r.images, r.fps),
        ),
    ),
    note=summary,
    lowers=("the width and height of the camera path",),
)
