"""Small scenes whose clips have every kind of track, for the player's tests."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from engine import messages as m
from engine.deform import PerFrame
from engine.scene import Gaussians, Scene4D, rotations
from engine.steps import bake_clip
from tests.scenes import moving_scene


class Everything:
    """Places, turns, extents, opacities and colors all change, smoothly."""

    kind = "everything"

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        n = torch.arange(len(gaussians))[:, None].float()
        phase = 2 * math.pi * seconds / 3 + n
        angle = 0.6 * phase.sin()
        axis = torch.nn.functional.normalize(gaussians.means + 0.1, dim=-1)
        turn = torch.cat([(angle / 2).cos(), axis * (angle / 2).sin()], dim=-1)
        return gaussians.with_(
            means=gaussians.means + 0.4 * seconds * torch.tensor([1.0, 0.2, 0.0]) + 0.05 * phase.sin(),
            quats=rotations.multiply(turn, gaussians.quats),
            log_scales=gaussians.log_scales + 0.5 * phase.cos(),
            logit_opacities=gaussians.logit_opacities + 2 * phase.sin()[:, 0],
            sh=torch.cat([gaussians.sh[:, :1] + 0.5 * phase.cos()[:, None], gaussians.sh[:, 1:]], dim=1),
        )

    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def to(self, device: torch.device | str) -> Everything:
        return self


def flickering(scene: Scene4D) -> Scene4D:
    """A flip-book with births and deaths: nothing can be blended between its pages."""
    pages = []
    for i, second in enumerate(scene.times.tolist()):
        page = scene.at(second)
        gone = (torch.arange(len(page)) + i) % 3 == 0
        jump = torch.where(gone[:, None], 0.5 * torch.ones(3), torch.zeros(3))
        opacity = torch.where(gone, torch.tensor(-12.0), page.logit_opacities)
        pages.append(page.with_(means=page.means + jump, logit_opacities=opacity))
    return scene.with_(canonical=pages[0], deformation=PerFrame.of(pages, scene.times, False))


def scenes() -> dict[str, Scene4D]:
    swing = moving_scene(150, moments=8, views=3)
    return {
        "swing": swing,
        "everything": moving_scene(150, seed=1, moments=13, views=3).with_(deformation=Everything()),
        "flicker": flickering(moving_scene(120, seed=2, moments=5, views=3)),
        "still": moving_scene(80, seed=3, moments=1, views=3),
    }


def baked(scene: Scene4D, title: str = "scene", **config: Any) -> bytes:
    return m.result(bake_clip.run(scene, bake_clip.Config(**config), title)).data
