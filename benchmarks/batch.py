"""What a batch adds to its commands: the time of a job that does next to nothing, and of checking a large job file.

    python benchmarks/batch.py --json [--jobs 6] [--ray]

Each job recolors the bundled scene (25,000 Gaussians), alone in its process. `seconds_per_job` is the time of the batch by its
jobs, `of_the_verb` the part that the verb itself reports, `skipped_seconds` the time of the same batch when all is done.
`plan_seconds` is reading and checking a file of `--planned` jobs. `--ray` runs the jobs on a Ray of this machine too;
`progress_bytes_per_second` is what one running job sends through it, at most.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from engine import messages as m
from engine.cli import verbs
from engine.cli.progress import FOR_PROGRAMS
from engine.cluster import read_jobs, run

SCENE = Path(__file__).resolve().parents[1] / "assets" / "scenes" / "walker" / "walker.safetensors"
LINE = {
    "event": "progress",
    "done": 1234,
    "total": 4000,
    "gaussians": 20000,
    "losses": {"l1": 0.0123456789, "loss": 0.0123456789},
}


def job_file(folder: Path, count: int) -> Path:
    file = folder / "jobs.yaml"
    exposures = [round(i / count, 5) for i in range(count)]
    lines = ["folder: out", "jobs:", "  grade:", "    run: grade", f"    matrix: {{exposure: {exposures}}}"]
    lines += [
        "    scene: walker.safetensors",
        '    exposure: "{exposure}"',
        '    out: "{exposure}.safetensors"',
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def measured(folder: Path, count: int, on: str) -> dict[str, float]:
    shutil.rmtree(folder / "out", ignore_errors=True)
    jobs = read_jobs(job_file(folder, count), verbs())
    start = time.monotonic()
    report = m.result(run(jobs, on=on))
    seconds = time.monotonic() - start
    if report["done"] != count:
        raise SystemExit(f"only {report['done']} of {count} jobs ended well")
    start = time.monotonic()
    m.result(run(jobs, on=on))
    return {
        "seconds": round(seconds, 2),
        "seconds_per_job": round(seconds / count, 2),
        "of_the_verb": round(sum(job["report"]["seconds"] for job in report["jobs"]) / count, 2),
        "skipped_seconds": round(time.monotonic() - start, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--planned", type=int, default=1000)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {"jobs": options.jobs, "planned": options.planned}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copy(SCENE, folder)
        start = time.monotonic()
        read_jobs(job_file(folder, options.planned), verbs())
        found["plan_seconds"] = round(time.monotonic() - start, 2)
        found["local"] = measured(folder, options.jobs, "local")
        if options.ray:
            found["ray"] = measured(folder, options.jobs, "ray")
    found["progress_bytes_per_second"] = round(len(json.dumps(LINE)) / FOR_PROGRAMS)
    found["env"] = environment("cpu", 0)
    print(json.dumps(found, indent=None if options.json else 1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
