"""Where a mesh stands in relation to points that show the same subject: turn, scale and shift by which it fits them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..scene.rigs import UPS
from .animated_mesh import sample_surface
from .boxes import percentile_box
from .similarity import similarity_between

SAMPLES = 1500
# weight of a color difference of 1 against the subject's diagonal
COLOR_WEIGHT = 0.1
# a candidate further down the list must be this much better
CLEARLY = 0.85
TURNS = (0.0, 180.0, 90.0, -90.0)
ROUNDS, KEPT = 20, 0.8  # of the refinement; the share of pairs that counts


@dataclass(frozen=True, eq=False)
class MeshFit:
    """A map of mesh coordinates (y up) to the points'.

    Args:
        matrix: [3, 4] float64: turn · scale, and shift.
        up: Key of UPS: the points' up axis.
        turn: Degrees about it.
        scale: Factor of size.
        distance: Mean distance between points and surface, both ways, in diagonals of the points' box.
    """

    matrix: Tensor
    up: str
    turn: float
    scale: float
    distance: float

    def sentence(self) -> str:
        """Turn and scale for a person."""
        return f"up axis {self.up}, turn {self.turn:g}°, scale {self.scale:.4g}"


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points [P, 3] (float64) with colors [P, 3] in 0..1."""

    points: Tensor
    colors: Tensor


def mesh_cloud(vertices: Tensor, faces: Tensor, colors: Tensor) -> Cloud:
    """Samples of a mesh's surface."""
    samples = sample_surface(vertices, faces, SAMPLES)
    return Cloud(samples.points(vertices, faces).double(), samples.points(colors, faces).double())


def orientation(up: str, turn: float) -> Tensor:
    """The rotation [3, 3] (float64) from glTF's axes (y up, z toward the viewer) to an up axis, after a turn about it."""
    angle = math.radians(turn)
    c, s = math.cos(angle), math.sin(angle)
    about_y = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)
    to_up = {
        "y up": [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]],
        "y down": [[1.0, 0, 0], [0, -1, 0], [0, 0, -1]],
        "z up": [[1.0, 0, 0], [0, 0, -1], [0, 1, 0]],
    }[up]
    return torch.tensor(to_up, dtype=torch.float64) @ about_y


def fit_bounds(mesh: Cloud, target: Cloud, up: str, turn: float) -> MeshFit:
    """Scale and shift that put the mesh's box, without the outermost 1 %, on that of the points."""
    rotation = orientation(up, turn)
    own, wanted = percentile_box(mesh.points @ rotation.T), percentile_box(target.points)
    sizes, goals = own[1] - own[0], wanted[1] - wanted[0]
    scale = float((sizes * goals).sum() / (sizes * sizes).sum().clamp(min=1e-24)) or 1.0
    shift = wanted.mean(0) - scale * own.mean(0)
    return _measured(mesh, target, torch.cat([scale * rotation, shift[:, None]], dim=1), up, turn)


def unmoved(mesh: Cloud, target: Cloud, up: str = "y up") -> MeshFit:
    """The mesh where it stands, measured."""
    return _measured(mesh, target, torch.eye(3, 4, dtype=torch.float64), up, 0.0)


def best_fit(mesh: Cloud, target: Cloud, ups: list[str], turn: float = 0.0) -> MeshFit:
    """The orientation whose shape and colors fit best, refined.

    Args:
        mesh: Samples of the mesh in its own axes.
        target: The points.
        ups: Keys of UPS, the likeliest first: of nearly equal fits the first is taken.
        turn: Degrees about the up axis; 0 tries quarter turns.
    """
    best: MeshFit | None = None
    for up in ups:
        for quarter in (turn,) if turn else TURNS:
            found = fit_bounds(mesh, target, up, quarter)
            if best is None or found.distance < CLEARLY * best.distance:
                best = found
    if best is None:
        return unmoved(mesh, target)
    refined = _refined(mesh, target, best)
    return refined if refined.distance < best.distance else best


def up_axes(likely: str) -> list[str]:
    """All up axes, the likely one first."""
    return [likely, *(up for up in UPS if up != likely)]


def _measured(mesh: Cloud, target: Cloud, matrix: Tensor, up: str, turn: float) -> MeshFit:
    # the pack also loads where scipy is missing
    from scipy.spatial import KDTree

    points = mesh.points @ matrix[:, :3].T + matrix[:, 3]
    box = percentile_box(target.points)
    size = float((box[1] - box[0]).norm()) or 1.0
    own = _features(points, mesh.colors, size)
    wanted = _features(target.points, target.colors, size)
    ways = [KDTree(a).query(b)[0].mean() for a, b in ((own, wanted), (wanted, own))]
    scale = float(torch.linalg.det(matrix[:, :3]).abs() ** (1 / 3))
    return MeshFit(matrix, up, turn, scale, float(sum(ways) / 2 / size))


def _features(points: Tensor, colors: Tensor, size: float) -> np.ndarray:
    return torch.cat([points, COLOR_WEIGHT * size * colors], dim=1).numpy()


def _refined(mesh: Cloud, target: Cloud, start: MeshFit) -> MeshFit:
    """Iterative closest points with a common scale (Umeyama 1991), the worst pairs left out."""
    # the pack also loads where scipy is missing
    from scipy.spatial import KDTree

    matrix, tree = start.matrix, KDTree(target.points.numpy())
    for _ in range(ROUNDS):
        moved = mesh.points @ matrix[:, :3].T + matrix[:, 3]
        to_target, at_target = tree.query(moved.numpy())
        to_mesh, at_mesh = KDTree(moved.numpy()).query(target.points.numpy())
        own = torch.cat([mesh.points, mesh.points[torch.from_numpy(at_mesh)]])
        goal = torch.cat([target.points[torch.from_numpy(at_target)], target.points])
        distances = np.concatenate([to_target, to_mesh])
        kept = torch.from_numpy(np.argsort(distances, kind="stable")[: int(KEPT * len(distances))])
        matrix = similarity_between(own[kept], goal[kept])
    return _measured(mesh, target, matrix, start.up, start.turn)
