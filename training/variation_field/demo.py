"""The bundled video and splat: a toy that no training saw, from the camera that the model assumes.

python -m training.variation_field.demo --seed 10000003 --out assets/clips/toy
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from engine.files.mp4 import write_mp4
from engine.io.ply import write_ply

from . import pictures
from .data import HELD_OUT_SEED, make_clip

SIZE, FPS = 256, 8.0


def write(family: str, seed: int, out: Path) -> dict[str, float]:
    """Write a video (.mp4) and a splat (.ply), both named as the folder.

    Args:
        family: A procedural family.
        seed: At least HELD_OUT_SEED.
        out: The folder.

    Returns:
        Figures for the card.
    """
    if seed < HELD_OUT_SEED:
        raise ValueError(f"seed {seed} may have been trained on; use one from {HELD_OUT_SEED} on")
    out.mkdir(parents=True, exist_ok=True)
    clip = make_clip(family, seed)
    camera = replace(pictures.INPUT, image_size=SIZE).cameras()
    with torch.no_grad():
        frames = torch.cat([pictures.image(clip.at(t), camera) for t in range(len(clip.deltas))])
    write_mp4(list(frames.clamp(0, 1)), FPS, out / f"{out.name}.mp4", crf=12)
    write_ply(clip.at(0), out / f"{out.name}.ply")
    move = clip.deltas[1:, :, :3].norm(dim=-1)
    return {
        "gaussians": len(clip.canonical),
        "frames": len(frames),
        "mean_motion": round(float(move.mean()), 3),
        "largest_motion": round(float(move.max()), 3),
        "mb": round(sum(f.stat().st_size for f in out.glob("*")) / 1e6, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=["limbed", "bending"], default="limbed")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED + 3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print(json.dumps(write(options.family, options.seed, options.out)))


if __name__ == "__main__":
    main()
