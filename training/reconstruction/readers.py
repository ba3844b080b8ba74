"""Real and rendered video collections as training samples: lists of RealEstate10K, folders of PointOdyssey.

Source: RealEstate10K (Zhou et al., SIGGRAPH 2018), PointOdyssey (Zheng et al., ICCV 2023). Both have terms of their own; nothing
is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.models.reconstruction import LdrmConfig
from engine.scene import Cameras, plucker_rays, relative_to_first

from .data import Sample, own_frames

# 16-bit depth maps of PointOdyssey span this distance
DEPTH_RANGE = 1000.0
# part of its distance by which a point must move to count as moving
MOVES = 0.01


@dataclass(frozen=True, eq=False)
class Clip:
    """T frames of a collection, cut to squares.

    Args:
        images: [T, S, S, 3] uint8.
        cameras: T cameras.
        depths: Along the viewing axis [T, S, S]; 0: unknown. None: unknown everywhere.
        points: Tracks in the world [P, T, 3].
        visible: Whether a frame sees them [P, T].
    """

    images: Tensor
    cameras: Cameras
    depths: Tensor | None = None
    points: Tensor | None = None
    visible: Tensor | None = None


def read_realestate10k(
    listing: Path, frames: Path, count: int, size: int, start: int = 0, every: int = 1
) -> Clip:
    """Read some frames of a RealEstate10K list.

    Args:
        listing: The .txt: a line with the video's address, then a line for each frame (timestamp, normalized intrinsics fx fy
            cx cy, two zeros, world-to-camera 3 × 4).
        frames: Folder of the frames, named by timestamp.
        count: Frames to read.
        size: Width and height to resize the middle square to.
        start: First frame.
        every: Every n-th frame.
    """
    rows = [line.split() for line in listing.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    rows = rows[start : start + every * count : every]
    if len(rows) < count:
        raise ValueError(f"{listing.name} has only {len(rows)} of {count} frames from frame {start} on")
    images: list[Tensor] = []
    cameras: list[Cameras] = []
    for row in rows:
        if len(row) != 19:
            raise ValueError(f"{listing.name}: a line has {len(row)} numbers instead of 19")
        file = next((f for suffix in (".png", ".jpg") if (f := frames / (row[0] + suffix)).is_file()), None)
        if file is None:
            raise ValueError(f"{frames.name} has no frame {row[0]}.png or .jpg, which {listing.name} lists")
        with Image.open(file) as image:
            width, height = image.size
            values = torch.tensor([float(x) for x in row[1:]], dtype=torch.float64)
            K = torch.eye(3, dtype=torch.float64)
            K[0, 0], K[1, 1] = values[0] * width, values[1] * height
            K[0, 2], K[1, 2] = values[2] * width, values[3] * height
            pose = torch.eye(4, dtype=torch.float64)
            pose[:3] = values[6:].view(3, 4)
            whole = Cameras(pose[None], K[None], ((width, height),), (row[0],))
            pixels, camera = _square(image, whole, size)
        images.append(pixels)
        cameras.append(camera)
    return Clip(torch.stack(images), _path(cameras))


def read_pointodyssey(folder: Path, count: int, size: int, start: int = 0, every: int = 1) -> Clip:
    """Read some frames of a PointOdyssey folder.

    Args:
        folder: With `rgbs/rgb_00000.jpg`, `depths/depth_00000.png` (16 bits for 1,000 units) and `anno.npz` (trajs_3d,
            visibs, valids, intrinsics, extrinsics).
        count: Frames to read.
        size: Width and height to resize the middle square to.
        start: First frame.
        every: Every n-th frame.
    """
    index = list(range(start, start + every * count, every))
    with np.load(folder / "anno.npz", allow_pickle=False) as file:
        key = "visibs" if "visibs" in file else "visibilities"
        names = ("intrinsics", "extrinsics", "trajs_3d", key)
        missing = [name for name in names if name not in file]
        if missing:
            raise ValueError(f"{folder.name}/anno.npz has no {missing[0]}")
        tables = {name: file[name] for name in names}
        valid = file["valids"] if "valids" in file else np.ones(tables[key].shape)
    if len(tables["extrinsics"]) <= index[-1]:
        raise ValueError(
            f"{folder.name} has {len(tables['extrinsics'])} frames, and frame {index[-1]} was asked for"
        )
    images: list[Tensor] = []
    depths: list[Tensor] = []
    cameras: list[Cameras] = []
    for t in index:
        with Image.open(folder / "rgbs" / f"rgb_{t:05d}.jpg") as image:
            K, pose = (torch.from_numpy(tables[n][t]).double()[None] for n in names[:2])
            whole = Cameras(pose, K, (image.size,), (str(t),))
            pixels, camera = _square(image, whole, size)
        with Image.open(folder / "depths" / f"depth_{t:05d}.png") as image:
            side = min(image.size)
            left, top = ((x - side) // 2 for x in image.size)
            # nearest: depths of two surfaces have no mean
            small = image.crop((left, top, left + side, top + side)).resize(
                (size, size), Image.Resampling.NEAREST
            )
            depths.append(torch.from_numpy(np.asarray(small).astype(np.float32)) / 65535 * DEPTH_RANGE)
        images.append(pixels)
        cameras.append(camera)
    points = torch.from_numpy(tables["trajs_3d"][index]).float().transpose(0, 1)
    visible = torch.from_numpy((tables[key][index] > 0) & (valid[index] > 0)).transpose(0, 1)
    return Clip(torch.stack(images), _path(cameras), torch.stack(depths), points, visible)


def as_sample(clip: Clip, config: LdrmConfig, unit: float | None = None) -> Sample:
    """A training sample whose views are the path's own frames, with tracks where the collection has them.

    Args:
        clip: The frames.
        config: The model that it is for.
        unit: World units that become one; None: so that the median depth of frame 0 is the distance that the model starts from.
    """
    count, size = clip.images.shape[:2]
    if unit is None:
        known = torch.zeros(0) if clip.depths is None else clip.depths[0][clip.depths[0] > 0]
        unit = float(known.median()) / config.distance if len(known) else 1.0
    cameras = relative_to_first(clip.cameras, unit)
    cells, own = size // config.space_stride, own_frames(config, count)
    depths = torch.zeros(count, size, size) if clip.depths is None else clip.depths / unit
    half = config.space_stride // 2
    at_cells = depths[:, half :: config.space_stride, half :: config.space_stride]
    small = cameras.resized(((cells, cells),) * count)
    directions = plucker_rays(small)[..., 3:].float()
    along = torch.einsum("thwc,tc->thw", directions, small.forward.float())
    shape = (len(own), count, cells, cells)
    shifts, visible = torch.zeros(*shape, 3), torch.zeros(shape, dtype=torch.bool)
    known, moves = (torch.zeros(len(own), cells, cells, dtype=torch.bool) for _ in range(2))
    if clip.points is not None and clip.visible is not None:
        pose = clip.cameras.world_to_camera[0].float()
        points = (clip.points @ pose[:3, :3].T + pose[:3, 3]) / unit
        for a, t in enumerate(own):
            pixels, depth = small.project(points[:, t].double(), t)
            x, y = pixels.floor().long().unbind(-1)
            usable = clip.visible[:, t] & (depth > 0) & (x >= 0) & (y >= 0) & (x < cells) & (y < cells)
            # the nearest point of a cell is written last
            chosen = usable.nonzero()[:, 0]
            chosen = chosen[depth[chosen].argsort(descending=True)]
            x, y = x[chosen], y[chosen]
            moved = points[chosen] - points[chosen, t][:, None]
            shifts[a][:, y, x] = moved.transpose(0, 1)
            visible[a][:, y, x] = clip.visible[chosen].T
            known[a, y, x] = True
            moves[a, y, x] = moved.norm(dim=-1).amax(1) > MOVES * depth[chosen].float()
    return Sample(
        cameras,
        torch.arange(count),
        clip.images,
        depths.half(),
        torch.zeros(count, size, size, dtype=torch.float16),
        (at_cells / along.clamp(min=1e-6)).half(),
        shifts.half(),
        visible,
        known,
        moves,
    )


def _square(image: Image.Image, camera: Cameras, size: int) -> tuple[Tensor, Cameras]:
    """The middle square of an image, resized, and its camera."""
    side = min(image.size)
    left, top = ((x - side) // 2 for x in image.size)
    small = (
        image.convert("RGB")
        .crop((left, top, left + side, top + side))
        .resize((size, size), Image.Resampling.BOX)
    )
    cut = camera.cropped([(left, top, side, side)]).resized(((size, size),))
    return torch.from_numpy(np.asarray(small).copy()), cut


def _path(cameras: list[Cameras]) -> Cameras:
    return Cameras.concatenate(cameras)
