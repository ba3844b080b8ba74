"""How many threads a step on the CPU uses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from typing import ParamSpec

import torch

from ..diffusion import Backbone
from ..diffusion.in_parallel import SMALL_MODEL
from ..kernels.threads import fixed_threads, one_thread, threads_now
from ..messages import Message, Stream
from ..render import Rasterizer

Given = ParamSpec("Given")


@contextmanager
def threads_for(rasterizer: Rasterizer, device: torch.device) -> Generator[None, None, None]:
    """One torch thread for a training step on the CPU; kernels and the rasterizer keep all, if they have threads of their own."""
    if device.type != "cpu" or not rasterizer.uses_own_threads:
        yield
        return
    with fixed_threads(threads_now()), one_thread():
        yield


@contextmanager
def threads_for_model(backbone: Backbone) -> Generator[None, None, None]:
    """One torch thread for a small model on the CPU, whose images `each` shares among all; a large one keeps all threads."""
    if backbone.device.type != "cpu" or backbone.megabytes > SMALL_MODEL:
        yield
        return
    with fixed_threads(threads_now()), one_thread():
        yield


def on_one_thread(run: Callable[Given, Stream]) -> Callable[Given, Stream]:
    """Have a step's `run` compute with one torch thread, whatever the number of Gaussians; the rasterizer keeps all.

    For steps whose work is the rasterizer's, or many small operations. On a busy machine, such as one whose browser draws the
    player, a second thread makes them several times slower (docs/benchmarks.md).
    """

    @functools.wraps(run)
    def stream(*given: Given.args, **named: Given.kwargs) -> Generator[Message, None, None]:
        with closing(run(*given, **named)) as messages:
            while True:
                # not while the receiver of the message works
                with fixed_threads(threads_now()), one_thread():
                    message = next(messages, None)
                if message is None:
                    return
                yield message

    return stream
