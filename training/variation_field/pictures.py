"""Cameras around a subject, and images of its Gaussians."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from engine.models.trellis import RawGaussians
from engine.models.variation_field import ConditioningCamera, canonical_changes
from engine.render import Rasterizer, choose, render_gaussians
from engine.scene import Cameras, Gaussians
from engine.scene.cameras import look_at

# of everything here: the model's own camera
INPUT = ConditioningCamera(radius=2.0, fov_degrees=36.0, image_size=64)
WHITE = torch.ones(3)


@cache
def _rasterizer(device: torch.device) -> Rasterizer:
    return choose("auto", device)


def ring(count: int, elevation: float = 0.2, camera: ConditioningCamera = INPUT) -> Cameras:
    """`count` cameras around the subject, all but the first raised by `elevation` radians; view 0 is the input camera."""
    poses = [camera.cameras().world_to_camera[0]]
    up, center = torch.tensor([0.0, 0, 1]).double(), torch.zeros(3).double()
    for i in range(1, count):
        azimuth = 2 * math.pi * i / count
        around = torch.tensor(
            [
                math.sin(azimuth) * math.cos(elevation),
                -math.cos(azimuth) * math.cos(elevation),
                math.sin(elevation),
            ]
        )
        poses.append(look_at(camera.radius * around.double(), center, up))
    K = camera.cameras().K.expand(count, -1, -1)
    size = (camera.image_size, camera.image_size)
    return Cameras(torch.stack(poses), K, (size,) * count, tuple(f"view {i}" for i in range(count)))


def changed(canonical: RawGaussians, deltas: Tensor) -> Gaussians:
    """The Gaussians of one frame for decoded deltas [N, 14]; differentiable."""
    changes = canonical_changes(canonical, deltas[None])
    fields = canonical.to_gaussians().tensors()
    return Gaussians(**{name: value + changes[name][0] for name, value in fields.items()})


def image(gaussians: Gaussians, cameras: Cameras) -> Tensor:
    """Images [V, S, S, 3] on white."""
    means = gaussians.means
    return render_gaussians(gaussians, cameras, _rasterizer(means.device), WHITE.to(means)).rgb
