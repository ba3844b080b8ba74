"""Teeth for FLAME, which has none: 120 vertices and 168 triangles behind the lips.

The topology is that of avatars trained with GaussianAvatars, so that their bindings find the same triangles.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .model import HeadModel

# FLAME's vertices of the outer lip rings, from the subject's right corner to the left one
UPPER_LIP = (1713, 1715, 1716, 1735, 1696, 1694, 1657, 3543, 2774, 2811, 2813, 2850, 2833, 2832, 2830)
LOWER_LIP = (1576, 1577, 1773, 1774, 1795, 1802, 1865, 3503, 2948, 2905, 2898, 2881, 2880, 2713, 2712)
FLAME_VERTICES, FLAME_FACES = 5023, 9976
COLUMNS = 15
NECK, JAW = 1, 2

# first new vertex of each row: upper and lower, root and edge, front and back
ROWS = {"UR": 0, "LR": 15, "UE": 30, "LE": 45, "URB": 60, "UEB": 75, "LRB": 90, "LEB": 105}
# two triangles of a column; lower-case a, b: row a, row b; the digit: this column or the next
PATTERNS = {
    "A": ("a0 b1 b0", "a0 a1 b1"),
    "B": ("a0 a1 b0", "a1 b1 b0"),
    "C": ("a0 b0 b1", "a0 b1 a1"),
    "D": ("a0 b0 a1", "a1 b0 b1"),
}
# row a, row b, pattern of the first seven columns, pattern of the others
STRIPS = (
    ("UR", "UE", "A", "B"),
    ("URB", "UEB", "C", "D"),
    ("UEB", "UE", "D", "C"),
    ("LE", "LR", "B", "A"),
    ("LRB", "LEB", "A", "B"),
    ("LEB", "LE", "B", "A"),
)


def teeth_faces(first: int) -> Tensor:
    """[168, 3] long: the teeth's triangles, upper then lower, their vertices counted from `first`."""
    faces: list[list[int]] = []
    for row_a, row_b, left, right in STRIPS:
        for column in range(COLUMNS - 1):
            for triangle in PATTERNS[left if column < 7 else right]:
                rows = {"a": ROWS[row_a], "b": ROWS[row_b]}
                faces.append([first + rows[c[0]] + column + int(c[1]) for c in triangle.split()])
    return torch.tensor(faces)


def with_teeth(model: HeadModel) -> HeadModel:
    """The model with teeth; itself where it is not FLAME's topology, or has teeth already."""
    if len(model.template) != FLAME_VERTICES or len(model.faces) != FLAME_FACES:
        return model
    rings = torch.tensor([UPPER_LIP, LOWER_LIP])
    dirs = model.shape_dirs[:, :, rings].mean(dim=2)  # [S, 3, 15]
    weights = torch.zeros(120, 5)
    for row, start in ROWS.items():
        weights[start : start + COLUMNS, NECK if row.startswith("U") else JAW] = 1

    def extended(old: Tensor, new: Tensor) -> Tensor:
        return torch.cat([old, new], dim=-1)

    regions = dict(model.regions)
    ids = FLAME_VERTICES + torch.arange(120)
    upper = weights[:, NECK] > 0
    regions |= {"teeth": ids, "teeth_upper": ids[upper], "teeth_lower": ids[~upper]}
    return replace(
        model,
        template=torch.cat([model.template, teeth_vertices(model.template[rings])]),
        faces=torch.cat([model.faces, teeth_faces(FLAME_VERTICES)]),
        shape_dirs=extended(model.shape_dirs, dirs.repeat(1, 1, len(ROWS))),
        expression_dirs=extended(model.expression_dirs, torch.zeros(model.expressions, 3, 120)),
        pose_dirs=extended(model.pose_dirs, torch.zeros(36, 3, 120)),
        joint_regressor=extended(model.joint_regressor, torch.zeros(5, 120)),
        weights=torch.cat([model.weights, weights]),
        regions=regions,
    )


def teeth_vertices(rings: Tensor) -> Tensor:
    """[120, 3] from the lip rings [2, 15, 3], in the order of `ROWS`; d below is the lips' mean distance."""
    distance = (rings[0] - rings[1]).norm(dim=-1).mean()
    middle = rings.mean(dim=0)
    middle[:, 1] = middle[:, 1].mean()
    up, back = torch.tensor([0.0, 1.0, 0.0]) * distance, torch.tensor([0.0, 0.0, -1.0]) * distance
    middle = middle + 1.5 * back
    upper_edge, lower_edge = middle + 0.1 * up, middle - 0.1 * up + 0.4 * back
    rows = {
        "UR": upper_edge + 2 * up,
        "LR": lower_edge - 2 * up,
        "UE": upper_edge,
        "LE": lower_edge,
    }
    rows |= {f"{name}B": row + back for name, row in rows.items()}
    return torch.cat([rows[name] for name in ROWS])
