"""Makes docs/pictures/edited_walker.webp: the trained clip and the same clip after one sentence, side by side.

    python tools/readme_animation.py BEFORE.safetensors AFTER.safetensors

Both scenes come from the command line: `fit_scene` on the clip that ships, then `edit`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
from engine.io.scene_file import load_scene  # noqa: E402
from engine.messages import result  # noqa: E402
from engine.scene import Scene4D  # noqa: E402
from engine.steps import camera_path, render_scene  # noqa: E402

HEIGHT, WIDTH, FRAMES, FPS = 384, 288, 60, 24.0


def frames(scene: Scene4D) -> torch.Tensor:
    """[F, H, W, 3]: one orbit while the clip runs twice."""
    speed = 2 * scene.duration / (FRAMES / FPS)
    path = camera_path.Config(frames=FRAMES, fps=FPS, speed=speed, width=WIDTH, height=HEIGHT, zoom=0.95)
    return result(render_scene.run(scene, camera_path.make(scene, path), render_scene.Config())).images


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the README's animation.")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "pictures" / "edited_walker.webp")
    arguments = parser.parse_args()
    both = torch.cat([frames(load_scene(arguments.before)), frames(load_scene(arguments.after))], dim=2)
    pictures = [Image.fromarray((p.clamp(0, 1) * 255).round().byte().numpy()) for p in both]
    pictures[0].save(
        arguments.out,
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / FPS),
        loop=0,
        quality=60,
        method=6,
    )
    print(f"{arguments.out.name}: {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
