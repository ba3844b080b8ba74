"""Plücker rays: their invariants, their order, and cameras relative to the first one."""

import pytest
import torch

from engine.errors import InputError
from engine.scene import Cameras, plucker_rays, relative_to_first
from engine.scene.rays import PLUCKER_ORDER
from tests.scenes import ring


@pytest.fixture(scope="module")
def path():
    return ring(5, size=(18, 12))


def test_directions_are_unit_and_perpendicular_to_their_moments(path):
    moment, direction = plucker_rays(path).split(3, dim=-1)
    assert torch.allclose(direction.norm(dim=-1), torch.ones(5, 12, 18).double(), atol=1e-12)
    assert float((moment * direction).sum(-1).abs().max()) < 1e-12


def test_a_ray_meets_the_points_that_project_to_its_pixel(path):
    moment, direction = plucker_rays(path)[2, 7, 3].split(3)
    point = path.centers[2] + 2.5 * direction
    pixel, depth = path.project(point[None], 2)
    assert torch.allclose(pixel[0], torch.tensor([3.5, 7.5]).double()) and float(depth) > 0
    # a point p lies on the ray with moment m and direction d where p × d = m
    assert torch.allclose(torch.linalg.cross(point, direction), moment, atol=1e-12)
    assert PLUCKER_ORDER == "moment,direction"


def test_scaling_the_intrinsics_with_the_image_size_leaves_the_rays(path):
    # in an image three times as large, the middle one of three pixels has the center of the small one
    larger = plucker_rays(path.scaled(3.0))
    assert torch.allclose(larger[:, 1::3, 1::3], plucker_rays(path), atol=1e-12)


def test_relative_cameras_start_at_the_identity_and_keep_all_distances(path):
    relative = relative_to_first(path)
    assert torch.equal(relative.world_to_camera[0], torch.eye(4).double())
    assert torch.allclose(
        torch.cdist(relative.centers, relative.centers), torch.cdist(path.centers, path.centers)
    )
    first = path.world_to_camera[0]
    moved = path.centers @ first[:3, :3].T + first[:3, 3]
    assert torch.allclose(relative.centers, moved, atol=1e-12)
    halved = relative_to_first(path, unit=2.0)
    assert torch.allclose(halved.centers, relative.centers / 2, atol=1e-12)
    assert torch.allclose(halved.forward, relative.forward)


def test_relative_rays_do_not_depend_on_where_the_world_is(path):
    elsewhere = torch.eye(4).double()
    elsewhere[:3, :3] = path.world_to_camera[3, :3, :3]
    elsewhere[:3, 3] = torch.tensor([3.0, -7.0, 11.0])
    moved = Cameras(path.world_to_camera @ elsewhere, path.K, path.sizes, path.names)
    assert torch.allclose(
        plucker_rays(relative_to_first(moved)), plucker_rays(relative_to_first(path)), atol=1e-10
    )


def test_cameras_of_several_sizes_are_refused(path):
    mixed = Cameras.concatenate([path[0], path[1].scaled(2.0)])
    with pytest.raises(InputError, match="2 sizes"):
        plucker_rays(mixed)
    with pytest.raises(InputError, match="no camera"):
        plucker_rays(path[0:0])
