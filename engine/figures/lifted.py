"""The camera path of a lifted video, seen from above and from the side."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..scene.cameras import Cameras
from .drawing import theme, write

HEIGHT, MARGIN, WORDS = 150, 14, 12
# share of the median depth that a camera's viewing direction is drawn with
LOOK = 0.15


def path_picture(cameras: Cameras, depth: Tensor, width: int) -> Image.Image:
    """Two panels of `width` pixels together: the path with viewing directions, from above (x, z) and from the side (z, y).

    Args:
        cameras: T cameras.
        depth: [T, H, W] in world units, NaN where unknown: the length of the viewing directions follows it.
        width: Width of the picture in pixels.
    """
    ink = theme("dark")
    picture = Image.new("RGB", (width, HEIGHT), ink.paper)
    draw = ImageDraw.Draw(picture)
    centers, forward = cameras.centers.double(), cameras.forward.double()
    reach = LOOK * float(depth.nanmedian())
    half = width // 2
    for i, (across, along, name) in enumerate(((0, 2, "camera path, from above"), (2, 1, "from the side"))):
        left = i * half
        flat, ends = centers[:, [across, along]], (centers + reach * forward)[:, [across, along]]
        # from above, forward is up; from the side, the world's y points down as the picture's does
        sign = torch.tensor([1.0, -1.0 if along == 2 else 1.0], dtype=torch.float64)
        flat, ends = flat * sign, ends * sign
        both = torch.cat([flat, ends])
        low, span = both.amin(0), (both.amax(0) - both.amin(0)).clamp(min=1e-9)
        scale = float(min((half - 2 * MARGIN) / span[0], (HEIGHT - 2 * MARGIN - WORDS - 6) / span[1]))
        origin = torch.tensor([left + MARGIN, MARGIN + WORDS + 6], dtype=torch.float64)
        points = ((flat - low) * scale + origin).tolist()
        tips = ((ends - low) * scale + origin).tolist()
        for a, b in zip(points, tips, strict=True):
            draw.line([tuple(a), tuple(b)], fill=ink.quiet, width=1)
        draw.line([tuple(p) for p in points], fill=ink.curves[0], width=2)
        x, y = points[0]
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=ink.curves[1])
        write(draw, (left + MARGIN, 4), name, WORDS, ink.text)
    return picture
