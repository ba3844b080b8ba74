"""Classifier-free guidance: how the predictions of several branches become one.

InstructPix2Pix (Brooks et al., CVPR 2023, eq. 3): ε = ε(∅,∅) + s_I (ε(I,∅) − ε(∅,∅)) + s_T (ε(I,c) − ε(I,∅)). For a
model without picture condition: ε = ε(∅) + s_T (ε(c) − ε(∅)) (Ho and Salimans 2022). Both are combinations whose
weights sum to one, so they hold for ε-, v- and sample predictions alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion import Backbone, Sharing


@dataclass(frozen=True)
class Guidance:
    """What is asked and how strongly."""

    prompt: str
    scale: float  # s_T
    image_scale: float = 1.0  # s_I; only where the model takes a picture
    negative: str = ""


def predict(
    backbone: Backbone,
    noisy: Tensor,  # [F, C, h, w]
    t: int,
    guidance: Guidance,
    condition: Tensor | None,  # [F, C, h, w]
    sharing: Sharing | None = None,
    branches_at_once: bool = True,
) -> Tensor:
    """The guided network output [F, C, h, w]; one backbone call, or one a branch where memory is short.

    Branches whose weight is zero are left out: s_T = s_I = 1 costs one branch, and equals the text-and-picture branch.
    """
    frames = len(noisy)
    branches: list[tuple[float, str, bool]]  # weight, text, with picture
    if backbone.takes_image:
        branches = [
            (guidance.scale, guidance.prompt, True),
            (guidance.image_scale - guidance.scale, guidance.negative, True),
            (1 - guidance.image_scale, guidance.negative, False),
        ]
    else:
        branches = [(guidance.scale, guidance.prompt, True), (1 - guidance.scale, guidance.negative, True)]
    branches = [branch for branch in branches if branch[0] != 0] or branches[:1]
    texts = backbone.encode_text([text for _, text, _ in branches])
    if condition is None:
        pictures: list[Tensor | None] = [None] * len(branches)
    else:
        pictures = [condition if seen else torch.zeros_like(condition) for _, _, seen in branches]
    if branches_at_once:
        outputs = backbone.predict(
            noisy.repeat(len(branches), 1, 1, 1),
            t,
            texts.repeat_interleave(frames, dim=0),
            None if condition is None else torch.cat([p for p in pictures if p is not None]),
            sharing,
        ).unflatten(0, (len(branches), frames))
    else:
        outputs = torch.stack(
            [
                backbone.predict(noisy, t, text.expand(frames, -1, -1), picture, sharing)
                for text, picture in zip(texts, pictures, strict=True)
            ]
        )
    weights = torch.tensor([weight for weight, _, _ in branches], device=outputs.device, dtype=outputs.dtype)
    return torch.einsum("g,g...->...", weights, outputs)
