"""Delta denoising: edit latents along the difference between two prompts.

Source: DDS (Hertz et al., ICCV 2023, eq. 3) as in ED-NeRF (Park et al., ICLR 2024, section 3.3), directly in latent
space. Both prompts are predicted with the same noise, which cancels: delta = SDS of the target − SDS of the source. What
the model would change in any image (blur, saturation) cancels too, and the difference between the prompts remains.
ED-NeRF prints the difference as source − target; for gradient descent it is target − source. Changed: a mask may be
soft, and branches that both sides share are computed once, so equal prompts on equal latents give exactly zero.

A model with image conditioning (InstructPix2Pix) is used in one of two ways, and the prompts must match:
- `condition` None: as a text-to-image model with an empty image. The prompts are captions:
  "a person walking" → "a gold statue of a person walking".
- `condition` given (the unedited images): as an editor. Both sides are conditioned on them, and the prompts are
  instructions: "leave it as it is" → "turn it into a gold statue".
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion import Backbone
from ..errors import InputError
from .classifier_free import Guidance, GuidanceQuery, predict_each
from .score import Score, check_finite, check_timestep, masked, sds_gradient, spread, surrogate_loss

# a larger `vae_mismatch` means that the latents are probably of another model
MISMATCH = 0.65


def delta_loss(
    backbone: Backbone,
    latents: Tensor,
    source: Tensor,
    t: int,
    noise: Tensor,
    target: Guidance,
    original: Guidance,
    condition: Tensor | None = None,
    mask: Tensor | None = None,
    branches_at_once: bool = True,
    weighting: str = "uniform",
    camera: Tensor | None = None,
) -> Score:
    """Delta denoising loss ½ ‖z − sg(z − mask · w(t)(ε̂_target(z_t) − ε̂_original(s_t)))‖² / B.

    No gradient flows through the model. With weighting "picture" (w = √((1 − ᾱ)/ᾱ)) the gradient is
    z − s − (x̂_target − x̂_original): a step of size 1 gives the source plus the difference of the two predicted images, at
    any timestep. It is meant for small models whose edits happen at high noise, where the noise difference is tiny.

    Args:
        backbone: The diffusion model.
        latents: Latents z as edited so far [B, C, h, w], or of videos [B, C, T', h, w], with a gradient.
        source: Unedited latents s, of the same shape.
        t: Timestep, the same for the whole batch.
        noise: Of the same shape, drawn by the caller; the same for both sides.
        target: Prompt and scales of the edited images.
        original: Prompt and scales of the source.
        condition: Conditioning images for both sides, of the same shape; None: as a text-to-image model (see the
            module).
        mask: [B, h, w] in 0..1, where the edit acts, or [B, T', h, w] for videos; None: everywhere.
        branches_at_once: One backbone call for all branches (4·B latents; 6·B with a condition and an image scale
            other than 1); False: one call per branch, which needs less memory.
        weighting: One of WEIGHTINGS; "uniform" (w = 1) as in the paper.
        camera: Plücker rays [B, T, H, W, 6] for both sides, for a video model with a camera condition; None: none.

    Returns:
        The loss with its gradient; `clean` is the prediction for the target.

    Raises:
        InputError: The source prompt is empty, the model's output is not finite, or `t` is outside its schedule.

    Source:
        DDS (Hertz et al., ICCV 2023), eq. 3; ED-NeRF (Park et al., ICLR 2024), section 3.3.

    Example:
        prompts = Guidance("a gold statue of a person", 7.5), Guidance("a person", 7.5)
        delta_loss(backbone, latents, source, 500, noise, *prompts).loss.backward()
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
        questions = [
            GuidanceQuery(edited, target, condition, camera),
            GuidanceQuery(unedited, original, condition, camera),
        ]
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
    """InputError if the source prompt is empty."""
    if not original.strip():
        raise InputError(
            "GUI-001",
            "The source prompt is empty, but delta denoising compares two prompts. Describe the images before the edit, "
            "such as 'a person walking' (for an instruction model 'leave it as it is'), or choose sds, which works "
            "without a source prompt.",
        )


def masked_reconstruction(
    latents: Tensor,
    source: Tensor,
    mask: Tensor,
    inside: float,
    outside: float,
) -> Tensor:
    """Masked reconstruction loss ½ (inside ‖M (z − s)‖² + outside ‖(1 − M)(z − s)‖²) / B.

    Halved and divided by B like `delta_loss`, so that its gradient is weight · (z − s), on the scale of the delta.

    Args:
        latents: Edited latents z [B, C, h, w], or of videos [B, C, T', h, w], with a gradient.
        source: Unedited latents s, of the same shape.
        mask: M [B, h, w] in 0..1, or [B, T', h, w] for videos.
        inside: Weight inside the mask, λ_im.
        outside: Weight outside the mask, λ_om.

    Returns:
        A float32 scalar.

    Source:
        L_Mrec of ED-NeRF (Park et al., ICLR 2024), section 3.3.
    """
    away = latents.float() - source.detach().float()
    m = spread(mask, away)
    weighed = inside * (m * away).square().sum() + outside * ((1 - m) * away).square().sum()
    return 0.5 * weighed / len(latents)


@torch.no_grad()
def vae_mismatch(backbone: Backbone, latents: Tensor, share: float = 0.2, seed: int = 0) -> float:
    """Relative error ‖ε̂ − ε‖ / ‖ε‖ of the model's unconditional noise prediction for slightly noised latents.

    1 is the error of predicting zero noise. A one-sided test: with the bundled model, its own latents give 0.3 to 0.55
    (0.63 for images of pure noise); swapped or rotated channels, an offset or a scale several times too large give 0.67
    to 2. Latents that are too small or too smooth are easy to denoise and are not detected.

    Args:
        backbone: The diffusion model.
        latents: [B, C, h, w], or of videos [B, C, T', h, w].
        share: Timestep as a fraction of the schedule.
        seed: Seed of the noise.

    Returns:
        The relative error; compare it with MISMATCH.
    """
    t = round(share * (len(backbone.noise_schedule) - 1))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    noisy = backbone.noise_schedule.add_noise(latents.float(), noise, t)
    output = predict_each(backbone, [GuidanceQuery(noisy, Guidance("", 1.0))], t)[0].float()
    return float((backbone.noise_schedule.predict_eps(output, noisy, t) - noise).norm() / noise.norm())
