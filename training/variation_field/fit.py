"""Motion by optimization instead of generation: latents of the VAE that reproduce one video from its own camera."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.models.variation_field import VariationVae

from . import pictures
from .dit import Prepared
from .vae import places


def fitted(
    vae: VariationVae, clip: Prepared, steps: int = 300, lr: float = 0.05, frames: int = 2, seed: int = 0
) -> Tensor:
    """Latents [T, L, C] fitted to a video by gradient descent, starting from no motion.

    Args:
        vae: The trained VAE.
        clip: The video and the canonical splat; its true motion is not used.
        steps: Optimizer steps.
        lr: Learning rate of Adam, in standard deviations of the latents.
        frames: Frames per step.
        seed: Which frames are drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    subject, anchors = clip.clip, places([clip.clip])
    still = torch.zeros_like(subject.changes[None, :1]), torch.zeros_like(subject.moved[None, :1])
    size = vae.shape.input_dim
    with torch.no_grad():
        start, _ = vae.encode_at(
            subject.points[None], still[0][..., :size].float(), anchors, still[1][..., :size].float()
        )
    scale = clip.latents.std()
    offsets = torch.zeros_like(clip.latents, requires_grad=True)
    optimizer = torch.optim.Adam([offsets], lr=lr)
    camera = pictures.INPUT.cameras()
    for _ in range(steps):
        chosen = torch.randint(1, len(clip.latents), (frames,), generator=generator)
        latents = start[0] + scale * offsets[chosen]
        deltas = vae.decode(latents[None], subject.vector[None], anchors=anchors)[0]
        drawn = [pictures.image(pictures.changed(subject.raw, d), camera) for d in deltas]
        loss = (torch.cat(drawn) - clip.images[chosen]).abs().mean()
        # what the video does not show stays where it was
        loss = loss + 1e-4 * offsets[chosen].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (start[0] + scale * offsets).detach()
