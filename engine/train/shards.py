"""Gaussians divided among the processes (ranks) of a training: which rows are whose, and how they are exchanged.

Each rank stores, moves and optimizes its own rows. In the order of the whole scene, the rows of rank 0 come first, then those of
rank 1, and so on. Gaussians are moved between ranks only when a training starts, or resumes with another number of ranks.

After "On Scaling Up 3D Gaussian Splatting Training" (Zhao et al. 2024), which divides Gaussians by rows too; it exchanges those
that a view shows, as gsplat does for us (`DividedRasterizer`), and `whole` is the readable way that any rasterizer can take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import InputError
from ..scene import Gaussians
from .ranks import Ranks, explained

# by name of a tensor, the axis with one entry for each Gaussian; None: computed anew after the Gaussians were divided
RowAxes = Mapping[str, int | None]


class Shards:
    """Which Gaussians each rank has.

    Args:
        ranks: The ranks.
        count: Gaussians of this rank.

    Attributes:
        counts: Gaussians of every rank.
    """

    def __init__(self, ranks: Ranks, count: int) -> None:
        self.ranks = ranks
        self.counts: list[int] = []
        self.refresh(count)

    @property
    def own(self) -> int:
        """Gaussians of this rank."""
        return self.counts[self.ranks.rank]

    @property
    def total(self) -> int:
        """Gaussians of all ranks."""
        return sum(self.counts)

    @property
    def rows(self) -> slice:
        """This rank's rows of the whole scene."""
        start = sum(self.counts[: self.ranks.rank])
        return slice(start, start + self.own)

    def refresh(self, count: int, changed: bool = False) -> bool:
        """Learn how many Gaussians every rank has now; returns whether any rank `changed` its own.

        Raises InputError, on every rank, where one has none: rasterizers and density control need some.
        """
        known = torch.zeros(2, self.ranks.size, dtype=torch.long, device=self.ranks.device)
        known[:, self.ranks.rank] = torch.tensor([count, int(changed)])
        self.ranks.sum(known)
        counts, flags = known.tolist()
        if not all(counts):
            raise InputError(
                "TRN-058",
                f"{sum(counts)} Gaussians cannot be divided among {self.ranks.size} processes: each needs at least one. Start "
                "fewer processes, or leave out --shard-gaussians.",
            )
        self.counts = counts
        return any(flags)

    def whole(self, gaussians: Gaussians) -> Gaussians:
        """All ranks' Gaussians, from this rank's; gradients return to the rank that each row is of, summed over ranks."""
        tensors = gaussians.tensors()
        flat = torch.cat(
            [tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None] for tensor in tensors.values()], 1
        )
        widths = [tensor[:1].numel() for tensor in tensors.values()]
        every = _Gathered.apply(flat, self)
        assert isinstance(every, Tensor)
        columns = every.split(widths, dim=1)
        return Gaussians(
            **{
                name: column.reshape(-1, *tensor.shape[1:])
                for (name, tensor), column in zip(tensors.items(), columns, strict=True)
            }
        )

    def collected(self, tensor: Tensor, axis: int) -> Tensor:
        """On the CPU: on rank 0 the rows of all ranks along an axis, on the others their own. All ranks have to call it."""
        rows = tensor.detach().movedim(axis, 0)
        kind = rows.dtype
        # flags are exchanged as numbers
        rows = rows.to(torch.uint8) if kind is torch.bool else rows
        parts = [rows.cpu()]
        for rank in range(1, self.ranks.size):
            # memory that runs out is not explained as an exchange that failed
            if self.ranks.leads:
                shape = self.counts[rank], *rows.shape[1:]
                there = torch.empty(shape, dtype=rows.dtype, device=self.ranks.device)
                with explained():
                    dist.recv(there, rank)
                parts.append(there.cpu())
            elif self.ranks.rank == rank:
                own = rows.to(self.ranks.device).contiguous()
                with explained():
                    dist.send(own, 0)
        return torch.cat(parts).to(kind).movedim(0, axis).contiguous()

    def divided(self, tensor: Tensor, axis: int, counts: Sequence[int]) -> Tensor:
        """This rank's rows of a tensor that holds those of `counts`, or of one process where `counts` is empty.

        Ranks get their own rows back; if there are more or fewer of them than counts, rows are dealt out to the ranks in turn.
        """
        size, rank = self.ranks.size, self.ranks.rank
        if len(counts) == size:
            return tensor.narrow(axis, sum(counts[:rank]), counts[rank]).clone()
        index = torch.arange(rank, tensor.shape[axis], size, device=tensor.device)
        return tensor.index_select(axis, index)

    def has_any(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag, whether a rank has set it."""
        known = torch.tensor([float(flag) for flag in flags], device=self.ranks.device)
        self.ranks.sum(known)
        return [count > 0 for count in known.tolist()]


class _Gathered(torch.autograd.Function):
    """The rows [n, C] of all ranks, [N, C]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, shards: Shards) -> Tensor:
        ctx.shards = shards
        own = rows.to(shards.ranks.device).contiguous()
        sent = own.repeat(shards.ranks.size, 1)
        return _exchanged(sent, [len(own)] * shards.ranks.size, shards.counts).to(rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        shards: Shards = ctx.shards
        (grad,) = grads
        sent = grad.to(shards.ranks.device).contiguous()
        parts = _exchanged(sent, shards.counts, [shards.own] * shards.ranks.size)
        return parts.view(shards.ranks.size, shards.own, -1).sum(dim=0).to(grad), None


def _exchanged(sent: Tensor, to: Sequence[int], received: Sequence[int]) -> Tensor:
    """What the ranks sent to this one: `to` says how many rows go to each rank, and `received` how many come."""
    found = sent.new_empty(sum(received), *sent.shape[1:])
    with explained():
        dist.all_to_all_single(found, sent, list(received), list(to))
    return found
