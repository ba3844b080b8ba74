"""Whether a tensor holds only finite numbers, asked so often that it must cost next to nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .errors import InputError
from .kernels.threads import one_thread


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite."""
    if not tensor.is_floating_point():
        return True
    # a finite sum settles it, an infinite one may also be an overflow
    return math.isfinite(float(_quick_sum(tensor))) or bool(torch.isfinite(_summable(tensor)).all())


def _quick_sum(tensor: Tensor) -> Tensor:
    """The sum []: NaN or infinite if one element is, and about fifty times quicker than isfinite."""
    return _summable(tensor).sum()


def _summable(tensor: Tensor) -> Tensor:
    values = tensor.detach()
    # types of eight bits have no sum
    return values.float() if values.element_size() == 1 else values


def first_not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor that holds NaN or infinite values; empty where all are finite.

    Reads each device once, however many tensors there are.
    """
    suspects: set[str] = set()
    for device in {tensor.device for tensor in tensors.values()}:
        here = [name for name, t in tensors.items() if t.device == device and t.is_floating_point()]
        if here:
            # on the CPU, threads of one sum would still spin when the next step's kernels need the cores
            with one_thread():
                sums = torch.stack([_quick_sum(tensors[name]) for name in here]).tolist()
            suspects.update(name for name, total in zip(here, sums, strict=True) if not math.isfinite(total))
    return next((name for name in tensors if name in suspects and not is_finite(tensors[name])), "")


def require_finite(values: Tensor, error: Callable[[], InputError]) -> None:
    """Raises what `error` makes if an element is NaN or infinite; see `LaterChecks`."""
    later = _collecting.get()
    if later is not None and values.device.type != "cpu":
        later.checks.append((torch.isfinite(values.detach()).all(), error))
    elif not is_finite(values):
        raise error()


@dataclass
class LaterChecks:
    """Checks on a GPU that were not read yet, since each makes the CPU wait; read them where something went wrong."""

    checks: list[tuple[Tensor, Callable[[], InputError]]] = field(default_factory=list)

    @contextmanager
    def collecting(self) -> Generator[None]:
        """Inside, `require_finite` adds its checks on a GPU here instead of reading them."""
        token = _collecting.set(self)
        try:
            yield
        finally:
            _collecting.reset(token)

    def read(self) -> None:
        """Raises the error of the first check that failed."""
        for passed, error in self.checks:
            if not bool(passed):
                raise error()


_collecting: ContextVar[LaterChecks | None] = ContextVar("collecting", default=None)
