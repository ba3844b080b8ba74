"""Prepare GPU: what it reports on machines with and without GPUs, what it builds in child processes, and what nodes say."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine import backends
from engine import messages as m
from engine.cli import main
from engine.errors import InputError
from engine.render import Registration, building, hardware, register, registry, remark, self_check
from engine.steps import prepare_gpu
from engine.train.speed import step_milliseconds
from tests.scenes import capture_of, moving_scene

TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading and "
    "installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)
NO_DRIVER = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver"
)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says that there are two GPUs of different kinds."""
    kinds = [("NVIDIA GeForce RTX 4090", 24 << 30), ("NVIDIA GeForce GTX 1060", 6 << 30)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(kinds))
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda index: SimpleNamespace(name=kinds[index][0], total_memory=kinds[index][1]),
    )


@pytest.fixture
def broken() -> Iterator[None]:
    """A rasterizer that works until it is used."""

    def create() -> Any:
        raise SystemExit("the driver is gone")

    register(Registration("broken", {"cpu": 1}, create))
    try:
        yield
    finally:
        registry.unregister("broken")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small capture, and only the rasterizers that are quick on a CPU."""
    video = capture_of(moving_scene(count=30, views=4, moments=3))
    monkeypatch.setattr(prepare_gpu, "load_video", lambda folder: video)
    monkeypatch.setattr(
        prepare_gpu, "ranked", lambda *kinds: [p for p in registry.ranked(*kinds) if p[0].name != "warp"]
    )
    monkeypatch.setattr(
        prepare_gpu,
        "step_milliseconds",
        lambda *given: step_milliseconds(*given[:-1], 40),
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.usefixtures("quick", "broken")
def test_a_machine_without_a_gpu_gets_a_table_and_the_reason() -> None:
    found = list(prepare_gpu.run(prepare_gpu.Config(steps=2)))
    report = found[-1].value
    rows = {row.rasterizer: row for row in report.rows}
    assert list(rows) == ["numba", "torch", "broken"]
    assert rows["numba"].milliseconds > 0 and rows["numba"].is_auto and not rows["torch"].is_auto
    assert rows["broken"].milliseconds is None and "SystemExit: the driver is gone" in rows["broken"].reason
    assert report.device == "cpu" and report.rasterizer == "numba"
    last = report.text().splitlines()[-1]
    assert "built without CUDA" in last or "NVIDIA" in last
    assert "with numba on cpu" in last and "ms per step" in last
    progress = [each.done for each in found if isinstance(each, m.Progress)]
    assert progress == sorted(progress)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.usefixtures("quick")
def test_the_verb_reports_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare-gpu", "--steps", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["rasterizer"] for row in report["rows"]] == ["numba", "torch"] and report["conclusion"]


def test_gsplat_is_not_compiled_without_a_toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "installed", lambda package: False)
    with pytest.raises(StopIteration) as ended:
        next(building.build_gsplat())
    assert "pip install gsplat" in ended.value.value
    monkeypatch.setattr(backends, "installed", lambda package: True)
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", None)
    with pytest.raises(StopIteration) as ended:
        next(building.build_gsplat())
    assert "CUDA toolkit" in ended.value.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TOO_OLD, "too old"),
        (NO_DRIVER, "No NVIDIA driver"),
        ("No CUDA GPUs are available", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_driver_that_does_not_fit_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: str, said: str
) -> None:
    def init() -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    assert said in hardware.gpu_problem() and "\n" not in hardware.gpu_problem()


def test_amd_gpus_are_named_with_what_runs_there(monkeypatch: pytest.MonkeyPatch, two_gpus: None) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4", raising=False)
    assert "ROCm" in hardware.gpu_problem()
    for name in ("gsplat", "warp"):
        if name == "gsplat" or backends.installed("warp"):
            assert "NVIDIA GPUs only" in (registry.find(name).obstacle() or "")


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert hardware.missing("cuda:1") is None and hardware.missing("cuda") is None
    said = hardware.missing("cuda:2") or ""
    assert (
        "cuda:0 (NVIDIA GeForce RTX 4090, 24.0 GB), cuda:1 (NVIDIA GeForce GTX 1060, 6.0 GB) and cpu" in said
    )
    assert hardware.gpu_choices() == ["cuda:0", "cuda:1"]
    assert main(["demo", "--device", "cuda:2", "--out", "nowhere"]) == 1
    assert "cuda:1 (NVIDIA GeForce GTX 1060, 6.0 GB)" in capsys.readouterr().err


def test_a_gpu_where_there_is_none_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = hardware.missing("cuda:1") or ""
    assert said.startswith("There is no device 'cuda:1': ") and said.endswith("Use device auto or cpu.")


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> Generator[str, None, str | None]:
    monkeypatch.setattr(building, "CALL", code)
    return building._child("")


def test_a_child_that_fails_gives_its_last_line_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.stdout.buffer.write(b'\\xff first\\n'); sys.exit('nvcc: not found')"
    lines, stream = [], child(monkeypatch, code)
    try:
        while True:
            lines.append(next(stream))
    except StopIteration as end:
        assert end.value == "nvcc: not found"
    assert any("first (" in line for line in lines)


def test_a_child_that_crashes_without_a_word_gives_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "exit code" in (m.returned(child(monkeypatch, "import os; os.abort()")) or "")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are of POSIX")
def test_cancel_ends_a_child_and_what_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import subprocess, sys, time\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(other.pid, flush=True); time.sleep(60)"
    )
    stream = child(monkeypatch, code)
    line = next(line for line in stream if line.split()[0].isdigit())
    stream.close()
    pid, begun = int(line.split()[0]), time.monotonic()
    while os.path.exists(f"/proc/{pid}") and time.monotonic() - begun < 10:
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().rpartition(")")[2].split()[0] == "Z":
                break
        time.sleep(0.05)
    else:
        assert not os.path.exists(f"/proc/{pid}"), "the compiler goes on without anyone waiting for it"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, two_gpus: None) -> None:
    """gsplat is not installed, and Warp failed in Prepare GPU on the first GPU."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(backends, "gsplat_obstacle", lambda may_compile=False: backends.HINTS["gsplat"])
    monkeypatch.setattr(self_check, "_found", {})
    self_check.failed_elsewhere("Warp", 0, "exit code -11")


@pytest.mark.usefixtures("failing")
@pytest.mark.skipif(not backends.installed("warp"), reason="warp-lang is not installed")
def test_a_note_names_what_rendered_and_why_a_faster_one_did_not() -> None:
    free = remark("auto", "cpu", is_free=True)
    assert free.startswith(
        "numba rasterizer on the CPU; warp would be faster: Warp failed on this GPU (exit code -11)"
    )
    assert "gsplat" not in free, "a package that nobody installed is no failure"
    assert remark("auto", "cpu") == "numba rasterizer on the CPU", "the CPU was asked for"
    assert remark("numba", "cpu", is_free=True) == "numba rasterizer on the CPU"
    on_gpu = remark("auto", "cuda")
    assert on_gpu.startswith(
        "torch rasterizer on cuda:0 (NVIDIA GeForce RTX 4090, 24.0 GB); warp would be faster"
    )


def test_memory_that_warp_cannot_have_is_explained() -> None:
    for said in (
        "Failed to allocate 4294967296 bytes on device 'cpu'",
        "Warp CUDA error 2: out of memory (in function wp_alloc_device_async)",
        "CUDA error: out of memory",
    ):
        with pytest.raises(InputError, match=r"Out of memory while training.*Lower the resolution"):
            with backends.explains_memory("training"):
                raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="shapes"), backends.explains_memory("training"):
        raise RuntimeError("shapes do not match")
