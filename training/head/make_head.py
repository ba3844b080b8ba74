"""Make the bundled head: FLAME's array names, the shapes of ICT-FaceKit (MIT), expressions named as ARKit names them.

    python -m training.head.make_head --out assets/heads/bundled [--data ../shared/data]

Nothing is random: the same package versions write the same bytes. The last line of the output is a JSON object with the
figures of CARD.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from engine.files.npzfile import write_arrays

from .ict import (
    FACE,
    GUMS,
    HEAD,
    LOWER_TEETH,
    PARTS,
    SOCKET,
    UPPER_TEETH,
    Floats,
    Ict,
    Ints,
    data_folder,
    load,
    members,
    smooth,
)  # fmt: skip
from .simplify import simplify
from .surface import Palette, Surface

VERTICES = 6000
IDENTITIES = 50
STEP = 2.0**-17  # meters: coefficients are rounded to multiples of it, which files compress well
# expressions whose shapes the simplification keeps, each as one pose
POSES: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.8},
    {"eyeBlinkLeft": 1, "eyeBlinkRight": 1, "mouthPucker": 1},
    {"mouthSmileLeft": 1, "mouthSmileRight": 1, "browInnerUp": 1, "eyeWideLeft": 1, "eyeWideRight": 1},
    {
        "jawOpen": 0.5,
        "mouthFunnel": 1,
        "browDownLeft": 1,
        "browDownRight": 1,
        "mouthUpperUpLeft": 1,
        "mouthUpperUpRight": 1,
    },
    {"mouthRollLower": 1, "mouthRollUpper": 1, "noseSneerLeft": 1, "noseSneerRight": 1, "cheekPuff": 1},
)
# meters: the lower end of the neck's smooth bend, its upper end, and the two joints below the jaw
SHOULDERS, SKULL = -0.135, -0.065
ROOT, NECK = np.array([0.0, -0.135, -0.02]), np.array([0.0, -0.075, -0.015])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--data", type=Path, help="folder with head_ict/; default GS4D_DATA, else ../shared/data"
    )
    parser.add_argument("--vertices", type=int, default=VERTICES)
    parser.add_argument(
        "--identities", type=int, default=IDENTITIES, help="identity components to keep (1 to 100)"
    )
    args = parser.parse_args()
    start = time.monotonic()
    ict = load(data_folder(args.data))
    surface = Surface(ict.vertices, ict.faces)
    kept, faces = reduced(ict, surface, args.vertices)
    skinning = Skinning(ict, surface)
    figures = write(args.out, ict, surface, skinning, kept, faces, args.identities)
    figures |= approximation(ict, kept, faces)
    figures["seconds"] = round(time.monotonic() - start)
    print(json.dumps(figures))


def reduced(ict: Ict, surface: Surface, target: int) -> tuple[Ints, Ints]:
    """Vertices to keep, and the faces between them."""
    labels = members(PARTS, len(ict.vertices))
    used = (labels[ict.faces] >= 0).all(axis=1)
    poses = [ict.vertices]
    for pose in POSES:
        poses.append(ict.vertices + sum(ict.expressions[name] * share for name, share in pose.items()))
    poses += [ict.vertices + sign * 2 * ict.identities[i] for i, sign in ((0, 1), (1, -1), (2, 1), (3, 1))]
    kept, faces = simplify(
        np.stack(poses) * 100,
        ict.faces[used],
        surface.face_labels()[used],
        surface.detail(),
        target,
        np.flatnonzero(surface.fixed()),
    )
    return kept, faces


class Skinning:
    """Joints and weights: jaw by the rigid motion of the lower teeth, eyes by fitted spheres, neck by height."""

    def __init__(self, ict: Ict, surface: Surface):
        self.residual, turn, shift = rigid(ict, LOWER_TEETH)
        self.angle = float(np.degrees(np.arccos((np.trace(turn) - 1) / 2)))
        # the point in the middle plane that the motion leaves in place
        jaw = np.linalg.lstsq((np.eye(3) - turn)[1:, 1:], shift[1:], rcond=None)[0]
        self.joints = np.stack([ROOT, NECK, np.array([0.0, *jaw]), *(eye.center for eye in surface.eyes)])
        self.weights = self._weights(ict, surface, turn, shift)
        self.regressor = self._regressor(ict.vertices, surface)

    def _weights(self, ict: Ict, surface: Surface, turn: Floats, shift: Floats) -> Floats:
        vertices = ict.vertices
        full = vertices @ turn.T + shift - vertices
        share = (ict.expressions["jawOpen"] * full).sum(axis=1) / np.maximum((full**2).sum(axis=1), 1e-9)
        jaw = np.clip(share, 0, 1) * surface.mask(FACE, SOCKET, GUMS, HEAD)
        jaw[slice(*LOWER_TEETH)], jaw[slice(*UPPER_TEETH)] = 1, 0
        # the chin lies lower than the nape, and both turn with the head
        height = vertices[:, 1] + 0.45 * vertices[:, 2]
        above = smooth(height, SHOULDERS, SKULL)
        above[~surface.skin] = 1
        weights = np.stack(
            [1 - above, above * (1 - jaw), above * jaw, np.zeros_like(jaw), np.zeros_like(jaw)], axis=1
        )
        for joint, eye in enumerate(surface.eyes):
            weights[slice(*eye.ball)] = np.eye(5)[3 + joint]
        return weights

    def _regressor(self, vertices: Floats, surface: Surface) -> Floats:
        """[5, V] affine combinations of the vertices around each joint, as even as they can be."""
        y = vertices[:, 1]
        near = [
            surface.skin & (y < -0.105),
            surface.skin & (y < -0.055) & (y > -0.105),
            surface.ears,
            *(surface.mask(eye.ball) for eye in surface.eyes),
        ]
        return np.stack(
            [regressed(vertices, ids, joint) for ids, joint in zip(near, self.joints, strict=True)]
        )


def rigid(ict: Ict, part: tuple[int, int]) -> tuple[float, Floats, Floats]:
    """How jawOpen moves a part rigidly: RMS residual in meters, rotation, shift."""
    before = ict.vertices[slice(*part)]
    after = before + ict.expressions["jawOpen"][slice(*part)]
    u, _, v = np.linalg.svd((before - before.mean(axis=0)).T @ (after - after.mean(axis=0)))
    turn = v.T @ np.diag([1, 1, np.linalg.det(v.T @ u.T)]) @ u.T
    shift = after.mean(axis=0) - turn @ before.mean(axis=0)
    return float(np.sqrt(((before @ turn.T + shift - after) ** 2).sum(axis=1).mean())), turn, shift


def regressed(vertices: Floats, inside: Any, joint: Floats) -> Floats:
    """Weights [V] nearest to even ones with the sum 1 and the joint as the weighted mean."""
    ids = np.flatnonzero(inside)
    system = np.concatenate([vertices[ids].T, np.ones((1, len(ids)))])
    even = np.full(len(ids), 1 / len(ids))
    weights = np.zeros(len(vertices))
    weights[ids] = even + np.linalg.pinv(system) @ (np.append(joint, 1.0) - system @ even)
    return weights


def write(
    out: Path, ict: Ict, surface: Surface, skinning: Skinning, kept: Ints, faces: Ints, identities: int
) -> dict[str, Any]:
    names = [f"ict_identity{i:03d}" for i in range(identities)]
    dirs = np.concatenate([ict.identities[:identities], np.stack(list(ict.expressions.values()))])[:, kept]
    rounded = (np.round(dirs / STEP) * STEP).astype(np.float16)
    vertices = ict.vertices[kept].astype(np.float32)
    regressor = np.stack(
        [
            regressed(ict.vertices[kept], skinning.regressor[joint, kept] != 0, skinning.joints[joint])
            for joint in range(5)
        ]
    )
    weights = skinning.weights[kept].astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    write_arrays(
        out / "head_model.npz",
        {
            "v_template": vertices,
            "f": faces.astype(np.uint16),
            "shapedirs": np.ascontiguousarray(rounded.transpose(1, 2, 0)),
            "posedirs": np.zeros((len(kept), 3, 36), np.float16),
            "J_regressor": regressor.astype(np.float32),
            "weights": weights,
            "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], range(5)], np.uint32),
        },
    )
    masks = {name: np.flatnonzero(mask[kept]).astype(np.int32) for name, mask in surface.regions().items()}
    write_arrays(out / "head_masks.npz", masks)
    linear = surface.colors(Palette())[kept]
    write_arrays(
        out / "head_appearance.npz",
        {
            "vertex_colors": np.round(encoded(linear) * 255).astype(np.uint8),
            "hair": np.round(255 * smooth(surface.hair, -0.3, 2.5) * ~surface.ears)[kept].astype(np.uint8),
            "ict_vertex_index": kept.astype(np.int32),
        },
    )
    listed = {"shape": names, "expression": list(ict.expressions)}
    (out / "coefficient_names.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    return {
        "vertices": len(kept),
        "triangles": len(faces),
        "identities": identities,
        "expressions": len(ict.expressions),
        "jaw_degrees": round(skinning.angle, 2),
        "jaw_residual_mm": round(skinning.residual * 1000, 3),
        "joints": np.round(skinning.joints, 4).tolist(),
        "smallest_region": min((len(ids), name) for name, ids in masks.items()),
        "bytes": {path.name: path.stat().st_size for path in sorted(out.iterdir())},
    }


def encoded(linear: Floats) -> Floats:
    """sRGB of linear colors."""
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )


def approximation(ict: Ict, kept: Ints, faces: Ints) -> dict[str, Any]:
    """Distances in millimeters from every vertex that was left out to the simplified surface, neutral and posed."""
    labels = members(PARTS, len(ict.vertices))
    seen = np.flatnonzero((labels >= 0) & (labels <= 1))
    result: dict[str, Any] = {}
    for name, pose in {"neutral": {}, "jaw_open": POSES[0], "smile": POSES[2]}.items():
        posed = ict.vertices + sum((ict.expressions[e] * share for e, share in pose.items()), np.zeros(3))
        away = distances(posed[seen], posed[kept][faces]) * 1000
        result[name] = [round(float(x), 3) for x in (away.mean(), np.quantile(away, 0.99), away.max())]
    return {"error_mm_mean_p99_max": result}


def distances(points: Floats, corners: Floats, candidates: int = 8) -> Floats:
    """[P] from each point to the nearest of the triangles [F, 3, 3] among those whose samples lie nearest."""
    grid = np.array([(i / 6, j / 6, 1 - (i + j) / 6) for i in range(7) for j in range(7 - i)])
    samples = np.einsum("gc,fcx->fgx", grid, corners).reshape(-1, 3)
    away, found = cKDTree(samples).query(points, k=candidates)
    best = away[:, 0]
    for i in range(candidates):
        a, b, c = corners[found[:, i] // len(grid)].transpose(1, 0, 2)
        normal = np.cross(b - a, c - a)
        area = (normal**2).sum(axis=1)
        wb = (np.cross(points - a, c - a) * normal).sum(axis=1) / area
        wc = (np.cross(b - a, points - a) * normal).sum(axis=1) / area
        inside = (wb >= 0) & (wc >= 0) & (wb + wc <= 1)
        height = np.abs(((points - a) * normal).sum(axis=1)) / np.sqrt(area)
        best = np.where(inside, np.minimum(best, height), best)
    return best


if __name__ == "__main__":
    main()
