"""Several images through a small model on the CPU at once: each on one thread, so that the bits do not depend on how many.

Operators that share an image among threads wait for each other on a busy machine (docs/benchmarks.md); images do not.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from ..kernels.threads import threads_now
from .backbone import Backbone

# megabytes of weights
SMALL_MODEL = 200
Item = TypeVar("Item")
Made = TypeVar("Made")
_pools: dict[int, ThreadPoolExecutor] = {}

if hasattr(os, "register_at_fork"):
    # a forked child does not have its parent's threads
    os.register_at_fork(after_in_child=_pools.clear)


def each(backbone: Backbone, function: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """`function` of each item, in order; it calls methods of the backbone, and keeps the caller's choice of gradients.

    Several run at once for a model that allows it, is small and on the CPU, where the caller has one torch thread (see
    `threads_for_model`).
    """
    count = min(threads_now(), len(items))
    if count < 2 or not is_split(backbone):
        return [function(item) for item in items]
    wants_gradients = torch.is_grad_enabled()

    def call(item: Item) -> Made:
        with torch.set_grad_enabled(wants_gradients):
            return function(item)

    return list(_pool(threads_now()).map(call, items))


def is_split(backbone: Backbone) -> bool:
    """Whether images are given to the backbone one by one or in pairs, instead of all at once."""
    is_small = backbone.device.type == "cpu" and backbone.megabytes <= SMALL_MODEL
    return is_small and torch.get_num_threads() == 1 and getattr(backbone, "allows_threads", False)


def _pool(count: int) -> ThreadPoolExecutor:
    if count not in _pools:
        # the first ones wait for the last one: none sets torch's number later, when the caller has changed it
        pool = ThreadPoolExecutor(count, "gs4d-images", _use_one_torch_thread, (threading.Barrier(count),))
        list(pool.map(int, range(count)))
        _pools[count] = pool
    return _pools[count]


def _use_one_torch_thread(together: threading.Barrier) -> None:
    torch.set_num_threads(1)
    together.wait()
