"""Classifier-free guidance: how the predictions of several branches become one.

InstructPix2Pix (Brooks et al., CVPR 2023, eq. 3): ε = ε(∅,∅) + s_I (ε(I,∅) − ε(∅,∅)) + s_T (ε(I,c) − ε(I,∅)). For a
model without picture condition: ε = ε(∅) + s_T (ε(c) − ε(∅)) (Ho and Salimans 2022). Both are combinations whose
weights sum to one, so they hold for ε-, v- and sample predictions alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion import Backbone, CrossFrameAttention


@dataclass(frozen=True)
class Guidance:
    """What is asked and how strongly."""

    prompt: str
    scale: float  # s_T
    image_scale: float = 1.0  # s_I; only where the model takes a picture
    negative: str = ""


@dataclass(frozen=True, eq=False)
class GuidanceQuery:
    """What is asked about which noisy latents."""

    noisy: Tensor  # [F, C, h, w]
    guidance: Guidance
    # [F, C, h, w] of the unedited pictures. None: a model that takes a picture gets an empty one (zeros) and is asked
    # as a text-to-image model is, so the guidance's image scale counts for nothing.
    condition: Tensor | None = None


def predict(
    backbone: Backbone,
    noisy: Tensor,  # [F, C, h, w]
    t: int,
    guidance: Guidance,
    condition: Tensor | None,  # [F, C, h, w]; None: see GuidanceQuery
    sharing: CrossFrameAttention | None = None,
    branches_at_once: bool = True,
) -> Tensor:
    """The guided network output [F, C, h, w]; one backbone call, or one a branch where memory is short.

    Written as differences, so branches that agree give exactly what they agree on. A branch whose weight is zero is left
    out: s_T = s_I = 1 costs one branch, and is the text-and-picture branch.
    """
    return predict_each(backbone, [GuidanceQuery(noisy, guidance, condition)], t, sharing, branches_at_once)[
        0
    ]


def predict_each(
    backbone: Backbone,
    questions: Sequence[GuidanceQuery],  # all of F latents
    t: int,
    sharing: CrossFrameAttention | None = None,
    branches_at_once: bool = True,
) -> list[Tensor]:
    """The guided network output [F, C, h, w] of each question, all branches of all questions in one backbone call.

    A branch that two questions have in common is computed once, so equal questions have answers that are equal to the
    last bit, whatever a batched kernel makes of equal rows.
    """
    branches: list[_Branch] = []
    chains: list[list[tuple[float, int]]] = []  # of each question: scales, and where its branches stand
    for question in questions:
        chain: list[tuple[float, int]] = []
        for scale, branch in _branches(question, backbone.has_image_conditioning):
            index = next((i for i, known in enumerate(branches) if known.same(branch)), len(branches))
            if index == len(branches):
                branches.append(branch)
            chain.append((scale, index))
        chains.append(chain)
    texts = backbone.encode_text([branch.text for branch in branches])
    frames = len(questions[0].noisy)
    if branches_at_once:
        outputs = backbone.predict(
            torch.cat([branch.noisy for branch in branches]),
            t,
            texts.repeat_interleave(frames, dim=0),
            torch.cat([b.picture for b in branches if b.picture is not None])
            if backbone.has_image_conditioning
            else None,
            sharing,
        ).unflatten(0, (len(branches), frames))
    else:
        outputs = torch.stack(
            [
                backbone.predict(branch.noisy, t, text.expand(frames, -1, -1), branch.picture, sharing)
                for text, branch in zip(texts, branches, strict=True)
            ]
        )
    answers: list[Tensor] = []
    for chain in chains:
        guided = outputs[chain[-1][1]]
        for (scale, this), (_, following) in itertools.pairwise(chain):
            guided = guided + scale * (outputs[this] - outputs[following])
        answers.append(guided)
    return answers


@dataclass(frozen=True, eq=False)
class _Branch:
    noisy: Tensor  # [F, C, h, w]
    text: str
    picture: Tensor | None  # [F, C, h, w]

    def same(self, other: _Branch) -> bool:
        return (
            self.text == other.text
            and _equal(self.noisy, other.noisy)
            and _equal(self.picture, other.picture)
        )


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None or a is b:
        return a is b
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)


def _branches(question: GuidanceQuery, has_image_conditioning: bool) -> list[tuple[float, _Branch]]:
    """Each with the scale of the step from the next branch to it; the last is what the steps start from."""
    asked = question.guidance
    if not has_image_conditioning:
        steps = [(asked.scale, asked.prompt, None), (1.0, asked.negative, None)]
    elif question.condition is None:
        empty = torch.zeros_like(question.noisy)
        steps = [(asked.scale, asked.prompt, empty), (1.0, asked.negative, empty)]
    else:
        steps = [
            (asked.scale, asked.prompt, question.condition),
            (asked.image_scale, asked.negative, question.condition),
            (1.0, asked.negative, torch.zeros_like(question.condition)),
        ]
    before = [0.0, *(scale for scale, _, _ in steps[:-1])]
    return [
        (scale, _Branch(question.noisy, text, picture))
        for (scale, text, picture), last in zip(steps, before, strict=True)
        if scale != last
    ]
