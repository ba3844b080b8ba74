"""Where the numbers of a HexPlane field lie in two flat tensors, in the order in which the CPU kernels read them.

One tensor each for the planes and for the network keeps a training step short: a field of two levels and three heads has
26 tensors, and on a CPU each costs as much in optimizers and autograd as its numbers do.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

Layer = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class GridLayout:
    """Planes level by level in the order of `PAIRS`, each with the channels of a point together: [res_b, res_a, C]."""

    # levels × 6 of (1, C, res_b, res_a)
    shapes: tuple[tuple[tuple[int, int, int, int], ...], ...]

    @functools.cached_property
    def flat_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        return tuple(shape for level in self.shapes for shape in level)

    @functools.cached_property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.flat_shapes]

    @functools.cached_property
    def starts(self) -> list[int]:
        """Where each plane begins, and the end."""
        return [sum(self.sizes[:i]) for i in range(len(self.sizes) + 1)]

    def planes(self, grids: Tensor) -> list[list[Tensor]]:
        """Levels × 6 planes [1, C, res_b, res_a] of a flat tensor, as views; differentiable."""
        parts = iter(grids.split(self.sizes))
        return [[_channels_first(next(parts), shape) for shape in level] for level in self.shapes]

    def pack(self, planes: Sequence[Sequence[Tensor]]) -> Tensor:
        """The inverse of `planes`, a copy."""
        return torch.cat([plane[0].permute(1, 2, 0).flatten() for level in planes for plane in level])


def _channels_first(part: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    _, channels, height, width = shape
    return part.view(height, width, channels).permute(2, 0, 1)[None]


class Layers(NamedTuple):
    """Weights [outputs, inputs] and biases [outputs] of linear layers; all but the heads' last ones end in a ReLU."""

    trunk: Sequence[Layer]  # at least one
    # a hidden layer and the outputs
    heads: Sequence[tuple[Layer, Layer]]

    def tensors(self) -> list[Tensor]:
        """Trunk, then head by head."""
        layers = [*self.trunk, *(layer for head in self.heads for layer in head)]
        return [tensor for layer in layers for tensor in layer]


@dataclass(frozen=True)
class NetworkLayout:
    """Layer by layer a weight [outputs, inputs] and a bias: the trunk, then for each head its hidden layer and its outputs."""

    inputs: int
    width: int
    trunk: int  # layers
    outputs: tuple[int, ...]  # of each head

    @functools.cached_property
    def layer_shapes(self) -> list[tuple[int, int]]:
        """(outputs, inputs) of each layer."""
        trunk = [(out, given) for given, out in pairwise([self.inputs, *[self.width] * self.trunk])]
        heads = [(out, self.width) for outputs in self.outputs for out in (self.width, outputs)]
        return trunk + heads

    @functools.cached_property
    def sizes(self) -> list[int]:
        """Of weights and biases in turn."""
        return [size for out, given in self.layer_shapes for size in (out * given, out)]

    def layers(self, network: Tensor) -> Layers:
        """The layers of a flat tensor, as views; differentiable."""
        parts = iter(network.split(self.sizes))
        layers = [(next(parts).view(shape), next(parts)) for shape in self.layer_shapes]
        heads = layers[self.trunk :]
        return Layers(layers[: self.trunk], list(zip(heads[::2], heads[1::2], strict=True)))

    @staticmethod
    def pack(layers: Layers) -> Tensor:
        """The inverse of `layers`, a copy."""
        return torch.cat([tensor.flatten() for tensor in layers.tensors()])

    @functools.lru_cache(maxsize=8)  # noqa: B019  a frozen value, of which a process has a handful
    def transposed(self, multiple: int) -> Tensor:
        """Index into a flat tensor with a zero at its end: weights [inputs, outputs], heads' outputs padded to a multiple."""
        zero = sum(self.sizes)
        parts: list[Tensor] = []
        start = 0
        for i, (out, given) in enumerate(self.layer_shapes):
            index = torch.arange(start, start + out * given).view(out, given).t()
            bias = torch.arange(start + out * given, start + out * given + out)
            is_output = i >= self.trunk and (i - self.trunk) % 2 == 1
            missing = -out % multiple if is_output else 0
            index = torch.nn.functional.pad(index, (0, missing), value=zero)
            parts += [index.flatten(), torch.nn.functional.pad(bias, (0, missing), value=zero)]
            start += out * (given + 1)
        return torch.cat(parts)
