"""Score distillation sampling (SDS): a loss on the latents of rendered images.

Source: DreamFusion (Poole et al. 2022, eq. 3) with InstructPix2Pix's dual guidance as in Instruct-4DGS (Kwon et al.,
CVPR 2025, section 3.4); a model without image conditioning gives plain text guidance. Changed: the loss is float32
whatever the model's precision, because sums in half precision overflow. There are four weightings: "standard" is the
formula; "reference code" has an extra √ᾱ, because the paper's code differentiates through the noised latents; "uniform"
weights all timesteps equally, as delta denoising does; "picture" measures the error of the predicted image instead of
the predicted noise, √((1 − ᾱ)/ᾱ), which favors high noise. A mask can limit the gradient to a region. Latents are
[B, C, h, w] of images or [B, C, T', h, w] of videos: only masks count the axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion import Backbone, CrossFrameAttention, VariancePreserving
from ..errors import InputError
from ..finite import require_finite
from .classifier_free import Guidance, predict

WEIGHTINGS = ("reference code", "standard", "uniform", "picture")


@dataclass(frozen=True, eq=False)
class Score:
    """A score distillation loss.

    Args:
        loss: float32 scalar; its gradient in the latents is `gradient` / B.
        gradient: mask · w(t) (ε̂ − ε), shaped like the latents, detached.
        clean: Predicted clean latents x̂, of the same shape, detached; for previews.
        alpha: ᾱ at t.
    """

    loss: Tensor
    gradient: Tensor
    clean: Tensor
    alpha: float


def sds_gradient(
    noise_schedule: VariancePreserving,
    output: Tensor,
    noisy: Tensor,
    latents: Tensor,
    noise: Tensor,
    t: int,
    weighting: str,
) -> Tensor:
    """SDS gradient w(t)(ε̂ − ε).

    Args:
        noise_schedule: The model's schedule.
        output: Raw network output [B, C, h, w] of images, [B, C, T', h, w] of videos.
        noisy: `latents` with `noise` at `t`, of the same shape.
        latents: z, of the same shape.
        noise: ε, of the same shape.
        t: Timestep.
        weighting: w(t) is 1 − ᾱ ("standard"), √ᾱ (1 − ᾱ) ("reference code"), 1 ("uniform") or √((1 − ᾱ)/ᾱ) ("picture").
            With the last, the product is z − x̂; it is computed directly for models that predict x̂ or v, which works
            even at pure noise (ᾱ = 0).

    Returns:
        The gradient, of the same shape.

    Raises:
        InputError: Unknown weighting.
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
    latents: Tensor,
    t: int,
    noise: Tensor,
    guidance: Guidance,
    condition: Tensor | None,
    weighting: str = "reference code",
    sharing: CrossFrameAttention | None = None,
    branches_at_once: bool = True,
    mask: Tensor | None = None,
    camera: Tensor | None = None,
) -> Score:
    """SDS loss ½ ‖z − sg(z − mask · w(t)(ε̂ − ε))‖² / B.

    No gradient flows through the model.

    Args:
        backbone: The diffusion model.
        latents: Latents z of the rendered images [B, C, h, w], or videos [B, C, T', h, w], with a gradient.
        t: Timestep, the same for the whole batch.
        noise: ε, shaped like `latents`, drawn by the caller.
        guidance: Prompts and scales.
        condition: Conditioning images, shaped like `latents`; None: as a text-to-image model.
        weighting: One of WEIGHTINGS; see `sds_gradient`.
        sharing: Attention among the images of the batch; None: images are independent.
        branches_at_once: One backbone call for all branches; False: one call per branch, which needs less memory.
        mask: [B, h, w] in 0..1, where the edit acts, or [B, T', h, w] for videos; None: everywhere.
        camera: Plücker rays [B, T, H, W, 6] of the videos, for a video model with a camera condition; None: none.

    Returns:
        The loss with its gradient.

    Raises:
        InputError: The model's output is not finite, or `t` is outside its schedule.

    Source:
        DreamFusion (Poole et al. 2022), eq. 3; Instruct-4DGS (Kwon et al., CVPR 2025), section 3.4.

    Example:
        score = score_loss(backbone, backbone.encode(rendered), 500, noise, Guidance("make it night", 7.5), condition)
        score.loss.backward()
    """
    check_timestep(backbone, t)
    latents, noise, noise_schedule = latents.float(), noise.float(), backbone.noise_schedule
    with torch.no_grad():
        noisy = noise_schedule.add_noise(latents, noise, t)
        output = predict(backbone, noisy, t, guidance, condition, sharing, branches_at_once, camera).float()
        gradient = sds_gradient(noise_schedule, output, noisy, latents, noise, t, weighting)
        clean = noise_schedule.predict_x0(output, noisy, t)
    check_finite(gradient, backbone.name)
    gradient = masked(gradient, mask)
    return Score(surrogate_loss(latents, gradient), gradient, clean, noise_schedule.alpha(t))


def surrogate_loss(latents: Tensor, gradient: Tensor) -> Tensor:
    """A scalar whose gradient in `latents` [B, …] is `gradient` / B."""
    target = (latents - gradient).detach()
    return 0.5 * (latents - target).square().sum() / len(latents)


def masked(gradient: Tensor, mask: Tensor | None) -> Tensor:
    """`gradient` [B, C, ...] times a mask as `spread` takes it; exactly zero where the mask is zero."""
    return gradient if mask is None else gradient * spread(mask, gradient)


def spread(mask: Tensor, latents: Tensor) -> Tensor:
    """A mask that broadcasts over the channels of latents.

    Args:
        mask: [B, h, w] or [1, h, w]; for videos also [B, T', h, w]. A mask without time holds for every frame.
        latents: [B, C, h, w] of images or [B, C, T', h, w] of videos.

    Returns:
        [B, 1, h, w] or [B, 1, T' or 1, h, w], on the latents' device and in their precision.

    Raises:
        ValueError: The mask has other axes.
    """
    if mask.ndim == latents.ndim - 1:
        mask = mask[:, None]
    elif mask.ndim == 3 and latents.ndim == 5:
        mask = mask[:, None, None]
    else:
        raise ValueError(f"a mask of shape {list(mask.shape)} does not fit latents of {list(latents.shape)}")
    return mask.to(latents)


def check_timestep(backbone: Backbone, t: int) -> None:
    """InputError if `t` is outside the model's schedule."""
    if not 0 <= t < len(backbone.noise_schedule):
        raise InputError(
            "GUI-009",
            f"Timestep {t} is outside {backbone.name}'s schedule of 0 to {len(backbone.noise_schedule) - 1}; choose one "
            "inside it.",
        )


def check_finite(values: Tensor, name: str) -> None:
    """InputError if a model's output contains NaN or infinity."""
    require_finite(
        values,
        lambda: InputError(
            "GUI-010",
            f"{name} returned values that are not finite. Its weights may overflow in half precision; load it with "
            "precision fp32 or bf16, or lower the guidance scale.",
        ),
    )
