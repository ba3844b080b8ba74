"""Videos to measure, one camera after the other: renders of a scene, a capture's images, or frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..capture.video_file import SUFFIXES, VideoFile, probe
from ..capture.video_pixels import to_pixels
from ..errors import InputError
from ..files.folders import visible
from ..io.image_files import load_images
from ..io.scene_file import is_scene_file, load_scene
from ..render import Rasterizer, render_gaussians
from ..scene import Cameras, MultiViewVideo, Scene4D
from ..scene.origins import in_coordinates_of

MOST_FRAMES = 1000
# alpha from which a pixel has a depth
COVERED = 0.5
# degrees by which the camera of a video turns at most between two frames; cameras of a rig are farther apart
MOST_TURN = 12.0


class VideoSource(Protocol):
    """Videos of one subject."""

    @property
    def name(self) -> str: ...

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the cameras."""
        ...

    @property
    def count(self) -> int:
        """Frames T of each."""
        ...

    def video(self, view: int) -> Tensor:
        """[T, H, W, 3] in 0..1 on the CPU."""
        ...


@dataclass(frozen=True, eq=False)
class RenderedScene:
    """Renders of a scene.

    Args:
        name: Name in messages.
        scene: The scene.
        cameras: Its cameras, or others.
        times: Frame times [T] in seconds.
        rasterizer: From `choose`.
    """

    name: str
    scene: Scene4D
    cameras: Cameras
    times: Tensor
    rasterizer: Rasterizer

    @property
    def views(self) -> tuple[str, ...]:
        return self.cameras.names

    @property
    def count(self) -> int:
        return len(self.times)

    @torch.no_grad()
    def video(self, view: int) -> Tensor:
        background, camera = (
            self.scene.background.to(self.scene.device),
            in_coordinates_of(self.scene, self.cameras)[view],
        )
        return torch.stack(
            [
                render_gaussians(self.scene.at(t), camera, self.rasterizer, background)
                .rgb[0]
                .clamp(0, 1)
                .cpu()
                for t in self.times.tolist()
            ]
        )


@dataclass(frozen=True, eq=False)
class RenderedPath:
    """Renders of a scene along a path.

    Args:
        name: Name in messages.
        scene: The scene.
        cameras: A camera for each frame, all of one size.
        times: Frame times [T] in seconds.
        rasterizer: From `choose`.
    """

    name: str
    scene: Scene4D
    cameras: Cameras
    times: Tensor
    rasterizer: Rasterizer

    @property
    def views(self) -> tuple[str, ...]:
        return ("along the path",)

    @property
    def count(self) -> int:
        return len(self.times)

    def video(self, view: int) -> Tensor:
        return self.filmed()[0]

    @torch.no_grad()
    def filmed(self) -> tuple[Tensor, Tensor]:
        """Frames [T, H, W, 3] and depth [T, H, W] in world units, NaN where the scene is empty; on the CPU."""
        background = self.scene.background.to(self.scene.device)
        cameras = in_coordinates_of(self.scene, self.cameras)
        frames: list[Tensor] = []
        depths: list[Tensor] = []
        for t, seconds in enumerate(self.times.tolist()):
            made = render_gaussians(
                self.scene.at(seconds), cameras[t], self.rasterizer, background, want_depth=True
            )
            assert made.depth is not None
            frames.append(made.rgb[0].clamp(0, 1).cpu())
            depths.append(torch.where(made.alpha[0] > COVERED, made.depth[0], torch.nan).cpu())
        return torch.stack(frames), torch.stack(depths)


def is_path(cameras: Cameras, times: Tensor) -> bool:
    """Whether a scene's cameras are one that moves: one for each frame, of one size, that turns little between frames."""
    if len(cameras) != len(times) or len(times) < 2 or len(set(cameras.sizes)) > 1:
        return False
    forward = torch.nn.functional.normalize(cameras.forward.double(), dim=-1)
    return bool(((forward[1:] * forward[:-1]).sum(-1) > math.cos(math.radians(MOST_TURN))).all())


@dataclass(frozen=True, eq=False)
class CapturedVideo:
    """The images of a capture, over a background color [3]; images that were not taken are that color."""

    capture: MultiViewVideo
    background: Tensor

    @property
    def name(self) -> str:
        return self.capture.name

    @property
    def views(self) -> tuple[str, ...]:
        return self.capture.cameras.names

    @property
    def count(self) -> int:
        return self.capture.moments

    def video(self, view: int) -> Tensor:
        width, height = self.capture.cameras.sizes[view]
        plain = self.background.cpu().expand(height, width, 3)
        frames: list[Tensor] = []
        for moment in range(self.capture.moments):
            if not bool(self.capture.available[view, moment]):
                frames.append(plain)
                continue
            frame = self.capture.source.read(view, moment)
            image = frame.image.float() / 255
            if frame.mask is not None:
                image = torch.lerp(plain, image, frame.mask.float()[..., None] / 255)
            frames.append(image)
        return torch.stack(frames)


@dataclass(frozen=True, eq=False)
class FrameVideo:
    """Frames [T, H, W, 3 or 4] of one camera, over white where they have alpha."""

    name: str
    frames: Tensor
    views: tuple[str, ...] = ("video",)

    @property
    def count(self) -> int:
        return len(self.frames)

    def video(self, view: int) -> Tensor:
        frames = self.frames.detach().cpu().float()
        if frames.shape[-1] < 4:
            return frames
        return torch.lerp(torch.ones(()), frames[..., :3], frames[..., 3:])


def videos_in(folder: Path) -> dict[str, Path]:
    """Each scene file, video file and subfolder in a folder, by its name without suffix.

    Raises:
        InputError: There is none.
    """
    found = {
        path.stem if path.is_file() else path.name: path
        for path in visible(folder)
        if path.is_dir()
        or path.suffix.lower() in SUFFIXES
        or (path.suffix == ".safetensors" and is_scene_file(path))
    }
    if not found:
        raise InputError(
            "GEN-020",
            f"{folder.name} does not contain scenes (.safetensors), videos or folders of images; choose another folder.",
        )
    return found


def source_of(name: str, path: Path, rasterizer: Rasterizer, device: torch.device | str) -> VideoSource:
    """What `videos_in` found, read. Raises InputError where it is damaged."""
    if path.is_dir():
        return FrameVideo(name, load_images(path))
    if path.suffix.lower() in SUFFIXES:
        return FrameVideo(name, _decoded(path))
    scene = load_scene(path).to(device)
    return RenderedScene(name, scene, scene.rig, scene.times, rasterizer)


def _decoded(path: Path) -> Tensor:
    facts = probe(path, path.name)
    if facts.frames > MOST_FRAMES:
        raise InputError(
            "GEN-021", f"{path.name} has {facts.frames:,} frames; {MOST_FRAMES:,} is the limit. Cut it."
        )
    file = VideoFile(path, path.name, facts)
    try:
        frames = [torch.from_numpy(to_pixels(file.read(i), facts)) for i in range(facts.frames)]
    finally:
        file.close()
    return torch.stack(frames).float() / 255
