"""Where viewing axes meet, boxes around most points, and what silhouettes leave of space."""

import pytest
import torch

from engine.geometry.axes import axes_converge, nearest_to_axes
from engine.geometry.boxes import gaussian_bounds, percentile_box, point_bounds
from engine.geometry.carving import carve, hull_surface, in_picture, shows_all
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


def close_ring(body: torch.Tensor) -> tuple[Cameras, list[torch.Tensor]]:
    """Four narrow cameras around the origin, which see little beyond the body, and its masks."""
    angles = torch.deg2rad(torch.tensor([18.0, 126.0, 234.0, 306.0]))
    poses = torch.stack(
        [
            look_at(torch.tensor([4 * a.cos(), 4 * a.sin(), 0]), torch.zeros(3), torch.tensor([0.0, 0, 1]))
            for a in angles
        ]
    )
    K = torch.tensor([[80.0, 0, 20], [0, 80, 20], [0, 0, 1]], dtype=torch.float64).expand(4, 3, 3)
    rig = Cameras(poses.double(), K, ((40, 40),) * 4, tuple("abcd"))
    masks = [torch.zeros(40, 40, dtype=torch.bool) for _ in range(4)]
    for view, mask in enumerate(masks):
        column, row, seen = in_picture(rig, body, view)
        mask[row[seen], column[seen]] = True
    return rig, masks


def test_a_hull_has_no_parts_where_views_that_show_all_of_the_subject_do_not_look() -> None:
    axis = torch.linspace(-3, 3, 41, dtype=torch.float64)
    cells = torch.cartesian_prod(axis, axis, axis)
    ball = cells[cells.norm(dim=1) < 0.6]
    rig, masks = close_ring(ball)
    kept = carve(rig, enumerate(masks), cells)
    assert len(kept.cells) >= len(ball) and float(kept.cells.norm(dim=1).max()) < 1.0
    assert torch.equal(cells[kept.kept], kept.cells)
    # masks that touch the border may go on beyond it: nothing is known there
    for mask in masks:
        mask[:, 0] = True
    assert float(carve(rig, enumerate(masks), cells).cells.norm(dim=1).max()) > 2


def test_one_view_that_lacks_a_second_subject_does_not_rule_it_out() -> None:
    axis = torch.linspace(-1, 1, 41, dtype=torch.float64)
    cells = torch.cartesian_prod(axis, axis, axis)
    one, other = (
        cells[(cells - torch.tensor(c).double()).norm(dim=1) < 0.15] for c in ([0, 0, 0.3], [0.0, 0, -0.3])
    )
    rig, masks = close_ring(torch.cat([one, other]))
    # the last camera is turned up: the lower subject is below its image
    K = rig.K.clone()
    K[3, 1, 2] += 20
    rig = Cameras(rig.world_to_camera, K, rig.sizes, rig.names)
    masks[3].zero_()
    column, row, seen = in_picture(rig, one, 3)
    masks[3][row[seen], column[seen]] = True
    assert not bool(in_picture(rig, other, 3)[2].any()) and shows_all(masks[3])
    kept = {tuple(c) for c in carve(rig, enumerate(masks), cells).cells.tolist()}
    assert {tuple(c) for c in torch.cat([one, other]).tolist()} <= kept


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.3, 1.0, 2.7), (0.01, 0.013, 0.4)])
def test_the_surface_of_a_block_is_its_outer_layer(spacing: tuple[float, float, float]) -> None:
    """As in a box around a standing person, the grid's axes may have different spacing."""
    block = torch.cartesian_prod(torch.arange(5), torch.arange(6), torch.arange(7))
    # without a plane, the layers around it are outer ones too
    block = block[block[:, 2] != 3]
    surface = hull_surface(block * torch.tensor(spacing) + 10)
    places = ((surface - 10) / torch.tensor(spacing)).round()
    x, y, z = places.T
    outer = (x == 0) | (x == 4) | (y == 0) | (y == 5) | (z % 2 == 0)
    assert bool(outer.all()) and len(surface) == len(block) - 3 * 4 * 2
