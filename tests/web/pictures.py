"""What a player has drawn, as numbers, and what the engine draws from the same place."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.render import choose, render_gaussians
from engine.scene import Cameras, Gaussians

Picture = NDArray[np.float64]  # [H, W, 4] in 0..1: color premultiplied by alpha, alpha

VIEW = "document.querySelector('.gs4d').gs4d"
DRAWN = """async (at) => {
  const view = document.querySelectorAll('.gs4d')[at.player ?? 0].gs4d;
  if (at.seconds !== undefined) { view.player.pause(); view.player.seek(at.seconds); }
  const canvas = await view.picture();
  return canvas.toDataURL('image/png');
}"""


def drawn(page: Any, **at: Any) -> Picture:
    """The pixels of the player's GL canvas, copied into a 2-D one once nothing is being sorted any more."""
    data = page.evaluate(DRAWN, at).partition(",")[2]
    rgba = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")).astype(np.float64) / 255
    rgba[..., :3] *= rgba[..., 3:]
    return rgba


def over(picture: Picture, background: Any) -> Picture:
    """[H, W, 3] on a background color."""
    return picture[..., :3] + (1 - picture[..., 3:]) * np.asarray(background, dtype=np.float64)


def coverage(picture: Picture) -> float:
    """Share of the pixels that are more covered than not."""
    return float((picture[..., 3] > 0.5).mean())


def centroid(picture: Picture) -> NDArray[np.float64]:
    """(x, y) of what is covered, as shares of width and height."""
    alpha = picture[..., 3]
    height, width = alpha.shape
    y, x = np.mgrid[:height, :width]
    return np.array([(alpha * (x + 0.5)).sum() / width, (alpha * (y + 0.5)).sum() / height]) / alpha.sum()


def engine_picture(gaussians: Gaussians, cameras: Cameras, view: int) -> Picture:
    """The same from the pack's own rasterizer."""
    with torch.no_grad():
        picture = render_gaussians(gaussians, cameras[view], choose("auto"), torch.zeros(3))
    rgba = np.concatenate([picture.rgb[0].numpy(), picture.alpha[0].numpy()[..., None]], axis=-1)
    return rgba.astype(np.float64).clip(0, 1)  # as any canvas does
