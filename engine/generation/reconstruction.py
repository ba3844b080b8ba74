"""A video's latents and camera path to a 4D scene: one pass of the reconstruction model, and its motion stored per frame.

Source: Diff4Splat (2025), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..deform.per_frame import PerFrame
from ..errors import InputError
from ..models.reconstruction import Ldrm, as_scene, mean_color
from ..scene import Cameras, Gaussians, Scene4D, plucker_rays, relative_to_first, rotations
from .video_flow import video_flow

# part of the Gaussians left out at each end of the axes when the subject's bounds are taken
OUTLIERS = 0.02


@dataclass(frozen=True)
class Pass:
    """How a scene is made of latents.

    Args:
        unit: World units that are one unit to the model.
        time_stride: Every n-th frame gives Gaussians; None: as trained.
        space_stride: Every n-th pixel of a row and of a column gives one; None: as trained.
        saves_half: Store the motion in half precision.
    """

    unit: float = 1.0
    time_stride: int | None = None
    space_stride: int | None = None
    saves_half: bool = True


@torch.no_grad()
def reconstruct(
    model: Ldrm,
    latents: Tensor,
    cameras: Cameras,
    seconds: Tensor,
    settings: Pass = Pass(),
    video: Tensor | None = None,
    flow: Tensor | None = None,
) -> Scene4D:
    """Make a scene in one pass.

    Args:
        model: The reconstruction model.
        latents: [C, n, h, w], as its video model makes them.
        cameras: The path, one camera for each of the T frames, of the video's size.
        seconds: Frame times [T], float64, ascending.
        settings: Units, strides, precision.
        video: The decoded video [T, H, W, 3] in 0..1, for models that read it or flow.
        flow: [A, T, h, w, 3], for models that read it; see `Ldrm.motion`. None: found in `video` by the tracker.

    Returns:
        The scene in the world of `cameras`, on the CPU.

    Raises:
        InputError: Latents, cameras or video do not fit the model or each other.

    Example:
        scene = reconstruct(load_ldrm(path), latents, cameras, seconds)
    """
    device = next(model.parameters()).device
    rays = plucker_rays(relative_to_first(cameras, settings.unit)).float().to(device)
    found = model(
        latents[None].to(device),
        rays[None],
        None if video is None else video[None].to(device),
        settings.time_stride,
        settings.space_stride,
    )
    times = torch.arange(len(cameras), device=device, dtype=torch.float32)
    if flow is None and video is not None and model.config.correspondences == "flow":
        flow = _flow(model, video, cameras, settings)
    motion = model.motion(found, times, None if flow is None else flow[None].to(device))
    canonical, changes = as_scene(found.gaussians, motion, model.config)
    canonical, changes = _in_world(
        canonical.map(_on_cpu), {n: _on_cpu(c) for n, c in changes.items()}, cameras, settings.unit
    )
    deformation = PerFrame(seconds.double(), changes)
    means = canonical.means.double()
    ends = torch.tensor([OUTLIERS, 1 - OUTLIERS], dtype=torch.float64)
    some = means[:: max(1, len(means) // 100_000)]
    bounds = torch.quantile(some, ends, dim=0) if len(some) else torch.zeros(2, 3, dtype=torch.float64)
    return Scene4D(
        canonical,
        deformation.in_half() if settings.saves_half else deformation,
        seconds.double(),
        cameras,
        bounds,
        _on_cpu(mean_color(found.gaussians)),
    )


def _flow(model: Ldrm, video: Tensor, cameras: Cameras, settings: Pass) -> Tensor:
    config, (width, height) = model.config, cameras.sizes[0]
    if video.shape[:3] != (len(cameras), height, width):
        frames, rows, columns = video.shape[:3]
        raise InputError(
            "GEN-052",
            f"The decoded video has {frames} frames of {columns}×{rows}, but the path has {len(cameras)} cameras of "
            f"{width}×{height}; use cameras of the video's size, one per frame.",
        )
    space = settings.space_stride or config.space_stride
    times = settings.time_stride or config.time_stride
    return video_flow(video, times, config.space_stride, space // config.space_stride)


def _on_cpu(x: Tensor) -> Tensor:
    return x.float().cpu()


def _in_world(
    gaussians: Gaussians, changes: dict[str, Tensor], cameras: Cameras, unit: float
) -> tuple[Gaussians, dict[str, Tensor]]:
    """From the first camera's axes and the model's units to the world; what is added to fields turns and grows with them."""
    pose = cameras.camera_to_world[0].double()
    turn, center = pose[:3, :3].float(), pose[:3, 3].float()
    quat = rotations.matrices_to_quats(pose[:3, :3]).float()
    world = gaussians.with_(
        means=unit * gaussians.means @ turn.T + center,
        quats=rotations.multiply(quat.expand(len(gaussians), 4), gaussians.quats),
        log_scales=gaussians.log_scales + torch.tensor(unit).log(),
    )
    turned = dict(changes)
    if "means" in changes:
        turned["means"] = unit * changes["means"] @ turn.T
    if "quats" in changes:
        turned["quats"] = rotations.multiply(quat.expand_as(changes["quats"]), changes["quats"])
    return world, turned
