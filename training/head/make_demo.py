"""Make the demo capture of the bundled head: images, masks and parameters in the layout of GaussianAvatars.

    python -m training.head.make_demo --out assets/clips/talking_head
    python -m training.head.make_demo --out somewhere --size 550x802 --cameras 16 --frames 150 --suffix png

Nothing is random: the same package versions write the same bytes. --regions also writes which part each pixel shows. The
last line of the output is a JSON object with the capture's figures.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from engine.files.npzfile import write_arrays
from engine.heads import HeadModel, HeadMotion
from engine.io.heads import bundled_head, read_head_model
from engine.masks.head_regions import part_faces
from engine.scene import Cameras

from .make_head import encoded
from .performance import PERIOD, Performance, answer, talk
from .picture import Floats, Sky, draw, light, normals

FPS = 12
HELD_OUT_FRAMES = 0.25  # the last of them
HAIR = 0.009  # meters of hair where it is thickest
# identity coefficients by component, in standard deviations
PERSON = {0: -0.5, 1: 0.7, 2: -0.9, 3: 0.8, 4: -0.6, 5: 0.5, 6: 0.9, 7: -0.4, 8: 0.5, 10: -0.6}
DRIVER = {0: 0.9, 1: -0.8, 2: 0.6, 3: -1.0, 4: 0.7, 5: -0.9, 7: 0.8, 9: -0.6, 11: 0.5}
# parts with the ids 1 to 8, later ones win where two meet
REGIONS = ("skin", "hair", "brows", "lips", "mouth interior", "teeth", "left eye", "right eye")
# of the rig: azimuths go from side to side in a zigzag of heights
ARC, DISTANCE, TARGET = 75.0, 1.0, np.array([0.0, -0.022, 0.02])
HEIGHTS, FROM_ABOVE = (4.0, 16.0), 42.0
SEEN = 0.385  # meters of height that an image shows
JPEG = {"quality": 94, "subsampling": 0, "optimize": True}


@dataclass(frozen=True)
class Shoot:
    """What is written, and how finely."""

    out: Path
    head: Path
    width: int = 192
    height: int = 256
    cameras: int = 8
    frames: int = 24
    suffix: str = "jpg"
    supersampling: int = 3
    regions: bool = False
    lights: int = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--head", type=Path, default=bundled_head(), help="head_model.npz to render")
    parser.add_argument("--size", default="192x256", help="width x height in pixels")
    parser.add_argument("--cameras", type=int, default=8, help="at least 3; the last looks from above")
    parser.add_argument("--frames", type=int, default=24, help="the performance repeats every 24")
    parser.add_argument("--suffix", choices=("jpg", "png"), default="jpg")
    parser.add_argument("--supersampling", type=int, default=3)
    parser.add_argument("--lights", type=int, default=128, help="number of light directions")
    parser.add_argument("--regions", action="store_true", help="also write region_ids/*.png")
    args = parser.parse_args()
    width, height = (int(number) for number in args.size.split("x"))
    shoot = Shoot(
        args.out, args.head, width, height, args.cameras, args.frames, args.suffix, args.supersampling, args.regions,
        args.lights,
    )  # fmt: skip
    print(json.dumps(make(shoot)))


def make(shoot: Shoot) -> dict[str, Any]:
    """Write the capture and the driver's parameters."""
    start = time.monotonic()
    model = read_head_model(shoot.head)
    with np.load(shoot.head.with_name("head_appearance.npz"), allow_pickle=False) as file:
        colors = linear(file["vertex_colors"] / 255)
        hair = file["hair"] / 255
    identity = coefficients(model, PERSON)
    offset = hair_offset(model, identity, hair)
    motion = motion_of(model, identity, talk(shoot.frames), offset)
    cameras = rig(shoot)
    write_parameters(shoot.out, model, motion)
    write_transforms(shoot, cameras)
    driver = motion_of(model, coefficients(model, DRIVER), answer(PERIOD), torch.zeros_like(offset))
    write_arrays(shoot.out / "driver" / "flame_param.npz", arrays(driver))
    cover = write_images(shoot, model, motion, colors, cameras)
    files = [path for path in shoot.out.rglob("*") if path.is_file()]
    return {
        "cameras": shoot.cameras,
        "frames": shoot.frames,
        "size": [shoot.width, shoot.height],
        "subject_share_of_image": round(cover, 4),
        "bytes": sum(path.stat().st_size for path in files),
        "files": len(files),
        "seconds": round(time.monotonic() - start),
    }


