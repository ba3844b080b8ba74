"""Where viewing axes meet, boxes around most points, and what silhouettes leave of space."""

import numpy as np
import pytest
import torch

from engine.geometry.axes import axes_converge, nearest_to_axes
from engine.geometry.boxes import gaussian_bounds, percentile_box, point_bounds
from engine.geometry.carving import carve, hull_surface, in_picture
from engine.scene import Cameras
from engine.scene.cameras import look_at

TARGET = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)


def ring(count: int = 6, size: tuple[int, int] = (40, 30)) -> Cameras:
    angles = torch.arange(count, dtype=torch.float64) * 2 * torch.pi / count
    places = TARGET + 4 * torch.stack([angles.cos(), angles.sin(), 0.3 + 0 * angles], dim=1)
    up = torch.tensor([0.0, 0.0, 1.0])
    K = torch.tensor([[40.0, 0, size[0] / 2], [0, 40.0, size[1] / 2], [0, 0, 1]], dtype=torch.float64)
    poses = torch.stack([look_at(place, TARGET, up) for place in places])
    return Cameras(poses, K.repeat(count, 1, 1), (size,) * count, tuple(f"c{i}" for i in range(count)))


def test_axes_meet_where_the_cameras_look() -> None:
    rig = ring()
    assert axes_converge(rig.forward)
    assert torch.allclose(nearest_to_axes(rig.centers, rig.forward), TARGET, atol=1e-9)
    assert torch.allclose(nearest_to_axes(rig.centers, rig.forward, pull=1e-6), TARGET, atol=1e-4)


def test_parallel_axes_do_not_converge_and_a_pull_keeps_them_finite() -> None:
    centers = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]], dtype=torch.float64)
    forward = torch.tensor([[0.0, 0, 1]] * 3, dtype=torch.float64)
    assert not axes_converge(forward)
    assert not axes_converge(ring().forward[:1]), "one axis meets no other"
    assert torch.allclose(nearest_to_axes(centers, forward, pull=1e-6), centers.mean(0))


@pytest.mark.parametrize("count", [1, 2, 50, 1001])
def test_percentile_boxes_are_those_of_quantile(count: int) -> None:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(count))
    for interpolate, way in ((True, "linear"), (False, "lower")):
        wanted = [torch.quantile(points.double(), q, dim=0, interpolation=way) for q in (0.01, 0.99)]
        assert torch.equal(percentile_box(points, interpolate), torch.stack(wanted))


def test_a_few_points_far_away_do_not_widen_a_box() -> None:
    points = torch.rand(10_000, 3, generator=torch.Generator().manual_seed(0))
    points[:20] = 1e6
    for low, high in (gaussian_bounds(points), point_bounds(points)):
        assert (low > -0.3).all() and (low < 0.02).all() and (high > 0.98).all() and (high < 1.3).all()


def test_a_pixel_is_seen_inside_the_picture_and_in_front_only() -> None:
    rig = ring(1)
    right, down, ahead = rig.world_to_camera[0, :3, :3]
    center = rig.centers[0]
    points = torch.stack(
        [
            center + 4 * ahead,
            center - 4 * ahead,
            center + 4 * ahead - 2.03 * right,
            center + 4 * ahead + 1.6 * down,
            center,
            center * torch.nan,
        ]
    )
    column, row, seen = in_picture(rig, points, 0)
    assert seen.tolist() == [True, False, False, False, False, False]
    # the rounding of a pose may put the middle into any of the four pixels around it
    assert column[0] in (19, 20) and row[0] in (14, 15)
    assert (column >= 0).all() and (column < 40).all() and (row >= 0).all() and (row < 30).all()


def test_carving_keeps_what_all_masks_hold_and_forgives_when_told_to() -> None:
    rig = ring()
    axis = torch.linspace(-0.9, 0.9, 19, dtype=torch.float64)
    cells = torch.cartesian_prod(axis, axis, axis) + TARGET
    body = cells[(cells - TARGET).norm(dim=1) < 0.5]
    masks = []
    for view in range(len(rig)):
        column, row, seen = in_picture(rig, body, view)
        mask = torch.zeros(30, 40, dtype=torch.bool)
        mask[row[seen], column[seen]] = True
        masks.append(mask)
    carved = carve(rig, enumerate(masks), cells)
    kept = {tuple(c) for c in carved.cells.tolist()}
    assert {tuple(c) for c in body.tolist()} <= kept
    assert len(kept) < 1.7 * len(body)
    assert carved.views == 6 and (carved.seen == 6).all() and (carved.missed == 0).all()
    masks[2] = torch.zeros_like(masks[2])
    assert len(carve(rig, enumerate(masks), cells).cells) == 0
    forgiving = carve(rig, enumerate(masks), cells, forgiven=1)
    assert {tuple(c) for c in body.tolist()} <= {tuple(c) for c in forgiving.cells.tolist()}
    assert (forgiving.missed == 1).all()


def test_the_surface_of_a_block_is_its_outer_layer() -> None:
    cells = torch.cartesian_prod(*[torch.arange(5.0)] * 3)
    surface = hull_surface(cells)
    assert len(surface) == 5**3 - 3**3
    assert np.all((surface.numpy() == 0).any(1) | (surface.numpy() == 4).any(1))
