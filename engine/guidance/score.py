"""Score distillation: rendered pictures' latents in, a loss with the right gradient out. The trick stands here alone.

DreamFusion (Poole et al. 2022, eq. 3) with InstructPix2Pix's dual guidance as in Instruct-4DGS (Kwon et al., CVPR 2025,
section 3.4); a model without picture condition gives plain text guidance. Changed: the loss is float32 whatever the
model's precision (sums of half precision overflow), and both weightings are offered, since the paper's code
differentiates through the noised latents and so carries a √ᾱ that the formula does not have; "uniform" counts all
timesteps alike, as delta denoising does, and "picture" counts how far off the guessed picture is rather than the guessed
noise: √((1 − ᾱ)/ᾱ), which favours the noisy end. A mask keeps the pull to a region.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion import Backbone, CrossFrameAttention, NoiseSchedule
from ..errors import InputError
from .classifier_free import Guidance, predict

WEIGHTINGS = ("reference code", "standard", "uniform", "picture")


@dataclass(frozen=True, eq=False)
class Score:
    """What one look at the pictures says."""

    loss: Tensor  # scalar float32; its gradient in the latents is `gradient` / B
    gradient: Tensor  # [B, C, h, w] mask · w(t) (ε̂ − ε), detached
    clean: Tensor  # [B, C, h, w] the model's guess of the finished picture, detached: for previews
    alpha: float  # ᾱ at t


def sds_gradient(
    noise_schedule: NoiseSchedule,
    output: Tensor,  # [B, C, h, w] the network's own
    noisy: Tensor,  # [B, C, h, w] what it was asked about: `latents` with `noise` at `t`
    latents: Tensor,  # [B, C, h, w]
    noise: Tensor,  # [B, C, h, w]
    t: int,
    weighting: str,
) -> Tensor:
    """w(t)(ε̂ − ε) [B, C, h, w]. InputError for an unknown weighting.

    w(t) is 1 − ᾱ, √ᾱ (1 − ᾱ) as the reference code's gradient works out, 1, or √((1 − ᾱ)/ᾱ), where the product is z − x̂,
    taken directly from models that guess x̂ or v: they know it even where no picture is left (ᾱ = 0).
    """
    if weighting not in WEIGHTINGS:
        raise InputError("GUI-008", f"weighting is '{weighting}'; choose one of {', '.join(WEIGHTINGS)}.")
    if weighting == "picture" and noise_schedule.prediction != "epsilon":
        return latents - noise_schedule.predict_x0(output, noisy, t)
    alpha = noise_schedule.alpha(t)
    weight = {
        "reference code": alpha**0.5 * (1 - alpha),
        "standard": 1 - alpha,
        "uniform": 1.0,
        "picture": ((1 - alpha) / max(alpha, 1e-12)) ** 0.5,
    }[weighting]
    return weight * (noise_schedule.predict_eps(output, noisy, t) - noise)


def score_loss(
    backbone: Backbone,
    latents: Tensor,  # [B, C, h, w] of the rendered pictures, with a gradient
    t: int,  # one timestep for all of them
    noise: Tensor,  # [B, C, h, w], drawn by the caller
    guidance: Guidance,
    condition: Tensor | None,  # [B, C, h, w] of the unedited pictures; None: none, as a text-to-image model
    weighting: str = "reference code",
    sharing: CrossFrameAttention | None = None,
    branches_at_once: bool = True,
    mask: Tensor | None = None,  # [B, h, w] in 0..1: where the pull acts; None = everywhere
) -> Score:
    """½ ‖z − sg(z − mask · w(t)(ε̂ − ε))‖² / B. No gradient flows through the model.

    Raises InputError where the model's answer is not finite, or the timestep lies outside its schedule.
    """
    check_timestep(backbone, t)
    latents, noise, noise_schedule = latents.float(), noise.float(), backbone.noise_schedule
    with torch.no_grad():
        noisy = noise_schedule.add_noise(latents, noise, t)
        output = predict(backbone, noisy, t, guidance, condition, sharing, branches_at_once).float()
        gradient = sds_gradient(noise_schedule, output, noisy, latents, noise, t, weighting)
        clean = noise_schedule.predict_x0(output, noisy, t)
    check_finite(gradient, backbone.name)
    gradient = masked(gradient, mask)
    return Score(surrogate_loss(latents, gradient), gradient, clean, noise_schedule.alpha(t))


def surrogate_loss(latents: Tensor, gradient: Tensor) -> Tensor:
    """The scalar whose gradient in `latents` [B, …] is `gradient` / B."""
    target = (latents - gradient).detach()
    return 0.5 * (latents - target).square().sum() / len(latents)


def masked(gradient: Tensor, mask: Tensor | None) -> Tensor:
    """`gradient` [B, C, h, w] times `mask` [B, h, w] or [1, h, w], exactly zero where the mask is."""
    return gradient if mask is None else gradient * mask[:, None].to(gradient)


def check_timestep(backbone: Backbone, t: int) -> None:
    """InputError where `t` lies outside the model's schedule."""
    if not 0 <= t < len(backbone.noise_schedule):
        raise InputError(
            "GUI-009",
            f"Timestep {t} lies outside {backbone.name}'s schedule of 0 to {len(backbone.noise_schedule) - 1}.",
        )


def check_finite(values: Tensor, name: str) -> None:
    """InputError where a model's answer holds NaN or infinity."""
    if not bool(torch.isfinite(values).all()):
        raise InputError(
            "GUI-010",
            f"{name} answered with numbers that are not finite; its weights may overflow in half precision: load it "
            "in float32 or bfloat16, or lower the guidance scale.",
        )
