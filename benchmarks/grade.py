"""How exactly Grade Scene recolors a scene, against the truth of the edit and against the grade of rendered images.

    python benchmarks/grade.py --json [--scene FILE] [--data DIR] [--edits gold night] [--editor]

Without `--data`: the demo capture with exact edits applied to its frames. `DIR` holds a folder for each edit, named as the preset
(golden_hour), with `original` and `edited` (the same cameras and times, in any layout) and `instruction.txt`. A scene is
trained on the original unless `--scene` names one. `psnr`, `ssim` and `psnr_subject` compare the graded scene with the true
edited video in all views and in every `--every`-th frame; the background is kept there, as in the truth. `of_graded_images`
compares it, its background graded too, with the same grade of the unedited scene's renders: what is lost because
pixels mix Gaussians. `--editor` also edits with the bundled model and fits the scene to its views (stage 1).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.edit_data import Pair, demo_pair, load_pair
from benchmarks.environment import environment
from engine import messages as m
from engine.capture.readers import LoadOptions
from engine.color import PRESETS, Grade
from engine.diffusion.loading import embedded, load
from engine.errors import InputError
from engine.io.scene_file import load_scene, save_scene
from engine.losses import psnr
from engine.render import choose, render_gaussians
from engine.scene import Scene4D
from engine.steps import edit_views, evaluate_scene, fit_edits, fit_scene, grade_scene

EDITS = [name.replace(" ", "_") for name in PRESETS if name != "none"]
ADJUSTMENTS: dict[str, dict[str, float]] = {
    "exposure_1": {"exposure": 1.0},
    "temperature_60": {"temperature": 60.0},
    "contrast_1.4": {"contrast": 1.4},
    "saturation_1.5": {"saturation": 1.5},
}


def pairs(data: Path | None, edits: list[str]) -> dict[str, Pair]:
    """The captures and their truths. Raises InputError."""
    if data is None:
        return {name: demo_pair(name) for name in edits}
    found = {name: load_pair(data / name, LoadOptions()) for name in edits if (data / name).is_dir()}
    if not found:
        raise InputError(
            "BEN-015",
            f"{data.name} has none of the folders {', '.join(edits)}; see the first lines of this script.",
        )
    return found


def graded(scene: Scene4D, **config: Any) -> tuple[Scene4D, float]:
    """The scene graded, and the CPU seconds that it took, the preview on the node included."""
    start = time.process_time()
    made = m.result(grade_scene.run(scene, grade_scene.Config(**config)))
    return made, time.process_time() - start


@torch.no_grad()
def rendered(scene: Scene4D, every: int) -> torch.Tensor:
    """[F, H, W, 3] all views of every n-th frame."""
    rasterizer = choose("auto", scene.device)
    frames = [
        render_gaussians(scene.at(second), scene.rig, rasterizer, scene.background).rgb
        for second in scene.times.tolist()[::every]
    ]
    return torch.cat(frames).clamp(0, 1)


def against_truth(scene: Scene4D, pair: Pair, every: int) -> dict[str, float]:
    config = evaluate_scene.Config(views="all", every=every, pictures=0)
    found = m.result(evaluate_scene.run(scene, pair.edited, config)).summary
    return {key: found[key] for key in ("psnr", "ssim", "psnr_subject") if found[key] is not None}


def edited(scene: Scene4D, pair: Pair, model: Any) -> Scene4D:
    """Stage 1 with the bundled model."""
    views = m.result(
        edit_views.run(scene, model, edit_views.Config(prompt=pair.instruction, force=True), pair.original)
    )
    return m.result(fit_edits.run(scene, views, fit_edits.Config(iterations=400)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--data", type=Path, help="a folder of pairs; default: the demo capture")
    parser.add_argument(
        "--scene", type=Path, help="a scene of the original; it is trained and kept there if missing"
    )
    parser.add_argument("--edits", nargs="*", default=EDITS, choices=EDITS)
    parser.add_argument("--every", type=int, default=5, help="measure every n-th frame")
    parser.add_argument("--training-iterations", type=int, default=4300)
    parser.add_argument("--editor", action="store_true", help="also measure the bundled model and stage 1")
    arguments = parser.parse_args()
    known = pairs(arguments.data, arguments.edits)
    first = next(iter(known.values()))
    if arguments.scene is not None and arguments.scene.is_file():
        scene = load_scene(arguments.scene)
    else:
        scene = m.result(
            fit_scene.run(first.original, fit_scene.Config(iterations=arguments.training_iterations))
        )
        if arguments.scene is not None:
            save_scene(scene, arguments.scene)
    model = load(embedded()) if arguments.editor else None
    before = rendered(scene, arguments.every)
    found: dict[str, dict[str, float]] = {}

    def measure(name: str, pair: Pair | None, **config: Any) -> None:
        made, seconds = graded(scene, background="graded", **config)
        wanted = Grade(**config).apply(before)
        row = {
            "of_graded_images": psnr(rendered(made, arguments.every), wanted).mean().item(),
            "seconds": seconds,
        }
        if pair is not None:
            row["unedited"] = against_truth(scene, pair, arguments.every)["psnr"]
            row |= against_truth(graded(scene, background="kept", **config)[0], pair, arguments.every)
        if pair is not None and model is not None:
            figures = against_truth(edited(scene, pair, model), pair, arguments.every)
            row |= {f"editor_{key}": value for key, value in figures.items()}
        found[name] = {key: round(value, 4) for key, value in row.items()}
        print(name, found[name], file=sys.stderr, flush=True)

    # loads what the first grade would otherwise be measured with
    graded(scene, preset="gold")
    for name, pair in known.items():
        measure(name, pair, preset=name.replace("_", " "))
    for name, config in ADJUSTMENTS.items():
        measure(name, None, **config)
    report = {
        "gaussians": len(scene.canonical),
        "sh_degree": scene.canonical.sh_degree,
        # the unedited scene against the unedited capture: what any edit of it starts from
        "reconstruction": {
            key: round(value, 4)
            for key, value in against_truth(
                scene, replace(first, edited=first.original), arguments.every
            ).items()
        },
        "edits": found,
        "env": environment("cpu", 0),
    }
    print(json.dumps(report, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
