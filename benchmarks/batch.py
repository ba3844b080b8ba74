"""What a batch adds to its commands: the time of a job that does next to nothing, of checking a large job file, and of a stop.

    python benchmarks/batch.py --json [--jobs 6] [--ray] [--cancels 5]

Each job recolors the bundled scene (25,000 Gaussians), alone in its process. `seconds_per_job` is the time of the batch by its
jobs, `of_the_verb` the part that the verb itself reports, `skipped_seconds` the time of the same batch when all is done.
`plan_seconds` is reading and checking a file of `--planned` jobs. `--ray` runs the jobs on a Ray of this machine too;
`progress_bytes_per_second` is what one running job sends through it, at most.

`--cancels N` stops a batch of trainings N times with Ctrl-C, on this machine, on a Ray started for it, and on a Ray of two nodes
that was there before, by its address and as a Ray client (Linux; `--jobs 0` measures nothing else). In seconds after the
signal, for each stop: `jobs` until no training runs, `command` until the command has ended, `all` until no process that it
started runs. `kept` is the trainings that were running and have a checkpoint written after the signal.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from engine import messages as m
from engine.cli import verbs
from engine.cli.progress import FOR_PROGRAMS
from engine.cluster import read_jobs, run
from engine.cluster.sessions import members

ROOT = Path(__file__).resolve().parents[1]
SCENE = ROOT / "assets" / "scenes" / "walker" / "walker.safetensors"
TRAININGS = """
folder: out
jobs:
  train:
    run: fit-scene
    matrix: {{seed: [1, 2, 3]}}
    data: {data}
    scale: 0.25
    budget: 5000
    iterations: 200000
    checkpoint_seconds: 2
    device: cpu
    seed: "{{seed}}"
    out: "{{seed}}.safetensors"
"""
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


@contextmanager
def two_nodes() -> Generator[tuple[str, str], None, None]:
    """A Ray of two nodes with one CPU each: its address, and that for Ray clients."""
    from ray.cluster_utils import Cluster

    # sockets have short paths
    with tempfile.TemporaryDirectory(prefix="gs4d", ignore_cleanup_errors=True) as folder:
        os.environ.update(RAY_TMPDIR=folder, RAY_USAGE_STATS_ENABLED="0")
        Path(folder, "ray").mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}
        head = {**node, "include_dashboard": False, "ray_client_server_port": port}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.add_node(**node)
            yield str(cluster.address), f"ray://127.0.0.1:{port}"
        finally:
            cluster.shutdown()


def stopped(folder: Path, count: int, address: str) -> dict[str, Any]:
    """Stop a batch by Ctrl-C when `count` trainings have written a checkpoint."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "trainings.yaml").write_text(TRAININGS.format(data=ROOT / "assets" / "clips" / "walker"))
    words = [
        "-m",
        "engine",
        "batch",
        str(folder / "trainings.yaml"),
        *(["--address", address] if address else []),
    ]
    batch = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while len(written := list((folder / "out").glob("*.training.safetensors"))) < count:
        if batch.poll() is not None:
            raise SystemExit("the batch ended by itself")
        time.sleep(0.1)
    mark = f"--out={folder / 'out'}{os.sep}".encode()
    table = processes()
    trainings = {number for number, (_, words) in table.items() if mark in words}
    # of these, one speaks with Ray, and leads the session of a Ray that it started
    children = {number for number, (parent, _) in table.items() if parent == batch.pid}
    started = trainings | children | {number for child in children for number in members(child)}
    found: dict[str, Any] = {"load": os.getloadavg()[0]}
    start, at = time.monotonic(), time.time()
    batch.send_signal(signal.SIGINT)
    while len(found) < 4:
        seconds = round(time.monotonic() - start, 2)
        living = started & processes().keys()
        if not living & trainings:
            found.setdefault("jobs", seconds)
        if batch.poll() is not None:
            found.setdefault("command", seconds)
            if not living:
                found["all"] = seconds
        time.sleep(0.005)
    found["kept"] = sum(path.stat().st_mtime > at for path in written)
    return found


def processes() -> dict[int, tuple[int, bytes]]:
    """Parent and command line of each process that has not ended."""
    found: dict[int, tuple[int, bytes]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(place.name)] = int(parent), (place / "cmdline").read_bytes()
    return found


def cancels(folder: Path, repeats: int) -> dict[str, Any]:
    found = {
        "on this machine": [stopped(folder, 1, "") for _ in range(repeats)],
        "on a Ray started for it": [stopped(folder, 2, "local") for _ in range(repeats)],
    }
    with two_nodes() as (address, client):
        found["on a Ray of two nodes"] = [stopped(folder, 2, address) for _ in range(repeats)]
        found["as a Ray client"] = [stopped(folder, 2, client) for _ in range(repeats)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--planned", type=int, default=1000)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--cancels", type=int, default=0)
    options = parser.parse_args()
    found: dict[str, Any] = {"jobs": options.jobs, "planned": options.planned}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copy(SCENE, folder)
        start = time.monotonic()
        read_jobs(job_file(folder, options.planned), verbs())
        found["plan_seconds"] = round(time.monotonic() - start, 2)
        if options.jobs:
            found["local"] = measured(folder, options.jobs, "local")
        if options.jobs and options.ray:
            found["ray"] = measured(folder, options.jobs, "ray")
        if options.cancels:
            found["cancels"] = cancels(folder, options.cancels)
    found["progress_bytes_per_second"] = round(len(json.dumps(LINE)) / FOR_PROGRAMS)
    found["env"] = environment("cpu", 0)
    print(json.dumps(found, indent=None if options.json else 1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
