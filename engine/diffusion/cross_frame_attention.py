"""Cross-frame self-attention: makes the edits of several views consistent.

Source: Instruct-4DGS (Kwon et al., CVPR 2025, section 3.2; its code: key-frame attention of Instruct 4D-to-4D), MVDream
for full3d, Tune-A-Video for sparse_causal. Nothing is trained: each frame keeps its own queries, and only the keys and
values are gathered from other frames of the *same* guidance branch.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .key_views import Injection, Recording

MODES = ("keyframe", "sparse_causal", "keyframe+self", "full3d", "vanilla")


@dataclass(frozen=True)
class CrossFrameAttention:
    """How the F frames of one guidance branch attend to each other; a batch is branch-major: [G, F] flattened.

    Args:
        mode: One of MODES; vanilla leaves frames independent.
        frames: F.
        key: Index of the key frame, whose keys and values the other frames use.

    Raises:
        InputError: Unknown mode, or a key outside 0 to F − 1.
    """

    mode: str
    frames: int
    key: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError("DIF-001", f"attention is '{self.mode}'; choose one of {', '.join(MODES)}.")
        if self.frames < 1 or not 0 <= self.key < self.frames:
            raise InputError(
                "DIF-002",
                f"The key view is number {self.key} of {self.frames}; choose 0 to {self.frames - 1}.",
            )


# what self-attention does in one call of the network
Attention = CrossFrameAttention | Recording | Injection


def gather(tokens: Tensor, sharing: CrossFrameAttention) -> Tensor:
    """Gather the keys or values that each frame's queries attend to.

    Args:
        tokens: [G·F, L, D].
        sharing: keyframe: the key frame's L tokens. sparse_causal: the key frame's and the previous frame's, 2 L.
            keyframe+self: the key frame's and its own, 2 L. full3d: all F·L tokens of the branch.

    Returns:
        [G·F, L', D]. Branches (text, image, unconditional) never mix.
    """
    if sharing.mode == "vanilla":
        return tokens
    count, length, width = tokens.shape
    if count % sharing.frames:
        raise ValueError(f"{count} images are not a multiple of {sharing.frames} frames per branch")
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
    """Softmax attention of each frame's queries over the gathered keys and values.

    Where all frames of a branch use the same tokens, their queries are concatenated: keys and values are not copied
    for each frame, so full3d does not need F times the memory (nor a score matrix, with a fused kernel).

    Args:
        query: [G·F, L, D]; D holds all heads.
        key: [G·F, L, D].
        value: [G·F, L, D].
        heads: Number of heads.
        sharing: See `gather`.

    Returns:
        [G·F, L, D].
    """

    def joint(x: Tensor) -> Tensor:
        # [G·F, L, D] → [G, F·L, D]
        return x.reshape(-1, sharing.frames * x.shape[1], x.shape[2])

    shape = query.shape
    if shape[0] % sharing.frames:
        raise ValueError(f"{shape[0]} images are not a multiple of {sharing.frames} frames per branch")
    if sharing.mode == "full3d":
        query, key, value = joint(query), joint(key), joint(value)
    elif sharing.mode == "keyframe":
        query = joint(query)
        key, value = key[sharing.key :: sharing.frames], value[sharing.key :: sharing.frames]
    else:
        key, value = gather(key, sharing), gather(value, sharing)
    return _attend(query, key, value, heads).reshape(shape)


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    mixed = torch.nn.functional.scaled_dot_product_attention(split(query), split(key), split(value))
    return mixed.transpose(1, 2).flatten(2)


class Projected:
    """A diffusers attention processor with projections of the module's own; `mix` says who attends to whom."""

    def mix(self, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
        raise NotImplementedError

    def __call__(
        self,
        # diffusers.models.attention_processor.Attention
        attn: Any,
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
        mixed = self.mix(query, key, value, attn.heads)
        out: Tensor = attn.to_out[1](attn.to_out[0](mixed.to(query.dtype)))
        if len(shape) == 4:
            out = out.transpose(1, 2).reshape(shape)
        if attn.residual_connection:
            out = out + residual
        return out / attn.rescale_output_factor


class SharedAttention(Projected):
    """Gathers keys and values across frames."""

    def __init__(self, sharing: CrossFrameAttention) -> None:
        self.sharing = sharing

    def mix(self, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
        return attend(query, key, value, heads, self.sharing)


class RecordingAttention(Projected):
    """Extended attention of a key pass, whose input and output are recorded."""

    def __init__(self, recording: Recording, layer: str) -> None:
        self.recording, self.layer = recording, layer

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = super().__call__(attn, hidden_states, *args, **kwargs)
        self.recording.record(self.layer, hidden_states, out)
        return out

    def mix(self, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
        joint = self.recording.extended(self.layer, query, key, value)
        return _attend(*joint, heads).reshape(query.shape)


class InjectedAttention:
    """A diffusers attention processor that computes nothing: outputs are taken from recorded key views."""

    def __init__(self, injection: Injection, layer: str) -> None:
        self.injection, self.layer = injection, layer

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.injection.output(self.layer, hidden_states)


def _processor(sharing: Attention, layer: str) -> Any:
    if isinstance(sharing, Recording):
        return RecordingAttention(sharing, layer)
    if isinstance(sharing, Injection):
        return InjectedAttention(sharing, layer)
    return SharedAttention(sharing)


def is_plain(sharing: Attention | None) -> bool:
    """Each frame attends to itself alone."""
    return sharing is None or (isinstance(sharing, CrossFrameAttention) and sharing.mode == "vanilla")


@contextmanager
def shared(unet: Any, sharing: Attention | None) -> Generator[None, None, None]:
    """Share every self-attention (`attn1`) of a diffusers UNet inside the context.

    The UNet's own processors are restored on exit, also after an exception.
    """
    if sharing is None or is_plain(sharing):
        yield
        return
    before = dict(unet.attn_processors)
    replaced = {
        name: _processor(sharing, name) if name.endswith("attn1.processor") else own
        for name, own in before.items()
    }
    try:
        unet.set_attn_processor(replaced)
        yield
    finally:
        # a copy, because set_attn_processor empties the dictionary it is given
        unet.set_attn_processor(dict(before))
