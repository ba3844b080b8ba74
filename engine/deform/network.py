"""The network of a HexPlane field, which turns its features into additions to Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import backends

# divides the numbers of channels that the kernel takes
MULTIPLE = 8
# blocks of Gaussians that one thread takes at least
SOME_BLOCKS = 32
# sums over Gaussians in the backward pass
PIECES = 16
# megabytes of activations that are kept for the backward pass: up to here, the C library gives freed memory out again. Beyond, it
# takes pages from the system each time, which costs more than computing activations again
KEPT = 32

Layer = tuple[Tensor, Tensor]


class Layers(NamedTuple):
    """Weights [outputs, inputs] and biases [outputs] of linear layers; all but the heads' last ones end in a ReLU."""

    trunk: Sequence[Layer]  # at least one
    # a hidden layer and the outputs
    heads: Sequence[tuple[Layer, Layer]]

    def tensors(self) -> list[Tensor]:
        """Trunk, then head by head."""
        layers = [*self.trunk, *(layer for head in self.heads for layer in head)]
        return [tensor for layer in layers for tensor in layer]


def head_outputs(layers: Layers, features: Tensor) -> list[Tensor]:
    """Evaluate the network.

    On the CPU, a kernel computes it (benchmarks/kernels.py).

    Args:
        layers: With the same number of channels in all layers but the heads' outputs.
        features: [C, N], as `field_features` gives them.

    Returns:
        Of each head, [N, k].

    Source:
        4D-GS (Wu et al., CVPR 2024), section 4.2.
    """
    width = len(layers.trunk[0][1])
    is_simple = features.shape[1] > 0 and width % MULTIPLE == 0 and features.shape[0] % MULTIPLE == 0
    if is_simple and layers.heads and features.device.type == "cpu" and backends.installed("numba"):
        tensors = layers.tensors()
        keeps = torch.is_grad_enabled() and any(t.requires_grad for t in (features, *tensors))
        return list(_Fused.apply(features.t(), len(layers.trunk), keeps, *tensors))  # pyright: ignore
    return head_outputs_reference(layers, features)


def head_outputs_reference(layers: Layers, features: Tensor) -> list[Tensor]:
    """`head_outputs` of PyTorch's own operators, on any device."""
    h = features
    for index, layer in enumerate(layers.trunk):
        h = _columns(layer, h.relu_() if index else h)
    h = h.relu_()
    # one head at a time: buffers of all heads at once cost more in page faults
    return [_columns(output, _columns(hidden, h).relu_()).t() for hidden, output in layers.heads]


def _columns(layer: Layer, x: Tensor) -> Tensor:
    """A linear layer on columns: [inputs, N] → [outputs, N]; grid samples have this layout."""
    weight, bias = layer
    return torch.addmm(bias[:, None], weight, x)


class _Fused(torch.autograd.Function):
    """`head_outputs` by the kernel, of features [N, C]. `keeps`: whether there may be a backward pass."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, trunk: int, keeps: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        from ..kernels.build import launch
        from ..kernels.network import OUTPUTS, WIDTH, evaluate, spread

        features = features.detach().contiguous()
        width, heads = len(tensors[1]), (len(tensors) - 2 * trunk) // 4
        outputs = [len(bias) for bias in tensors[2 * trunk + 3 :: 4]]
        blocks = -(-len(features) // WIDTH)
        step = spread(width)
        size = blocks * (trunk + heads) * step
        keeps = keeps and size * features.element_size() <= KEPT << 20
        hidden = features.new_empty(size if keeps else 0)
        deltas = features.new_empty(len(features), sum(outputs))
        weights = _packed(tensors, trunk, OUTPUTS)
        launch(
            evaluate, blocks, SOME_BLOCKS, features.numpy(), weights.numpy(), trunk, width,
            torch.tensor(outputs).numpy(), step, keeps, hidden.numpy(), deltas.numpy(),
        )  # fmt: skip
        ctx.trunk, ctx.outputs, ctx.weights = trunk, outputs, weights
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, hidden, *tensors)
        return deltas.split(outputs, dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore
        from ..kernels.build import launch
        from ..kernels.network import WIDTH, evaluate_backward, spread

        features, hidden, *tensors = ctx.saved_tensors
        width = len(tensors[1])
        weights = torch.cat([tensor.flatten() for tensor in tensors])
        blocks = -(-len(features) // WIDTH)
        pieces = max(1, min(PIECES, blocks // SOME_BLOCKS))
        learns = any(ctx.needs_input_grad[3:])
        used = [grad is not None for grad in grads]
        given = zip(ctx.outputs, grads, strict=True)
        # what is left empty is not read
        upstream = torch.cat(
            [features.new_empty(len(features), k) if g is None else g for k, g in given], dim=1
        )
        to_weights = weights.new_zeros(pieces, len(weights) if learns else 0)
        to_features = torch.empty_like(features)
        launch(
            evaluate_backward, pieces, 1, pieces, features.numpy(), ctx.weights.numpy(), weights.numpy(), ctx.trunk, width,
            torch.tensor(ctx.outputs).numpy(), torch.tensor(used).numpy(), (spread(width), spread(features.shape[1])),
            hidden.numpy(), upstream.numpy(), learns, to_weights.numpy(), to_features.numpy(),
        )  # fmt: skip
        if not learns:
            return to_features, *(None for _ in ctx.needs_input_grad[1:])
        summed = to_weights.sum(dim=0).split([tensor.numel() for tensor in tensors])
        # as autograd has it: what nothing depends on has no gradient
        kept = [True] * 2 * ctx.trunk + [is_used for is_used in used for _ in range(4)]
        found = zip(summed, tensors, kept, strict=True)
        return to_features, None, None, *(g.view(t.shape) if is_kept else None for g, t, is_kept in found)


def _packed(tensors: Sequence[Tensor], trunk: int, multiple: int) -> Tensor:
    """The layers in one tensor as the forward pass reads them: matrices [inputs, outputs], heads' outputs
    padded with zeros to a multiple."""
    parts: list[Tensor] = []
    for i in range(0, len(tensors), 2):
        weight, bias = tensors[i].detach(), tensors[i + 1].detach()
        if i >= 2 * trunk and (i - 2 * trunk) % 4 == 2 and len(bias) % multiple:
            missing = -len(bias) % multiple
            weight = torch.nn.functional.pad(weight, (0, 0, 0, missing))
            bias = torch.nn.functional.pad(bias, (0, missing))
        parts += [weight.t().flatten(), bias]
    return torch.cat(parts)
