"""Depth of a clip at the size of its frames, with the cameras that Depth Anything 3 and MoGe nodes give along with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import InputError
from ...geometry.depth_maps import read_depth_maps
from ...scene.cameras import Cameras

# spread of a depth map, relative to its mean, below which it counts as constant
LEAST_SPREAD = 1e-3
# a value so much larger than the median is the sky
FAR = 50.0


class DepthMaps(NamedTuple):
    """Depth maps of the frames of a clip, and what came along."""

    values: Tensor  # [T, H, W], NaN where there is none
    K: Tensor | None  # [T, 3, 3] in pixels of the frames
    world_to_camera: Tensor | None  # [T, 4, 4], None if unknown
    may_be_disparity: bool  # values of images may grow toward the camera
    note: str


def depth_maps(given: Any, frames: int, size: tuple[int, int], is_depth: bool = False) -> DepthMaps:
    """Depth maps at the size of the frames.

    Args:
        given: Images [T, h, w, 3] or maps [T, h, w], or a dictionary with `depth` and perhaps `intrinsics`, `extrinsics`,
            `mask`, `sky` and `points`, as DA3 and MoGe nodes give them.
        frames: Number of frames T.
        size: Their width and height.
        is_depth: Whether images are known to grow with the distance; dictionaries always do.

    Raises:
        InputError: Another number of maps, maps without values, or constant ones.
    """
    is_table = isinstance(given, Mapping)
    values = read_depth_maps(given)
    if len(values) != frames:
        raise InputError(
            "GEN-030",
            f"There are {len(values)} depth maps for {frames} frames. Make the depth from the same frames.",
        )
    ratio, wanted = values.shape[2] / values.shape[1], size[0] / size[1]
    if abs(ratio / wanted - 1) > 0.05:
        raise InputError(
            "GEN-031",
            f"Depth maps of {values.shape[2]}×{values.shape[1]} do not have the shape of frames of {size[0]}×{size[1]}. Make the "
            "depth from the same frames, without cropping.",
        )
    height, width = values.shape[1:]
    # Align Depth writes 0 where nothing is known; of disparities, that is the sky
    values = torch.where(~values.isfinite() | (values == 0), torch.nan, values)
    _check(values)
    # large disparities are near
    if is_table or is_depth:
        middle = values.flatten(1).nanmedian(1).values[:, None, None]
        values[values > FAR * middle.abs()] = torch.nan
    sized = torch.nn.functional.interpolate(values[:, None], (size[1], size[0]), mode="nearest-exact")[:, 0]
    empty = float(values.isnan().float().mean())
    note = f"depth: {width}×{height}" + (f", {empty:.0%} without values (sky)" if empty > 0.005 else "")
    K = _intrinsics(given.get("intrinsics"), frames, (width, height), size) if is_table else None
    return DepthMaps(
        sized, K, _extrinsics(given.get("extrinsics"), frames) if is_table else None, not is_table, note
    )


def _check(values: Tensor) -> None:
    for t, each in enumerate(values):
        known = each[~each.isnan()]
        if len(known) < 0.05 * each.numel():
            raise InputError(
                "GEN-033",
                f"The depth map of frame {t} has {len(known)} finite values of {each.numel()}; make the depth again.",
            )
        if float(known.std()) <= LEAST_SPREAD * float(known.abs().mean()):
            raise InputError(
                "GEN-034",
                f"The depth map of frame {t} is constant ({float(known.mean()):.4g}). Connect the depth of this video.",
            )


def _intrinsics(given: Any, frames: int, depth_size: tuple[int, int], size: tuple[int, int]) -> Tensor | None:
    """K [T, 3, 3] in pixels of the frames. MoGe's are relative to the image, DA3's in pixels of its depth."""
    if not isinstance(given, Tensor):
        return None
    K = given.detach().cpu().double().reshape(-1, 3, 3)
    if len(K) not in (1, frames) or not bool(torch.isfinite(K).all()) or bool((K[:, 0, 0] <= 0).any()):
        return None
    of = (1, 1) if float(K[0, 0, 2]) < 4 else depth_size
    factors = torch.tensor([size[0] / of[0], size[1] / of[1], 1.0], dtype=torch.float64)
    return (K * factors[:, None]).expand(frames, 3, 3)


def _extrinsics(given: Any, frames: int) -> Tensor | None:
    """world_to_camera [T, 4, 4]; None where there are none, or only identities."""
    if not isinstance(given, Tensor):
        return None
    poses = given.detach().cpu().double().reshape(-1, given.shape[-2], 4)
    if len(poses) != frames or not bool(torch.isfinite(poses).all()):
        return None
    full = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    full[:, :3] = poses[:, :3]
    return None if bool(((full - full[:1]).abs() < 1e-6).all()) else full


def cropped(maps: DepthMaps, box: tuple[int, int, int, int]) -> DepthMaps:
    """The same maps of a part (left, top, width, height) of the frames."""
    left, top, width, height = box
    K = maps.K
    if K is not None:
        K = K.clone()
        K[:, 0, 2] -= left
        K[:, 1, 2] -= top
    return maps._replace(values=maps.values[:, top : top + height, left : left + width], K=K)


def cameras_of(maps: DepthMaps, poses: Tensor, size: tuple[int, int]) -> Cameras | None:
    """Cameras with the maps' intrinsics; None where there are none."""
    if maps.K is None:
        return None
    frames = len(poses)
    return Cameras(poses, maps.K, (size,) * frames, tuple(f"frame{i:04}" for i in range(frames)))
