"""Training samples: a video with its cameras, views of it, true distances and tracks; made from seeds, and kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from engine.models.reconstruction import LdrmConfig, pixels_format
from engine.scene import Cameras, plucker_rays, relative_to_first
from training.common.decoding import SampleKind
from training.common.share import WHOLE, Share

from .scenes import MadeScene, SceneShape, make_scene
from .views import Seen, beside, camera_path, photograph, seen, tracks

# seeds from here on are never trained on
HELD_OUT_SEED = 10_000_000


@dataclass(frozen=True)
class SampleShape:
    """What a sample holds.

    Args:
        scene: What scenes are like.
        size: Width and height of the images.
        views: Views off the path, one frame after the other.
        degrees: Smallest and largest angle of these views off the path.
    """

    scene: SceneShape = field(default_factory=SceneShape)
    size: int = 64
    views: int = 9
    degrees: tuple[float, float] = (4.0, 26.0)


@dataclass(frozen=True, eq=False)
class Sample:
    """One video and what is known of its scene, in the first camera's axes. Images are 8-bit, truths in half precision.

    Args:
        cameras: The path [T], then the other views [M].
        frames: Frame of each view [T + M].
        images: [T + M, S, S, 3] uint8.
        depths: Along the viewing axis [T + M, S, S]; 0: unknown.
        moving: Part of each pixel that moves [T + M, S, S].
        distances: From the camera to the point at each cell center [T, C, C]; 0: unknown.
        shifts: How far the points of A frames have moved at every frame [A, T, C, C, 3].
        visible: Whether the path's frames see them [A, T, C, C].
        known: Whether a cell's track is known [A, C, C].
        moves: Whether it moves [A, C, C].
        latents: Of a video model [C, n, h, w], for networks that do not read pixels.
    """

    cameras: Cameras
    frames: Tensor
    images: Tensor
    depths: Tensor
    moving: Tensor
    distances: Tensor
    shifts: Tensor
    visible: Tensor
    known: Tensor
    moves: Tensor
    latents: Tensor | None = None

    @property
    def path(self) -> Cameras:
        return self.cameras[: self.distances.shape[0]]

    @cached_property
    def rays(self) -> Tensor:
        """[T, S, S, 6]."""
        return plucker_rays(self.path).float()

    @property
    def video(self) -> Tensor:
        """[T, S, S, 3] in 0..1."""
        return self.images[: self.distances.shape[0]].float() / 255

    def cell_rays(self) -> tuple[Tensor, Tensor]:
        """Camera centers [T, 3] and unit directions [T, C, C, 3] of the rays through cell centers."""
        count = self.distances.shape[1]
        small = self.path.resized(((count, count),) * len(self.path))
        return small.centers.float(), plucker_rays(small).float()[..., 3:]

    def fields(self) -> dict[str, Tensor]:
        """What `sample_kind` reads."""
        cameras = {"world_to_camera": self.cameras.world_to_camera, "K": self.cameras.K}
        own = {name: getattr(self, name) for name in FIELDS if name not in cameras}
        return cameras | own | ({} if self.latents is None else {"latents": self.latents})


# V = T + M views
FIELDS = {
    "world_to_camera": "V 4 4 float",
    "K": "V 3 3 float",
    "frames": "V int",
    "images": "V S S 3 uint8",
    "depths": "V S S float",
    "moving": "V S S float",
    "distances": "T C C float",
    "shifts": "A T C C 3 float",
    "visible": "A T C C bool",
    "known": "A C C bool",
    "moves": "A C C bool",
}


def sample_kind(config: LdrmConfig) -> SampleKind[Sample]:
    """Samples of files, for a model."""

    latent = config.latent
    reads_pixels = latent == pixels_format(latent.time_factor, latent.space_factor)

    def build(fields: dict[str, Tensor]) -> Sample:
        views, pixels = fields["images"].shape[:2]
        count, cells = fields["distances"].shape[:2]
        cells_of_latents = (latent.latents(count), *(pixels // latent.space_factor,) * 2)
        if "latents" in fields and fields["latents"].shape[1:] != cells_of_latents:
            raise ValueError(
                f"latents must have {' × '.join(map(str, cells_of_latents))} cells for its video"
            )
        own, wanted = len(fields["shifts"]), len(own_frames(config, count))
        if pixels % config.cell or cells != pixels // config.space_stride or own != wanted:
            raise ValueError(
                f"has {pixels} pixels, {cells} cells and {own} frames with tracks; the model needs a multiple of "
                f"{config.cell} pixels, {pixels // config.space_stride} cells and {wanted} frames with tracks"
            )
        frames = fields.pop("frames").long()
        if not torch.equal(frames[:count], torch.arange(count)) or not 0 <= int(frames.max()) < count:
            raise ValueError(f"frames must begin with 0 to {count - 1}, and have no other numbers")
        names = tuple(map(str, range(views)))
        placed = (fields.pop("world_to_camera").double(), fields.pop("K").double())
        cameras = relative_to_first(Cameras(*placed, ((pixels, pixels),) * views, names))
        halves = {n: fields.pop(n).half() for n in ("depths", "moving", "distances", "shifts")}
        return Sample(cameras=cameras, frames=frames, **halves, **fields)

    more = {} if reads_pixels else {"latents": f"{latent.channels} n h w float"}
    return SampleKind("reconstruction", FIELDS | more, build)


def own_frames(config: LdrmConfig, frames: int) -> list[int]:
    """The frames that give Gaussians."""
    return list(range(0, frames, config.time_stride))


def make_sample(seed: int, shape: SampleShape, config: LdrmConfig) -> Sample:
    """The sample of a seed."""
    generator = torch.Generator().manual_seed(seed)
    scene = make_scene(seed, shape.scene)
    path = camera_path(scene, generator, shape.size)
    frames = shape.scene.frames
    at = torch.arange(shape.views) % frames
    low, high = shape.degrees
    degrees = low + (high - low) * torch.rand(shape.views, generator=generator)
    degrees = degrees * (torch.randint(2, (shape.views,), generator=generator) * 2 - 1)
    rise = 8 * torch.rand(shape.views, generator=generator) - 4
    return sampled(scene, path, beside(path, scene, at, degrees, rise), at, config)


def sampled(scene: MadeScene, path: Cameras, others: Cameras, at: Tensor, config: LdrmConfig) -> Sample:
    """A sample of a scene, seen from a path and from other views at frames `at` [M]."""
    count = len(path)
    cells = path.sizes[0][0] // config.space_stride
    everything = Cameras.concatenate([path, others])
    frames = torch.cat([torch.arange(count), at])
    images, depths, moving = zip(
        *(photograph(scene, int(t), everything, v) for v, t in enumerate(frames)), strict=True
    )
    own = own_frames(config, count)
    positions, visible, moves = tracks(scene, path, own, cells)
    small = path.resized(((cells, cells),) * count)
    distances = [_distance(seen(scene, t, small, t), small, t) for t in range(count)]
    turn = path.world_to_camera[0, :3, :3].float()
    start = positions[torch.arange(len(own)), own]
    names = tuple(map(str, range(len(everything))))
    return Sample(
        relative_to_first(replace(everything, names=names)),
        frames,
        (torch.stack(images) * 255).round().byte(),
        torch.stack(depths).half(),
        torch.stack(moving).half(),
        torch.stack(distances).half(),
        ((positions - start[:, None]) @ turn.T).half(),
        visible,
        torch.stack([distances[t] > 0 for t in own]),
        moves,
    )


def _distance(found: Seen, cameras: Cameras, view: int) -> Tensor:
    """Depth along the viewing axis as distance from the camera."""
    forward = cameras.forward[view].float()
    direction = plucker_rays(cameras[view])[0, ..., 3:].float()
    return found.depth / (direction @ forward).clamp(min=1e-6)


class Pool:
    """Samples by seed, kept once they are made.

    Args:
        size: Different samples.
        shape: What they hold.
        config: The model that they are for.
        first: The first seed.
    """

    def __init__(self, size: int, shape: SampleShape, config: LdrmConfig, first: int = 0) -> None:
        self.size, self.shape, self.config, self.first = size, shape, config, first
        self._kept: dict[int, Sample] = {}

    def __getitem__(self, index: int) -> Sample:
        if index not in self._kept:
            self._kept[index] = make_sample(self.first + index, self.shape, self.config)
        return self._kept[index]

    def draw(self, count: int, generator: torch.Generator, share: Share = WHOLE) -> list[Sample]:
        """Random samples: `count` of a batch of as many for every share."""
        drawn = torch.randint(self.size, (count * share.count,), generator=generator)
        return [self[int(i)] for i in share.of(drawn)]
