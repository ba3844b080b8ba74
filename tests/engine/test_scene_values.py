"""Rotations, harmonics and cameras keep their conventions."""

import math

import pytest
import torch

from engine.errors import InputError
from engine.scene import Cameras, Gaussians, harmonics, rotations
from engine.scene.cameras import look_at
from tests.scenes import moving_scene, ring


def random_quats(count: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    q = rotations.normalise(torch.randn(count, 4, generator=g, dtype=torch.float64))
    return torch.where(q[:, :1] < 0, -q, q)


def test_quaternion_matrix_quaternion_is_the_identity():
    q = random_quats(500)
    half_turns = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]], dtype=torch.float64)
    q = torch.cat([q, half_turns])
    back = rotations.matrices_to_quats(rotations.quats_to_matrices(q))
    assert torch.allclose((back * q).sum(-1).abs(), torch.ones(len(q), dtype=torch.float64), atol=1e-12)


def test_quaternion_product_is_the_matrix_product():
    a, b = random_quats(50), random_quats(50).flip(0)
    product = rotations.quats_to_matrices(rotations.multiply(a, b))
    assert torch.allclose(
        product, rotations.quats_to_matrices(a) @ rotations.quats_to_matrices(b), atol=1e-12
    )


def test_slerp_meets_its_ends_and_turns_evenly():
    a, b = random_quats(20), random_quats(20).flip(0)
    assert torch.allclose(
        (rotations.slerp(a, b, torch.zeros(20).double()) * a).sum(-1).abs(), torch.ones(20).double()
    )
    assert torch.allclose(
        (rotations.slerp(a, b, torch.ones(20).double()) * b).sum(-1).abs(), torch.ones(20).double()
    )
    middle = rotations.slerp(a, b, torch.full((20,), 0.5).double())
    assert torch.allclose((middle * a).sum(-1).abs(), (middle * b).sum(-1).abs(), atol=1e-9)


def test_harmonics_are_orthonormal():
    """A fine grid over the sphere: the integral of a product of two bases is 1 for equal ones and else 0."""
    theta = (torch.arange(200, dtype=torch.float64) + 0.5) * math.pi / 200
    phi = (torch.arange(400, dtype=torch.float64) + 0.5) * 2 * math.pi / 400
    t, p = torch.meshgrid(theta, phi, indexing="ij")
    d = torch.stack([t.sin() * p.cos(), t.sin() * p.sin(), t.cos()], dim=-1).reshape(-1, 3)
    weight = (t.sin() * (math.pi / 200) * (2 * math.pi / 400)).reshape(-1)
    b = harmonics.basis(d, 3)
    assert torch.allclose(b.T @ (b * weight[:, None]), torch.eye(16, dtype=torch.float64), atol=1e-3)


def test_look_at_puts_the_target_in_the_middle_with_up_upwards():
    rig = ring(6)
    pixels, depth = rig.project(torch.tensor([[0.0, 0, 0], [0, 0, 0.3]], dtype=torch.float64), 2)
    assert torch.allclose(pixels[0], torch.tensor([24.0, 20.0], dtype=torch.float64))
    assert pixels[1, 1] < pixels[0, 1], "what is higher in the world is higher in the picture"
    assert bool((depth > 0).all())
    straight_down = look_at(torch.tensor([0.0, 0, 3]), torch.zeros(3), torch.tensor([0.0, 0, 1]))
    assert torch.allclose(straight_down[:3, :3] @ straight_down[:3, :3].T, torch.eye(3).double(), atol=1e-12)


def test_cameras_survive_json_exactly_and_scale_with_their_pictures():
    rig = ring(5)
    again = Cameras.from_json(rig.to_json())
    assert torch.equal(again.world_to_camera, rig.world_to_camera) and torch.equal(again.K, rig.K)
    half = rig.scaled(0.5)
    points = torch.randn(10, 3, dtype=torch.float64)
    assert torch.allclose(half.project(points, 1)[0], rig.project(points, 1)[0] * 0.5)
    assert torch.allclose(
        rig.camera_to_world @ rig.world_to_camera, torch.eye(4).double().expand(5, 4, 4), atol=1e-12
    )


def test_activation_round_trip():
    g = moving_scene(50).canonical
    back = Gaussians.from_activated(g.activated())
    for name in ("means", "log_scales", "logit_opacities", "sh"):
        assert torch.allclose(getattr(g, name), getattr(back, name), atol=1e-5), name


def test_tensors_that_disagree_are_refused_by_name():
    g = moving_scene(10).canonical
    with pytest.raises(InputError, match="log_scales has shape"):
        g.with_(log_scales=g.log_scales[:5])
    with pytest.raises(InputError, match="sh has shape"):
        g.with_(sh=g.sh[:, :3])
