"""A camera path and an image as a video model takes them: whether the path can be filmed, and one size for both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..render.camera_paths import CameraPath
from ..scene import Cameras
from ..scene.rays import common_size

# part of the first distance to the subject that a path must keep from it
NEAREST = 0.1
# movement and turn, as parts of the distance and in radians, below which a camera stands still
STILL = 1e-4


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """The first frame [H, W, 3], and cameras of the same size; `note` says how they were fitted."""

    image: Tensor
    cameras: Cameras
    note: str


def check_path(path: CameraPath) -> list[str]:
    """What to know about a path.

    Args:
        path: The path.

    Returns:
        Sentences; none for a usual path.

    Raises:
        InputError: It has no cameras or several sizes, is not finite, or leads through its subject.
    """
    common_size(path.cameras)
    centers = path.cameras.centers.double()
    if not bool(path.cameras.world_to_camera.isfinite().all()):
        raise InputError(
            "GEN-065",
            "The camera path contains NaN or infinite values; make it again.",
        )
    distance = 1.0
    if path.focus is not None:
        focus = path.focus.double()
        distance = float((centers[0] - focus).norm())
        nearest, frame = _nearest(centers, focus)
        if nearest <= NEAREST * distance:
            raise InputError(
                "GEN-066",
                f"The camera path leads through its subject near frame {frame} (distance {nearest:.3g}, at the start "
                f"{distance:.3g}). Choose a smaller amount or another movement in Camera Path.",
            )
    first = path.cameras.world_to_camera[:1, :3, :3].double()
    turned = (path.cameras.world_to_camera[:, :3, :3].double() - first).abs().max()
    moved = (centers - centers[0]).norm(dim=-1).max()
    if float(moved) <= STILL * max(distance, 1e-12) and float(turned) <= STILL:
        return ["the camera does not move, so the video shows little of the scene's depth"]
    return []


def framed(image: Tensor, path: CameraPath, longest: int, multiple: int) -> VideoFrame:
    """Bring image and path to one size that a model makes.

    Args:
        image: [H, W, 3 or 4] in 0..1; its middle is cropped to the path's shape.
        path: The path; its shape is kept up to rounding.
        longest: Longer side of the video in pixels.
        multiple: Both sides are multiples of it.

    Returns:
        The first frame and the cameras.
    """
    own = common_size(path.cameras)
    scale = longest / max(own)
    width, height = (max(round(scale * side / multiple), 1) * multiple for side in own)
    cover = max(width / own[0], height / own[1])
    whole = (max(round(cover * own[0]), width), max(round(cover * own[1]), height))
    box = ((whole[0] - width) // 2, (whole[1] - height) // 2, width, height)
    cameras = path.cameras.resized((whole,) * len(path)).cropped([box] * len(path))
    notes = (
        []
        if own == (width, height)
        else [f"video of {width}×{height} pixels; the path has {own[0]}×{own[1]}"]
    )
    rows, columns = image.shape[:2]
    cover = max(width / columns, height / rows)
    lost = 1 - width * height / (cover**2 * rows * columns)
    if lost > 0.01:
        notes.append(f"{lost:.0%} of the image was cropped to the shape of the path")
    return VideoFrame(_cropped(image[..., :3], width, height), cameras, "\n".join(notes))


def _cropped(image: Tensor, width: int, height: int) -> Tensor:
    """The middle of an image [H, W, 3] in a size [height, width, 3] that it covers."""
    rows, columns = image.shape[:2]
    cover = max(width / columns, height / rows)
    whole = (max(round(cover * rows), height), max(round(cover * columns), width))
    planes = image.detach().cpu().float().clamp(0, 1).permute(2, 0, 1)[None]
    if whole != (rows, columns):
        planes = torch.nn.functional.interpolate(planes, whole, mode="bilinear", antialias=True)
    top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
    return planes[0, :, top : top + height, left : left + width].permute(1, 2, 0).clamp(0, 1)


def _nearest(centers: Tensor, point: Tensor) -> tuple[float, int]:
    """Least distance of a polyline [F, 3] from a point, and the frame before it."""
    start, step = centers, torch.cat([centers[1:], centers[-1:]]) - centers
    along = ((point - start) * step).sum(-1) / step.square().sum(-1).clamp(min=1e-24)
    apart = (start + along.clamp(0, 1)[:, None] * step - point).norm(dim=-1)
    return float(apart.min()), int(apart.argmin())
