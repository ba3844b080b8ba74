"""COLMAP captures on disk with cameras that are known; the pixels of an image say its frame and camera."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from engine.scene.rotations import matrices_to_quats

SIZE = (32, 24)
CAMERAS, FRAMES = 4, 6


def turn(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    pose = np.eye(4)
    pose[:3, :3] = [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
    return pose


def pose_of(frame: int, camera: int, motion: str) -> np.ndarray:
    """world_to_camera [4, 4] of a rig that is still or moves as a whole, or of cameras that move on their own."""
    back = np.eye(4)
    back[2, 3] = 4.0
    still = back @ turn(31.0 * camera + 9.0 * camera * camera)
    if motion == "still":
        return still
    step = turn(3.0 * frame if motion == "moving" else frame * (2.0 + 1.7 * camera) % 11)
    step[:3, 3] = [0.1 * frame, 0.02 * frame * frame, 0.05 * frame]
    return still @ step


def model(
    folder: Path,
    name: Callable[[int, int], str],
    motion: str = "still",
    lenses: str = "each camera",
    frames: str = "",
    registered: Callable[[int, int], bool] = lambda f, c: True,
) -> Path:
    """A capture whose pixels say frame and camera. `frames` writes frames.txt: by its name, alone, or shifted by one."""
    sparse = folder / "sparse/0"
    sparse.mkdir(parents=True)
    lens = {
        "each camera": lambda f, c: c + 1,
        "one": lambda f, c: 1,
        "each image": lambda f, c: 10 * f + c + 1,
    }
    images: list[str] = []
    cameras: set[int] = set()
    groups: dict[int, list[str]] = {}
    for f in range(1, FRAMES + 1):
        for c in range(CAMERAS):
            path = folder / "images" / name(f, c)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZE, (10 * f, 20 * c, 128)).save(path)
            if not registered(f, c):
                continue
            pose, key = pose_of(f, c, motion), 100 * c + f
            quaternion = matrices_to_quats(torch.tensor(pose[:3, :3])).tolist()
            numbers = " ".join(map(str, [*quaternion, *pose[:3, 3]]))
            used = lens[lenses](f, c)
            cameras.add(used)
            images.append(f"{key} {numbers} {used} {name(f, c)}\n\n")
            group = key if frames == "alone" else f + (c if frames == "shifted" else 0)
            groups.setdefault(group, []).append(f"CAMERA {used} {key}")
    (sparse / "cameras.txt").write_text("".join(f"{c} PINHOLE 32 24 40 40 16 12\n" for c in sorted(cameras)))
    (sparse / "images.txt").write_text("".join(sorted(images, reverse=True)))
    if frames:
        lines = [f"{g} 1 1 0 0 0 0 0 0 {len(data)} {' '.join(data)}\n" for g, data in groups.items()]
        (sparse / "frames.txt").write_text("# FRAME_ID, RIG_ID …\n" + "".join(lines))
    return folder
