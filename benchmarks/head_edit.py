"""Heads: how well and how fast an avatar is trained, what fine-tuning wins back, and how exact region masks are.

    python benchmarks/head_edit.py --json [--data DIR] [--head-model FILE] [--max-seconds 180]

DIR has the avatar layout, with the head model beside it (`../head_model/head_model.npz`) or given; without it the bundled
capture and head are used. Held out are the capture's own test camera and test frames. "Eyes and mouth" are the pixels of the
folder's `eye_masks` and `mouth_masks` if it has them, else of the mesh's own regions. The disturbed run adds noise to the head
parameters (translation 2 mm, pose 1 degree, expression 0.05; seed 0) and trains once without and once with fine-tuning.

Not measured here yet: edits of heads (the keys `with_inpainting`, `without_inpainting`, `uncoherent`, `baseline`).
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.environment import environment
from engine import messages as m
from engine.capture.readers import LoadOptions, load_video
from engine.errors import InputError
from engine.heads import Head
from engine.io.heads import load_head
from engine.losses import psnr, ssim
from engine.masks.head_regions import draw_part
from engine.render import choose, render_gaussians
from engine.scene import MultiViewVideo, Scene4D
from engine.steps import fit_scene
from engine.train.targets import Targets

DEMO = Path(__file__).resolve().parents[1] / "assets" / "clips" / "talking_head"
PARTS = {"eyes": "eye_masks", "mouth": "mouth_masks"}
DEGREE = math.pi / 180


def stored_mask(folder: Path, frame: int, camera: int) -> Tensor | None:
    """[H, W] bool; None where the file does not exist."""
    path = folder / f"{frame:05d}_{camera:02d}.png"
    return torch.from_numpy(np.array(Image.open(path).convert("L")) > 0) if path.is_file() else None


def train(
    video: MultiViewVideo, head: Head, config: fit_scene.Config, device: str
) -> tuple[Scene4D, float, int]:
    """(scene, seconds, steps)."""
    start, done, scene = time.monotonic(), 0, None
    for message in fit_scene.run(video, config, device, head=head):
        if isinstance(message, m.Progress):
            done = message.done
        if isinstance(message, m.Finished):
            scene = message.value
    assert scene is not None
    return scene, time.monotonic() - start, done


class Measure:
    """Renders a scene at captured views and frames and compares."""

    def __init__(self, video: MultiViewVideo, data: Path, device: str) -> None:
        self.video, self.data, self.device = video, data, device
        self.rasterizer = choose("auto", device)

    def compare(self, scene: Scene4D, view: int, frame: int, head: Head) -> tuple[float, float, float | None]:
        """(PSNR, SSIM, PSNR in eyes and mouth or None where they are hidden)."""
        background = scene.background
        target = Targets(self.video, background).get(view, frame).image
        seconds = float(self.video.times[frame])
        with torch.no_grad():
            image = (
                render_gaussians(
                    scene.to(self.device).at(seconds), self.video.cameras[view], self.rasterizer, background
                )
                .rgb[0]
                .cpu()
                .clamp(0, 1)
            )
        inside = torch.zeros(image.shape[:2], dtype=torch.bool)
        for part, folder in PARTS.items():
            mask = stored_mask(self.data / folder, frame, view)
            if mask is None:
                mask = draw_part(scene, head.model, part, self.video.cameras[[view]], [seconds])[0] > 0
            inside |= mask
        local = None
        if int(inside.sum()) >= 20:
            local = -10 * math.log10(float((image[inside] - target[inside]).square().mean()))
        pair = (image.permute(2, 0, 1)[None], target.permute(2, 0, 1)[None])
        return float(psnr(*pair)), float(ssim(*pair).mean()), local

    def over(self, scene: Scene4D, views: list[int], frames: list[int], head: Head) -> dict[str, float]:
        rows = [self.compare(scene, v, f, head) for v in views for f in frames]
        local = [row[2] for row in rows if row[2] is not None]
        return {
            "psnr": sum(row[0] for row in rows) / len(rows),
            "ssim": sum(row[1] for row in rows) / len(rows),
            "eyes_mouth": sum(local) / max(len(local), 1),
        }

    def mask_iou(self, scene: Scene4D, head: Head) -> dict[str, float]:
        """Intersection over union of region masks with the folder's exact ones, over all images."""
        counts = {part: [0, 0] for part in PARTS}
        for frame, seconds in enumerate(self.video.times.tolist()):
            for part, folder in PARTS.items():
                drawn = (
                    draw_part(scene, head.model, part, self.video.cameras, [seconds] * self.video.views) > 0
                )
                for view in range(self.video.views):
                    exact = stored_mask(self.data / folder, frame, view)
                    if exact is not None:
                        counts[part][0] += int((drawn[view] & exact).sum())
                        counts[part][1] += int((drawn[view] | exact).sum())
        found = {p: both / either for p, (both, either) in counts.items() if either}
        if len(found) == len(PARTS):
            found["together"] = sum(c[0] for c in counts.values()) / sum(c[1] for c in counts.values())
        return found


