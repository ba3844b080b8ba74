"""ICT-FaceKit (MIT) as arrays in meters, with the names of its parts and of ARKit's expressions."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FILE = Path("head_ict") / "ict_facekit_f16.npz"
CENTIMETER = 0.01

# vertex ranges of ICT-FaceKit's geometries (its README lists them)
FACE, HEAD = (0, 9409), (9409, 11248)
SOCKET = (11248, 13294)
LEFT_LINING, RIGHT_LINING = (13294, 13678), (13678, 14062)
GUMS = (14062, 17039)
# without the second and third molars, which the cheeks hide
UPPER_TEETH, LOWER_TEETH = (17416, 18870), (19602, 21096)
# the outer of two nested balls, whose bulge is the cornea
LEFT_BALL, RIGHT_BALL = (21451, 22221), (23021, 23791)
PARTS = {
    "face": FACE,
    "head": HEAD,
    "socket": SOCKET,
    "left lining": LEFT_LINING,
    "right lining": RIGHT_LINING,
    "gums": GUMS,
    "upper teeth": UPPER_TEETH,
    "lower teeth": LOWER_TEETH,
    "left ball": LEFT_BALL,
    "right ball": RIGHT_BALL,
}
# ICT-FaceKit's vertices of the 68 iBUG landmarks (vertex_indices.json)
LANDMARKS = (
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443, 268, 493, 1914,
    2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360, 1507, 1542, 1537,
    1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732, 5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957,
    5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,
)  # fmt: skip
# ARKit has one shape where ICT-FaceKit has one for each side
BOTH_SIDES = ("browInnerUp", "cheekPuff")
# no shape of ARKit; the pupils' shape moves the inner balls alone
LEFT_OUT = ("PupilDilate_L", "PupilDilate_R", "cheekRaiser_L", "cheekRaiser_R")
# the lids alone follow the gaze; eyeballs turn with eyes_pose
GAZE = "eyeLook"


@dataclass(frozen=True)
class Ict:
    """26,719 vertices; meters, y up, z out of the face, +x is the subject's left."""

    vertices: Floats  # [V, 3] the neutral mean head
    faces: Ints  # [F, 3] counter-clockwise seen from outside
    identities: Floats  # [100, V, 3] each in standard deviations
    expressions: dict[str, Floats]  # ARKit's name → [V, 3]


def data_folder(given: Path | None) -> Path:
    """`given`, else GS4D_DATA, else ../shared/data beside the repository."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return given or Path(os.environ.get("GS4D_DATA") or default)


def load(folder: Path) -> Ict:
    """ICT-FaceKit from `folder`/head_ict."""
    with np.load(folder / FILE, allow_pickle=False) as file:
        arrays = {key: file[key] for key in ("v_template", "faces", "id_deltas", "ex_names", "ex_deltas")}
    vertices = arrays["v_template"].astype(np.float64) * CENTIMETER
    named = {
        str(name): delta.astype(np.float64) * CENTIMETER
        for name, delta in zip(arrays["ex_names"], arrays["ex_deltas"], strict=True)
    }
    expressions: dict[str, Floats] = {}
    for name in sorted(set(named) - set(LEFT_OUT)):
        stem, _, side = name.partition("_")
        if stem in BOTH_SIDES:
            expressions[stem] = named[f"{stem}_L"] + named[f"{stem}_R"]
        else:
            expressions[stem + {"L": "Left", "R": "Right", "": ""}[side]] = named[name]
    for name, delta in expressions.items():
        if name.startswith(GAZE):
            for ball in (LEFT_BALL, RIGHT_BALL):
                delta[slice(*ball)] = 0
    expressions["tongueOut"] = tongue_out(vertices)
    return Ict(
        vertices=vertices,
        faces=arrays["faces"].astype(np.int64),
        identities=arrays["id_deltas"].astype(np.float64) * CENTIMETER,
        expressions=dict(sorted(expressions.items())),
    )


def smooth(x: Floats, low: float, high: float) -> Floats:
    """0 at `low`, 1 at `high`, smooth between; `low` may be the larger one."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def tongue(vertices: Floats) -> Floats:
    """[V] how far along the tongue a vertex lies: 0 off the tongue and at its root, 1 at its tip."""
    x, y, z = vertices.T / CENTIMETER
    inside = np.zeros(len(vertices))
    inside[slice(*GUMS)] = 1
    # above the floor of the mouth, and inside the horseshoe of the lower gums
    across = smooth(np.hypot(x / 1.6, np.maximum(z - 7.8, 0) / 2.0), 1.0, 0.9)
    return inside * across * smooth(y, -4.5, -4.0) * (y < -2.7) * smooth(z, 4.5, 9.2)


def tongue_out(vertices: Floats) -> Floats:
    """ARKit's tongueOut, which ICT-FaceKit lacks: the tongue slides forward over the lower teeth and its tip sinks."""
    along = tongue(vertices)[:, None]
    return along * np.array([0.0, 0.013, 0.036]) + along**4 * np.array([0.0, -0.006, 0.002])


def members(parts: dict[str, tuple[int, int]], count: int) -> NDArray[np.int64]:
    """[V] the index of each vertex's part, −1 for what is left out."""
    labels = np.full(count, -1)
    for i, (start, stop) in enumerate(parts.values()):
        labels[start:stop] = i
    return labels
