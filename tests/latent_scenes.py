"""Latent fields small enough for tests, and a diffusion model of which every answer is known."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine import messages as m
from engine.latent import FieldRenderer, LatentField
from engine.render import choose
from engine.scene import MultiViewVideo, Scene4D
from engine.steps import train_latents
from engine.train.state import fingerprint_of
from tests.edit_scenes import MATRIX, PerfectEditor, field_scene
from tests.scenes import capture_of

EDIT, KEEP = "swap the colours", "leave it as it is"
QUICK = train_latents.Config(iterations=6, preview_every=3, images_per_step=2, refiner="small", samples=2)


@pytest.fixture(scope="module", name="scene")
def small_scene() -> Scene4D:
    return field_scene(count=80, views=4, moments=4)


@pytest.fixture(scope="module", name="video")
def small_video(scene: Scene4D) -> MultiViewVideo:
    return capture_of(scene)


class Known(PerfectEditor):
    """Latents are pictures of a quarter size; prompts that start with "leave" keep them, others swap their colors."""

    name, fingerprint = "known", "known"

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([[[float(bool(p) and not p.startswith("leave"))]] for p in prompts])

    def mid_block(self) -> None:
        return None


def trained(scene: Scene4D, model: Any, video: Any = None, **changes: Any) -> LatentField:
    return m.result(train_latents.run(scene, model, replace(QUICK, **changes), video))


def latents_of(field: LatentField, views: Sequence[int], moment: int, refined: bool = True) -> Tensor:
    """[B, C, h, w]"""
    drawn, _ = FieldRenderer(field, choose("auto")).latents(views, float(field.scene.times[moment]), refined)
    return drawn


def swapped(latents: Tensor) -> Tensor:
    """What `Known` makes of latents [B, 3, h, w]."""
    return torch.einsum("ij,bjhw->bihw", MATRIX, latents)


def bits_of(field: LatentField) -> dict[str, str]:
    """A hash of every part of a field: equal where every bit is."""
    scene = field.scene
    parts = {name: [t] for name, t in scene.canonical.tensors().items()}
    parts["motion"] = [t for _, t in sorted(scene.deformation.tensors().items())]
    parts |= {"features": [field.features], "latent background": [field.background]}
    parts["refiner"] = [] if field.refiner is None else list(field.refiner.state_dict().values())
    return {name: fingerprint_of(*tensors) for name, tensors in parts.items()}


def changed(before: LatentField, after: LatentField) -> set[str]:
    """The names of the parts whose bits differ."""
    a, b = bits_of(before), bits_of(after)
    return {name for name in a if a[name] != b[name]}
