"""Make the bundled puppet: an animated mesh and a splat of the same figure, from nothing but the code beside this file.

    python -m training.puppet.make --out assets/puppets/clay_dancer

Nothing is random: the same package versions write the same bytes. The last line of the output is a JSON object with the
figures of CARD.md.
"""

from __future__ import annotations

import argparse
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from engine.geometry.animated_mesh import sample_surface, triangle_areas
from engine.io.spz import write_spz
from engine.scene import Gaussians, harmonics, rotations

from .figure import BONES, INDEX, JOINTS, PARENTS, Floats, Ints, colors, distance, skin_weights
from .moves import MOVES

NAME = "clay_dancer"
CELL = 0.025  # meters
LOW, HIGH = np.array([-0.62, -0.06, -0.32]), np.array([0.62, 1.70, 0.32])
KEYS = 15  # per second
GAUSSIANS = 24_000
SUN = np.array([0.45, 0.75, 0.55])


def surface() -> tuple[Floats, Ints]:
    """Vertices and triangles of the figure: surface nets, vertices moved onto the surface."""
    axes = [np.arange(low, high, CELL) for low, high in zip(LOW, HIGH, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    inside = distance(grid.reshape(-1, 3)).reshape(grid.shape[:3]) < 0
    count = inside.astype(int)
    for axis in range(3):
        count = np.moveaxis(count, axis, 0)
        count = np.moveaxis(count[1:] + count[:-1], 0, axis)
    crossed = (count > 0) & (count < 8)
    number = np.full(crossed.shape, -1)
    number[crossed] = np.arange(crossed.sum())
    vertices = grid[:-1, :-1, :-1][crossed] + CELL / 2
    faces: list[Ints] = []
    for axis in range(3):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        first = np.moveaxis(inside, axis, 0)
        changed = np.moveaxis(first[1:] != first[:-1], 0, axis)
        at = np.argwhere(changed)
        at = at[(at[:, one] > 0) & (at[:, other] > 0)]
        u, v = np.eye(3, dtype=int)[[one, other]]
        corners = np.stack(
            [number[tuple((at - s * u - t * v).T)] for s, t in ((0, 0), (1, 0), (1, 1), (0, 1))], axis=1
        )
        is_out = inside[tuple(at.T)]
        corners[~is_out] = corners[~is_out][:, ::-1]
        faces += [corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]]
    for _ in range(8):
        vertices = vertices - distance(vertices)[:, None] * normals(vertices)
    return vertices, np.concatenate(faces)


def normals(points: Floats) -> Floats:
    """[P, 3] the direction in which the distance grows."""
    step = 1e-4 * np.eye(3)
    found = np.stack([distance(points + s) - distance(points - s) for s in step], axis=1)
    return found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-12)


def lit(points: Floats) -> Floats:
    """[P, 3] colors in soft light from above, darker where other parts are near."""
    n = normals(points)
    sun = (n @ (SUN / np.linalg.norm(SUN))).clip(0)
    sky = 0.5 + 0.5 * n[:, 1]
    reach = (0.03, 0.07, 0.12)
    near = sum(((r - distance(points + r * n)) / r).clip(0, 1) for r in reach) / len(reach)
    light = (0.40 + 0.32 * sky + 0.42 * sun) * (1 - 0.55 * near)
    return (colors(points) * light[:, None]).clip(0, 1)


