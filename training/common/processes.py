"""The processes of one training: `accelerate launch` starts them, each computes a part of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from engine.backends import require
from engine.errors import InputError
from engine.render.hardware import missing

# values of gradients that are exchanged at a time
BUCKET = 1 << 24
# where torchrun and `accelerate launch`, Open MPI, Intel MPI and MVAPICH2 say how many processes there are
_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")


# where networks are trained: "cpu" or "cuda"
_kind = "cpu"


def use_device(kind: str) -> torch.device:
    """Train on the CPU ("cpu") or on a GPU ("cuda", each process of a machine on its own). To be called first.

    Raises:
        InputError: This machine has no such device.
    """
    global _kind
    problem = missing(kind)
    if problem is not None:
        raise InputError("NET-012", problem)
    _kind = kind
    return Processes().device


class Processes:
    """This process among those of the training; alone unless a launcher such as `accelerate launch` says otherwise.

    Attributes:
        count: Processes.
        index: Of this one.
        device: On which it trains.
    """

    def __init__(self) -> None:
        self.count, self.index, self.device = 1, 0, torch.device(_kind)
        if any(int(os.environ.get(name) or "1") > 1 for name in _SIZES):
            require("accelerate")
            from accelerate import PartialState

            state = PartialState(cpu=_kind == "cpu")
            self.count, self.index, self.device = state.num_processes, state.process_index, state.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.index == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over all processes, without gradients; the same bits on all of them."""
        if self.count == 1:
            return value
        from accelerate.utils import reduce

        # NCCL exchanges what is on a GPU alone
        return reduce(value.detach().to(self.device), "mean").to(value.device)

    def gathered(self, value: Tensor) -> Tensor:
        """The tensors of all processes, stacked in their order."""
        if self.count == 1:
            return value[None]
        from accelerate.utils import gather

        return gather(value[None].to(self.device)).to(value.device)

    def any(self, is_true: bool) -> bool:
        """Whether something is true in any process."""
        return bool(self.mean(torch.tensor(float(is_true))) > 0)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their means over all processes; one that some process lacks counts as zero there."""
        if self.count == 1:
            return
        every = list(parameters)
        has = self.mean(torch.tensor([float(p.grad is not None) for p in every]))
        waiting: list[nn.Parameter] = []
        for parameter, share in zip(every, has.tolist(), strict=True):
            if share > 0:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                waiting.append(parameter)
            if sum(p.numel() for p in waiting) > BUCKET:
                self._exchange(waiting)
                waiting.clear()
        self._exchange(waiting)

    def _exchange(self, parameters: list[nn.Parameter]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        means = self.mean(torch.cat([g.flatten() for g in gradients]))
        for gradient, part in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def check_same(self, value: int, what: str) -> None:
        """Raise InputError on all processes where a number differs between them."""
        values = [value] if self.count == 1 else self.gathered(torch.tensor(value)).tolist()
        if len(set(values)) > 1:
            raise InputError(
                "NET-001",
                f"{what} differs between the processes: {', '.join(map(str, values))}. Give all of them the same files, "
                "on storage that they share.",
            )
