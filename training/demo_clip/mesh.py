"""Surfaces cut from the body mesh: Loop subdivision, clipping, and shells that float above the skin.

Every vertex of a surface is a fixed linear combination of body vertices, so a surface follows any pose.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .raster import vertex_normals

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def split_quads(faces: list[list[int]]) -> IntArray:
    """Triangles (T, 3) of faces with three or four corners."""
    out: list[list[int]] = []
    for f in faces:
        out.append([f[0], f[1], f[2]])
        if len(f) == 4:
            out.append([f[0], f[2], f[3]])
    return np.array(out, np.int64)


def loop_subdivide(count: int, triangles: IntArray) -> tuple[sp.csr_matrix, IntArray]:
    """One step of Loop subdivision [Loop 1987]. Returns the mixing matrix (V', V) and triangles."""
    pairs = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, edge_of, uses = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    edge_of = edge_of.reshape(-1, 3)
    opposite = triangles[:, [2, 0, 1]]
    inner = uses == 2
    rows, cols, values = [], [], []

    def put(r: IntArray, c: IntArray, v: FloatArray) -> None:
        rows.append(r)
        cols.append(c)
        values.append(v)

    index = np.arange(len(edges)) + count
    end_weight = np.where(inner, 3 / 8, 1 / 2)
    put(index, edges[:, 0], end_weight)
    put(index, edges[:, 1], end_weight)
    keep = inner[edge_of]
    put(index[edge_of[keep]], opposite[keep], np.full(int(keep.sum()), 1 / 8))

    rim = edges[~inner]
    on_rim = np.zeros(count, bool)
    on_rim[rim] = True
    valence = np.bincount(edges.ravel(), minlength=count)
    n = np.maximum(valence, 3)
    beta = np.where(n == 3, 3 / 16, 3 / (8 * n))
    own = np.where(on_rim, 3 / 4, 1 - n * beta)
    own[valence == 0] = 1.0
    vertex = np.arange(count)
    put(vertex, vertex, own)
    for a, b in ((0, 1), (1, 0)):
        free = ~on_rim[edges[:, a]]
        put(edges[free, a], edges[free, b], beta[edges[free, a]])
        put(rim[:, a], rim[:, b], np.full(len(rim), 1 / 8))
    shape = (count + len(edges), count)
    matrix = sp.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape)
    matrix = sp.diags(1 / np.asarray(matrix.sum(axis=1)).ravel()) @ matrix
    m, t = edge_of + count, triangles
    fine = np.concatenate(
        [
            np.stack([t[:, 0], m[:, 0], m[:, 2]], 1),
            np.stack([t[:, 1], m[:, 1], m[:, 0]], 1),
            np.stack([t[:, 2], m[:, 2], m[:, 1]], 1),
            m,
        ]
    )
    return matrix.tocsr(), fine


def clip(triangles: IntArray, inside: FloatArray) -> tuple[sp.csr_matrix, IntArray]:
    """Keep the part of a mesh where a vertex field is positive. Returns (V', V) and triangles."""
    count = len(inside)
    cuts: dict[tuple[int, int], int] = {}
    mixes: list[tuple[int, int, float]] = []

    def cut(a: int, b: int) -> int:
        key = (a, b) if a < b else (b, a)
        if key not in cuts:
            fa, fb = inside[key[0]], inside[key[1]]
            cuts[key] = count + len(mixes)
            mixes.append((key[0], key[1], float(fa / (fa - fb))))
        return cuts[key]

    positive = inside > 0
    number = positive[triangles].sum(axis=1)
    out = [triangles[number == 3]]
    extra: list[list[int]] = []
    for t, k in zip(triangles, number, strict=True):
        if k not in (1, 2):
            continue
        odd = int(np.flatnonzero(positive[t] == (k == 1))[0])
        a, b, c = (int(x) for x in np.roll(t, -odd))
        ab, ac = cut(a, b), cut(a, c)
        extra += [[a, ab, ac]] if k == 1 else [[ab, b, c], [ab, c, ac]]
    if extra:
        out.append(np.array(extra, np.int64))
    mix = np.array(mixes).reshape(-1, 3)
    row = np.arange(len(mix))
    added = sp.csr_matrix(
        (
            np.concatenate([1 - mix[:, 2], mix[:, 2]]),
            (np.concatenate([row, row]), mix[:, :2].T.ravel().astype(np.int64)),
        ),
        (len(mix), count),
    )
    return sp.vstack([sp.identity(count), added]).tocsr(), np.concatenate(out)


@dataclass
class Surface:
    """A part of the figure: source weights (V, base vertices), shell thickness, and the final cut."""

    name: str
    source: sp.csr_matrix
    shell_triangles: IntArray
    thickness: FloatArray
    cut: sp.csr_matrix
    triangles: IntArray
    uv: FloatArray | None = None
    rest: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))

    @classmethod
    def build(
        cls,
        name: str,
        rest: FloatArray,
        triangles: IntArray,
        *,
        levels: int = 0,
        thickness: FloatArray | float = 0.0,
        uv: FloatArray | None = None,
    ) -> Surface:
        """rest (base, 3); triangles index it; uv (T, 3, 2) only without subdivision."""
        source = sp.identity(len(rest)).tocsr()
        for _ in range(levels):
            step, triangles = loop_subdivide(source.shape[0], triangles)
            source = (step @ source).tocsr()
        used, renamed = np.unique(triangles, return_inverse=True)
        source, triangles = source[used], renamed.reshape(-1, 3)
        grown = np.broadcast_to(np.asarray(thickness, float), len(used)).copy()
        cut = sp.identity(len(used)).tocsr()
        return cls(name, source, triangles, grown, cut, triangles, uv, source @ rest)

    def keep(self, inside: FloatArray) -> None:
        """Cut away where the field (one value per shell vertex) is negative."""
        self.cut, cut_triangles = clip(self.shell_triangles, inside)
        used, renamed = np.unique(cut_triangles, return_inverse=True)
        self.cut, self.triangles = self.cut[used], renamed.reshape(-1, 3)
        self.uv = None

    def posed(self, base: FloatArray) -> FloatArray:
        """(V, 3) of the final vertices for posed base vertices."""
        points = self.source @ base
        if np.any(self.thickness):
            points = points + vertex_normals(points, self.shell_triangles) * self.thickness[:, None]
        return self.cut @ points

    @property
    def rest_points(self) -> FloatArray:
        return self.cut @ self.rest
