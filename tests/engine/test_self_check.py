"""What the check of a GPU finds is remembered for the process; that memory ran out meanwhile, for one run."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
import torch

from engine import backends
from engine.render import building, choose, choose_device, remark, self_check, warp
from engine.render.registry import find
from engine.render.torch_reference import TorchRasterizer

FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB."),
    MemoryError(),
    RuntimeError("Failed to allocate 4294967296 bytes on device 'cuda:0'"),
    RuntimeError("Warp CUDA error 2: out of memory (in function wp_alloc_device_async)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
)
BROKEN = RuntimeError("no kernel image is available for execution on the device")


class Gpu:
    """A stand-in: the check of a rasterizer there ends as `ends` says, and `checked` counts how often it was made."""

    ends: Exception | float = 0.0
    checked = 0

    def difference(self, device: str, ours: object, channels: int = 3) -> float:
        self.checked += 1
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """One GPU on which gsplat's kernels are built and Warp is installed, with nothing known of either."""
    made = Gpu()
    monkeypatch.setattr(self_check, "_found", {})
    monkeypatch.setattr(self_check, "_full", set())
    monkeypatch.setattr(self_check, "difference", made.difference)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: pytest.fail("not asked here"))
    monkeypatch.setattr("engine.render.choice.gpus", lambda: [])
    monkeypatch.setattr(backends, "gsplat_obstacle", lambda may_compile=False: None)
    monkeypatch.setattr(backends, "installed", lambda package: True)
    monkeypatch.setattr(warp, "_problem", lambda: None)
    monkeypatch.setattr(warp, "_create", TorchRasterizer)
    yield made


BOTH = pytest.mark.parametrize("name", ["warp", "gsplat"])


def reason(name: str) -> str | None:
    """Why a rasterizer cannot run on the current GPU."""
    return find(name).obstacle()


@BOTH
@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_a_gpu_that_was_full_is_checked_again_in_the_next_run(gpu: Gpu, name: str, error: Exception) -> None:
    gpu.ends = error
    said = reason(name)
    assert said is not None and "memory ran out" in said and "the next run checks it again" in said
    gpu.ends = 0.0
    assert reason(name) == said and gpu.checked == 1, "one answer within a run"
    self_check.check_again()
    assert reason(name) is None and gpu.checked == 2
    self_check.check_again()
    assert reason(name) is None and gpu.checked == 2, "what was found is not asked again"


@BOTH
@pytest.mark.parametrize("ends", [BROKEN, 0.5, float("nan")])
def test_a_gpu_that_computes_wrongly_is_not_tried_again(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, name: str, ends: Exception | float
) -> None:
    gpu.ends = ends
    said = reason(name)
    gpu.ends = 0.0
    self_check.check_again()
    assert said is not None and reason(name) == said and gpu.checked == 1
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert reason(name) is None, "another GPU is another question"


def test_the_note_says_why_the_gpu_was_not_used_and_that_the_next_run_tries(gpu: Gpu) -> None:
    gpu.ends = FULL[0]
    assert choose_device() == "cpu"
    said = remark("auto", "cpu", is_free=True)
    assert said.startswith("numba rasterizer on the CPU; gsplat would be faster: memory ran out when gsplat")
    assert said.count("the next run checks it again") == 2, "for gsplat and Warp"
    gpu.ends = 0.0
    assert remark("auto", "cpu", is_free=True) == said, "the note is about the run, not about the GPU now"
    self_check.check_again()
    assert choose_device() == "cuda" and choose("auto", "cuda").name == "gsplat"


@pytest.mark.parametrize(
    ("line", "is_full"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.", True),
        ("MemoryError", True),
        ("exit code -11", False),
    ],
)
def test_what_a_child_process_says_counts_the_same(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, line: str, is_full: bool
) -> None:
    def child(call: str) -> Generator[str, None, str | None]:
        yield "compiling"
        return line

    monkeypatch.setattr(building, "_child", child)
    build = building.build_warp(0)
    with pytest.raises(StopIteration) as end:
        while True:
            next(build)
    assert line in end.value.value and ("the next run" in end.value.value) == is_full
    assert reason("warp") == end.value.value and gpu.checked == 0
    self_check.check_again()
    assert (reason("warp") is None) == is_full
