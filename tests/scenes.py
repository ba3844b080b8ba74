"""Small moving scenes made in code, and the captures that they would give: truth for every test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.render import choose, render_gaussians
from engine.scene import Cameras, Frame, Gaussians, MultiViewVideo, Scene4D, harmonics
from engine.scene.cameras import look_at


class Swing:
    """A known motion: everything above the floor swings sideways like a pendulum, once in `period` seconds."""

    kind = "swing"

    def __init__(self, reach: float = 0.5, period: float = 2.0) -> None:
        self.reach, self.period = reach, period

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        shift = self.reach * math.sin(2 * math.pi * seconds / self.period)
        weight = (gaussians.means[:, 2:] > 0).to(gaussians.means)
        offset = torch.tensor([1.0, 0.0, 0.0]).to(gaussians.means) * shift * weight
        return gaussians.with_(means=gaussians.means + offset)

    def config(self) -> dict[str, float]:
        return {"reach": self.reach, "period": self.period}

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def to(self, device: torch.device | str) -> Swing:
        return self

    def take(self, index: Tensor) -> Swing:
        return self

    def trainable(self) -> None:
        return None


def ring(views: int, distance: float = 4.0, size: tuple[int, int] = (48, 40), height: float = 0.8) -> Cameras:
    """`views` cameras round the origin, alternately high and low, z up."""
    poses = []
    for i in range(views):
        angle = 2 * math.pi * i / views
        z = height if i % 2 else -height * 0.3
        position = torch.tensor([distance * math.cos(angle), distance * math.sin(angle), z])
        poses.append(look_at(position, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])))
    w, h = size
    K = torch.tensor([[1.2 * h, 0, w / 2], [0, 1.2 * h, h / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(
        torch.stack(poses), K.repeat(views, 1, 1), (size,) * views, tuple(f"cam{i:02}" for i in range(views))
    )


def moving_scene(
    count: int = 200, seed: int = 0, moments: int = 6, views: int = 8, sh_degree: int = 1
) -> Scene4D:
    """Colored Gaussians on a sphere; the upper half swings."""
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 3, generator=g)
    points = (
        0.8 * points / points.norm(dim=-1, keepdim=True)
    )  # a shell: what no camera sees cannot be learned
    sh = torch.zeros(count, harmonics.bases(sh_degree), 3)
    sh[:, 0] = harmonics.rgb_to_dc(torch.rand(count, 3, generator=g))
    gaussians = Gaussians(
        means=points,
        log_scales=torch.full((count, 3), 0.1).log() + 0.2 * torch.randn(count, 3, generator=g),
        quats=torch.randn(count, 4, generator=g),
        logit_opacities=torch.full((count,), 0.9).logit(),
        sh=sh,
    )
    times = torch.linspace(0, 1.5, moments, dtype=torch.float64)
    bounds = torch.tensor([[-1.6, -1.2, -1.2], [1.6, 1.2, 1.2]], dtype=torch.float64)
    return Scene4D(gaussians, Swing(), times, ring(views), bounds, torch.ones(3))


@dataclass
class RenderedFrames:
    """A frame source that renders a known scene: the pictures are exact but for 8-bit rounding."""

    scene: Scene4D
    with_masks: bool = True

    def __post_init__(self) -> None:
        self.rasterizer = choose("auto")
        self.kept: dict[tuple[int, int], Frame] = {}

    def read(self, view: int, moment: int) -> Frame:
        key = (view, moment)
        if key not in self.kept:
            with torch.no_grad():
                seconds = float(self.scene.times[moment])
                picture = render_gaussians(
                    self.scene.at(seconds), self.scene.rig[view], self.rasterizer, self.scene.background
                )
            image = (picture.rgb[0].clamp(0, 1) * 255).round().to(torch.uint8)
            mask = (picture.alpha[0].clamp(0, 1) * 255).round().to(torch.uint8)
            # rgb is already over the background: a hard mask keeps compositing exact
            hard = torch.where(mask > 0, 255, 0).to(torch.uint8)
            self.kept[key] = Frame(image, hard if self.with_masks else None)
        return self.kept[key]

    def fingerprint(self) -> str:
        return f"rendered {len(self.scene.canonical)} {float(self.scene.canonical.means.sum())}"


def capture_of(scene: Scene4D, with_masks: bool = True, test_views: tuple[int, ...] = (0,)) -> MultiViewVideo:
    """The multi-view video that `scene`'s rig would film."""
    return MultiViewVideo(
        name="rendered",
        cameras=scene.rig,
        times=scene.times,
        available=torch.ones(len(scene.rig), len(scene.times), dtype=torch.bool),
        source=RenderedFrames(scene, with_masks),
        background=scene.background,
        test_views=test_views,
        has_masks=with_masks,
        near=1.0,
        far=10.0,
        layout="rendered",
    )
