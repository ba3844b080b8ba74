"""The demo: train the clip that ships, and leave a video, the scene, a .ply of one moment and a page of pictures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .io.checkpoint import save_scene
from .io.datasets import load_video
from .io.movie import write_mp4
from .io.ply import write_ply
from .scene import Scene4D
from .steps import camera_path, evaluate_scene, fit_scene, render_scene

CLIP = Path(__file__).resolve().parents[1] / "assets" / "clips" / "walker"
SECONDS = 170.0  # for the training; the whole demo stays under five minutes on two cores

Follow = Callable[[Any, bool], Any]


def run(
    folder: Path, follow: Follow, device: str = "cpu", seconds: float = SECONDS, clip: Path = CLIP
) -> dict[str, Any]:
    """Make everything in `folder`; returns what was made and measured. `follow` runs a stream and shows its progress."""
    if not clip.is_dir():
        raise InputError(
            f"The demo clip is missing at {clip.name}/; check out the pack again, with its assets folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    video = load_video(clip)
    config = fit_scene.Config(max_seconds=seconds)
    scene: Scene4D = follow(fit_scene.run(video, config, device), False)
    trained = time.monotonic() - start
    save_scene(scene, folder / "scene.safetensors")
    write_ply(scene.at(float(scene.times[len(scene.times) // 2])), folder / "moment.ply")
    path = camera_path.make(scene, camera_path.Config(frames=72, fps=24.0, width=320, height=320))
    rendering = follow(render_scene.run(scene, path, render_scene.Config(wants_depth=False), device), False)
    write_mp4(rendering.images, rendering.fps, folder / "orbit.mp4")
    evaluation = follow(
        evaluate_scene.run(scene, video, evaluate_scene.Config(every=4, pictures=5), device), False
    )
    page(evaluation.pictures, evaluation.text(), folder / "pictures.png")
    print(evaluation.text(), file=sys.stderr)
    return {
        "folder": str(folder),
        "files": sorted(path.name for path in folder.iterdir()),
        "seconds": round(time.monotonic() - start, 1),
        "seconds_training": round(trained, 1),
        "gaussians": len(scene.canonical),
        "psnr_views": round(evaluation.summary["psnr"], 2),
    }


def page(pictures: Tensor, text: str, target: Path) -> None:
    """A sheet [K rows] of input, render, depth and error, with headings, as a .png."""
    from PIL import Image, ImageDraw

    rows, height, width = pictures.shape[:3]
    sheet = Image.new("RGB", (width, rows * height + 60), "white")
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(("input (never trained on)", "render", "depth", "error x 5")):
        draw.text((column * width // 4 + 6, 6), name, fill="black")
    draw.text((6, rows * height + 26), text.splitlines()[0], fill="black")
    pixels = (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
    for row in range(rows):
        sheet.paste(Image.fromarray(pixels[row].numpy()), (0, 20 + row * height))
    sheet.save(target)
