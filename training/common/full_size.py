"""A training step of a network without its memory, on torch's meta device: parameters, bytes and operations by arithmetic."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engine.models.loading import on_meta

GIB = 1 << 30


@dataclass(frozen=True)
class Cost:
    """What a training step of one process takes, without activations.

    Args:
        parameters: Trained ones.
        weights: Bytes of the network, with its buffers.
        gradients: Bytes.
        optimizer: Bytes of AdamW's two averages.
        average: Bytes of the averaged weights.
        operations: Floating-point operations of matrix products, convolutions and attention, forward and backward; a
            multiplication and an addition are two.
    """

    parameters: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    operations: int

    @property
    def bytes(self) -> int:
        """All of them together."""
        return self.weights + self.gradients + self.optimizer + self.average

    def lines(self, what: str) -> list[str]:
        """As lines of JSON."""
        sizes = {"weights": self.weights, "gradients": self.gradients, "AdamW": self.optimizer}
        sizes |= {"averaged weights": self.average, "all": self.bytes}
        return [
            json.dumps({"step on the meta device": what, "parameters": self.parameters}),
            json.dumps(
                {"GiB without activations": {name: round(size / GIB, 2) for name, size in sizes.items()}}
            ),
            json.dumps({"teraFLOPs of a step": round(self.operations / 1e12, 3)}),
        ]


def cost(build: Callable[[], nn.Module], loss: Callable[[nn.Module], Tensor]) -> Cost:
    """Build a network and take a step of AdamW with it, all on the meta device.

    Args:
        build: Makes the network.
        loss: Its loss on inputs that it makes itself.
    """
    network = on_meta(build)
    network.train()
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98))
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        loss(network).backward()
    lacking = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    if lacking:
        raise RuntimeError(f"the step does not train {lacking[0]}")
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    average = {name: value.clone() for name, value in network.state_dict().items()}
    return Cost(
        parameters=sum(p.numel() for p in parameters),
        weights=_bytes(network.state_dict().values()),
        gradients=_bytes(p.grad for p in parameters),
        optimizer=_bytes(v for state in optimizer.state.values() for v in state.values() if v.ndim),
        average=_bytes(average.values()),
        operations=counter.get_total_flops(),
    )


def _bytes(tensors: Iterable[Tensor | None]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)
