"""Classifier-free guidance: combine the predictions of several branches.

Source: InstructPix2Pix (Brooks et al., CVPR 2023, eq. 3): ε = ε(∅,∅) + s_I (ε(I,∅) − ε(∅,∅)) + s_T (ε(I,c) − ε(I,∅)). For
a model without image conditioning: ε = ε(∅) + s_T (ε(c) − ε(∅)) (Ho and Salimans 2022). In both, the weights sum to
one, so they hold for ε-, v- and sample predictions alike. Latents are [F, C, h, w] of images or [F, C, T', h, w] of
videos; F counts what is batched, whatever axes follow.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..diffusion import Attention, Backbone


@dataclass(frozen=True)
class Guidance:
    """Prompts and guidance scales.

    Args:
        prompt: Instruction or caption.
        scale: Text guidance scale s_T.
        image_scale: Image guidance scale s_I; only used with a conditioning image.
        negative: Negative prompt.
    """

    prompt: str
    scale: float
    image_scale: float = 1.0
    negative: str = ""

    @property
    def image_branch(self) -> int:
        """Index of the branch with the image and without the prompt, among those that `predict` computes."""
        is_first = self.scale in (0, self.image_scale) or self.prompt == self.negative
        return 0 if is_first else 1


def values_line(record: Mapping[str, Any]) -> str:
    """What "auto" became in an edit, in one line; empty for a record without such values.

    Args:
        record: Of a history or of edited views, with some of size, steps, guidance_scale (a list: from, to) and
            image_guidance_scale.
    """
    parts: list[str] = []
    if "size" in record:
        width, height = record["size"]
        parts.append(f"{width}×{height}")
    if "steps" in record:
        parts.append(f"{record['steps']} steps")
    for name in ("guidance_scale", "image_guidance_scale"):
        if name in record:
            value = record[name]
            ends = value if isinstance(value, list) else [value]
            parts.append(f"{name.replace('_', ' ')} {' to '.join(f'{end:g}' for end in ends)}")
    return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class GuidanceQuery:
    """Noisy latents with their guidance.

    Args:
        noisy: [F, C, h, w], or [F, C, T', h, w] of videos.
        guidance: Prompts and scales.
        condition: The unedited images, shaped like `noisy`. None: a model with image conditioning gets an empty image
            (zeros) and works as a text-to-image model, so the image guidance scale has no effect.
        camera: Plücker rays [F, T, H, W, 6] for a video model with a camera condition; every branch gets them.
    """

    noisy: Tensor
    guidance: Guidance
    condition: Tensor | None = None
    camera: Tensor | None = None


def predict(
    backbone: Backbone,
    noisy: Tensor,
    t: int,
    guidance: Guidance,
    condition: Tensor | None,
    sharing: Attention | None = None,
    branches_at_once: bool = True,
    camera: Tensor | None = None,
) -> Tensor:
    """Predict with classifier-free guidance.

    The branches are combined as differences, so branches with equal outputs give exactly that output. A branch of
    weight zero is skipped: s_T = s_I = 1 costs one branch, the one with text and image.

    Args:
        backbone: The diffusion model.
        noisy: Noisy latents [F, C, h, w], or [F, C, T', h, w] of videos.
        t: Timestep.
        guidance: Prompts and scales.
        condition: Shaped like `noisy`, or None; see `GuidanceQuery`.
        sharing: Attention among the F frames; None: frames are independent.
        branches_at_once: One backbone call for all branches; False: one call per branch, which needs less memory.
        camera: Plücker rays [F, T, H, W, 6], or None; see `GuidanceQuery`.

    Returns:
        The guided network output, shaped like `noisy`.
    """
    query = GuidanceQuery(noisy, guidance, condition, camera)
    return predict_each(backbone, [query], t, sharing, branches_at_once)[0]


def predict_each(
    backbone: Backbone,
    questions: Sequence[GuidanceQuery],
    t: int,
    sharing: Attention | None = None,
    branches_at_once: bool = True,
) -> list[Tensor]:
    """Predict several queries with classifier-free guidance, all branches in one backbone call.

    A branch that two queries share is computed once, so equal queries have bit-identical outputs, even if a batched
    kernel rounds equal rows differently.

    Args:
        backbone: The diffusion model.
        questions: Queries with F latents each.
        t: Timestep.
        sharing: Attention among the F frames; None: frames are independent.
        branches_at_once: One backbone call for all branches; False: one call per branch, which needs less memory.

    Returns:
        The guided network output of each query, shaped like its latents.
    """
    branches: list[_Branch] = []
    # for each query: scales, and indices of its branches
    chains: list[list[tuple[float, int]]] = []
    for question in _merged(questions):
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
            torch.cat([b.condition for b in branches if b.condition is not None])
            if backbone.has_image_conditioning
            else None,
            sharing,
            **_camera([branch.camera for branch in branches]),
        ).unflatten(0, (len(branches), frames))
    else:
        outputs = torch.stack(
            [
                backbone.predict(
                    branch.noisy,
                    t,
                    text.expand(frames, -1, -1),
                    branch.condition,
                    sharing,
                    **_camera([branch.camera]),
                )
                for text, branch in zip(texts, branches, strict=True)
            ]
        )
    outputs = _unified(list(outputs), branches)
    answers: list[Tensor] = []
    for chain in chains:
        guided = outputs[chain[-1][1]]
        for (scale, this), (_, following) in itertools.pairwise(chain):
            guided = guided + scale * (outputs[this] - outputs[following])
        answers.append(guided)
    return answers


@dataclass(frozen=True, eq=False)
class _Branch:
    noisy: Tensor  # [F, C, ...]
    text: str
    condition: Tensor | None  # [F, C, ...]
    camera: Tensor | None  # [F, T, H, W, 6]

    is_blank: bool = False  # `condition` is zeros, of no image

    def same(self, other: _Branch) -> bool:
        """Whether both are one branch of `_merged` queries, whose equal tensors are one object."""
        known = self.text == other.text and self.noisy is other.noisy and self.camera is other.camera
        return (
            known and self.is_blank == other.is_blank and (self.is_blank or self.condition is other.condition)
        )

    def equals(self, other: _Branch) -> Tensor | None:
        """Whether both have equal values, [] bool on their device; None where they certainly have not."""
        pairs = [(self.noisy, other.noisy)]
        if self.condition is not None and other.condition is not None and not self.is_blank:
            pairs.append((self.condition, other.condition))
        known = self.text == other.text and self.is_blank == other.is_blank and self.camera is other.camera
        if not known or any(a.shape != b.shape for a, b in pairs):
            return None
        return torch.stack([(a == b).all() for a, b in pairs]).all()


def _merged(questions: Sequence[GuidanceQuery]) -> list[GuidanceQuery]:
    """The queries, where equal tensors are one object. On a GPU, they must be one before: see `_unified`."""
    merged: list[GuidanceQuery] = []
    for question in questions:
        for known in merged:
            question = replace(
                question,
                **{
                    name: getattr(known, name)
                    for name in ("noisy", "condition", "camera")
                    if _equal(getattr(question, name), getattr(known, name))
                },
            )
        merged.append(question)
    return merged


def _camera(rays: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """The rays of all branches as a keyword argument; none without rays, which only video models take."""
    given = [one for one in rays if one is not None]
    return {"camera": torch.cat(given)} if given else {}


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None or a is b or a.device.type != "cpu":
        return a is b
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)


def _unified(outputs: list[Tensor], branches: list[_Branch]) -> list[Tensor]:
    """The outputs, where branches of equal values have the first one's, as if they had been merged.

    On a GPU, merging them before would make the CPU wait for the comparison.
    """
    if branches[0].noisy.device.type == "cpu":
        return outputs
    for later in range(len(outputs)):
        for first in range(later):
            are_equal = branches[first].equals(branches[later])
            if are_equal is not None:
                outputs[later] = torch.where(are_equal, outputs[first], outputs[later])
    return outputs


def _branches(question: GuidanceQuery, has_image_conditioning: bool) -> list[tuple[float, _Branch]]:
    """The branches, each with the scale of its difference to the next; the last one is the base."""
    asked = question.guidance
    if not has_image_conditioning:
        steps = [(asked.scale, asked.prompt, None, False), (1.0, asked.negative, None, False)]
    elif question.condition is None:
        empty = torch.zeros_like(question.noisy)
        steps = [(asked.scale, asked.prompt, empty, True), (1.0, asked.negative, empty, True)]
    else:
        steps = [
            (asked.scale, asked.prompt, question.condition, False),
            (asked.image_scale, asked.negative, question.condition, False),
            (1.0, asked.negative, torch.zeros_like(question.condition), True),
        ]
    before = [0.0, *(scale for scale, *_ in steps[:-1])]
    return [
        (scale, _Branch(question.noisy, text, condition, question.camera, is_blank))
        for (scale, text, condition, is_blank), last in zip(steps, before, strict=True)
        if scale != last
    ]
