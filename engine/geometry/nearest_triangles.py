"""The triangle of a mesh that is nearest to each point."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .animated_mesh import sample_surface, triangle_areas

# surface samples that lead to candidates: per triangle, and the least and most of all
SAMPLES_EACH, FEWEST, MOST = 4, 20_000, 300_000
CANDIDATES = 8
# points whose candidates are measured at a time
CHUNK = 50_000
# of the largest area: what counts as a triangle without area, which has no orientation
FLAT = 1e-9


def nearest_triangles(points: Tensor, vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest triangle of each point, and how far it is.

    Candidates are the triangles of the nearest surface samples and centroids; among them the distance is exact. Triangles
    without area are passed over.

    Args:
        points: [N, 3].
        vertices: [V, 3].
        faces: [F, 3] long, of which some have an area.

    Returns:
        Triangles [N] (long) and distances [N].
    """
    # the pack also loads where scipy is missing
    from scipy.spatial import KDTree

    points, vertices = points.detach().cpu().float(), vertices.detach().cpu().float()
    areas = triangle_areas(vertices, faces)
    usable = torch.nonzero(areas > FLAT * areas.max())[:, 0]
    corners = vertices[faces[usable]]
    samples = sample_surface(vertices, faces[usable], min(max(SAMPLES_EACH * len(usable), FEWEST), MOST))
    places = torch.cat([samples.points(vertices, faces[usable]), corners.mean(1)])
    owners = torch.cat([samples.triangles, torch.arange(len(usable))])
    _, found = KDTree(places.numpy()).query(points.numpy(), CANDIDATES, workers=-1)
    candidates = owners[torch.from_numpy(np.minimum(found, len(places) - 1))]
    triangles, distances = torch.empty(len(points), dtype=torch.long), torch.empty(len(points))
    for start in range(0, len(points), CHUNK):
        rows = slice(start, start + CHUNK)
        squared = squared_distances(points[rows, None], corners[candidates[rows]])
        best = squared.min(dim=1)
        triangles[rows] = candidates[rows].gather(1, best.indices[:, None])[:, 0]
        distances[rows] = best.values.sqrt()
    return usable[triangles], distances


def squared_distances(points: Tensor, corners: Tensor) -> Tensor:
    """Squared distances [...] of points [..., 3] to triangles [..., 3, 3].

    The smallest of the distances to the three edges, and to the plane where the foot lies inside.
    """
    a, b, c = corners.unbind(-2)
    edges = [_to_edge(points, start, end) for start, end in ((a, b), (b, c), (c, a))]
    nearest = torch.stack(torch.broadcast_tensors(*edges)).amin(0)
    normal = torch.linalg.cross(b - a, c - a)
    area = normal.square().sum(-1).clamp(min=1e-30)
    offset = points - a
    height = (offset * normal).sum(-1)
    # barycentric coordinates of the foot
    v = (torch.linalg.cross(offset.expand_as(normal), c - a) * normal).sum(-1) / area
    w = (torch.linalg.cross(b - a, offset.expand_as(normal)) * normal).sum(-1) / area
    is_inside = (v >= 0) & (w >= 0) & (v + w <= 1)
    return torch.where(is_inside, height.square() / area, nearest)


def _to_edge(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    along = end - start
    share = ((points - start) * along).sum(-1) / along.square().sum(-1).clamp(min=1e-30)
    foot = start + share.clamp(0, 1)[..., None] * along
    return (points - foot).square().sum(-1)
