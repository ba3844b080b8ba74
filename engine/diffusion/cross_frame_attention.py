"""Self-attention that looks at other frames: what makes edits of several views agree.

Instruct-4DGS (Kwon et al., CVPR 2025, section 3.2; its code: key-frame attention of Instruct 4D-to-4D), MVDream for
the joint one, Tune-A-Video for the sparse causal one. Nothing is trained: queries stay each frame's own, only the keys
and values are gathered from other frames of the *same* guidance branch.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError

MODES = ("keyframe", "sparse_causal", "keyframe+self", "full3d", "vanilla")


@dataclass(frozen=True)
class CrossFrameAttention:
    """How the F frames of one branch see each other; a batch is branch-major: [G, F] flattened."""

    mode: str  # one of MODES; vanilla shares nothing
    frames: int  # F
    key: int = 0  # the frame whose keys and values the others see

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError("DIF-001", f"attention is '{self.mode}'; choose one of {', '.join(MODES)}.")
        if self.frames < 1 or not 0 <= self.key < self.frames:
            raise InputError(
                "DIF-002",
                f"The key view is number {self.key} of {self.frames}; choose 0 to {self.frames - 1}.",
            )


def gather(tokens: Tensor, sharing: CrossFrameAttention) -> Tensor:
    """Keys or values [G·F, L, D] → [G·F, L', D]: what each frame's queries look at.

    keyframe: the key frame's L tokens. sparse_causal: key frame's and the frame before's, 2 L. keyframe+self: key
    frame's and its own, 2 L. full3d: all F·L tokens of the branch. Branches (text, image, unconditional) never mix.
    """
    if sharing.mode == "vanilla":
        return tokens
    count, length, width = tokens.shape
    if count % sharing.frames:
        raise ValueError(f"{count} pictures are no whole number of branches of {sharing.frames} frames")
    grouped = tokens.reshape(-1, sharing.frames, length, width)
    if sharing.mode == "full3d":
        joint = grouped.reshape(-1, 1, sharing.frames * length, width)
        return joint.expand(-1, sharing.frames, -1, -1).reshape(count, -1, width)
    key = grouped[:, sharing.key : sharing.key + 1].expand_as(grouped)
    if sharing.mode == "keyframe":
        return key.reshape(count, length, width)
    if sharing.mode == "sparse_causal":
        before = [max(i - 1, 0) for i in range(sharing.frames)]
        return torch.cat([key, grouped[:, before]], dim=2).reshape(count, -1, width)
    return torch.cat([key, grouped], dim=2).reshape(count, -1, width)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, sharing: CrossFrameAttention) -> Tensor:
    """Softmax attention [G·F, L, D] of each frame's queries over what `sharing` lets it see; D holds all heads.

    Where all frames of a branch see the same tokens, their queries are one long row: keys and values are never copied
    for each frame, so full3d needs no F-fold memory (and no table of scores, with a fused kernel).
    """

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    def joint(x: Tensor) -> Tensor:  # [G·F, L, D] → [G, F·L, D]
        return x.reshape(-1, sharing.frames * x.shape[1], x.shape[2])

    shape = query.shape
    if shape[0] % sharing.frames:
        raise ValueError(f"{shape[0]} pictures are no whole number of branches of {sharing.frames} frames")
    if sharing.mode == "full3d":
        query, key, value = joint(query), joint(key), joint(value)
    elif sharing.mode == "keyframe":
        query = joint(query)
        key, value = key[sharing.key :: sharing.frames], value[sharing.key :: sharing.frames]
    else:
        key, value = gather(key, sharing), gather(value, sharing)
    mixed = torch.nn.functional.scaled_dot_product_attention(split(query), split(key), split(value))
    return mixed.transpose(1, 2).reshape(shape)


class SharedAttention:
    """A diffusers attention processor: the module's own projections, keys and values gathered across frames."""

    def __init__(self, sharing: CrossFrameAttention) -> None:
        self.sharing = sharing

    def __call__(
        self,
        attn: Any,  # diffusers.models.attention_processor.Attention
        hidden_states: Tensor,  # [G·F, L, C]
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        residual, shape = hidden_states, hidden_states.shape
        if attn.spatial_norm is not None:
            hidden_states = attn.spatial_norm(hidden_states, temb)
        if len(shape) == 4:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        mixed = attend(query, key, value, attn.heads, self.sharing)
        out: Tensor = attn.to_out[1](attn.to_out[0](mixed.to(query.dtype)))
        if len(shape) == 4:
            out = out.transpose(1, 2).reshape(shape)
        if attn.residual_connection:
            out = out + residual
        return out / attn.rescale_output_factor


@contextmanager
def shared(unet: Any, sharing: CrossFrameAttention | None) -> Generator[None, None, None]:
    """Inside, every self-attention (`attn1`) of a diffusers UNet shares as told; afterwards its own processors are
    back, whatever happened."""
    if sharing is None or sharing.mode == "vanilla":
        yield
        return
    before = dict(unet.attn_processors)
    mine = {
        name: SharedAttention(sharing) if name.endswith("attn1.processor") else own
        for name, own in before.items()
    }
    try:
        unet.set_attn_processor(mine)  # empties the dictionary it is given
        yield
    finally:
        unet.set_attn_processor(dict(before))
