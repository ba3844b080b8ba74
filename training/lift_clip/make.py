"""The bundled clip with depth: a figure walks through a room, filmed by a moving camera.

python -m training.lift_clip.make --out assets/clips/room
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from engine.capture.depth_maps import UNIT
from engine.files.mp4 import write_mp4

from .cameras import handheld
from .stage import FPS, Shot, make_stage

FRAMES, SIZE = 24, (256, 192)


def write(out: Path, frames: int = FRAMES, size: tuple[int, int] = SIZE) -> dict[str, float]:
    """Write a video (.mp4) and a folder of its depth (16-bit PNG, millimeters), both named as the folder.

    Args:
        out: The folder.
        frames: Number of frames.
        size: Width and height in pixels.

    Returns:
        Figures for the card.
    """
    stage, cameras = make_stage(frames), handheld(frames, size)
    shots: list[Shot] = [stage.shoot(t, cameras, t) for t in range(frames)]
    depth = out / f"{out.name}_depth"
    depth.mkdir(parents=True, exist_ok=True)
    write_mp4([shot.image for shot in shots], FPS, out / f"{out.name}.mp4", crf=14)
    for t, shot in enumerate(shots):
        _write_depth(shot.depth, depth / f"{t:02}.png")
    return {
        "frames": frames,
        "moving": round(float(np.mean([float(shot.moves.float().mean()) for shot in shots])), 4),
        "nearest": round(min(float(shot.depth.min()) for shot in shots), 2),
        "farthest": round(max(float(shot.depth.max()) for shot in shots), 2),
        "mb": round(sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6, 3),
    }


def _write_depth(depth: Tensor, path: Path) -> None:
    values = (depth.double().numpy() / UNIT).round().clip(0, 65535).astype(np.uint16)
    Image.fromarray(values).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("WIDTH", "HEIGHT"))
    options = parser.parse_args()
    print(json.dumps(write(options.out, options.frames, tuple(options.size))))


if __name__ == "__main__":
    main()
