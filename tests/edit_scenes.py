"""Scenes to edit, their views with an exact edit, and a model that edits exactly: truth for tests of both stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engine.deform import HexPlane, HexPlaneConfig
from engine.diffusion import CrossFrameAttention, DiscreteSchedule, ModelDefaults
from engine.render import choose, render_gaussians
from engine.scene import Scene4D, ViewSet, harmonics
from tests.scenes import moving_scene

MATRIX = torch.tensor(
    [[0.1, 0.7, 0.1], [0.2, 0.1, 0.5], [0.6, 0.1, 0.2]]
)  # row: what an edited channel is made of

SIZES = {"position": 2.0, "opacity": 1.0}  # how much the heads of a random field are made to matter


def edited(colors: Tensor) -> Tensor:
    """An exact edit, linear in the color [..., 3]: so a blend of edited colors is the edit of the blend."""
    return colors @ MATRIX.T.to(colors)


def field_scene(
    heads: Sequence[str] = ("position", "scale", "rotation", "opacity", "sh"), **scene: Any
) -> Scene4D:
    """The tests' small scene with a motion field that really moves, and changes look as well."""
    still = moving_scene(**scene)
    config = HexPlaneConfig(
        features=8,
        resolution=(8, 8, 8, 4),
        multires=(1, 2),
        width=16,
        heads=tuple(heads),
        time_mapping="symmetric",
        time_range=(0.0, float(still.times[-1])),
    )
    box = torch.tensor([[1.6, 1.6, 1.6], [-1.6, -1.6, -1.6]])
    field = HexPlane.create(config, box, torch.Generator().manual_seed(3), zero_init=False)
    noise = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for level in field.planes():  # time planes start at one, where nothing moves
            for i in (2, 4, 5):
                level[i].add_(1.5 * torch.randn(level[i].shape, generator=noise))
        for head in config.heads:
            weight, bias = field.head(head)
            weight.mul_(SIZES.get(head, 0.2))
            bias.zero_()
    return still.with_(deformation=field)


def truth_of(scene: Scene4D) -> Scene4D:
    """The scene as a perfect edit would leave it: every color edited (SH of degree 0 and above are linear in color)."""
    sh = edited(scene.canonical.sh)
    ones = torch.full((3,), 0.5)
    # the DC term stands for color − ½: the edit of the half is not the half
    sh = sh.clone()
    sh[:, 0] += (edited(ones) - ones) / harmonics.C0
    return scene.with_(canonical=scene.canonical.with_(sh=sh), background=edited(scene.background))


def render(scene: Scene4D, view: int, moment: int) -> Tensor:
    """[H, W, 3]"""
    with torch.no_grad():
        now = scene.at(float(scene.times[moment]))
        return render_gaussians(now, scene.rig[view], choose("auto"), scene.background).rgb[0]


def edited_views(scene: Scene4D, views: Sequence[int], moments: Sequence[int] = (0,)) -> ViewSet:
    """Views with an exact edit of what the scene shows; its background stays."""
    pairs = [(v, t) for t in moments for v in views]
    truth = truth_of(scene).with_(background=scene.background)
    return ViewSet(
        images=torch.stack([render(truth, v, t) for v, t in pairs]),
        originals=torch.stack([render(scene, v, t) for v, t in pairs]),
        cameras=scene.rig[[v for v, _ in pairs]],
        views=tuple(v for v, _ in pairs),
        moments=tuple(t for _, t in pairs),
        seconds=tuple(float(scene.times[t]) for _, t in pairs),
        edit={"prompt": "swap the colours", "model": "exact"},
    )


def psnr(a: Scene4D, b: Scene4D, views: Sequence[int], moments: Sequence[int]) -> float:
    """Mean over views and moments, in dB."""
    values = [
        -10 * (render(a, v, t) - render(b, v, t)).square().mean().log10() for v in views for t in moments
    ]
    return float(torch.stack(values).mean())


class PerfectEditor:
    """A backbone whose network knows the edit: its latents are pictures of a quarter size, its answer is exact."""

    name, fingerprint, has_image_conditioning = "perfect editor", "perfect", True
    latent_channels, vae_scale_factor, device = 3, 4, torch.device("cpu")
    megabytes = 0
    defaults = ModelDefaults(steps=4, guidance_scale=1.0, image_guidance_scale=1.0, resolution=48)
    known_edits = time_factor = None

    def __init__(self) -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.noise_schedule = DiscreteSchedule((1 - betas).cumprod(0))
        self.calls = 0

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([[[float(bool(p))]] for p in prompts])

    def cut_short(self, prompt: str) -> None:
        return None

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        small = torch.nn.functional.avg_pool2d(images.permute(0, 3, 1, 2), self.vae_scale_factor)
        if generator is not None:
            small = small + 0.01 * torch.randn(small.shape, generator=generator)
        return small

    def encode_image_latents(self, images: Tensor) -> Tensor:
        return self.encode(images)

    def scaled(self, condition: Tensor) -> Tensor:
        return condition

    def decode(self, latents: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latents, scale_factor=self.vae_scale_factor).permute(
            0, 2, 3, 1
        )

    def predict(
        self,
        noisy: Tensor,
        t: int,
        text: Tensor,
        condition: Tensor | None = None,
        sharing: CrossFrameAttention | None = None,
    ) -> Tensor:
        self.calls += 1
        assert condition is not None
        wanted = torch.einsum("ij,bjhw->bihw", MATRIX, condition)
        clean = torch.where(text[:, :, :1, None].bool(), wanted, condition)
        a = self.noise_schedule.alpha(t)
        return (noisy - a**0.5 * clean) / (1 - a) ** 0.5
