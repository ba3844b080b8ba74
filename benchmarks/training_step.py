"""What a training step costs on the CPU, with the kernels and with their twins of PyTorch's operators.

    python benchmarks/training_step.py --json [--repeats 30] [--only demo]

Rows {case, gaussians, width, height, views, path, cpu_ms, wall_ms, peak_mb}: `path` is "kernels" or "twins"; both use the same
rasterizer. They take turns step by step in one run from the middle of a training, so that other load meets both. Times are those
of the fastest step, of all threads together (cpu) and by the clock (wall). peak_mb is the process's peak while the path ran.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cost import peak_mb, reset_peak
from benchmarks.environment import environment
from benchmarks.fit import DEMO
from engine import backends
from engine.capture.readers import LoadOptions, load_video
from engine.scene import MultiViewVideo
from engine.train.config import FitConfig
from engine.train.fit import Fit
from tests.scenes import capture_of, moving_scene, ring

SEED = 0
ITERATIONS, MIDDLE = 1000, 500
# before the first one that counts: caches and compiling
WARM = 4
# case, Gaussians, width and height of made images; None: the demo capture
CASES = (
    ("demo", 5_000, None),
    ("20k", 20_000, (256, 256)),
    ("100k", 100_000, (512, 512)),
    ("1352×1014", 5_000, (1352, 1014)),
)


def made_capture(size: tuple[int, int]) -> MultiViewVideo:
    return capture_of(moving_scene(2_000, moments=2, views=4).with_(rig=ring(4, size=size)))


def training(count: int, size: tuple[int, int] | None) -> Fit:
    """A training in its middle: `count` Gaussians, full image size, all SH bands, the deformation in use."""
    config = FitConfig(
        iterations=ITERATIONS,
        budget=count,
        initial_count=count,
        initialization="random" if size else "auto",
        coarse_fraction=0.0,
        order="all at once",
        start_scale=1.0,
        preview_every=0,
        seed=SEED,
    )
    video = load_video(str(DEMO), LoadOptions()) if size is None else made_capture(size)
    fit = Fit(video, config, "cpu")
    fit.iteration = MIDDLE
    # every image that a step may draw
    for view, moment in fit.captured():
        fit.targets.get(view, moment)
    return fit


def without_kernels() -> AbstractContextManager[Any]:
    """Inside, losses and deformations compute with PyTorch's operators; the rasterizer was chosen before."""
    installed = backends.installed
    return patch("engine.backends.installed", lambda package: package != "numba" and installed(package))


def give_back() -> None:
    """Return memory that is not in use to the system, where the C library can (glibc)."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def rows_of(case: str, count: int, size: tuple[int, int] | None, repeats: int) -> Iterator[dict[str, Any]]:
    fit = training(count, size)
    width, height = fit.video.cameras.sizes[0]
    paths = {"kernels": nullcontext, "twins": without_kernels}
    times: dict[str, list[tuple[float, float]]] = {path: [] for path in paths}
    for turn in range(WARM + repeats):
        for path, context in paths.items():
            with context():
                cpu, wall = time.process_time(), time.perf_counter()
                fit.step()
                taken = time.process_time() - cpu, time.perf_counter() - wall
            if turn >= WARM:
                times[path].append(taken)
    for path, context in paths.items():
        give_back()
        reset_peak("cpu")
        with context():
            for _ in range(WARM):
                fit.step()
        peak = peak_mb("cpu")
        yield {
            "case": case,
            "gaussians": len(fit),
            "width": width,
            "height": height,
            "views": fit.config.views_per_step,
            "path": path,
            "cpu_ms": round(1e3 * min(cpu for cpu, _ in times[path]), 1),
            "wall_ms": round(1e3 * min(wall for _, wall in times[path]), 1),
            "peak_mb": round(peak),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="(always) the last line is one JSON object")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--only", choices=[case for case, _, _ in CASES], help="a single case")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for case, count, size in CASES:
        if arguments.only in (None, case):
            for row in rows_of(case, count, size, arguments.repeats):
                rows.append(row)
                print(row, file=sys.stderr)
    print(json.dumps({"rows": rows, "env": environment("cpu", SEED)}))


if __name__ == "__main__":
    main()
