"""What a video was lifted to: a few frames with what moves and their depth, and the camera path from above and the side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..scene.cameras import Cameras
from .color_maps import depth_picture, marked, spread
from .contact_sheets import below, sheet
from .drawing import as_tensor, theme, write

HEIGHT, MARGIN, WORDS = 150, 14, 12
# frames of the sheet
SHOWN = 4
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


def depth_shades(depth: Tensor) -> Tensor:
    """Depth [T, H, W] as gray images [T, H, W, 3]: near is bright; unknown depth is black."""
    return depth_picture(torch.nan_to_num(depth), (~depth.isnan()).float())


def lift_sheet(
    images: Tensor, moving: Tensor, depth: Tensor, cameras: Cameras, numbers: Sequence[int]
) -> Tensor:
    """A few frames with what moves in red, their depth, and the camera path below, as one image [h, w, 3].

    Args:
        images: Frames [T, H, W, 3] in 0..1.
        moving: [T, H, W] bool.
        depth: [T, H, W] in world units, NaN where unknown.
        cameras: T cameras.
        numbers: Of the frames in their video, for the captions.
    """
    shown = spread(len(images), SHOWN)
    shades = depth_shades(depth[shown]).to(images)
    stacks = [[marked(images[t], moving[t].float()), shades[i]] for i, t in enumerate(shown)]
    captions = [f"frame {numbers[t]}" for t in shown]
    made = sheet(stacks, captions, len(shown), "red: moving; below: depth, near is bright")
    return as_tensor(below(made, path_picture(cameras, depth, made.width)))
