"""Plücker rays of camera paths: what camera-conditioned video models and the reconstruction model read.

Source: Sitzmann et al., Light Field Networks (2021); the order of channels is that of CameraCtrl (He et al., 2024) and of
ComfyUI's camera embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..frame_counts import counts_around
from .cameras import Cameras

# order of the channels, three each; written into the metadata of files that hold rays or expect them
PLUCKER_ORDER = "moment,direction"
# frames per latent frame of Wan
WAN_TIME_FACTOR = 4


def plucker_rays(cameras: Cameras) -> Tensor:
    """The Plücker ray through the center of every pixel.

    Args:
        cameras: T cameras of one image size. Models expect them relative to frame 0: see `relative_to_first`.

    Returns:
        [T, H, W, 6] in the dtype of the cameras: the moment m = o × d in world units, then the unit direction
        d = normalize(R K⁻¹ [u + ½, v + ½, 1]) in the world, with o the camera center.

    Raises:
        InputError: There is no camera, or the cameras have several image sizes.

    Example:
        rays = plucker_rays(relative_to_first(path.cameras))
        moment, direction = rays.split(3, dim=-1)
    """
    width, height = common_size(cameras)
    K = cameras.K
    rows = torch.arange(height, dtype=K.dtype, device=K.device) + 0.5
    columns = torch.arange(width, dtype=K.dtype, device=K.device) + 0.5
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).reshape(1, -1, 3)
    camera_to_world = cameras.camera_to_world.to(K)
    to_world = camera_to_world[:, :3, :3] @ torch.linalg.inv(K)
    direction = torch.nn.functional.normalize(pixels @ to_world.transpose(1, 2), dim=-1)
    origin = camera_to_world[:, None, :3, 3].expand_as(direction)
    moment = torch.linalg.cross(origin, direction)
    return torch.cat([moment, direction], dim=-1).reshape(len(cameras), height, width, 6)


def common_size(cameras: Cameras) -> tuple[int, int]:
    """The (width, height) that all cameras of a path share.

    Raises:
        InputError: There is no camera, or the cameras have several image sizes.
    """
    sizes = sorted(set(cameras.sizes))
    if len(sizes) != 1:
        found = ", ".join(f"{w}×{h}" for w, h in sizes[:4]) or "no camera"
        raise InputError(
            "SCN-012",
            f"The camera path has images of {len(sizes)} sizes ({found}); give cameras of one size.",
        )
    return sizes[0]


def relative_to_first(cameras: Cameras, unit: float = 1.0) -> Cameras:
    """The same cameras in the axes of the first one, which then is the identity.

    Args:
        cameras: T cameras.
        unit: World units that become one unit; larger values make the camera motion smaller.

    Returns:
        T cameras with unchanged intrinsics; the first one is exactly the identity.
    """
    relative = cameras.world_to_camera @ cameras.camera_to_world[:1]
    relative[:, :3, 3] /= unit
    relative[:1] = torch.eye(4, dtype=relative.dtype, device=relative.device)
    return Cameras(relative, cameras.K, cameras.sizes, cameras.names)


def wan_camera_embedding(cameras: Cameras, unit: float = 1.0) -> Tensor:
    """The rays of a path as ComfyUI's nodes for Wan's camera models take them (WAN_CAMERA_EMBEDDING).

    The first ray map is repeated four times, then four frames make one latent frame: its channel 4·c + f is channel c
    of its frame f.

    Args:
        cameras: T = 4n + 1 cameras of one image size.
        unit: World units that equal one unit of the video model.

    Returns:
        [1, 24, n + 1, H, W] float32.

    Raises:
        InputError: The number of cameras is not 4n + 1, or they have several image sizes.
    """
    width, height = common_size(cameras)
    if len(cameras) % WAN_TIME_FACTOR != 1:
        fewer, more = counts_around(len(cameras), WAN_TIME_FACTOR)
        raise InputError(
            "SCN-013",
            f"The camera path has {len(cameras)} frames, and video models generate 4n + 1; use {fewer} or {more} frames.",
        )
    relative = relative_to_first(cameras, unit)
    result = torch.empty(6, 4, (len(cameras) + 3) // 4, height, width)
    for slot in range(len(cameras) + 3):
        # one frame at a time: a whole path in float64 takes twice the memory of the result
        rays = plucker_rays(relative[max(slot - 3, 0)])[0]
        result[:, slot % 4, slot // 4] = rays.permute(2, 0, 1).float()
    return result.flatten(0, 1)[None]
