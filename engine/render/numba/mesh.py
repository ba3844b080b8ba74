"""Triangles to pixels: which face of a mesh each pixel center sees."""
# pyright: basic

from __future__ import annotations

import math

import numpy as np

from ...kernels.build import kernel


@kernel
def draw_faces(corners, faces, width, height, depths, found):
    """Fills `found` [H, W] with the index of the nearest face and `depths` with 1/z there; both come prefilled.

    `corners` [V, 3] are pixel x, y and 1/z of each vertex (not above 0: behind the camera, its faces are left out).
    1/z is linear on the image of a triangle, so the nearest face is the one with the largest value.
    """
    for face in range(faces.shape[0]):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        za, zb, zc = corners[a, 2], corners[b, 2], corners[c, 2]
        if za <= 0.0 or zb <= 0.0 or zc <= 0.0:
            continue
        xa, ya, xb, yb = corners[a, 0], corners[a, 1], corners[b, 0], corners[b, 1]
        xc, yc = corners[c, 0], corners[c, 1]
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if area == 0.0:
            continue
        left = max(math.ceil(min(xa, xb, xc) - 0.5), 0)
        right = min(math.floor(max(xa, xb, xc) - 0.5), width - 1)
        top = max(math.ceil(min(ya, yb, yc) - 0.5), 0)
        bottom = min(math.floor(max(ya, yb, yc) - 0.5), height - 1)
        for row in range(top, bottom + 1):
            y = row + 0.5
            for column in range(left, right + 1):
                x = column + 0.5
                wa = ((xb - x) * (yc - y) - (yb - y) * (xc - x)) / area
                wb = ((xc - x) * (ya - y) - (yc - y) * (xa - x)) / area
                wc = 1.0 - wa - wb
                if wa < 0.0 or wb < 0.0 or wc < 0.0:
                    continue
                near = wa * za + wb * zb + wc * zc
                if near > depths[row, column]:
                    depths[row, column] = near
                    found[row, column] = face


def nearest_faces(corners: np.ndarray, faces: np.ndarray, width: int, height: int) -> np.ndarray:
    """[H, W] int64 face indices, −1 where there is none; see `draw_faces`."""
    depths, found = np.zeros((height, width)), np.full((height, width), -1, dtype=np.int64)
    draw_faces(corners, faces, width, height, depths, found)
    return found
