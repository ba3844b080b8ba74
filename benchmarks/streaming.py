"""A long scene that streams beside sequences of splat files and .4dgs: megabytes per second of playback, bake time, first frame.

    python benchmarks/streaming.py [--json] [--scene FILE] [--gaussians 10000] [--seconds 6] [--fps 24]
        [--segment-seconds 2]

Formats round different things: positions, rotations, scales, colors. What all of them share is the image, so each row has the
PSNR of images rendered from what was read back against the same images of the original scene, at captured frames from two
cameras, on the alpha and color of both. Rows of player files give the stated bound of positions too. Of a sequence, a few frames
are written and read, and sizes and seconds are scaled to all of them. `first_megabytes` is what a player has to load before it
shows the first frame, and `first_seconds` how long that takes at 20 Mbit/s.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clip import SEED, figure, report_text, scene_of, scene_parser
from benchmarks.environment import environment
from engine.io.compressed_ply_writing import write_compressed_ply
from engine.io.fourdgs import write_fourdgs
from engine.io.ply import write_ply
from engine.io.sog_writing import write_sog
from engine.io.splats import read_splat
from engine.io.spz import write_spz
from engine.messages import result
from engine.playback.player_file import read_player_file
from engine.playback.segments import SegmentedFile
from engine.render import choose, render_gaussians
from engine.scene import Gaussians, Scene4D
from engine.steps import bake_clip

# frames of a sequence that are written, and those at which images are compared
WRITTEN, COMPARED = 4, 4
PIXELS, MBIT = 400, 20.0
SEQUENCES: dict[str, tuple[str, Callable[[Gaussians, Path], object]]] = {
    "ply": (".ply", write_ply),
    "compressed ply": (".compressed.ply", write_compressed_ply),
    "sog": (".sog", write_sog),
    "spz": (".spz", write_spz),
}


def images(scene: Scene4D, gaussians: Gaussians) -> torch.Tensor:
    """[2, H, W, 4]: color and alpha from two cameras of the scene."""
    rig = scene.rig.scaled(min(1.0, PIXELS / max(scene.rig.sizes[0])))
    rasterizer, made = choose("auto"), []
    for view in (0, len(rig) // 3):
        with torch.no_grad():
            image = render_gaussians(gaussians, rig[view], rasterizer, torch.zeros(3))
        made.append(torch.cat([image.rgb[0], image.alpha[0].unsqueeze(-1)], dim=-1))
    return torch.stack(made)


def psnr(scene: Scene4D, at: Callable[[float], Gaussians], seconds: list[float]) -> float:
    """Of images at the times against those of the scene."""
    error = torch.stack(
        [(images(scene, at(t)) - images(scene, scene.at(t))).square().mean() for t in seconds]
    )
    return float(-10 * error.mean().clamp(min=1e-12).log10())


def chosen(scene: Scene4D, count: int) -> list[float]:
    times = scene.times.tolist()
    return [times[i] for i in torch.linspace(0, len(times) - 1, count).round().long().tolist()]


def sequence(scene: Scene4D, kind: str, folder: Path) -> dict[str, Any]:
    """The row of a sequence, from some of its frames."""
    ending, write = SEQUENCES[kind]
    seconds, sizes, paths = chosen(scene, WRITTEN), [], {}
    begun = time.process_time()
    for i, t in enumerate(seconds):
        paths[t] = folder / f"{i}{ending}"
        write(scene.at(t), paths[t])
        sizes.append(paths[t].stat().st_size)
    spent = (time.process_time() - begun) / len(seconds) * len(scene.times)
    size = sum(sizes) / len(sizes)
    return {
        "megabytes": size * len(scene.times) / 1e6,
        "bake_seconds": spent,
        "first_megabytes": sizes[0] / 1e6,
        "psnr": psnr(scene, lambda t: read_splat(paths[t]), seconds),
    }


def player_file(scene: Scene4D, folder: Path, segment_seconds: float, max_error: float) -> dict[str, Any]:
    """The row of a player file, in segments or in one piece."""
    begun = time.process_time()
    made = result(bake_clip.run(scene, bake_clip.Config(max_error, segment_seconds=segment_seconds)))
    path = made.save(folder / "scene.gs4dclip")
    spent, file = time.process_time() - begun, read_player_file(path)
    first = path.stat().st_size
    if isinstance(file, SegmentedFile):
        # the first frame is drawn before the first segment is there; what plays begins with that
        first = path.stat().st_size - sum(place.length for place in file.places[1:])
    return {
        "megabytes": path.stat().st_size / 1e6,
        "bake_seconds": spent,
        "first_megabytes": first / 1e6,
        "psnr": psnr(scene, file.at, chosen(scene, COMPARED)),
        "max_error": file.max_error,
    }


def fourdgs(scene: Scene4D, folder: Path) -> dict[str, Any]:
    """The row of a .4dgs file, which is not read back: positions at frames are exact but for its rounding."""
    begun = time.process_time()
    path = write_fourdgs(scene, scene.times.tolist(), folder / "scene.4dgs")
    size = path.stat().st_size / 1e6
    return {
        "megabytes": size,
        "bake_seconds": time.process_time() - begun,
        "first_megabytes": size,
        "psnr": None,
    }


def main() -> int:
    parser = scene_parser(__doc__)
    parser.set_defaults(gaussians=10_000)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--fps", type=float, default=24.0)
    parser.add_argument("--segment-seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    if arguments.scene:
        scene = scene_of(arguments)
    else:
        frames = round(arguments.seconds * arguments.fps) + 1
        times = torch.linspace(0, arguments.seconds, frames, dtype=torch.float64)
        scene = figure(arguments.gaussians, 2).with_(times=times)
    report: dict[str, Any] = {
        "gaussians": len(scene.canonical), "frames": len(scene.times), "scene_seconds": scene.duration,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {kind: sequence(scene, kind, folder) for kind in SEQUENCES}
        rows["4dgs"] = fourdgs(scene, folder)
        others = min(row["megabytes"] for row in rows.values())
        rows["one piece"] = player_file(scene, folder, 0.0, 0.002)
        rows["segments"] = player_file(scene, folder, arguments.segment_seconds, 0.002)
        rows["segments, finer"] = player_file(scene, folder, arguments.segment_seconds, 0.0005)
    for kind, row in rows.items():
        row["megabytes_per_second"] = row["megabytes"] / scene.duration
        row["first_seconds"] = row["first_megabytes"] * 8 / MBIT
        row["of_smallest"] = row["megabytes"] / others
        for figure_name, value in row.items():
            key = f"{kind}_{figure_name}".replace(" ", "_").replace(",", "")
            report[key] = round(value, 4) if isinstance(value, float) else value
    report["env"] = environment("cpu", SEED)
    report_text(report, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
