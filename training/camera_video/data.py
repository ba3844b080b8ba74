"""Training clips: a path's video of a made scene, and the true distances of its first frame; made from seeds, and kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.scene import Cameras, plucker_rays, relative_to_first
from training.common.decoding import SampleKind
from training.common.share import WHOLE, Share
from training.reconstruction.scenes import SceneShape, make_scene
from training.reconstruction.views import camera_path, photograph, seen


@dataclass(frozen=True, eq=False)
class Clip:
    """One video and what is known of its scene, in the first camera's axes. Images are 8-bit, truths in half precision.

    Args:
        cameras: The path [T].
        images: [T, S, S, 3] uint8.
        moving: Part of each pixel that moves [T, S, S].
        distances: From the first camera [S, S]; 0: unknown.
    """

    cameras: Cameras
    images: Tensor
    moving: Tensor
    distances: Tensor

    @property
    def rays(self) -> Tensor:
        """[T, S, S, 6]."""
        return plucker_rays(self.cameras).float()

    @property
    def video(self) -> Tensor:
        """[T, S, S, 3] in 0..1."""
        return self.images.float() / 255

    def fields(self) -> dict[str, Tensor]:
        """What `sample_kind` reads."""
        return {
            "world_to_camera": self.cameras.world_to_camera,
            "K": self.cameras.K,
            "images": self.images,
            "moving": self.moving,
            "distances": self.distances,
        }


FIELDS = {
    "world_to_camera": "T 4 4 float",
    "K": "T 3 3 float",
    "images": "T S S 3 uint8",
    "moving": "T S S float",
    "distances": "S S float",
}


def sample_kind(pixels: int) -> SampleKind[Clip]:
    """Clips of files, for a model of images of `pixels`."""

    def build(fields: dict[str, Tensor]) -> Clip:
        cameras = placed(fields["world_to_camera"], fields["K"], pixels)
        return Clip(cameras, fields["images"], fields["moving"].half(), fields["distances"].half())

    return SampleKind("camera-video", FIELDS, build, {"S": pixels})


def placed(world_to_camera: Tensor, K: Tensor, pixels: int) -> Cameras:
    """Cameras of square images, in the first one's axes."""
    names = tuple(map(str, range(len(K))))
    cameras = Cameras(world_to_camera.double(), K.double(), ((pixels, pixels),) * len(K), names)
    return relative_to_first(cameras)


def make_clip(seed: int, shape: SceneShape, size: int) -> Clip:
    """The clip of a seed: the path is that of the reconstruction model's sample of the same seed."""
    generator = torch.Generator().manual_seed(seed)
    scene = make_scene(seed, shape)
    path = camera_path(scene, generator, size)
    images, _, moving = zip(*(photograph(scene, t, path, t) for t in range(shape.frames)), strict=True)
    depth = seen(scene, 0, path, 0).depth
    directions = plucker_rays(path[0])[0, ..., 3:].float()
    return Clip(
        relative_to_first(path),
        (torch.stack(images) * 255).round().byte(),
        torch.stack(moving).half(),
        (depth / (directions @ path.forward[0].float()).clamp(min=1e-6)).half(),
    )


class Clips:
    """Clips by seed, kept once they are made.

    Args:
        size: Different clips.
        shape: What scenes are like.
        pixels: Width and height of the images.
        first: The first seed.
    """

    def __init__(self, size: int, shape: SceneShape, pixels: int, first: int = 0) -> None:
        self.size, self.shape, self.pixels, self.first = size, shape, pixels, first
        self._kept: dict[int, Clip] = {}

    def __getitem__(self, index: int) -> Clip:
        if index not in self._kept:
            self._kept[index] = make_clip(self.first + index, self.shape, self.pixels)
        return self._kept[index]

    def draw(self, count: int, generator: torch.Generator, share: Share = WHOLE) -> list[Clip]:
        """Random clips: `count` of a batch of as many for every share."""
        drawn = torch.randint(self.size, (count * share.count,), generator=generator)
        return [self[int(i)] for i in share.of(drawn)]