def linear(srgb: Floats) -> Floats:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def coefficients(model: HeadModel, chosen: dict[int, float]) -> torch.Tensor:
    made = torch.zeros(model.shapes)
    for index, value in chosen.items():
        made[index] = value
    return made


def hair_offset(model: HeadModel, identity: torch.Tensor, hair: Floats) -> torch.Tensor:
    """[V, 3] the hair's thickness along the normals, rounded so that files stay small."""
    neutral = model.template + torch.einsum("s,sxv->vx", identity, model.shape_dirs)
    away = normals(neutral.double().numpy(), model.faces.numpy()) * (HAIR * hair)[:, None]
    return torch.from_numpy((np.round(away * 2.0**16) / 2.0**16).astype(np.float32))


def motion_of(
    model: HeadModel, identity: torch.Tensor, performance: Performance, offset: torch.Tensor
) -> HeadMotion:
    count = performance.frames
    expressions = np.zeros((count, model.expressions))
    for name, weights in performance.expressions.items():
        expressions[:, model.expression_names.index(name)] = np.clip(weights, 0, 1)
    return HeadMotion(
        times=torch.arange(count, dtype=torch.float64) / FPS,
        shape=identity,
        expr=torch.from_numpy(expressions).float(),
        static_offset=offset,
        **{name: torch.from_numpy(values).float() for name, values in performance.poses.items()},
    )


def rig(shoot: Shoot) -> Cameras:
    """Cameras on an arc around the face; the last one looks from above."""
    poses: list[Floats] = []
    for i in range(shoot.cameras):
        around = shoot.cameras - 1
        azimuth = np.radians(-ARC + 2 * ARC * i / (around - 1)) if i < around else np.radians(20.0)
        height = np.radians(HEIGHTS[i % 2] if i < around else FROM_ABOVE)
        away = np.array([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)])
        right = np.cross([0.0, 1.0, 0.0], away)
        right /= np.linalg.norm(right)
        turn = np.stack([right, np.cross(right, away), -away])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn, -turn @ (TARGET + DISTANCE * away)
        poses.append(pose)
    focal = shoot.height * DISTANCE / SEEN
    K = torch.tensor(
        [[focal, 0, shoot.width / 2], [0, focal, shoot.height / 2], [0, 0, 1]], dtype=torch.float64
    )
    return Cameras(
        torch.from_numpy(np.stack(poses)),
        K.repeat(shoot.cameras, 1, 1),
        ((shoot.width, shoot.height),) * shoot.cameras,
        tuple(f"{i:02d}" for i in range(shoot.cameras)),
    )


def arrays(motion: HeadMotion) -> dict[str, np.ndarray]:
    """GaussianAvatars' arrays of all frames."""
    made = {name: t.numpy() for name, t in motion.tensors().items() if name != "times"}
    made["static_offset"] = made["static_offset"][None]
    return made


def write_parameters(out: Path, model: HeadModel, motion: HeadMotion) -> None:
    for step in range(len(motion)):
        write_arrays(out / "flame_param" / f"{step:05d}.npz", arrays(motion.frames(slice(step, step + 1))))
    rest = motion.frames(slice(0, 1))
    zero = {
        name: torch.zeros_like(t)
        for name, t in rest.tensors().items()
        if name not in ("times", "shape", "static_offset")
    }
    jaw = torch.tensor([[0.3, 0.0, 0.0]])
    write_arrays(out / "canonical_flame_param.npz", arrays(rest.with_(**(zero | {"jaw_pose": jaw}))))


