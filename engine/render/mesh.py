"""Which triangle of a mesh each pixel of a view sees."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import backends
from ..scene import Cameras

NEAR = 1e-6  # world units: vertices nearer to the camera's plane take their triangles out


def visible_faces(vertices: Tensor, faces: Tensor, cameras: Cameras, view: int = 0) -> Tensor:
    """The nearest triangle at each pixel center, from either side.

    Args:
        vertices: [V, 3] world units.
        faces: [F, 3] long.
        cameras: The rig; `view` is the camera in it.

    Returns:
        [H, W] long on the CPU: index of the face, −1 where there is none.
    """
    pixels, depth = cameras.project(vertices.detach().cpu().double(), view)
    inverse = torch.where(depth > NEAR, 1 / depth.clamp(min=NEAR), 0.0)
    corners = torch.cat([pixels, inverse[:, None]], dim=1)
    width, height = cameras.sizes[view]
    if backends.installed("numba"):
        from .numba.mesh import nearest_faces

        return torch.from_numpy(nearest_faces(corners.numpy(), faces.cpu().numpy(), width, height))
    return nearest_faces_slowly(corners, faces.cpu(), width, height)


def nearest_faces_slowly(corners: Tensor, faces: Tensor, width: int, height: int) -> Tensor:
    """The same without numba, one triangle after the other: the kernel's readable twin."""
    depths = torch.zeros(height, width, dtype=corners.dtype)
    found = torch.full((height, width), -1)
    x, y = torch.arange(width).to(corners) + 0.5, torch.arange(height).to(corners)[:, None] + 0.5
    for face, (a, b, c) in enumerate(corners[faces]):
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if min(a[2], b[2], c[2]) <= 0 or area == 0:
            continue
        wa = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
        wb = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
        wc = 1 - wa - wb
        near = wa * a[2] + wb * b[2] + wc * c[2]
        nearer = (wa >= 0) & (wb >= 0) & (wc >= 0) & (near > depths)
        depths = torch.where(nearer, near, depths)
        found = torch.where(nearer, face, found)
    return found
