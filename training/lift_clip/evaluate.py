"""How well the bundled clip is lifted, and refined by Train 4D Scene: PSNR beside the path, against the true room.

python -m training.lift_clip.evaluate assets/clips/room/room.mp4 --iterations 150
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.capture.depth_maps import UNIT
from engine.capture.single_video import depth_beside, load_clip
from engine.io.image_files import load_depth_images
from engine.messages import result
from engine.render import choose, render_gaussians
from engine.scene import Cameras, Scene4D
from engine.steps import fit_scene, lift_video
from engine.train.config import FitConfig

from .cameras import beside, handheld
from .stage import Shot, make_stage

# of the shipped workflow
REFINEMENT = FitConfig(
    motion="per_frame",
    density="none",
    sh_degree=0,
    start_scale=1.0,
    views_per_step=1,
    position_lr=5e-5,
    scale_lr=3e-3,
    rotation_lr=3e-4,
    opacity_lr=5e-3,
    color_lr=5e-3,
    depth_weight=0.1,
    track_weight=0.5,
    preview_every=0,
)
# frames that are looked at, and coverage from which a pixel was seen by the clip
SHOWN, COVERED = (3, 9, 15, 21), 0.9


def held_out(scene: Scene4D, size: tuple[int, int], degrees: float) -> Cameras:
    """Cameras beside the path in the world of the lifted scene: moved as the true ones are, at the scene's scale."""
    frames = len(scene.times)
    path, wanted, rig = handheld(frames, size), beside(frames, size, degrees), scene.rig
    assert rig is not None
    step = wanted.world_to_camera.double() @ torch.linalg.inv(path.world_to_camera.double())
    lengths = [c.centers.double().diff(dim=0).norm(dim=1).sum() for c in (rig, path)]
    step[:, :3, 3] *= lengths[0] / lengths[1]
    return Cameras(step @ rig.world_to_camera.double(), rig.K, rig.sizes, rig.names)


def measured(scene: Scene4D, truth: dict[float, list[Shot]], size: tuple[int, int]) -> dict[str, Any]:
    """PSNR of whole images, of what the clip covers, and of what moves and what stays within that."""
    found: dict[str, Any] = {}
    for degrees, shots in truth.items():
        cameras = held_out(scene, size, degrees)
        sums: dict[str, list[Tensor]] = {"all": [], "covered": [], "moving": [], "still": []}
        shares: list[float] = []
        for t, shot in zip(SHOWN, shots, strict=True):
            drawn = render_gaussians(
                scene.at(float(scene.times[t])), cameras[t], choose("auto"), scene.background
            )
            error = (drawn.rgb[0].clamp(0, 1) - shot.image).square().mean(-1)
            covered = drawn.alpha[0] > COVERED
            shares.append(float(covered.float().mean()))
            parts = (torch.ones_like(covered), covered, covered & shot.moves, covered & ~shot.moves)
            for values, part in zip(sums.values(), parts, strict=True):
                values.append(error[part])
        found[f"{degrees:g}"] = {
            **{name: round(float(-10 * torch.cat(v).mean().log10()), 2) for name, v in sums.items()},
            "coverage": round(sum(shares) / len(shares), 3),
        }
    return found


def true_shots(frames: int, size: tuple[int, int], degrees: float) -> list[Shot]:
    """What cameras beside the path really see, at the frames that are looked at."""
    stage, cameras = make_stage(frames), beside(frames, size, degrees)
    return [stage.shoot(t, cameras, t) for t in SHOWN]


def refined(made: lift_video.Lifted, config: FitConfig) -> tuple[Scene4D, float]:
    """The scene after training from it, and seconds."""
    begun = time.perf_counter()
    scene = result(fit_scene.run(made.video, config, start=made.scene))
    return scene, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--degrees", type=float, nargs="+", default=[0.0, 10.0, -10.0])
    parser.add_argument("--iterations", type=int, default=150, help="of the refinement; 0: none")
    parser.add_argument("--fov", type=float, default=0.0, help="horizontal field of view; 0: solved")
    options = parser.parse_args()
    frames, fps, _ = load_clip(options.clip)
    folder = depth_beside(options.clip)
    assert folder is not None, f"{options.clip} has no depth beside it"
    depth = load_depth_images(folder, UNIT)
    size = (frames.shape[2], frames.shape[1])
    truth = {degrees: true_shots(len(frames), size, degrees) for degrees in options.degrees}
    begun = time.perf_counter()
    config = lift_video.Config(depth_kind="depth", frames_per_second=fps, fov=options.fov)
    made = result(lift_video.run(frames, depth, config=config))
    numbers: dict[str, Any] = {"lift_seconds": round(time.perf_counter() - begun, 1)}
    print(made.note)
    numbers["lift"] = measured(made.scene, truth, size)
    if options.iterations:
        scene, seconds = refined(made, replace(REFINEMENT, iterations=options.iterations))
        numbers |= {"refine_seconds": round(seconds, 1), "refined": measured(scene, truth, size)}
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
