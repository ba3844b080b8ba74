"""World matrices of a glTF document's nodes over time.

Source: Khronos Group, glTF 2.0 specification, section 3.5.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .nodes import PARTS, NodeTree, composed
from .samplers import Sampler

Array = NDArray[Any]


class Poses:
    """World matrices of some nodes at any time.

    What no channel moves is multiplied once: a frame costs no more than what moves and what is asked for, however many nodes
    stand between them.

    Args:
        tree: The nodes.
        channels: What moves them, by node and path.
        wanted: The nodes that are asked for.
    """

    def __init__(
        self, tree: NodeTree, channels: dict[tuple[int, str], Sampler], wanted: Iterable[int]
    ) -> None:
        chosen = set(wanted)
        moving = {node for node, path in channels if path in PARTS}
        is_needed = [False] * len(tree.nodes)
        for node in reversed(tree.order):
            is_needed[node] = is_needed[node] or node in chosen
            if is_needed[node] and tree.parents[node] >= 0:
                is_needed[tree.parents[node]] = True
        nodes = [node for node in tree.order if is_needed[node] and (node in moving or node in chosen)]
        # row of each node in `at`, -1 for the others
        self.row = np.full(len(tree.nodes), -1)
        self.row[nodes] = np.arange(len(nodes))
        # of each row: the row above it, and the matrix from its parent to the node of that row
        self.above, self.between = np.full(len(nodes), -1), np.tile(np.eye(4), (len(nodes), 1, 1))
        self.local, self.rest = tree.local[nodes], {part: values[nodes] for part, values in tree.rest.items()}
        self.channels = {
            (int(self.row[node]), path): sampler
            for (node, path), sampler in channels.items()
            if path in PARTS and is_needed[node]
        }
        self.moving = np.array(sorted({row for row, _ in self.channels}), np.int64)
        self.place = {int(row): i for i, row in enumerate(self.moving)}
        self._fold(tree, [node for node in tree.order if is_needed[node]])

    def __len__(self) -> int:
        return len(self.local)

    def _fold(self, tree: NodeTree, needed: list[int]) -> None:
        """Fill `above` and `between`."""
        # of nodes without a row: the row above them, and the matrix from the node to that row's
        folded: dict[int, tuple[int, Array]] = {}
        identity = np.eye(4)
        for node in needed:
            parent, row = tree.parents[node], int(self.row[node])
            if parent < 0:
                above, between = -1, identity
            elif self.row[parent] >= 0:
                above, between = int(self.row[parent]), identity
            else:
                above, between = folded[parent]
            if row >= 0:
                self.above[row], self.between[row] = above, between
            else:
                folded[node] = above, between @ tree.local[node]

    def at(self, seconds: Array) -> Array:
        """World matrices [T, rows, 4, 4] at times [T]."""
        local = np.broadcast_to(self.local, (len(seconds), *self.local.shape)).copy()
        parts = {
            part: np.broadcast_to(
                values[self.moving], (len(seconds), len(self.moving), values.shape[1])
            ).copy()
            for part, values in self.rest.items()
        }
        for (row, path), sampler in self.channels.items():
            parts[path][:, self.place[row]] = sampler.at(seconds)
        local[:, self.moving] = composed(**parts)
        return self._joined(local)

    def at_rest(self) -> Array:
        """World matrices [1, rows, 4, 4] without animation."""
        return self._joined(self.local[None])

    def _joined(self, local: Array) -> Array:
        world = self.between @ local
        for row, above in enumerate(self.above.tolist()):
            if above >= 0:
                world[:, row] = world[:, above] @ world[:, row]
        return world
