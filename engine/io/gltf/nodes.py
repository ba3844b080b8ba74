"""The node tree of a glTF document and its matrices over time.

Source: Khronos Group, glTF 2.0 specification, sections 3.5 and 3.11.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .document import Document
from .samplers import Sampler, read_sampler, unit

Array = NDArray[Any]

# what a channel drives → how many numbers that is and what stands for it where a node has none
PARTS: dict[str, tuple[float, ...]] = {
    "translation": (0.0, 0.0, 0.0),
    "rotation": (0.0, 0.0, 0.0, 1.0),
    "scale": (1.0, 1.0, 1.0),
}


class NodeTree:
    """All nodes of a document.

    Args:
        document: The file.

    Raises:
        InputError: A node is its own descendant or has two parents, or a transform is not made of numbers.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes = document.items("nodes")
        self.parents = [-1] * len(self.nodes)
        self.children = [_indices(node.get("children")) for node in self.nodes]
        for index, children in enumerate(self.children):
            for child in children:
                document.item("nodes", child, f"node {index}")
                if self.parents[child] >= 0 or child == index:
                    raise self._not_a_tree(child)
                self.parents[child] = index
        # parents before their children
        self.order = self._reachable([i for i, parent in enumerate(self.parents) if parent < 0])
        if len(self.order) < len(self.nodes):
            raise self._not_a_tree(min(set(range(len(self.nodes))) - set(self.order)))
        self.rest = {part: np.tile(np.array(usual), (len(self.nodes), 1)) for part, usual in PARTS.items()}
        # [nodes, 4, 4] from each node to its parent, without animation
        self.local = self._resting()

    @cached_property
    def drawn(self) -> list[int]:
        """Nodes of the default scene that have a mesh, parents first; all nodes of a file without scenes."""
        scenes = self.document.items("scenes")
        if not scenes:
            return [i for i in self.order if "mesh" in self.nodes[i]]
        scene = self.document.item("scenes", self.document.data.get("scene", 0), "the default scene")
        roots = _indices(scene.get("nodes"))
        for root in roots:
            self.document.item("nodes", root, "the default scene")
        return [i for i in self._reachable(roots) if "mesh" in self.nodes[i]]

    def _reachable(self, roots: list[int]) -> list[int]:
        found: list[int] = []
        level = list(dict.fromkeys(roots))
        while level:
            found += level
            level = [child for node in level for child in self.children[node]]
            if len(found) > len(self.nodes):
                raise self._not_a_tree(level[0] if level else found[-1])
        return found

    def _resting(self) -> Array:
        """Fill `rest` from the file, and return the nodes' matrices."""
        matrices: dict[int, Array] = {}
        for index, node in enumerate(self.nodes):
            if "matrix" in node:
                matrices[index] = self._numbers(index, "matrix", 16).reshape(4, 4).T
                continue
            for part, usual in PARTS.items():
                if part in node:
                    self.rest[part][index] = self._numbers(index, part, len(usual))
        rows = list(matrices)
        if rows:
            for part, values in decomposed(np.stack(list(matrices.values()))).items():
                self.rest[part][rows] = values
        return composed(**self.rest)

    def _numbers(self, index: int, key: str, count: int) -> Array:
        values = self.nodes[index][key]
        if isinstance(values, list) and len(values) == count and all(type(v) in (int, float) for v in values):
            if all(map(math.isfinite, values)):
                return np.array(values, np.float64)
        raise InputError(
            "GLT-027",
            f"{self.document.name}: the {key} of node {index} does not consist of {count} finite numbers. Export the file again.",
        )

    def _not_a_tree(self, index: int) -> InputError:
        return InputError(
            "GLT-028",
            f"{self.document.name}: node {index} has two parents or is its own descendant. The file is damaged; export it again.",
        )


def read_channels(
    document: Document, animation: dict[str, Any], targets_of: dict[int, int]
) -> dict[tuple[int, str], Sampler]:
    """The samplers of an animation by node and what they drive.

    Args:
        document: The file.
        animation: An object of its `animations`.
        targets_of: How many morph targets each node with a mesh has.

    Raises:
        InputError: A channel or its sampler is damaged.
    """
    found: dict[tuple[int, str], Sampler] = {}
    # channels may share a sampler
    known: dict[tuple[int, str, int], Sampler] = {}
    samplers = [each for each in animation.get("samplers", []) if isinstance(each, dict)]
    for number, channel in enumerate(animation.get("channels", [])):
        target = channel.get("target") if isinstance(channel, dict) else None
        path = target.get("path") if isinstance(target, dict) else None
        # without a node, or with another path, a channel belongs to an extension
        if not isinstance(target, dict) or "node" not in target or path not in (*PARTS, "weights"):
            continue
        where = f"channel {number} ({path})"
        document.item("nodes", target["node"], where)
        index = channel.get("sampler")
        if type(index) is not int or not 0 <= index < len(samplers):
            raise InputError(
                "GLT-029", f"{document.name}: {where} has no sampler. The file is damaged; export it again."
            )
        count = targets_of.get(target["node"], 0) if path == "weights" else len(PARTS[path])
        if count:
            key = (index, path, count)
            if key not in known:
                known[key] = read_sampler(document, samplers[index], path, count, where)
            found[target["node"], path] = known[key]
    return found


def _indices(children: Any) -> list[int]:
    return [child for child in children if type(child) is int] if isinstance(children, list) else []


def composed(translation: Array, rotation: Array, scale: Array) -> Array:
    """Matrices [..., 4, 4] of translations, quaternions xyzw and scales."""
    result = np.zeros((*translation.shape[:-1], 4, 4))
    result[..., :3, :3] = _turns(unit(rotation)) * scale[..., None, :]
    result[..., :3, 3] = translation
    result[..., 3, 3] = 1.0
    return result


def _turns(quats: Array) -> Array:
    """Unit quaternions xyzw [..., 4] as matrices [..., 3, 3]."""
    x, y, z, w = np.moveaxis(quats, -1, 0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return np.stack(rows, axis=-1).reshape(*quats.shape[:-1], 3, 3)


def decomposed(matrices: Array) -> dict[str, Array]:
    """Matrices [M, 4, 4] without shear as translation, rotation and scale; a mirrored one has a negative scale along x."""
    # the pack also loads where scipy is missing
    from scipy.spatial.transform import Rotation

    linear = matrices[:, :3, :3]
    scale = np.linalg.norm(linear, axis=1)
    scale[np.linalg.det(linear) < 0, 0] *= -1
    turns = linear / np.where(np.abs(scale) > 1e-12, scale, 1.0)[:, None]
    # a flat or empty matrix turns nothing
    turns[np.abs(np.linalg.det(turns)) <= 1e-6] = np.eye(3)
    return {
        "translation": matrices[:, :3, 3],
        "rotation": Rotation.from_matrix(turns).as_quat(),
        "scale": scale,
    }
