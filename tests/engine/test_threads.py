"""How many threads steps compute with."""

from __future__ import annotations

import pytest
import torch

from engine import messages as m
from engine.kernels.threads import threads_now
from engine.render import choose
from engine.train.threads import on_one_thread, threads_for


@pytest.fixture()
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@on_one_thread
def counting() -> m.Stream:
    yield m.Started(1, f"{torch.get_num_threads()} {threads_now()}")
    try:
        yield m.Finished((torch.get_num_threads(), threads_now()))
    finally:
        closed.append(torch.get_num_threads())


closed: list[int] = []


def test_a_step_on_one_thread_leaves_the_rasterizer_and_its_caller_all(two_threads: None) -> None:
    stream = counting()
    started = next(stream)
    assert isinstance(started, m.Started) and started.note == "1 2"
    assert torch.get_num_threads() == threads_now() == 2
    finished = next(stream)
    assert isinstance(finished, m.Finished) and finished.value == (1, 2)
    assert next(stream, None) is None and torch.get_num_threads() == 2


def test_closing_such_a_step_closes_what_it_runs(two_threads: None) -> None:
    closed.clear()
    stream = counting()
    next(stream)
    next(stream)
    stream.close()
    assert len(closed) == 1 and torch.get_num_threads() == 2


def test_a_training_step_leaves_kernels_all_threads_and_torch_one(two_threads: None) -> None:
    pytest.importorskip("numba", reason="numba is not installed")
    numba, cpu = choose("numba", "cpu"), torch.device("cpu")
    with threads_for(numba, cpu), threads_for(numba, cpu):
        assert (torch.get_num_threads(), threads_now()) == (1, 2)
    assert torch.get_num_threads() == threads_now() == 2


def test_a_training_step_without_kernels_keeps_torchs_threads(two_threads: None) -> None:
    with threads_for(choose("torch", "cpu"), torch.device("cpu")):
        assert torch.get_num_threads() == threads_now() == 2
