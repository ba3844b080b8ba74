"""What a player file costs: megabytes, error, seconds; and what importing the pack adds to ComfyUI's startup.

    python benchmarks/clip.py [--json] [--scene FILE] [--max-error 0.002] [--gaussians 50000] [--moments 48]

Without --scene, a figure is generated: a static floor and body, two arms and two legs of two links each that swing
out of phase, each Gaussian rotating with its limb. Errors are measured by reading the written file again and evaluating
it at every captured frame. `import_seconds` is null where no ComfyUI is found (`make comfy-env`, or COMFYUI_PATH).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from engine.errors import InputError
from engine.io.scene_file import load_scene
from engine.messages import result
from engine.playback.player_file import read_player_file
from engine.scene import Gaussians, Scene4D, harmonics, rotations
from engine.scene.rigs import ring_of_cameras
from engine.steps import bake_clip

ROOT = Path(__file__).resolve().parents[1]
SEED, SECONDS = 0, 2.0
# start of a limb, its swing axis, length of a link, amplitude and phase
LIMBS = (
    ((0.22, 0.0, 0.55), (1.0, 0.1, 0.0), 0.32, 0.9, 0.0),
    ((-0.22, 0.0, 0.55), (1.0, -0.1, 0.0), 0.32, 0.9, math.pi),
    ((0.12, 0.0, 0.0), (1.0, 0.0, 0.1), 0.42, 0.7, math.pi),
    ((-0.12, 0.0, 0.0), (1.0, 0.0, -0.1), 0.42, 0.7, 0.0),
)


class Limbs:
    """Known motion: each Gaussian of a limb rotates about the shoulder, and those beyond the elbow also about the elbow."""

    kind = "limbs"

    def __init__(self, limb: Tensor) -> None:
        self.limb = limb  # [N]: −1 is static, else the index of the limb

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        means, quats = gaussians.means.clone(), rotations.normalise(gaussians.quats)
        phase = 2 * math.pi * seconds / SECONDS
        for i, (start, axis, length, reach, offset) in enumerate(LIMBS):
            mine = self.limb == i
            upper, lower = reach * math.sin(phase + offset), 0.6 * reach * (1 + math.sin(phase + offset + 1))
            elbow = torch.tensor(start) - torch.tensor([0, 0, length])
            below = mine & (gaussians.means[:, 2] < elbow[2])
            for chosen, pivot, angle in ((below, elbow, lower), (mine, torch.tensor(start), upper)):
                rows = chosen.nonzero()[:, 0]
                half = torch.nn.functional.normalize(torch.tensor(axis), dim=0) * math.sin(angle / 2)
                turn = torch.cat([torch.tensor([math.cos(angle / 2)]), half])
                means[rows] = (means[rows] - pivot) @ rotations.quats_to_matrices(turn).T + pivot
                quats[rows] = rotations.multiply(turn.expand(len(rows), 4), quats[rows])
        return gaussians.with_(means=means, quats=quats)

    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return {"limb": self.limb}

    def to(self, device: torch.device | str) -> Limbs:
        return Limbs(self.limb.to(device))


def figure(count: int, moments: int, seed: int = SEED) -> Scene4D:
    """`count` Gaussians, 44 % of them in limbs, at `moments` frames."""
    g = torch.Generator().manual_seed(seed)
    limb = torch.full((count,), -1)
    limb[: int(0.44 * count)] = torch.arange(int(0.44 * count)) % len(LIMBS)
    points = torch.randn(count, 3, generator=g) * torch.tensor([0.12, 0.08, 0.2]) + torch.tensor([0, 0, 0.3])
    floor = (torch.rand(count, generator=g) < 0.5) & (limb < 0)
    points[floor] = (torch.rand(int(floor.sum()), 3, generator=g) - 0.5) * torch.tensor([1.6, 1.6, 0.02])
    points[floor, 2] -= 0.86
    for i, (start, _, length, _, _) in enumerate(LIMBS):
        rows = limb == i
        along = torch.rand(int(rows.sum()), 1, generator=g) * 2 * length
        around = torch.randn(int(rows.sum()), 2, generator=g) * 0.035
        points[rows] = torch.tensor(start) + torch.cat([around, -along], dim=1)
    sh = 0.1 * torch.randn(count, 4, 3, generator=g)
    sh[:, 0] = harmonics.rgb_to_dc(torch.rand(count, 3, generator=g))
    gaussians = Gaussians(
        means=points,
        log_scales=torch.randn(count, 3, generator=g) * 0.5 - 4.6,
        quats=torch.randn(count, 4, generator=g),
        logit_opacities=torch.randn(count, generator=g) * 1.5 + 1,
        sh=sh,
    )
    bounds = torch.tensor([[-0.8, -0.8, -0.9], [0.8, 0.8, 0.9]], dtype=torch.float64)
    times = torch.linspace(0, SECONDS, moments, dtype=torch.float64)
    rig = ring_of_cameras(bounds, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    return Scene4D(gaussians, Limbs(limb), times, rig, bounds, torch.ones(3))


def measure(scene: Scene4D, config: bake_clip.Config, folder: Path) -> dict[str, Any]:
    """Bake, write, read again, and compare at every captured frame."""
    begun = time.perf_counter()
    baked = result(bake_clip.run(scene, config))
    path = baked.save(folder / "scene.gs4dclip")
    seconds = time.perf_counter() - begun
    clip = read_player_file(path)
    distances = []
    with torch.no_grad():
        for t in scene.times.tolist():
            truth = scene.at(t).means[baked.indices].double()
            distances.append((clip.at(t).means.double() - truth).norm(dim=-1) / clip.radius)
    distance = torch.stack(distances)
    motion = clip.motion
    return {
        "gaussians": len(clip.base),
        "moving": clip.moving,
        "moments": len(clip.times),
        "knots": 0 if motion is None else len(motion.knots),
        "interpolation": None if motion is None else motion.interpolation,
        "tracks": [] if motion is None else list(motion.tracks),
        "megabytes": round(path.stat().st_size / 1e6, 3),
        "max_error": float(distance.max()),
        "mean_error": float(distance.mean()),
        "stated_max_error": clip.max_error,
        "radius": clip.radius,
        "bake_seconds": round(seconds, 2),
        "notes": list(clip.notes),
    }


def import_seconds() -> float | None:
    """CPU seconds to import the pack in a process that has ComfyUI's own modules loaded; or None."""
    sys.path.insert(0, str(ROOT / "tests" / "nodes"))
    import write_contracts

    try:
        return round(float(write_contracts.ask("import")["seconds"]), 3)
    except (RuntimeError, OSError):
        return None


def scene_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that `scene_of` reads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--scene", help="a scene file of this pack (default: a generated figure)")
    parser.add_argument("--gaussians", type=int, default=50_000)
    parser.add_argument("--moments", type=int, default=48)
    return parser


def scene_of(arguments: argparse.Namespace) -> Scene4D:
    if arguments.scene:
        return load_scene(arguments.scene)
    return figure(arguments.gaussians, arguments.moments)


def report_text(report: dict[str, Any], as_json: bool) -> None:
    """Print the figures as JSON or as text."""
    if as_json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:>18}  {value}")


def main() -> int:
    parser = scene_parser(__doc__)
    parser.add_argument("--max-error", type=float, default=bake_clip.Config().max_error)
    arguments = parser.parse_args()
    try:
        config = bake_clip.Config(max_error=arguments.max_error)
        with tempfile.TemporaryDirectory() as folder:
            report = measure(scene_of(arguments), config, Path(folder))
    except InputError as error:
        print(json.dumps({"error": str(error)}) if arguments.json else f"error: {error}", file=sys.stderr)
        return 1
    report |= {"import_seconds": import_seconds(), "env": environment("cpu", SEED)}
    report_text(report, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
