"""The bundled clip of an unseen made scene, whose first frame is the example image of Generate 4D from Image.

python -m training.reconstruction.clip --scene 0 --out assets/clips/made_scene
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from engine.files.mp4 import write_mp4

from .data import HELD_OUT_SEED
from .scenes import SceneShape, make_scene
from .views import camera_path, photograph

# four times the size that the small models were trained with
PIXELS, FPS = 256, 8.0


def write(index: int, out: Path, shape: SceneShape = SceneShape()) -> Path:
    """Write the video of an unseen scene along its path: scene and path are those of `evaluate.held_out`.

    Args:
        index: Of the scene.
        out: A folder; the video has its name.
        shape: What scenes are like.
    """
    seed = HELD_OUT_SEED + index
    scene = make_scene(seed, shape)
    path = camera_path(scene, torch.Generator().manual_seed(seed), PIXELS)
    images = [photograph(scene, t, path, t)[0] for t in range(shape.frames)]
    out.mkdir(parents=True, exist_ok=True)
    return write_mp4(images, FPS, out / f"{out.name}.mp4", crf=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print(write(options.scene, options.out))


if __name__ == "__main__":
    main()
