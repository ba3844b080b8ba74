"""How long a moving scene takes to leave in other programs' formats and to come back, and how large the files are.

    python benchmarks/exchange.py --json [--gaussians 20000] [--frames 48] [--formats usdc usdz]

Two made scenes with spherical harmonics of degree 3: in `moves`, positions, orientations and scales change at every frame; in
`all`, opacities and colors change too. `write` and `read` are seconds of Export and Import 4D Scene, `write_cpu` and `read_cpu`
those of all threads together: on a machine with other work, they tell more.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from engine import messages as m
from engine.deform.moments import scene_of_moments
from engine.errors import InputError
from engine.scene import Gaussians, Scene4D, harmonics
from engine.scene.rigs import UPS
from engine.steps import export_scene, import_scene

SEED = 0
FPS = 24.0
FORMATS = ("usdc", "usda", "usdz")


def made_scene(count: int, frames: int, changes_all: bool) -> Scene4D:
    """A ball of `count` Gaussians that drifts apart over `frames` frames."""
    g = torch.Generator().manual_seed(SEED)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=g)

    first = Gaussians(
        means=noise(3),
        log_scales=-4 + 0.5 * noise(3),
        quats=noise(4),
        logit_opacities=2 * noise(),
        sh=torch.cat([noise(1, 3), 0.1 * noise(harmonics.bases(3) - 1, 3)], dim=1),
    )
    moments = [first]
    for _ in range(frames - 1):
        last = moments[-1]
        changed = {
            "means": last.means + 0.01 * noise(3),
            "quats": last.quats + 0.02 * noise(4),
            "log_scales": last.log_scales + 0.01 * noise(3),
        }
        if changes_all:
            changed["logit_opacities"] = last.logit_opacities + 0.05 * noise()
            changed["sh"] = last.sh + 0.01 * noise(harmonics.bases(3), 3)
        moments.append(last.with_(**changed))
    # y down, so that the export also turns
    return scene_of_moments(moments, FPS, torch.tensor(UPS["y down"]), blends=True)


def measure(scene: Scene4D, kind: str, folder: Path) -> dict[str, float]:
    """Seconds to write and to read, and the file's size in megabytes."""
    config = export_scene.Config(kind=kind)
    target = folder / f"scene{export_scene.suffix(config)}"
    start = _clocks()
    (path,) = m.result(export_scene.run(scene, config, target))
    written = _clocks()
    again = m.result(import_scene.run(path))
    read = _clocks()
    if len(again.times) != len(scene.times) or len(again.canonical) != len(scene.canonical):
        raise InputError(
            "BEN-017", f"{path.name} came back as another scene; this is a bug, please report it."
        )
    return {
        "write": written[0] - start[0],
        "write_cpu": written[1] - start[1],
        "read": read[0] - written[0],
        "read_cpu": read[1] - written[1],
        "megabytes": path.stat().st_size / 1e6,
    }


def _clocks() -> tuple[float, float]:
    """Seconds on the wall, and of all threads."""
    return time.perf_counter(), time.process_time()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--gaussians", type=int, default=20_000)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    arguments = parser.parse_args()
    report: dict[str, Any] = {"gaussians": arguments.gaussians, "frames": arguments.frames}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for case in ("moves", "all"):
                scene = made_scene(arguments.gaussians, arguments.frames, case == "all")
                for kind in arguments.formats:
                    found = measure(scene, kind, Path(folder))
                    report |= {f"{case}_{kind}_{name}": round(value, 2) for name, value in found.items()}
                    if not arguments.json:
                        print(f"{case} {kind}: " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()))
    except InputError as error:
        print(json.dumps({"error": str(error)}) if arguments.json else f"error: {error}", file=sys.stderr)
        return 1
    report["env"] = environment("cpu", SEED)
    if arguments.json:
        print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
