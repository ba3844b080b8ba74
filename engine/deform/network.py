"""The network of a HexPlane field, which turns its features into additions to Gaussians."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import backends
from .hexplane_layout import Layer, Layers, NetworkLayout

# divides the numbers of channels that the kernel takes
MULTIPLE = 8
# blocks of Gaussians that one thread takes at least
SOME_BLOCKS = 32
# sums over Gaussians in the backward pass
PIECES = 16
# megabytes of activations that are kept for the backward pass: up to here, the C library gives freed memory out again. Beyond, it
# takes pages from the system each time, which costs more than computing activations again
KEPT = 32


def head_outputs(network: Tensor, layout: NetworkLayout, features: Tensor) -> list[Tensor]:
    """Evaluate the network.

    On the CPU, a kernel computes it (benchmarks/kernels.py).

    Args:
        network: Flat weights and biases.
        layout: Where they lie.
        features: [C, N], as `field_features` gives them.

    Returns:
        Of each head, [N, k].

    Source:
        4D-GS (Wu et al., CVPR 2024), section 4.2.
    """
    is_simple = features.shape[1] > 0 and layout.width % MULTIPLE == 0 and features.shape[0] % MULTIPLE == 0
    if is_simple and layout.outputs and features.device.type == "cpu" and backends.installed("numba"):
        keeps = torch.is_grad_enabled() and (features.requires_grad or network.requires_grad)
        return list(_Fused.apply(features.t(), network, layout, keeps))  # pyright: ignore
    return head_outputs_reference(layout.layers(network), features)


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
    def forward(
        ctx: Any, features: Tensor, network: Tensor, layout: NetworkLayout, keeps: bool
    ) -> tuple[Tensor, ...]:
        from ..kernels.build import launch
        from ..kernels.network import OUTPUTS, WIDTH, evaluate, spread

        features, network = features.detach().contiguous(), network.detach()
        outputs = list(layout.outputs)
        blocks = -(-len(features) // WIDTH)
        step = spread(layout.width)
        size = blocks * (layout.trunk + len(outputs)) * step
        keeps = keeps and size * features.element_size() <= KEPT << 20
        hidden = features.new_empty(size if keeps else 0)
        deltas = features.new_empty(len(features), sum(outputs))
        weights = torch.nn.functional.pad(network, (0, 1))[layout.transposed(OUTPUTS)]
        launch(
            evaluate, blocks, SOME_BLOCKS, features.numpy(), weights.numpy(), layout.trunk, layout.width,
            np.array(outputs), step, keeps, hidden.numpy(), deltas.numpy(),
        )  # fmt: skip
        ctx.layout, ctx.weights = layout, weights
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, hidden, network)
        return deltas.split(outputs, dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore
        from ..kernels.build import launch
        from ..kernels.network import WIDTH, evaluate_backward, spread

        features, hidden, network = ctx.saved_tensors
        layout: NetworkLayout = ctx.layout
        blocks = -(-len(features) // WIDTH)
        pieces = max(1, min(PIECES, blocks // SOME_BLOCKS))
        learns = ctx.needs_input_grad[1]
        used = [grad is not None for grad in grads]
        given = zip(layout.outputs, grads, strict=True)
        # what is left empty is not read
        upstream = torch.cat(
            [features.new_empty(len(features), k) if g is None else g for k, g in given], dim=1
        )
        # heads that nothing depends on keep their zeros
        to_weights = network.new_zeros(pieces, len(network) if learns else 0)
        to_features = torch.empty_like(features)
        launch(
            evaluate_backward, pieces, 1, pieces, features.numpy(), ctx.weights.numpy(), network.numpy(), layout.trunk,
            layout.width, np.array(layout.outputs), np.array(used), (spread(layout.width), spread(features.shape[1])),
            hidden.numpy(), upstream.numpy(), learns, to_weights.numpy(), to_features.numpy(),
        )  # fmt: skip
        return to_features, to_weights.sum(dim=0) if learns else None, None, None
