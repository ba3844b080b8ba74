"""Splat files of one frame: sizes, seconds to write and to read, and what rounding costs in images.

    python benchmarks/splat_files.py [--json] [--gaussians 100000] [--repeats 3] [--judge]

The scene is the bundled walker, each Gaussian as several smaller ones with harmonics of degree 3 until there are enough. Seconds
are those of one CPU core, the least of the repeats, so that other work on the machine counts little. PSNR is between renderings
of the scene and of what was read, over four views. With --judge, splat-transform (tools/judges, `npm ci`) writes its formats from
the same .ply for comparison.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from engine.geometry.boxes import gaussian_bounds
from engine.io.half_turns import X, half_turned
from engine.io.ply import write_ply
from engine.io.scene_file import load_scene
from engine.io.splats import WRITTEN, read_splat
from engine.io.writable import spatial_order
from engine.losses.metrics import psnr
from engine.render import choose, render_gaussians
from engine.scene import Gaussians, harmonics
from engine.scene.cameras import AT_ZERO
from engine.scene.rigs import UPS, ring_of_cameras

ROOT = Path(__file__).resolve().parents[1]
SEED, VIEWS = 0, 4
SCENE = ROOT / "assets" / "scenes" / "walker" / "walker.safetensors"
JUDGE = ROOT / "tools" / "judges" / "node_modules" / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
# files of splat-transform, with its options; for a .sog it needs minutes without a GPU
THEIRS = {
    "compressed ply": (".compressed.ply", []),
    "spz 4": (".spz", []),
    "spz": (".spz", ["--spz-version", "3"]),
    "glb": (".glb", []),
}


def made_gaussians(count: int) -> Gaussians:
    """The bundled scene's first frame in `count` Gaussians."""
    scene = load_scene(SCENE)
    g = scene.at(float(scene.times[0])).map(lambda t: t.detach())
    copies = -(-count // len(g))
    g = g.map(lambda t: t.repeat_interleave(copies, dim=0)[:count])
    generator = torch.Generator().manual_seed(SEED)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=generator)

    high = torch.nn.functional.pad(g.sh, (0, 0, 0, harmonics.bases(3) - g.sh.shape[1]))
    high = high + 0.02 * noise(harmonics.bases(3), 3)
    moved = g.means + 0.5 * g.log_scales.exp().mean(1, keepdim=True) * noise(3)
    return g.with_(means=moved, log_scales=g.log_scales - 0.4 + 0.1 * noise(3), sh=high)


def least(work: Callable[[], object], repeats: int) -> float:
    seconds: list[float] = []
    for _ in range(repeats):
        start = _cpu_seconds()
        work()
        seconds.append(_cpu_seconds() - start)
    return min(seconds)


def _cpu_seconds() -> float:
    """Of this process and those that it has waited for."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def judged(source: Path, target: Path, options: list[str]) -> None:
    """Convert a file with splat-transform, on the CPU."""
    command = ["node", str(JUDGE), "-w", "-q", "-g", "cpu", "--max-workers", "0", *options]
    subprocess.run([*command, str(source), str(target)], check=True, capture_output=True)


def measure(g: Gaussians, name: str, folder: Path, repeats: int, has_judge: bool) -> dict[str, float]:
    form = WRITTEN[name]
    path = folder / f"a{form.suffix}"
    ordered = g.map(lambda t: t[spatial_order(g.means)]) if form.sorts else g
    made = {
        "write_s": least(lambda: form.write(ordered, path, AT_ZERO), repeats),
        "read_s": least(lambda: read_splat(path), repeats),
        "megabytes": path.stat().st_size / 1e6,
        "psnr": likeness(read_splat(path), g),
    }
    if has_judge and name in THEIRS:
        ending, options = THEIRS[name]
        source, theirs = write_ply(g, folder / "source.ply"), folder / f"theirs{ending}"
        made["judge_write_s"] = least(lambda: judged(source, theirs, options), 1)
        made["judge_megabytes"] = theirs.stat().st_size / 1e6
        again = read_splat(theirs)
        # splat-transform stores .spz files in the axes of a .ply
        made["judge_psnr"] = likeness(half_turned(again, X) if form.suffix == ".spz" else again, g)
    return made


def likeness(again: Gaussians, g: Gaussians) -> float:
    """PSNR of renderings, at most 99 dB."""
    rig = ring_of_cameras(gaussian_bounds(g.means), torch.tensor(UPS["y down"], dtype=torch.float64))
    cameras = rig[list(range(0, len(rig), max(1, len(rig) // VIEWS)))]
    drawn, wanted = (
        render_gaussians(each, cameras, choose("auto"), torch.ones(3)).rgb.permute(0, 3, 1, 2)
        for each in (again, g)
    )
    return min(float(psnr(drawn, wanted).mean()), 99.0)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--gaussians", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--judge", action="store_true", help="measure splat-transform too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        report: dict[str, Any] = {"gaussians": arguments.gaussians}
        g = made_gaussians(arguments.gaussians)
        for name in WRITTEN:
            found = measure(g, name, Path(folder), arguments.repeats, arguments.judge)
            report |= {f"{name.replace(' ', '_')}_{key}": round(value, 3) for key, value in found.items()}
    report["env"] = environment("cpu", SEED)
    if arguments.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