class Writer:
    """A .glb in the making."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {"accessors": [], "bufferViews": []}
        self.bytes = b""

    def array(
        self, values: Any, kind: str, dtype: str, normalized: bool = False, bounds: bool = False
    ) -> int:
        code = {"f4": 5126, "u1": 5121, "u2": 5123}[dtype]
        rows = np.ascontiguousarray(values, f"<{dtype}")
        self.bytes += b"\0" * (-len(self.bytes) % 4)
        view = {"buffer": 0, "byteOffset": len(self.bytes), "byteLength": rows.nbytes}
        self.bytes += rows.tobytes()
        self.data["bufferViews"].append(view)
        entry: dict[str, Any] = {
            "bufferView": len(self.data["bufferViews"]) - 1, "componentType": code, "count": len(rows), "type": kind,
        }  # fmt: skip
        if normalized:
            entry["normalized"] = True
        if bounds:
            flat = rows.reshape(len(rows), -1)
            entry |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        self.data["accessors"].append(entry)
        return len(self.data["accessors"]) - 1

    def save(self, path: Path) -> None:
        self.data["buffers"] = [{"byteLength": len(self.bytes)}]
        text = json.dumps(self.data, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        blob = self.bytes + b"\0" * (-len(self.bytes) % 4)
        chunks = (
            struct.pack("<II", len(text), 0x4E4F534A)
            + text
            + struct.pack("<II", len(blob), 0x004E4942)
            + blob
        )
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def write_mesh(path: Path, vertices: Floats, faces: Ints) -> None:
    out = Writer()
    weights = skin_weights(vertices)
    order = np.argsort(-weights, axis=1)[:, :4]
    four = np.round(255 * np.take_along_axis(weights, order, axis=1)).astype(int)
    four[:, 0] += 255 - four.sum(axis=1)
    painted = np.concatenate([lit(vertices), np.ones((len(vertices), 1))], axis=1)
    # glTF's vertex colors are linear
    painted[:, :3] = np.where(
        painted[:, :3] <= 0.04045, painted[:, :3] / 12.92, ((painted[:, :3] + 0.055) / 1.055) ** 2.4
    )
    primitive = {
        "attributes": {
            "POSITION": out.array(vertices, "VEC3", "f4", bounds=True),
            "NORMAL": out.array(normals(vertices), "VEC3", "f4"),
            "COLOR_0": out.array(np.round(65535 * painted), "VEC4", "u2", normalized=True),
            "JOINTS_0": out.array(order, "VEC4", "u1"),
            "WEIGHTS_0": out.array(four, "VEC4", "u1", normalized=True),
        },
        "indices": out.array(faces.reshape(-1), "SCALAR", "u2"),
        "material": 0,
    }
    nodes: list[dict[str, Any]] = []
    for i, bone in enumerate(BONES):
        origin = JOINTS[PARENTS[i]] if PARENTS[i] >= 0 else np.zeros(3)
        children = [k for k, parent in enumerate(PARENTS) if parent == i]
        nodes.append(
            {"name": bone.name, "translation": (JOINTS[i] - origin).round(5).tolist()}
            | ({"children": children} if children else {})
        )
    nodes.append({"name": "figure", "mesh": 0, "skin": 0})
    inverse = np.tile(np.eye(4), (len(BONES), 1, 1))
    inverse[:, :3, 3] = -JOINTS
    out.data |= {
        "asset": {"version": "2.0", "generator": "GS4D Studio, training/puppet"},
        "scene": 0,
        "scenes": [{"nodes": [0, len(BONES)]}],
        "nodes": nodes,
        "meshes": [{"name": "figure", "primitives": [primitive]}],
        "materials": [{"name": "clay", "pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 1}}],
        "skins": [{
            "joints": list(range(len(BONES))),
            "inverseBindMatrices": out.array(inverse.transpose(0, 2, 1).reshape(-1, 16), "MAT4", "f4"),
        }],
        "animations": [animation(out, name) for name in MOVES],
    }  # fmt: skip
    out.save(path)


def animation(out: Writer, name: str) -> dict[str, Any]:
    length, pose_at = MOVES[name]
    times = np.linspace(0, length, round(length * KEYS) + 1)
    poses = [pose_at(float(t)) for t in times]
    keys = out.array(times, "SCALAR", "f4", bounds=True)
    samplers, channels = [], []
    for bone in sorted({bone for pose in poses for bone in pose.turns}, key=lambda bone: INDEX[bone]):
        angles = [pose.turns.get(bone, (0, 0, 0)) for pose in poses]
        quats = Rotation.from_euler("ZYX", [a[::-1] for a in angles], degrees=True).as_quat()
        for k in range(1, len(quats)):
            quats[k] *= 1 if quats[k] @ quats[k - 1] >= 0 else -1
        samplers.append({"input": keys, "output": out.array(quats, "VEC4", "f4")})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": INDEX[bone], "path": "rotation"}})
    moved = np.array([JOINTS[0] + pose.shift for pose in poses])
    samplers.append({"input": keys, "output": out.array(moved, "VEC3", "f4")})
    channels.append({"sampler": len(samplers) - 1, "target": {"node": 0, "path": "translation"}})
    return {"name": name, "samplers": samplers, "channels": channels}


def write_splat(path: Path, vertices: Floats, faces: Ints) -> int:
    """Flat Gaussians spread over the surface, with y down as splats have it."""
    v, f = torch.from_numpy(vertices), torch.from_numpy(faces)
    points = sample_surface(v, f, GAUSSIANS).points(v, f).numpy()
    for _ in range(3):
        points = points - distance(points)[:, None] * normals(points)
    n = torch.from_numpy(normals(points)).float()
    across = torch.nn.functional.normalize(
        torch.linalg.cross(n, n.roll(1, 1) + torch.tensor([0.1, 0.2, 0.3])), dim=1
    )
    axes = torch.stack([across, torch.linalg.cross(n, across), n], dim=-1)
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    size = float((triangle_areas(v, f).sum() / GAUSSIANS).sqrt())
    scales = torch.tensor([0.75 * size, 0.75 * size, 0.15 * size]).log().expand(GAUSSIANS, 3)
    splat = Gaussians(
        torch.from_numpy(points).float() @ half_turn,
        scales.clone(),
        rotations.matrices_to_quats(half_turn @ axes),
        torch.full((GAUSSIANS,), 4.0),
        harmonics.rgb_to_dc(torch.from_numpy(lit(points)).float())[:, None],
    )
    write_spz(splat, path)
    return len(splat)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundled puppet.")
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    vertices, faces = surface()
    mesh, splat = folder / f"{NAME}.glb", folder / f"{NAME}.spz"
    write_mesh(mesh, vertices, faces)
    count = write_splat(splat, vertices, faces)
    print(json.dumps({
        "vertices": len(vertices), "triangles": len(faces), "bones": len(BONES), "gaussians": count,
        "mesh_bytes": mesh.stat().st_size, "splat_bytes": splat.stat().st_size,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
