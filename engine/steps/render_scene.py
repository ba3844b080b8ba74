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
from ..files.mp4 import mp4_writer
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render import CameraPath, RasterSettings, choose, rasterizer_field, render_gaussians
from ..scene import Scene4D
from ..scene.origins import in_coordinates_of
from ..train.threads import on_one_thread
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "Rendering", "run", "to_video"]

BACKDROPS = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "grey": (0.5, 0.5, 0.5),
    "green": (0.0, 1.0, 0.0),
}


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
    yield _started(path, config, device)
    for i, drawn in enumerate(_frames(scene, path, config, device)):
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
    with mp4_writer(path.fps, target) as add:
        yield _started(path, config, device)
        for i, drawn in enumerate(_frames(scene, path, config, device)):
            add(drawn.image)
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


def _started(path: CameraPath, config: Config, device: torch.device | str) -> Started:
    width, height = path.cameras.sizes[0]
    name = choose(config.rasterizer, device).name
    return Started(len(path), f"{len(path)} frames of {width}×{height}; {name} rasterizer on {device}")


@torch.no_grad()
def _frames(scene: Scene4D, path: CameraPath, config: Config, device: torch.device | str) -> Iterator[_Drawn]:
    """The frames of a path, one after the other."""
    rasterizer = choose(config.rasterizer, device)
    moving, cameras = scene.to(device), in_coordinates_of(scene, path.cameras)
    color = scene.background if config.background == "scene" else torch.tensor(BACKDROPS[config.background])
    settings = RasterSettings(antialiased=config.antialiased)
    for i in range(len(path)):
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