def disturbed(head: Head, seed: int = 0) -> Head:
    """The head with noise on its parameters: translation 2 mm, pose 1 degree, expression 0.05."""
    g = torch.Generator().manual_seed(seed)
    sizes = {
        "translation": 2e-3,
        "expr": 0.05,
        **dict.fromkeys(("rotation", "neck_pose", "jaw_pose", "eyes_pose"), DEGREE),
    }
    changed = {
        name: (t := getattr(head.motion, name)) + size * torch.randn(t.shape, generator=g)
        for name, size in sizes.items()
    }
    return replace(head, motion=head.motion.with_(**changed))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="(always) the last line is one JSON object")
    parser.add_argument("--data", type=Path, default=DEMO, help="capture in the avatar layout")
    parser.add_argument("--head-model", type=Path, help="default: beside the capture, else the bundled head")
    parser.add_argument("--fps", type=float, default=0.0, help="frames per second; 0 = as stored")
    parser.add_argument("--max-seconds", type=float, default=180.0, help="of each training")
    parser.add_argument("--iterations", type=int, default=1600)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="without the two disturbed trainings")
    arguments = parser.parse_args()
    try:
        report = measure(arguments)
    except InputError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    print(json.dumps(report))
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    data = arguments.data
    beside = data.parent / "head_model" / "head_model.npz"
    model = arguments.head_model or (beside if beside.is_file() else None)
    video = load_video(data, LoadOptions(frames_per_second=arguments.fps))
    head = load_head(model, data, video.fps or 0.0)
    config = fit_scene.Config(
        iterations=arguments.iterations,
        max_seconds=arguments.max_seconds,
        budget=5 * len(head.model.faces) // 2,
        sh_degree=0,
        density="adaptive",
        preview_every=0,
    )
    trained_frames = [f for f in range(video.moments) if f not in video.test_moments]
    measured = Measure(video, data, arguments.device)
    scene, seconds, steps = train(video, head, config, arguments.device)
    views = measured.over(scene, list(video.test_views), trained_frames, head)
    held = list(video.test_moments)
    report: dict[str, Any] = {
        "avatar_seconds": round(seconds, 1),
        "avatar_steps": steps,
        "avatar_gaussians": len(scene.canonical),
        "avatar_psnr_views": round(views["psnr"], 2),
        "avatar_ssim_views": round(views["ssim"], 4),
        "avatar_psnr_eyes_mouth": round(views["eyes_mouth"], 2),
    }
    if held:
        again = measured.over(scene, list(range(video.views)), held, head)
        report["reenact_psnr_self"] = round(again["psnr"], 2)
    iou = {part: round(value, 4) for part, value in measured.mask_iou(scene, head).items()}
    report |= {f"region_mask_iou{'' if part == 'together' else '_' + part}": v for part, v in iou.items()}
    if not arguments.quick:
        noisy = disturbed(head)
        both: dict[str, float] = {}
        for name, rate in (("before", 0.0), ("after", 1.0)):
            tuned, _, _ = train(video, noisy, replace(config, head_lr=rate), arguments.device)
            both[name] = round(measured.over(tuned, list(video.test_views), trained_frames, head)["psnr"], 2)
        report["avatar_psnr_disturbed"] = both
    report["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return report | environment(arguments.device, config.seed)


if __name__ == "__main__":
    sys.exit(main())
