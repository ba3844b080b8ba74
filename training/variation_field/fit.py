"""Latents of the VAE fitted to one video from its own camera, as in the node (engine/generation/variation_fit.py)."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.generation import variation_fit

from . import pictures
from .dit import Latents, Prepared
from .vae import places


def still(latents: Latents, clip: Prepared) -> Tensor:
    """Latents [T, L, C] of no motion."""
    subject, vae = clip.clip, latents.vae
    points, moved = (torch.zeros_like(x[None, :1]) for x in (subject.changes, subject.moved))
    size = vae.shape.input_dim
    with torch.no_grad():
        found, _ = vae.encode_at(
            subject.points[None], points[..., :size].float(), places([subject]), moved[..., :size].float()
        )
    return found[0].expand_as(clip.latents)


def fitted(latents: Latents, clip: Prepared, start: Tensor, steps: int = 40) -> Tensor:
    """Latents [T, L, C] fitted to a video, from other ones such as generated latents; the true motion is not used."""

    def deltas(values: Tensor, frames: Tensor) -> Tensor:
        some = latents.statistics.latents(values[:, frames])
        return latents.vae.decode(some, clip.clip.vector[None], anchors=places([clip.clip]))[0]

    begin, camera = latents.statistics.standardized(start)[None], pictures.INPUT.cameras()
    *_, last = variation_fit.fitted(begin, deltas, clip.clip.raw, clip.images, camera, steps)
    return latents.statistics.latents(last[0])
