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

    Written as differences, so branches that agree give exactly what they agree on. A branch whose weight is zero is left
    out: s_T = s_I = 1 costs one branch, and is the text-and-picture branch.
    """
    frames = len(noisy)
    steps: list[
        tuple[float, str, bool]
    ]  # scale of the step from the next branch to this one, text, with picture
    if backbone.takes_image:
        steps = [
            (guidance.scale, guidance.prompt, True),
            (guidance.image_scale, guidance.negative, True),
            (1.0, guidance.negative, False),
        ]
    else:
        steps = [(guidance.scale, guidance.prompt, True), (1.0, guidance.negative, True)]
    before = [0.0, *(scale for scale, _, _ in steps[:-1])]
    steps = [step for step, last in zip(steps, before, strict=True) if step[0] != last]
    texts = backbone.encode_text([text for _, text, _ in steps])
    if condition is None:
        pictures: list[Tensor | None] = [None] * len(steps)
    else:
        pictures = [condition if seen else torch.zeros_like(condition) for _, _, seen in steps]
    if branches_at_once:
        outputs = backbone.predict(
            noisy.repeat(len(steps), 1, 1, 1),
            t,
            texts.repeat_interleave(frames, dim=0),
            None if condition is None else torch.cat([p for p in pictures if p is not None]),
            sharing,
        ).unflatten(0, (len(steps), frames))
    else:
        outputs = torch.stack(
            [
                backbone.predict(noisy, t, text.expand(frames, -1, -1), picture, sharing)
                for text, picture in zip(texts, pictures, strict=True)
            ]
        )
    guided = outputs[-1]
    for (scale, _, _), this, following in zip(steps[:-1], outputs[:-1], outputs[1:], strict=True):
        guided = guided + scale * (this - following)
    return guided
