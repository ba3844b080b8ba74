"""Measure person masks on rendered people with exact masks: python training/matting/evaluate.py [--sheet FILE]

The demo captures walker and talking_head, on their own plain background and composited into a drawn room; the walker also small
in an image of 640 × 360, walking through it. The last line is a JSON object with the figures of the card.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.figures.color_maps import spread  # noqa: E402
from engine.figures.contact_sheets import sheet  # noqa: E402
from engine.masks.background_key import keyed  # noqa: E402
from engine.masks.person import person_masks  # noqa: E402
from engine.messages import returned  # noqa: E402

CLIPS = ROOT / "assets" / "clips"
WALKERS, HEADS = ("cam00", "cam03", "cam06", "cam10"), tuple(f"{i:02}" for i in range(8))
# colored boxes of the room: left, top, right, bottom as shares, and color
BOXES = (
    (0.05, 0.1, 0.25, 0.5, (0.5, 0.6, 0.8)),
    (0.7, 0.3, 0.95, 0.8, (0.35, 0.2, 0.15)),
    (0.3, 0.55, 0.42, 0.85, (0.2, 0.4, 0.25)),
    (0.55, 0.08, 0.62, 0.3, (0.9, 0.85, 0.6)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sheet", type=Path, help="image to write: frames and their masks")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    shown: list[list[Tensor]] = []
    for name, images, truth in cases():
        made = returned(person_masks(images))
        figures[name] = scores(made, truth)
        if name.startswith("small"):
            figures[name]["one_pass"] = scores(returned(person_masks(images, follows_one=False)), truth)
        for weight in (0.2, 0.4):
            figures[name][f"smoothed_{weight}"] = scores(smoothed(made, weight), truth)
        if name.endswith("own"):
            figures[name]["keyed"] = scores(returned(keyed(images))[0], truth)
        shown.append([images[0], made[0, ..., None].expand(-1, -1, 3)])
        print(name, figures[name])
    if arguments.sheet:
        chosen = spread(len(shown), 10)
        sized = [[resized(one) for one in shown[i]] for i in chosen]
        names = [list(figures)[i] for i in chosen]
        sheet(sized, names, columns=5).convert("RGB").save(arguments.sheet, quality=88)
    print(json.dumps(figures))


def cases() -> Generator[tuple[str, Tensor, Tensor], None, None]:
    """(name, images [F, H, W, 3], exact masks [F, H, W])"""
    for camera in WALKERS:
        images, masks = (video(CLIPS / "walker" / what / f"{camera}.mp4") for what in ("videos", "masks"))
        masks = masks[..., 0]
        yield f"walker {camera} own", images, masks
        yield f"walker {camera} room", over(images, masks, room(*images.shape[1:3])), masks
        wide, truth = room(360, 640)[None].repeat(len(images), 1, 1, 1), torch.zeros(len(images), 360, 640)
        for i in range(len(images)):
            place = slice(140, 348), slice(60 + 12 * i, 220 + 12 * i)
            wide[i][place] = over(images[i : i + 1], masks[i : i + 1], wide[i][place])[0]
            truth[i][place] = masks[i]
        yield f"small walker {camera} room", wide, truth
    folder = CLIPS / "talking_head"
    for view in HEADS:
        files = sorted((folder / "images").glob(f"*_{view}.*"))[::2]
        images = torch.stack([picture(file, "RGB") for file in files])
        masks = torch.stack([picture(folder / "fg_masks" / f"{file.stem}.png", "L") for file in files])
        yield f"head {view} own", images, masks
        yield f"head {view} room", over(images, masks, room(*images.shape[1:3])), masks


def over(images: Tensor, masks: Tensor, behind: Tensor) -> Tensor:
    return images * masks[..., None] + (1 - masks[..., None]) * behind


def room(height: int, width: int) -> Tensor:
    """A wall in a soft light, a floor and four boxes, with a little noise: [H, W, 3]."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    image = torch.stack([0.75 - 0.2 * x, 0.7 - 0.15 * x, 0.62 - 0.1 * x], -1) * (1 - 0.15 * y[..., None])
    image[y > 0.75] = torch.tensor([0.45, 0.33, 0.25])
    for left, top, right, bottom, color in BOXES:
        image[(x > left) & (x < right) & (y > top) & (y < bottom)] = torch.tensor(color)
    noise = torch.randn(height, width, 3, generator=torch.Generator().manual_seed(0))
    return (image + 0.02 * noise).clamp(0, 1)


def scores(made: Tensor, truth: Tensor) -> dict[str, float]:
    """Mean and worst intersection over union, mean difference, and mean difference of the changes between frames."""
    a, b = made > 0.5, truth > 0.5
    overlap = (a & b).flatten(1).sum(1) / (a | b).flatten(1).sum(1).clamp(min=1)
    flicker = ((made[1:] - made[:-1]) - (truth[1:] - truth[:-1])).abs().mean()
    numbers = {
        "iou": overlap.mean(),
        "least_iou": overlap.min(),
        "error": (made - truth).abs().mean(),
        "flicker": flicker,
    }
    return {name: round(float(value), 4) for name, value in numbers.items()}


def smoothed(masks: Tensor, weight: float) -> Tensor:
    """Exponential smoothing over time; `weight` of the frame before."""
    made = [masks[0]]
    for mask in masks[1:]:
        made.append(weight * made[-1] + (1 - weight) * mask)
    return torch.stack(made)


def video(path: Path) -> Tensor:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).float() / 255


def picture(path: Path, mode: str) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert(mode))).float() / 255


def resized(image: Tensor) -> Tensor:
    """At a height of 200 pixels, on gray to a width of 200."""
    planes = image.permute(2, 0, 1)[None]
    scale = 200 / max(image.shape[:2])
    size = (round(image.shape[0] * scale), round(image.shape[1] * scale))
    made = torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    canvas = torch.full((200, 200, 3), 0.12)
    top, left = (200 - size[0]) // 2, (200 - size[1]) // 2
    canvas[top : top + size[0], left : left + size[1]] = made
    return canvas


if __name__ == "__main__":
    main()