def write_transforms(shoot: Shoot, cameras: Cameras) -> None:
    """Training, one camera held out (val), the last frames held out (test)."""
    first_test = shoot.frames - max(1, round(shoot.frames * HELD_OUT_FRAMES))
    held = shoot.cameras // 2 - 1
    everyone, early, late = range(shoot.cameras), range(first_test), range(first_test, shoot.frames)
    splits = {
        "train": ([c for c in everyone if c != held], early),
        "val": ([held], early),
        "test": (list(everyone), late),
    }
    # OpenGL's camera axes
    poses = cameras.camera_to_world.numpy() * np.array([1.0, -1.0, -1.0, 1.0])
    focal = float(cameras.K[0, 0, 0])
    lens = {
        "fl_x": focal,
        "fl_y": focal,
        "cx": shoot.width / 2,
        "cy": shoot.height / 2,
        "w": shoot.width,
        "h": shoot.height,
        "camera_angle_x": 2 * float(np.arctan(shoot.width / 2 / focal)),
        "camera_angle_y": 2 * float(np.arctan(shoot.height / 2 / focal)),
    }
    for split, (chosen, steps) in splits.items():
        frames = [
            {
                "timestep_index": step,
                "camera_index": camera,
                "camera_id": f"{camera:02d}",
                "transform_matrix": np.round(poses[camera], 12).tolist(),
                "file_path": f"images/{step:05d}_{camera:02d}.{shoot.suffix}",
                "fg_mask_path": f"fg_masks/{step:05d}_{camera:02d}.png",
                "flame_param_path": f"flame_param/{step:05d}.npz",
            }
            for step in steps
            for camera in chosen
        ]
        listed = {"timestep_indices": list(steps), "camera_indices": chosen}
        text = json.dumps({"fps": FPS, **lens, **listed, "frames": frames}, separators=(",", ":"))
        (shoot.out / f"transforms_{split}.json").write_text(
            text.replace('{"timestep_index"', '\n{"timestep_index"') + "\n"
        )


def write_images(
    shoot: Shoot, model: HeadModel, motion: HeadMotion, colors: Floats, cameras: Cameras
) -> float:
    """Render every camera at every frame; the mean share of the images that the head covers."""
    for folder in ("images", "fg_masks", *(("region_ids",) if shoot.regions else ())):
        (shoot.out / folder).mkdir(parents=True, exist_ok=True)
    faces, sky = model.faces.numpy(), Sky.studio(shoot.lights)
    ids = region_ids(model)
    start, cover = time.monotonic(), 0.0
    for step in range(len(motion)):
        vertices = model.pose(motion.frames(slice(step, step + 1)))[0].double().numpy()
        lit = colors * light(vertices, faces, sky)
        for camera in range(shoot.cameras):
            color, alpha, seen = draw(vertices, faces, lit, cameras, camera, shoot.supersampling)
            image = encoded(np.clip(color + 1 - alpha[..., None], 0, 1))
            name = f"{step:05d}_{camera:02d}"
            save(image, shoot.out / "images" / f"{name}.{shoot.suffix}")
            save(alpha, shoot.out / "fg_masks" / f"{name}.png")
            if shoot.regions:
                Image.fromarray(ids[seen]).save(shoot.out / "region_ids" / f"{name}.png", optimize=True)
            cover += float(alpha.mean()) / (len(motion) * shoot.cameras)
        print(f"frame {step + 1}/{len(motion)}  {time.monotonic() - start:.0f} s", flush=True)
    return cover


def region_ids(model: HeadModel) -> np.ndarray:
    """[F + 1] the id of each triangle's part; the last entry, 0, is the background's (face −1)."""
    ids = np.zeros(len(model.faces) + 1, np.uint8)
    ids[:-1] = 1
    for i, part in enumerate(REGIONS):
        ids[:-1][part_faces(model, part).numpy()] = i + 1
    return ids


def save(image: Floats, path: Path) -> None:
    bytes_ = np.round(image * 255).astype(np.uint8)
    Image.fromarray(bytes_).save(path, **(JPEG if path.suffix == ".jpg" else {"optimize": True}))


if __name__ == "__main__":
    main()
