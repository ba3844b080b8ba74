"""Half-edge collapse of a mesh that deforms: every vertex that stays is a vertex of the input, so blend shapes stay exact.

After Garland and Heckbert (SIGGRAPH 1997), with the quadrics of several poses added up. Borders, open ones and those
between labels, collapse only along themselves.
"""

from __future__ import annotations

import heapq
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BORDER = 4.0  # weight of the planes that hold borders in place
SHORT = 2e-3  # weight of the edge's own length, which keeps triangles well shaped
LEAST_TURN = 0.2  # cosine between a triangle's normals before and after


def simplify(
    poses: Floats, faces: Ints, labels: Ints, weights: Floats, target: int, locked: Ints
) -> tuple[Ints, Ints]:
    """Collapse edges until `target` vertices are left.

    Args:
        poses: [K, V, 3] the mesh in K poses.
        faces: [F, 3] manifold; vertices that no face uses are dropped.
        labels: [F] faces between which the border is kept.
        weights: [V] how much an error counts.
        target: Vertices to keep.
        locked: Vertices that stay.

    Returns:
        Ids of the kept vertices, ascending, and faces [F', 3] that index them.
    """
    mesh = _Mesh(poses, faces, labels, weights, locked)
    mesh.run(target)
    kept = np.unique(np.array([mesh.triangles[t] for t in mesh.alive]))
    place = np.full(poses.shape[1], -1)
    place[kept] = np.arange(len(kept))
    return kept, place[np.array([mesh.triangles[t] for t in sorted(mesh.alive)])]


