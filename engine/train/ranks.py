"""Training on several processes (ranks): each renders a share of a step's views, and all take the same step.

`torchrun` starts the processes; `joined` connects them (gloo on CPUs, NCCL on GPUs) and `current` says who one is. Every rank
holds the whole scene and draws the same random numbers, so that density control is identical on all of them; only gradients,
losses and what density control measures on the images are summed. A rank that differs all the same, such as one on another type
of GPU, is found by `check_same`. Where the training is sharded, each rank holds some of the Gaussians (see shards.py).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .. import __version__
from ..errors import InputError

Item = TypeVar("Item")
# a rank that is silent for so long is taken for dead
PATIENCE = timedelta(minutes=30)


def _never() -> bool:
    return False


@dataclass
class Ranks:
    """The processes of one training, seen by one of them; with a `size` of 1, every method is trivial.

    Args:
        rank: Number of this process, from 0.
        size: Number of processes.
        local: Number of this process on its machine, which is the number of its GPU.
        device: Where tensors must be to be exchanged.
        wants_stop: Whether this process was asked to stop.
        is_sharded: Whether each process has some of the Gaussians, and none has all.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wants_stop: Callable[[], bool] = _never
    is_sharded: bool = False
    # whether a process was asked to stop before the last step: all of them stop after the same one
    is_stopping: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """The items of this rank."""
        return list(items[self.rank :: self.size])

    def sum_gradients(self, parameters: Iterable[Tensor], numbers: Sequence[Tensor]) -> list[Tensor]:
        """Replace the gradients by their sums over all ranks, in one exchange; return the sums of the `numbers`, each [].

        A parameter without a gradient on any rank has none afterwards. Raises InputError where another rank has ended.
        """
        if self.size == 1:
            return list(numbers)
        parameters = list(parameters)
        known = [float(p.grad is not None) for p in parameters]
        counts = torch.tensor([*known, float(self.wants_stop())], device=self.device)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        parts = [*(g.reshape(-1) for g in grads), torch.stack([n.detach().float() for n in numbers]), counts]
        flat = torch.cat([part.to(self.device, torch.float32) for part in parts])
        self.sum(flat)
        *summed, totals, counts = flat.split([part.numel() for part in parts])
        # one reading, since a GPU is waited for
        *found, stopping = counts.tolist()
        self.is_stopping = stopping > 0
        for parameter, total, count in zip(parameters, summed, found, strict=True):
            parameter.grad = total.view_as(parameter).to(parameter) if count else None
        return list(totals.to(numbers[0].device).unbind())

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor, in place, by its sum over all ranks."""
        if self.size == 1:
            return
        with explained():
            dist.all_reduce(tensor)

    def wait(self) -> None:
        """Wait for all ranks."""
        token = torch.zeros((), device=self.device)
        self.sum(token)
        # NCCL only queues the exchange on the GPU; reading waits for it
        token.item()

    def first(self, values: Sequence[float]) -> list[float]:
        """The numbers that rank 0 has."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        with explained():
            dist.broadcast(tensor, 0)
        return tensor.tolist()

    def agreed(self, flag: bool) -> bool:
        """What rank 0 says, where all ranks have to do the same because each has some of the Gaussians; else `flag`."""
        return self.first([flag])[0] > 0 if self.is_sharded else flag

    def any_of(self, text: str) -> str:
        """`text`; if it is empty and another rank's is not, where each has some of the Gaussians, a text that says so."""
        if not self.is_sharded:
            return text
        count = torch.tensor(float(bool(text)), device=self.device)
        self.sum(count)
        return text or ("the Gaussians of another process" if count > 0 else "")

    def check_same(self, text: str, error: Callable[[int], InputError]) -> None:
        """Raise `error(rank)`, on every rank, where a rank's `text` is not that of rank 0."""
        if self.size == 1:
            return
        digest = int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)
        digests = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        digests[self.rank] = digest
        self.sum(digests)
        others = (digests != digests[0]).nonzero().flatten().tolist()
        if others:
            raise error(others[0])

    def check_version(self) -> None:
        """InputError where a process runs another version of the engine or of torch."""
        self.check_same(
            f"{__version__} {torch.__version__}",
            lambda rank: InputError(
                "TRN-049",
                f"Process {rank} of this training has another version of the pack or of torch than process 0 ({__version__}, "
                f"torch {torch.__version__}). Install the same on all machines.",
            ),
        )


ALONE = Ranks()
_current = ALONE


def current() -> Ranks:
    """The ranks of this process; `ALONE` outside `joined`."""
    return _current


def launched() -> bool:
    """Whether torchrun, or a program like it, started this process as one of several."""
    return "MASTER_ADDR" in os.environ and os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def leads() -> bool:
    """Whether this process writes files and speaks, also before `joined`."""
    return not launched() or os.environ.get("RANK", "0") == "0"


def local_number() -> int:
    """The number of this process on its machine, as torchrun counts."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_count() -> int:
    """The number of processes on this machine, as torchrun counts."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def joined(
    device: torch.device | str, wants_stop: Callable[[], bool] = _never, is_sharded: bool = False
) -> Generator[Ranks]:
    """Inside, this process is one of those that torchrun started, and `current()` are its ranks.

    Args:
        device: The device of the training; tensors are exchanged there.
        wants_stop: Whether this process was asked to stop. All stop when the launcher is gone, too.
        is_sharded: Whether each process gets some of the Gaussians.

    Raises:
        InputError: The other processes cannot be reached, or have another version.
    """
    global _current
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, rank, size = next(dist.rendezvous("env://"))
        # torchrun restarts processes with the same store, where the addresses of those before still stand
        store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            "TRN-050",
            f"The processes of this training cannot reach one another ({error}). Check --rdzv-endpoint, or MASTER_ADDR and "
            "MASTER_PORT, on every machine.",
        ) from error
    try:
        launcher = os.getppid()

        def stops() -> bool:
            # a launcher that was killed can end nobody
            return wants_stop() or os.getppid() != launcher

        size = dist.get_world_size()
        _current = Ranks(dist.get_rank(), size, local_number(), device, stops, is_sharded and size > 1)
        _current.check_version()
        yield _current
    finally:
        _current = ALONE
        dist.destroy_process_group()


@contextmanager
def explained() -> Generator[None]:
    """Say what it means where an exchange inside fails."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            "TRN-051",
            "Another process of this training has ended, so this one stopped. The same command continues from the last "
            "checkpoint.",
        ) from error
