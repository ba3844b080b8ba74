"""A clay figure in a bobble hat: its shape as a distance field, its colors, its bones and which bone moves what.

Meters, y up, facing +z, +x is the figure's left; arms hang out at 45 degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Bone:
    """A joint, and the capsule of the body that follows it: from the joint to `tip`, radii at both ends."""

    name: str
    parent: str
    joint: tuple[float, float, float]
    tip: tuple[float, float, float]
    radii: tuple[float, float]


def _sided(name: str, parent: str, joint: Any, tip: Any, radii: tuple[float, float]) -> list[Bone]:
    """A bone on the left, and its mirror image."""
    made = []
    for side, sign in (("L", 1.0), ("R", -1.0)):
        above = parent if parent in ("hips", "chest") else f"{parent}.{side}"
        a, b = ((sign * p[0], p[1], p[2]) for p in (joint, tip))
        made.append(Bone(f"{name}.{side}", above, a, b, radii))
    return made


BONES = [
    Bone("hips", "", (0, 0.60, 0), (0, 0.70, 0), (0.150, 0.150)),
    Bone("chest", "hips", (0, 0.74, 0), (0, 0.90, 0), (0.150, 0.125)),
    Bone("head", "chest", (0, 1.16, 0), (0, 1.26, 0.01), (0.125, 0.215)),
    Bone("bobble", "head", (0, 1.44, -0.02), (0, 1.56, -0.03), (0.050, 0.078)),
    *_sided("arm", "chest", (0.15, 0.94, 0), (0.30, 0.79, 0), (0.060, 0.052)),
    *_sided("forearm", "arm", (0.30, 0.79, 0), (0.43, 0.66, 0), (0.052, 0.050)),
    *_sided("hand", "forearm", (0.45, 0.64, 0), (0.48, 0.61, 0.01), (0.068, 0.070)),
    *_sided("thigh", "hips", (0.105, 0.56, 0), (0.115, 0.33, 0), (0.090, 0.075)),
    *_sided("shin", "thigh", (0.115, 0.33, 0), (0.12, 0.12, 0), (0.075, 0.070)),
    *_sided("foot", "shin", (0.12, 0.08, 0.0), (0.125, 0.065, 0.10), (0.075, 0.070)),
]
INDEX = {bone.name: i for i, bone in enumerate(BONES)}
PARENTS = [INDEX.get(bone.parent, -1) for bone in BONES]
JOINTS = np.array([bone.joint for bone in BONES], np.float64)
# meters over which parts melt into each other, and over which a joint bends
MELT, BEND = 0.035, 0.035


def capsule_distances(points: Floats) -> Floats:
    """[P, bones] distance of points [P, 3] to the surface of each bone's capsule; negative inside."""
    found = np.empty((len(points), len(BONES)))
    for i, bone in enumerate(BONES):
        start, along = np.array(bone.joint), np.array(bone.tip) - np.array(bone.joint)
        share = ((points - start) @ along / (along @ along)).clip(0, 1)
        radius = bone.radii[0] + share * (bone.radii[1] - bone.radii[0])
        found[:, i] = np.linalg.norm(points - start - share[:, None] * along, axis=1) - radius
    return found


def distance(points: Floats) -> Floats:
    """[P] distance to the figure's surface (a lower bound of it), parts melted together."""
    parts = capsule_distances(points)
    body = parts[:, 0]
    for i in range(1, parts.shape[1]):
        mix = (0.5 + 0.5 * (body - parts[:, i]) / MELT).clip(0, 1)
        body = body + mix * (parts[:, i] - body) - MELT * mix * (1 - mix)
    # a brim and a scarf
    for height, ring, thick in ((1.34, 0.195, 0.030), (1.055, 0.105, 0.045)):
        around = np.hypot(np.hypot(points[:, 0], points[:, 2]) - ring, points[:, 1] - height) - thick
        body = np.minimum(body, around)
    return body


def skin_weights(points: Floats) -> Floats:
    """[P, bones] that sum to 1: the nearest bone, and near its ends those that it is joined to."""
    parts = capsule_distances(points)
    nearest = parts.argmin(axis=1)
    joined = np.eye(len(BONES), dtype=bool)
    for child, parent in enumerate(PARENTS):
        if parent >= 0:
            joined[child, parent] = joined[parent, child] = True
    weights = np.exp(-(parts - parts.min(axis=1, keepdims=True)) / BEND) * joined[nearest]
    # four bones per vertex is what glTF holds
    weights[weights < np.sort(weights, axis=1)[:, -4:-3]] = 0
    return weights / weights.sum(axis=1, keepdims=True)


SKIN, SWEATER, CREAM = (0.93, 0.72, 0.58), (0.83, 0.24, 0.22), (0.96, 0.91, 0.80)
TROUSERS, BOOTS, TEAL, DARK = (0.20, 0.30, 0.47), (0.38, 0.23, 0.15), (0.10, 0.52, 0.52), (0.10, 0.08, 0.09)


def colors(points: Floats) -> Floats:
    """[P, 3] in 0..1, display-referred, before any light."""
    x, y, z = points.T
    part = np.array([bone.name.split(".")[0] for bone in BONES])[capsule_distances(points).argmin(axis=1)]
    found = np.tile(np.array(SKIN), (len(points), 1))

    def paint(where: NDArray[np.bool_], color: tuple[float, float, float]) -> None:
        found[where] = color

    torso = np.isin(part, ("hips", "chest"))
    paint(torso, TROUSERS)
    paint(torso & (y > 0.60), SWEATER)
    paint(torso & (np.abs(y - 0.80) < 0.028), CREAM)
    paint(np.isin(part, ("arm", "forearm")), SWEATER)
    paint((part == "forearm") & (np.abs(np.abs(x) - 0.395) < 0.022), CREAM)
    paint(np.isin(part, ("thigh", "shin")), TROUSERS)
    paint((part == "foot") | ((part == "shin") & (y < 0.15)), BOOTS)
    paint(part == "hand", CREAM)
    ring = np.hypot(x, z)
    paint((np.abs(y - 1.055) < 0.05) & (ring > 0.075) & (ring < 0.16), TEAL)
    head = np.isin(part, ("head", "bobble"))
    paint(head & (y > 1.31), TEAL)
    paint(head & (np.abs(y - 1.42) < 0.025), CREAM)
    paint(head & (np.abs(y - 1.34) < 0.032) & (ring > 0.19), CREAM)
    paint(part == "bobble", CREAM)
    for side in (-1, 1):
        paint(head & (z > 0.1) & (np.hypot(x - side * 0.075, y - 1.255) < 0.026), DARK)
        cheek = head & (z > 0.1) & (np.hypot(x - side * 0.125, y - 1.195) < 0.032)
        paint(cheek, (0.92, 0.52, 0.45))
    smile = np.abs(np.hypot(x, y - 1.225) - 0.075) < 0.010
    paint(head & (z > 0.1) & smile & (y < 1.18), DARK)
    return found