class _Mesh:
    def __init__(self, poses: Floats, faces: Ints, labels: Ints, weights: Floats, locked: Ints):
        self.places = np.ascontiguousarray(poses.transpose(1, 0, 2))  # [V, K, 3]
        self.triangles: list[tuple[int, int, int]] = [tuple(face) for face in faces.tolist()]
        self.labels = labels.tolist()
        self.alive = set(range(len(faces)))
        self.around: list[set[int]] = [set() for _ in range(len(self.places))]
        for t, corners in enumerate(self.triangles):
            for corner in corners:
                self.around[corner].add(t)
        self.locked = set(locked.tolist())
        self.weights = weights
        self.borders: list[set[int]] = [set() for _ in range(len(self.places))]
        self.quadrics = self._quadrics(faces)  # [V, K, 4, 4]
        self.left = sum(1 for at in self.around if at)
        self.changed = [0] * len(self.places)

    def _quadrics(self, faces: Ints) -> Floats:
        made = np.zeros((*self.places.shape[:2], 4, 4))
        corners = self.places[faces]  # [F, 3, K, 3]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        areas = np.linalg.norm(normals, axis=-1, keepdims=True)
        normals = normals / np.maximum(areas, 1e-15)
        planes = np.concatenate([normals, -(normals * corners[:, 0]).sum(-1, keepdims=True)], axis=-1)
        each = planes[..., :, None] * planes[..., None, :] * areas[..., None]
        for corner in range(3):
            np.add.at(made, faces[:, corner], each)
        shared: dict[tuple[int, int], list[int]] = {}
        for t, (a, b, c) in enumerate(self.triangles):
            for edge in ((a, b), (b, c), (c, a)):
                shared.setdefault((min(edge), max(edge)), []).append(t)
        for (a, b), found in shared.items():
            if len(found) == 2 and self.labels[found[0]] == self.labels[found[1]]:
                continue
            self.borders[a].add(b)
            self.borders[b].add(a)
            along = self.places[b] - self.places[a]
            across = np.cross(along, normals[found[0]])
            length = np.linalg.norm(across, axis=-1, keepdims=True)
            across = across / np.maximum(length, 1e-15)
            plane = np.concatenate([across, -(across * self.places[a]).sum(-1, keepdims=True)], axis=-1)
            quadric = BORDER * plane[..., :, None] * plane[..., None, :] * (length**2)[..., None]
            made[a] += quadric
            made[b] += quadric
        return made * self.weights[:, None, None, None]

    def neighbors(self, vertex: int) -> set[int]:
        return {corner for t in self.around[vertex] for corner in self.triangles[t]} - {vertex}

    def cost(self, gone: int, kept: int) -> float:
        place = np.concatenate([self.places[kept], np.ones((len(self.places[kept]), 1))], axis=1)
        quadric = self.quadrics[gone] + self.quadrics[kept]
        moved = self.places[kept, 0] - self.places[gone, 0]
        short = SHORT * float(moved @ moved) ** 2 * (self.weights[gone] + self.weights[kept])
        return float(np.einsum("ki,kij,kj->", place, quadric, place)) + short

    def allowed(self, gone: int, kept: int) -> bool:
        if gone in self.locked:
            return False
        if self.borders[gone] and (len(self.borders[gone]) != 2 or kept not in self.borders[gone]):
            return False
        shared = self.around[gone] & self.around[kept]
        if self.neighbors(gone) & self.neighbors(kept) != {
            corner for t in shared for corner in self.triangles[t]
        } - {gone, kept}:
            return False
        rest = [self.triangles[t] for t in self.around[gone] - shared]
        if not rest:
            return False
        old = self.places[np.array(rest)]  # [T, 3, K, 3]
        new = self.places[np.array([[kept if c == gone else c for c in corners] for corners in rest])]
        before = np.cross(old[:, 1] - old[:, 0], old[:, 2] - old[:, 0])
        after = np.cross(new[:, 1] - new[:, 0], new[:, 2] - new[:, 0])
        lengths = np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1)
        if ((before * after).sum(-1) <= LEAST_TURN * lengths).any():
            return False
        # no slivers in the first pose
        longest = max(
            float(((new[:, i, 0] - new[:, j, 0]) ** 2).sum(-1).max()) for i, j in combinations(range(3), 2)
        )
        return float(np.linalg.norm(after[:, 0], axis=-1).min()) > 0.02 * longest

    def run(self, target: int) -> None:
        # what was refused once may be allowed after its surroundings changed
        while self.left > target and self._round(target):
            pass

    def _round(self, target: int) -> bool:
        """Whether anything collapsed before no edge was left to try."""
        vertices = [a for a in range(len(self.places)) if self.around[a]]
        heap = [
            (self.cost(a, b), a, b, self.changed[a], self.changed[b])
            for a in vertices
            for b in self.neighbors(a)
        ]
        heapq.heapify(heap)
        before = self.left
        while self.left > target and heap:
            _, gone, kept, at_gone, at_kept = heapq.heappop(heap)
            fresh = at_gone == self.changed[gone] and at_kept == self.changed[kept]
            if not (fresh and self.around[gone] and self.around[kept] and self.allowed(gone, kept)):
                continue
            self.collapse(gone, kept)
            self.changed[kept] += 1
            for other in self.neighbors(kept):
                stamps = self.changed[kept], self.changed[other]
                heapq.heappush(heap, (self.cost(kept, other), kept, other, *stamps))
                heapq.heappush(heap, (self.cost(other, kept), other, kept, *reversed(stamps)))
        return self.left < before

    def collapse(self, gone: int, kept: int) -> None:
        for t in self.around[gone] & self.around[kept]:
            self.alive.discard(t)
            for corner in self.triangles[t]:
                if corner != gone:
                    self.around[corner].discard(t)
        for t in self.around[gone] & self.alive:
            self.triangles[t] = tuple(kept if c == gone else c for c in self.triangles[t])  # pyright: ignore
            self.around[kept].add(t)
        self.around[gone] = set()
        self.quadrics[kept] += self.quadrics[gone]
        for other in self.borders[gone]:
            self.borders[other].discard(gone)
            if other != kept:
                self.borders[other].add(kept)
                self.borders[kept].add(other)
        self.borders[kept].discard(gone)
        self.borders[gone] = set()
        self.left -= 1
