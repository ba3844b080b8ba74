"""Prepare GPU: compiles what can be compiled for the GPUs of this machine, and measures every rasterizer on the demo capture.

Rasterizers are used without it too: Warp then compiles its kernels when they are first needed, which takes up to a minute.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..backends import explains_memory, short
from ..capture.readers import load_video
from ..errors import InputError
from ..fields import flag, number, validate
from ..messages import Finished, Message, Progress, Started, Stream
from ..render import building, choose, choose_device
from ..render.hardware import MPS, Device, current, devices, gpu_problem, gpus
from ..render.registry import Registration, ranked
from ..train.speed import CLIP, GAUSSIANS, WARM_UP, step_milliseconds
from .step import Kind, Output, Step


@dataclass(frozen=True)
class Config:
    """What is compiled and measured."""

    steps: int = number(
        20,
        1,
        500,
        "Training steps to time with each rasterizer. More is more precise; typical 20.",
        step=1,
        label="steps per rasterizer",
    )
    seconds: float = number(
        10.0,
        1.0,
        600.0,
        "Time limit for each rasterizer, in seconds. Slow ones then make fewer steps.",
        label="seconds per rasterizer",
    )
    compile_gsplat: bool = flag(
        False,
        "Also compiles gsplat's CUDA kernels, which takes some minutes and needs the package gsplat, a CUDA toolkit and a "
        "C++ compiler. Warp needs none of them.",
        label="compile gsplat",
    )
    gaussians: int = number(
        GAUSSIANS,
        16,
        1_000_000,
        "Gaussians of the trained scene. More shows how fast large scenes train; typical 5000 on a CPU, 100,000 on a GPU.",
        label="Gaussians",
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Row:
    """One rasterizer on one device."""

    device: str
    device_name: str
    rasterizer: str
    # of one training step of the demo; None where it cannot run
    milliseconds: float | None
    # why it cannot run, else empty
    reason: str = ""
    # whether "auto" takes it on this device
    is_auto: bool = False


@dataclass(frozen=True)
class Report:
    """Every rasterizer on every device, and what "auto" uses."""

    rows: tuple[Row, ...]
    device: str
    rasterizer: str
    # why no NVIDIA GPU is used, else empty
    problem: str = ""
    # what was not compiled although it was asked for
    remarks: tuple[str, ...] = ()
    # of the scene whose training steps are timed
    gaussians: int = GAUSSIANS

    def conclusion(self) -> str:
        """What training and rendering use, in one line, after the reason why that is no GPU."""
        used = next(
            (r for r in self.rows if r.device == self.device and r.rasterizer == self.rasterizer), None
        )
        place = self.device if used is None else f"{self.device} ({used.device_name})"
        speed = "" if used is None or used.milliseconds is None else f": {_shown(used.milliseconds)} per step"
        uses = f"Scenes are trained and rendered with {self.rasterizer} on {place}{speed}."
        return " ".join(filter(None, (self.problem, uses)))

    def text(self) -> str:
        """The table, remarks and the conclusion as lines for a person."""
        width = max(len(row.rasterizer) for row in self.rows)
        lines = [f"One training step of the demo with {self.gaussians:,} Gaussians:"]
        before = ""
        for row in self.rows:
            if row.device != before:
                lines.append(f"{row.device}: {row.device_name}")
                before = row.device
            found = row.reason if row.milliseconds is None else f"{_shown(row.milliseconds)} per step"
            lines.append(f"  {row.rasterizer:{width}}  {found}{' (auto)' if row.is_auto else ''}".rstrip())
        return "\n".join([*lines, *self.remarks, self.conclusion()])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: the fields and the conclusion."""
        return {**asdict(self), "conclusion": self.conclusion()}


def _shown(milliseconds: float) -> str:
    return f"{milliseconds:.1f} ms" if milliseconds < 100 else f"{milliseconds:,.0f} ms"


def run(config: Config = Config()) -> Stream:
    """Compile kernels for this machine's GPUs and measure the rasterizers.

    Args:
        config: What is compiled, and how long is measured.

    Yields:
        Started with a line for each part, Progress, and Finished with a `Report`. Closing the generator ends compilers too.

    Raises:
        InputError: The bundled demo capture is missing.

    Example:
        print(messages.result(prepare_gpu.run()).text())
    """
    video, found = load_video(CLIP), devices()
    pairs = [(device, registration) for device in found for registration, _ in ranked(device.type)]
    remarks: list[str] = []
    builds = (
        []
        if torch.version.hip
        else [(f"Warp on {gpu}", building.build_warp(i)) for i, gpu in enumerate(gpus())]
    )
    if config.compile_gsplat:
        builds.append(("gsplat", building.build_gsplat()))
    for what, build in builds:
        reason = yield from _built(what, build)
        if reason is not None:
            remarks.append(f"{what}: {reason}.")
    rows: list[Row] = []
    for number_, (device, registration) in enumerate(pairs):
        yield Started(len(pairs) * (WARM_UP + config.steps), f"{registration.name} on {device}")
        rows.append((yield from _measured(video, device, registration, config, number_)))
    if any(device.type == "mps" for device in found):
        rows.append(Row("mps", "Apple's GPU", "none", None, MPS))
    kind = choose_device()
    rasterizer = choose("auto", kind).name
    first = next(device for device in found if device.type == kind)
    yield Finished(
        Report(tuple(rows), first.name, rasterizer, gpu_problem(), tuple(remarks), config.gaussians)
    )


def _built(what: str, build: Generator[str, None, str | None]) -> Generator[Message, None, str | None]:
    """Follow a compilation; its lines become the status line."""
    shown = ""
    try:
        while True:
            line = next(build)
            # every line is a message, at which cancel takes effect
            yield Progress(0) if line == shown else Started(1, f"{what}: {line}")
            shown = line
    except StopIteration as end:
        return end.value
    finally:
        build.close()


def _measured(
    video: Any, device: Device, registration: Registration, config: Config, before: int
) -> Generator[Message, None, Row]:
    """The row of a rasterizer on a device; nothing that it raises ends the step."""
    name = registration.name
    timing = step_milliseconds(video, name, device.name, config.steps, config.seconds, config.gaussians)
    is_auto = False
    try:
        with current(device.name):
            obstacle = registration.obstacle()
            is_auto = obstacle is None and choose("auto", device.name).name == name
        if obstacle is not None:
            return Row(device.name, device.label, name, None, obstacle)
        with explains_memory(f"training with {name}", torch.device(device.name)):
            while True:
                yield Progress(before * (WARM_UP + config.steps) + next(timing))
    except StopIteration as end:
        return Row(device.name, device.label, name, round(end.value, 2), "", is_auto)
    except InputError as error:
        return Row(device.name, device.label, name, None, error.message)
    # drivers and libraries raise anything
    except (Exception, SystemExit) as error:
        return Row(device.name, device.label, name, None, f"failed ({short(error)})")


STEP = Step(
    name="prepare_gpu",
    node="PrepareGPU",
    label="Prepare GPU",
    category="4dgs/train",
    description="Compiles the GPU rasterizer's kernels once and shows which rasterizer this machine uses and how fast it is.",
    search=("gpu", "cuda", "warp", "gsplat", "rasterizer", "benchmark", "speed"),
    config=Config,
    run=run,
    inputs=(),
    outputs=(Output("report", Kind.REPORT, "The table of devices and rasterizers, for Preview as Text."),),
    verb="prepare-gpu",
    has_device=False,
    note=Report.text,
    is_output=True,
    always_runs=True,
)
