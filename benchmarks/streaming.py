"""A long scene that streams beside sequences of splat files and .4dgs: megabytes per second of playback, bake time, first frame.

    python benchmarks/streaming.py [--json] [--scene FILE] [--gaussians 10000] [--seconds 6] [--fps 24]
        [--segment-seconds 2] [--only ROW ...] [--same-error]

Formats round different things: positions, rotations, scales, colors. What all of them share is the image, so each row has the
PSNR of images rendered from what was read back against the same images of the original scene, at captured frames from two
cameras, on the alpha and color of both. Rows of player files give the stated bound of positions too. Of a sequence, a few frames
are written and read, and sizes and seconds are scaled to all of them. `first_megabytes` is what a player has to load before it
shows the first frame, and `first_seconds` how long that takes at 20 Mbit/s. Seconds of baking are CPU seconds, and
`first_segment_seconds` those until the first segment is made. `peak_mb` is the memory that baking adds to what the process held
before: run one row with --only, since others leave free memory behind.

--same-error compares each of the others with the smallest player file in segments whose images are at least as close to those of
the scene, of files with ten bounds of the error from 0.8 to 0.035 %.
"""

from __future__ import annotations

import gc
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clip import SEED, figure, report_text, scene_of, scene_parser
from benchmarks.cost import peak_mb, reset_peak
from benchmarks.environment import environment
from engine.io.compressed_ply_writing import write_compressed_ply
from engine.io.fourdgs import write_fourdgs
from engine.io.ply import write_ply
from engine.io.sog_writing import write_sog
from engine.io.splats import read_splat
from engine.io.spz import write_spz
from engine.messages import Finished, Progress
from engine.playback.bake_segments import borders
from engine.playback.player_file import read_player_file
from engine.playback.samples import MotionSamples
from engine.playback.segments import SegmentedFile
from engine.render import choose, render_gaussians
from engine.scene import Gaussians, Scene4D, harmonics
from engine.steps import bake_clip

# frames of a sequence that are written, and those at which images are compared
WRITTEN, COMPARED = 4, 4
PIXELS, MBIT = 400, 20.0
# a time in a window of a .4dgs, whose borders are rounded
INSIDE = 1e-4
# bounds of the error that --same-error tries
BOUNDS = [0.002 * 2 ** (k / 2) for k in range(4, -6, -1)]
SEQUENCES: dict[str, tuple[str, Callable[[Gaussians, Path], object]]] = {
    "ply": (".ply", write_ply),
    "compressed ply": (".compressed.ply", write_compressed_ply),
    "sog": (".sog", write_sog),
    "spz": (".spz", write_spz),
}
# row → whether the file has segments, and the bound of its error
PLAYER_FILES = {"one piece": (False, 0.002), "segments": (True, 0.002), "segments, finer": (True, 0.0005)}


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
    cuts = borders(scene.times, segment_seconds)
    first_piece = scene.with_(times=scene.times[: cuts[1] + 1]) if cuts else scene
    first_done = len(scene.times) + len(MotionSamples.moments(first_piece))
    gc.collect()
    reset_peak("cpu")
    held, begun, until_first = peak_mb("cpu"), time.process_time(), math.nan
    path = folder / "scene.gs4dclip"
    for message in bake_clip.run(scene, bake_clip.Config(max_error, segment_seconds=segment_seconds)):
        if isinstance(message, Progress) and message.done > first_done and math.isnan(until_first):
            until_first = time.process_time() - begun
        if isinstance(message, Finished):
            message.value.save(path)
    spent, peak, file = time.process_time() - begun, peak_mb("cpu") - held, read_player_file(path)
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
        "peak_mb": peak,
        "first_segment_seconds": until_first if cuts else spent,
    }


def fourdgs(scene: Scene4D, folder: Path) -> dict[str, Any]:
    """The row of a .4dgs file, read by the format's own package."""
    import fourdgs  # pyright: ignore[reportMissingTypeStubs]

    begun = time.process_time()
    path = write_fourdgs(scene, scene.times.tolist(), folder / "scene.4dgs")
    size, spent = path.stat().st_size / 1e6, time.process_time() - begun
    read, start = fourdgs.read(str(path)), float(scene.times[0])
    return {
        "megabytes": size,
        "bake_seconds": spent,
        "first_megabytes": size,
        "psnr": psnr(scene, lambda t: fourdgs_at(read, t - start), chosen(scene, COMPARED)),
    }


