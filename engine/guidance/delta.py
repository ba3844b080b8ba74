"""Delta denoising: the edit is what two prompts disagree about, each asked about its own picture, same noise.

DDS (Hertz et al., ICCV 2023, eq. 3) as in ED-NeRF (Park et al., ICLR 2024, section 3.3), straight in latent space. The
noise cancels, so delta = SDS of the target − SDS of the source: whatever the model would change about any picture
(blur, saturation) is taken off, and the prompts' difference stays. ED-NeRF prints the difference as source − target;
for gradient descent it is target − source. Changed: a mask may be soft, and branches that both sides share are
computed once, so equal prompts on equal latents give exactly zero.

A model that takes a picture (InstructPix2Pix) is used in one of two ways, which its prompts must suit:
- `condition` None: as a text-to-image model. It gets an empty picture, and the prompts say what the pictures show:
  "a person walking" → "a gold statue of a person walking".
- `condition` given, the unedited pictures: as an editor. Both sides see them, and the prompts are instructions:
  "leave it as it is" → "turn it into a gold statue".
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion import Backbone
from ..errors import InputError
from .classifier_free import Guidance, GuidanceQuery, predict_each
from .score import Score, check_finite, check_timestep, masked, sds_gradient, surrogate_loss

MISMATCH = 0.65  # `vae_mismatch` beyond this: the latents hardly belong to the model


def delta_loss(
    backbone: Backbone,
    latents: Tensor,  # [B, C, h, w] as edited so far, with a gradient
    source: Tensor,  # [B, C, h, w] unedited
    t: int,  # one timestep for all of them
    noise: Tensor,  # [B, C, h, w], drawn by the caller: the same for both sides
    target: Guidance,  # what `latents` should become
    original: Guidance,  # what `source` is
    condition: Tensor
    | None = None,  # [B, C, h, w] for both sides; None: as a text-to-image model (see above)
    mask: Tensor | None = None,  # [B, h, w] in 0..1: where the edit acts; None = everywhere
    branches_at_once: bool = True,
    weighting: str = "uniform",
) -> Score:
    """½ ‖z − sg(z − mask · w(t)(ε̂_target(z_t) − ε̂_original(s_t)))‖² / B. No gradient flows through the model.

    w(t) is 1 as in the paper. "picture" (√((1 − ᾱ)/ᾱ)) makes the gradient z − s − (x̂_target − x̂_original), so a step of
    size 1 lands on the source plus what the two guesses differ by, at any timestep: for small models whose edits lie at the
    noisy end, where a difference of noises is nearly nothing.

    One backbone call for all branches (4·B latents, 6·B with a picture and an image scale that is not 1), or one a
    branch where memory is short. The score's clean pictures are the target's.
    Raises InputError where the source prompt is empty, the model's answer is not finite, or the timestep lies outside
    its schedule.
    """
    check_prompts(original.prompt)
    check_timestep(backbone, t)
    latents, source, noise = latents.float(), source.float(), noise.float()
    noise_schedule = backbone.noise_schedule
    with torch.no_grad():
        edited, unedited = (
            noise_schedule.add_noise(latents, noise, t),
            noise_schedule.add_noise(source, noise, t),
        )
        questions = [GuidanceQuery(edited, target, condition), GuidanceQuery(unedited, original, condition)]
        wanted, known = (
            output.float()
            for output in predict_each(backbone, questions, t, branches_at_once=branches_at_once)
        )
        gradient = sds_gradient(noise_schedule, wanted, edited, latents, noise, t, weighting)
        gradient = gradient - sds_gradient(noise_schedule, known, unedited, source, noise, t, weighting)
        clean = noise_schedule.predict_x0(wanted, edited, t)
    check_finite(gradient, backbone.name)
    gradient = masked(gradient, mask)
    return Score(surrogate_loss(latents, gradient), gradient, clean, noise_schedule.alpha(t))


def check_prompts(original: str) -> None:
    """InputError where the source prompt is empty."""
    if not original.strip():
        raise InputError(
            "GUI-001",
            "The source prompt is empty. Delta denoising compares two prompts, and without words for what the pictures "
            "show now everything that they show would count as a part of the edit: describe them, such as "
            "'a person walking' (for an instruction model 'leave it as it is'), or choose sds, which needs no source "
            "prompt.",
        )


def masked_reconstruction(
    latents: Tensor,  # [B, C, h, w] with a gradient
    source: Tensor,  # [B, C, h, w] unedited
    mask: Tensor,  # [B, h, w] in 0..1
    inside: float,
    outside: float,
) -> Tensor:
    """½ (inside ‖M (z − s)‖² + outside ‖(1 − M)(z − s)‖²) / B, a float32 scalar.

    ED-NeRF's L_Mrec with λ_im and λ_om. Halved and divided by B as the delta's loss is, so that the weights mean: how
    many times the distance from the source a latent is pulled back, against a delta of the same gradient.
    """
    away = latents.float() - source.detach().float()
    m = mask[:, None].to(away)
    weighed = inside * (m * away).square().sum() + outside * ((1 - m) * away).square().sum()
    return 0.5 * weighed / len(latents)


@torch.no_grad()
def vae_mismatch(backbone: Backbone, latents: Tensor, share: float = 0.2, seed: int = 0) -> float:
    """How badly the model finds the noise in slightly noised `latents` [B, C, h, w], asked nothing: ‖ε̂ − ε‖ / ‖ε‖.

    `share` of the schedule. About 1 or more is no better than saying that there is no noise. One-sided: with the small
    model that ships, its own latents give 0.3 to 0.55 (0.63 for pictures of pure noise); with swapped or turned channels,
    an offset, or several times too large 0.67 to 2; latents that are too small or too plain look easy and are not found.
    """
    t = round(share * (len(backbone.noise_schedule) - 1))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    noisy = backbone.noise_schedule.add_noise(latents.float(), noise, t)
    output = predict_each(backbone, [GuidanceQuery(noisy, Guidance("", 1.0))], t)[0].float()
    return float((backbone.noise_schedule.predict_eps(output, noisy, t) - noise).norm() / noise.norm())
