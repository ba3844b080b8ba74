"""Milliseconds of a training step with one process and with several that share its views, or divide its Gaussians.

    python benchmarks/ranks.py [--processes 1 2] [--views 4] [--gaussians 12000] [--scale 1.0] [--steps 300] [--shard] [--json]

Trains the demo capture with every process on one thread, torchrun's default. `ms` is the wall time of a step after the first
third, which compiles and reads; `trained_mb` is what a process holds of the Gaussians: parameters, Adam's memory, averages.
With `--shard`, several processes have some of the Gaussians each. Processes on one machine share its cores, so that the figures
say what sharing costs there, not how several machines scale.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from engine.capture.readers import LoadOptions, load_video
from engine.messages import Progress
from engine.steps.fit_scene import Config, FitScene
from engine.train import ranks

CLIP = Path(__file__).resolve().parents[1] / "assets" / "clips" / "walker"


def measure(views: int, gaussians: int, scale: float, steps: int) -> dict[str, float]:
    """One process's part of a training."""
    video = load_video(str(CLIP), LoadOptions(scale=scale))
    config = Config(
        iterations=steps,
        budget=gaussians,
        initial_count=gaussians,
        views_per_step=views,
        coarse_fraction=0.0,
        start_scale=1.0,
        preview_every=0,
    )
    work = FitScene(video, config, "cpu")
    marks: list[float] = []
    for message in work.stream("", None):
        if isinstance(message, Progress):
            marks.append(time.perf_counter())
    later = marks[steps // 3 :]
    tensors = [*work.parameters.state().values(), *work.averages.means.values()]
    return {
        "ms": round(1000 * (later[-1] - later[0]) / (len(later) - 1), 2),
        "trained_mb": round(sum(tensor.nbytes for tensor in tensors) / 1e6, 2),
    }


def _worker(settings: dict[str, Any], target: Path, shard: bool) -> None:
    if not ranks.launched():
        target.write_text(json.dumps(measure(**settings)))
        return
    with ranks.joined("cpu", is_sharded=shard) as joined:
        found = measure(**settings)
        if joined.leads:
            target.write_text(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--gaussians", type=int, default=12_000)
    parser.add_argument("--scale", type=float, default=1.0, help="of the images")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--shard", action="store_true", help="divide the Gaussians among the processes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = ("views", "gaussians", "scale", "steps")
    settings = {name: getattr(options, name) for name in names}
    if options.worker:
        _worker(settings, options.worker, options.shard)
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "report.json"
        for count in options.processes:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
            words = [word for name in names for word in (f"--{name}", str(settings[name]))]
            words += ["--shard"] * options.shard
            subprocess.run(
                [sys.executable, *launcher, __file__, *words, "--worker", str(target)],
                check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            rows.append({"processes": count, **settings, **json.loads(target.read_text())})
    if options.json:
        print(json.dumps({"rows": rows, "env": environment("cpu", 0)}))
    else:
        for row in rows:
            print(row)


if __name__ == "__main__":
    main()