def fourdgs_at(read: Any, seconds: float) -> Gaussians:
    """The Gaussians of a .4dgs file at a frame."""
    state, stored = read.state_at(seconds + INSIDE), read.gaussians
    shown = state["indices"]
    colors = torch.tensor(stored.colors[shown]).float()[:, :3]
    sh = harmonics.rgb_to_dc(colors)[:, None]
    if stored.sh is not None:
        # bytes of -4 to 4, channel by channel
        rest = torch.tensor(stored.sh[shown]).float() * 8 / 255 - 4
        sh = torch.cat([sh, rest.reshape(len(shown), 3, -1).transpose(1, 2)], dim=1)
    return Gaussians(
        means=torch.tensor(state["centers"]).float(),
        log_scales=torch.tensor(stored.scales[shown]).float().log(),
        quats=torch.tensor(state["orientations"]).float()[:, [3, 0, 1, 2]],
        logit_opacities=torch.tensor(state["opacity"]).float().clamp(1e-6, 1 - 1e-6).logit(),
        sh=sh,
    )


def at_same_error(
    scene: Scene4D, rows: dict[str, dict[str, Any]], folder: Path, segment_seconds: float
) -> dict[str, Any]:
    """For each of the `rows`, the smallest player file whose PSNR is at least as high; null where none is."""
    tried = [player_file(scene, folder, segment_seconds, bound) for bound in BOUNDS]
    report: dict[str, Any] = {}
    for kind, row in rows.items():
        close = [each for each in tried if each["psnr"] >= row["psnr"]]
        best = min(close, key=lambda each: each["megabytes"]) if close else None
        name = f"same_error_{kind}".replace(" ", "_")
        report[f"{name}_of_it"] = round(best["megabytes"] / row["megabytes"], 4) if best else None
        report[f"{name}_psnr"] = round(best["psnr"], 2) if best else None
        report[f"{name}_max_error"] = round(best["max_error"], 6) if best else None
    return report


def main() -> int:
    parser = scene_parser(__doc__)
    parser.set_defaults(gaussians=10_000)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--fps", type=float, default=24.0)
    parser.add_argument("--segment-seconds", type=float, default=2.0)
    kinds = [*SEQUENCES, "4dgs", *PLAYER_FILES]
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds, metavar="ROW")
    parser.add_argument("--same-error", action="store_true", help="compare at the same PSNR, too")
    arguments = parser.parse_args()
    if arguments.scene:
        scene = scene_of(arguments)
    else:
        frames = round(arguments.seconds * arguments.fps) + 1
        times = torch.linspace(0, arguments.seconds, frames, dtype=torch.float64)
        scene = figure(arguments.gaussians, 2).with_(times=times)
    # libraries load what they need when they are first used
    small = figure(100, 2).with_(times=torch.linspace(0, 2, 25, dtype=torch.float64))
    list(bake_clip.run(small, bake_clip.Config(segment_seconds=1.0)))
    report: dict[str, Any] = {
        "gaussians": len(scene.canonical), "frames": len(scene.times), "scene_seconds": scene.duration,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        others = {kind: sequence(scene, kind, folder) for kind in SEQUENCES if kind in arguments.only}
        if "4dgs" in arguments.only:
            others["4dgs"] = fourdgs(scene, folder)
        smallest = min((row["megabytes"] for row in others.values()), default=math.nan)
        rows = dict(others)
        for kind, (is_divided, max_error) in PLAYER_FILES.items():
            if kind in arguments.only:
                seconds = arguments.segment_seconds if is_divided else 0.0
                rows[kind] = player_file(scene, folder, seconds, max_error)
        if arguments.same_error:
            report |= at_same_error(scene, others, folder, arguments.segment_seconds)
    for kind, row in rows.items():
        row["megabytes_per_second"] = row["megabytes"] / scene.duration
        row["first_seconds"] = row["first_megabytes"] * 8 / MBIT
        row["of_smallest"] = row["megabytes"] / smallest
        for figure_name, value in row.items():
            key = f"{kind}_{figure_name}".replace(" ", "_").replace(",", "")
            report[key] = round(value, 4) if isinstance(value, float) else value
    report["env"] = environment("cpu", SEED)
    report_text(report, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
