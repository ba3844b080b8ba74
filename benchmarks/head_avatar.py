"""An avatar against its capture, and head parameters with noise; part of head_edit.py."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine import messages as m
from engine.heads import Head
from engine.losses import psnr, ssim
from engine.masks.head_regions import draw_part
from engine.render import choose, render_gaussians
from engine.scene import MultiViewVideo, Scene4D
from engine.steps import fit_scene
from engine.train.targets import Targets

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
