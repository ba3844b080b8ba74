"""Memory that long clips and many Gaussians take: the peak of a process of its own over what it held before.

    python benchmarks/memory.py [--json] [--only ROW ...] [--frames 240] [--gaussians 50000] [--moments 100]

Each row runs at a quarter of its size and at all of it. Kernels are compiled and libraries are loaded before the measurement.

render      a scene as a video of 1280×720 (`python -m engine render`), by frames
bake        a scene to a player file, by frames
fourdgs     a scene to a .4dgs file, by frames
load        a scene file with motion stored per frame, by frames
deform      a scene with a motion field at one time, by Gaussians
spz         one frame to an .spz, by Gaussians
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clip import figure
from benchmarks.cost import peak_mb, reset_peak
from benchmarks.environment import environment
from engine import cli
from engine.deform import PRESETS, HexPlane, HexPlaneConfig
from engine.deform.per_frame import PerFrame
from engine.io.fourdgs import write_fourdgs
from engine.io.scene_file import load_scene, save_scene
from engine.io.spz import encode_spz
from engine.messages import result
from engine.scene import Scene4D
from engine.steps import bake_clip

WIDTH, HEIGHT, SEED = 1280, 720, 0
# Gaussians of the rendered scene: images, not Gaussians, are measured
RENDERED = 5000
# what is measured
Work = Callable[[], object]


def _render(frames: int, gaussians: int, folder: Path) -> Work:
    source, target = save_scene(_with_field(gaussians, 30), folder / "scene.safetensors"), folder / "out.mp4"
    flags = f"--frames {frames} --width {WIDTH} --height {HEIGHT} --json".split()

    def work() -> None:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            if cli.main(["render", "--scene", str(source), "--out", str(target), *flags]):
                raise SystemExit(said.getvalue())

    return work


def _bake(moments: int, gaussians: int, folder: Path) -> Work:
    scene = figure(gaussians, moments)
    return lambda: result(bake_clip.run(scene)).save(folder / "scene.gs4dclip")


def _fourdgs(moments: int, gaussians: int, folder: Path) -> Work:
    scene = figure(gaussians, moments)
    return lambda: write_fourdgs(scene, scene.times.tolist(), folder / "scene.4dgs")


def _load(moments: int, gaussians: int, folder: Path) -> Work:
    scene = figure(gaussians, moments)
    frames = [scene.at(t) for t in scene.times.tolist()]
    stored = PerFrame.of(frames, scene.times)
    path = save_scene(scene.with_(canonical=frames[0], deformation=stored), folder / "scene.safetensors")
    return lambda: load_scene(path)


def _deform(gaussians: int, moments: int, folder: Path) -> Work:
    scene = _with_field(gaussians, moments)

    def work() -> None:
        with torch.no_grad():
            scene.at(0.5)

    return work


def _spz(gaussians: int, moments: int, folder: Path) -> Work:
    scene = figure(gaussians, 2)
    return lambda: encode_spz(scene.canonical, "scene.spz")


def _with_field(gaussians: int, moments: int) -> Scene4D:
    """The figure with 4D-GS's field for real captures, which moves it a little."""
    scene = figure(gaussians, moments)
    g = torch.Generator().manual_seed(SEED)
    settings = HexPlaneConfig.from_json({**PRESETS["dynerf"].to_json(), "time_range": [0.0, 2.0]})
    field = HexPlane.create(settings, scene.bounds.flip(0).float() * 1.1, g, zero_init=False)
    with torch.no_grad():
        for head in settings.heads:
            for tensor in field.head(head):
                tensor.mul_(0.02)
    return scene.with_(deformation=field)


# row → what its size counts, and what prepares it: given the size, the other number, and a folder for files
ROWS: dict[str, tuple[str, Callable[[int, int, Path], Work]]] = {
    "render": ("frames", _render),
    "bake": ("frames", _bake),
    "fourdgs": ("frames", _fourdgs),
    "load": ("frames", _load),
    "deform": ("Gaussians", _deform),
    "spz": ("Gaussians", _spz),
}


def measure(row: str, size: int, other: int) -> dict[str, float]:
    """Megabytes beyond what the process holds before, and seconds, of one row in this process."""
    prepare = ROWS[row][1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # two torch threads would keep two sets of buffers, and wait for each other on a busy machine
        torch.set_num_threads(1)
        small = (4, 500) if ROWS[row][0] == "frames" else (500, 4)
        prepare(*small, folder)()
        work = prepare(size, other, folder)
        reset_peak("cpu")
        before, start = peak_mb("cpu"), time.monotonic()
        work()
        return {
            "peak_mb": round(peak_mb("cpu") - before, 1),
            "seconds": round(time.monotonic() - start, 2),
        }


def in_process(row: str, size: int, other: int) -> dict[str, float]:
    """`measure` in a process of its own. Raises RuntimeError with what it said where it failed."""
    command = [sys.executable, __file__, "--measure", row, str(size), str(other)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{row}: {ran.stderr.strip()[-500:]}")
    return json.loads(ran.stdout.splitlines()[-1])


def run(names: list[str], frames: int, gaussians: int, moments: int) -> dict[str, Any]:
    """For each row, what it takes at a quarter of its size and at all of it."""
    report: dict[str, Any] = {}
    for row in names:
        is_by_frames = ROWS[row][0] == "frames"
        size = frames if row == "render" else moments if is_by_frames else 4 * gaussians
        other = RENDERED if row == "render" else gaussians if is_by_frames else 2
        quarter, whole = (in_process(row, each, other) for each in (max(size // 4, 2), size))
        report[row] = {
            "by": ROWS[row][0],
            "size": size,
            "quarter_mb": quarter["peak_mb"],
            "whole_mb": whole["peak_mb"],
            "quarter_seconds": quarter["seconds"],
            "whole_seconds": whole["seconds"],
        }
        if not is_by_frames:
            report[row]["bytes_per_gaussian"] = round(whole["peak_mb"] * 1e6 / size)
        print(f"{row:>8}  {report[row]}", file=sys.stderr)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--frames", type=int, default=240, help="of the rendered video")
    parser.add_argument("--gaussians", type=int, default=50_000)
    parser.add_argument("--moments", type=int, default=100, help="frames of the scenes")
    parser.add_argument("--measure", nargs=3, metavar=("ROW", "SIZE", "OTHER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        row, size, other = arguments.measure
        print(json.dumps(measure(row, int(size), int(other))))
        return 0
    rows = run(arguments.only, arguments.frames, arguments.gaussians, arguments.moments)
    report: dict[str, Any] = {"rows": rows, "env": environment("cpu", SEED)}
    if arguments.json:
        print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
