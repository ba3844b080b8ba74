"""The node tree of a glTF document and its matrices over time.

Source: Khronos Group, glTF 2.0 specification, sections 3.5 and 3.11.
"""

from __future__ import annotations

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
        for index, node in enumerate(self.nodes):
            for child in _indices(node.get("children")):
                document.item("nodes", child, f"node {index}")
                if self.parents[child] >= 0 or child == index:
                    raise self._not_a_tree(child)
                self.parents[child] = index
        # parents before their children
        self.order = self._reachable([i for i, parent in enumerate(self.parents) if parent < 0])
        if len(self.order) < len(self.nodes):
            raise self._not_a_tree(next(i for i in range(len(self.nodes)) if i not in set(self.order)))
        self.rest = {part: np.array([self._part(i, part) for i in range(len(self.nodes))]) for part in PARTS}

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

    def world(self, channels: dict[tuple[int, str], Sampler], seconds: Array) -> Array:
        """World matrices [T, nodes, 4, 4] at times [T]."""
        parts = {
            name: np.broadcast_to(rest, (len(seconds), *rest.shape)).copy()
            for name, rest in self.rest.items()
        }
        for (node, path), sampler in channels.items():
            if path in parts:
                parts[path][:, node] = sampler.at(seconds)
        local = np.zeros((len(seconds), len(self.nodes), 4, 4))
        local[..., :3, :3] = _turns(unit(parts["rotation"])) * parts["scale"][..., None, :]
        local[..., :3, 3] = parts["translation"]
        local[..., 3, 3] = 1.0
        for node in self.order:
            if self.parents[node] >= 0:
                local[:, node] = local[:, self.parents[node]] @ local[:, node]
        return local

    def _reachable(self, roots: list[int]) -> list[int]:
        found: list[int] = []
        level = list(dict.fromkeys(roots))
        while level:
            found += level
            level = [child for node in level for child in _indices(self.nodes[node].get("children"))]
            if len(found) > len(self.nodes):
                raise self._not_a_tree(level[0] if level else found[-1])
        return found

    def _part(self, index: int, part: str) -> Array:
        node = self.nodes[index]
        if "matrix" in node:
            return _decomposed(self._numbers(index, "matrix", 16).reshape(4, 4).T)[part]
        return self._numbers(index, part, len(PARTS[part])) if part in node else np.array(PARTS[part])

    def _numbers(self, index: int, key: str, count: int) -> Array:
        values = self.nodes[index][key]
        if isinstance(values, list) and len(values) == count and all(type(v) in (int, float) for v in values):
            found = np.array(values, np.float64)
            if np.isfinite(found).all():
                return found
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
            found[target["node"], path] = read_sampler(document, samplers[index], path, count, where)
    return found


def _indices(children: Any) -> list[int]:
    return [child for child in children if type(child) is int] if isinstance(children, list) else []


def _turns(quats: Array) -> Array:
    """Unit quaternions xyzw [..., 4] as matrices [..., 3, 3]."""
    x, y, z, w = np.moveaxis(quats, -1, 0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return np.stack(rows, axis=-1).reshape(*quats.shape[:-1], 3, 3)


def _decomposed(matrix: Array) -> dict[str, Array]:
    """A matrix without shear as translation, rotation and scale; a mirrored one has a negative scale along x."""
    # the pack also loads where scipy is missing
    from scipy.spatial.transform import Rotation

    scale = np.linalg.norm(matrix[:3, :3], axis=0)
    if np.linalg.det(matrix[:3, :3]) < 0:
        scale[0] = -scale[0]
    turn = matrix[:3, :3] / np.where(np.abs(scale) > 1e-12, scale, 1.0)
    is_turn = abs(np.linalg.det(turn)) > 1e-6
    quat = Rotation.from_matrix(turn).as_quat() if is_turn else np.array(PARTS["rotation"])
    return {"translation": matrix[:3, 3], "rotation": quat, "scale": scale}
