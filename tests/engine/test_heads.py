"""Head models, teeth and bound meshes: invariants of GaussianAvatars, by name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from engine.deform import BoundMesh
from engine.errors import InputError
from engine.heads import Head, HeadModel, to_local, to_world, triangle_frames, with_teeth
from engine.heads.teeth import FLAME_FACES, FLAME_VERTICES, LOWER_LIP, UPPER_LIP, teeth_faces
from engine.scene import Gaussians, rotations
from tests.tiny_head import still_motion, tiny_head, tiny_model


def gaussians_on(
    vertices: Tensor, faces: Tensor, count: int = 150, seed: int = 2
) -> tuple[Gaussians, Tensor]:
    """Gaussians in world space near random triangles, and their triangles."""
    g = torch.Generator().manual_seed(seed)
    binding = torch.randint(len(faces), (count,), generator=g)
    centers = vertices[faces[binding]].mean(1)
    return Gaussians(
        means=centers + 0.004 * torch.randn(count, 3, generator=g),
        log_scales=-5 + 0.3 * torch.randn(count, 3, generator=g),
        quats=torch.randn(count, 4, generator=g),
        logit_opacities=torch.randn(count, generator=g),
        sh=torch.randn(count, 4, 3, generator=g),
    ), binding


def bound(head: Head) -> tuple[Gaussians, BoundMesh]:
    rest = head.vertices(head.motion.canonical())[0]
    gaussians, binding = gaussians_on(rest, head.model.faces)
    return gaussians, BoundMesh(head.model.faces, rest, head.vertices(), head.motion.times, binding)


def covariances(gaussians: Gaussians) -> Tensor:
    a = gaussians.activated()
    axes = rotations.quats_to_matrices(a.quats) * a.scales[:, None]
    return axes @ axes.transpose(1, 2)


def test_zero_parameters_give_the_template() -> None:
    model = tiny_model()
    torch.testing.assert_close(model.pose(still_motion(model))[0], model.template, atol=1e-7, rtol=0)


def test_root_motion_moves_gaussians_rigidly() -> None:
    head = tiny_head(frames=1)
    rest = head.vertices()[0]
    gaussians, binding = gaussians_on(rest, head.model.faces)
    turn = rotations.axis_angles_to_matrices(torch.tensor([0.4, -0.3, 0.7]))
    shift = torch.tensor([0.1, 0.2, -0.3])
    mesh = BoundMesh(
        head.model.faces, rest, (rest @ turn.T + shift)[None], torch.zeros(1, dtype=torch.float64), binding
    )
    moved = mesh.deform(gaussians, 0.0)
    torch.testing.assert_close(moved.means, gaussians.means @ turn.T + shift, atol=1e-6, rtol=0)
    torch.testing.assert_close(moved.log_scales, gaussians.log_scales, atol=1e-5, rtol=0)
    turned = turn @ covariances(gaussians) @ turn.T
    torch.testing.assert_close(covariances(moved), turned, atol=1e-9, rtol=1e-4)


def test_scaling_the_mesh_scales_gaussians_and_their_offsets() -> None:
    head = tiny_head(frames=1)
    rest = head.vertices()[0]
    gaussians, binding = gaussians_on(rest, head.model.faces)
    mesh = BoundMesh(head.model.faces, rest, 2.5 * rest[None], torch.zeros(1, dtype=torch.float64), binding)
    moved = mesh.deform(gaussians, 0.0)
    torch.testing.assert_close(moved.means, 2.5 * gaussians.means, atol=1e-6, rtol=0)
    torch.testing.assert_close(moved.log_scales, gaussians.log_scales + math.log(2.5), atol=1e-5, rtol=0)


def test_the_rest_pose_is_the_identity_within_rounding() -> None:
    head = tiny_head(frames=1)
    rest = head.vertices()[0]
    gaussians, binding = gaussians_on(rest, head.model.faces)
    mesh = BoundMesh(head.model.faces, rest, rest[None], torch.zeros(1, dtype=torch.float64), binding)
    same = mesh.deform(gaussians, 0.0)
    torch.testing.assert_close(same.means, gaussians.means, atol=1e-7, rtol=0)
    torch.testing.assert_close(same.log_scales, gaussians.log_scales, atol=1e-6, rtol=0)
    torch.testing.assert_close(same.quats, gaussians.quats, atol=1e-5, rtol=0)
    assert torch.equal(same.sh, gaussians.sh)


def test_local_values_and_back() -> None:
    head = tiny_head(frames=1)
    vertices = head.vertices()[0]
    gaussians, binding = gaussians_on(vertices, head.model.faces)
    frames = triangle_frames(vertices, head.model.faces)
    back = to_world(to_local(gaussians, frames, binding), frames, binding)
    torch.testing.assert_close(back.means, gaussians.means, atol=1e-6, rtol=0)
    torch.testing.assert_close(covariances(back), covariances(gaussians), atol=1e-9, rtol=1e-4)


def test_the_bound_mesh_agrees_with_local_values_at_every_frame() -> None:
    head = tiny_head()
    gaussians, mesh = bound(head)
    local = to_local(gaussians, mesh.rest_frames, mesh.binding)
    frames = triangle_frames(head.vertices(), head.model.faces)
    for index, seconds in enumerate(head.motion.times.tolist()):
        direct = to_world(local, frames[index], mesh.binding)
        carried = mesh.deform(gaussians, seconds)
        torch.testing.assert_close(carried.means, direct.means, atol=1e-6, rtol=0)
        torch.testing.assert_close(covariances(carried), covariances(direct), atol=1e-9, rtol=1e-3)


def test_a_degenerate_triangle_stays_finite() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, 0, 0]])
    frames = triangle_frames(vertices, torch.tensor([[0, 1, 2]]))
    assert all(bool(torch.isfinite(t).all()) for t in frames.tensors())


def test_gradients_reach_expression_and_pose() -> None:
    head = tiny_head()
    moving = {
        name: getattr(head.motion, name).double().requires_grad_()
        for name in ("expr", "jaw_pose", "translation")
    }
    head.vertices(head.motion.with_(**moving)).square().sum().backward()
    assert all(float(t.grad.abs().max()) > 0 for t in moving.values())


def test_rotation_vectors_and_back() -> None:
    vectors = torch.randn(200, 3, dtype=torch.float64)
    matrices = rotations.axis_angles_to_matrices(vectors)
    torch.testing.assert_close(matrices @ matrices.transpose(1, 2), torch.eye(3).double().expand(200, 3, 3))
    again = rotations.axis_angles_to_matrices(rotations.matrices_to_axis_angles(matrices))
    torch.testing.assert_close(again, matrices, atol=1e-6, rtol=0)
    zero = torch.zeros(1, 3, requires_grad=True)
    rotations.axis_angles_to_matrices(zero).sum().backward()
    assert zero.grad is not None and bool(torch.isfinite(zero.grad).all())


def test_taking_gaussians_takes_their_triangles_along() -> None:
    gaussians, mesh = bound(tiny_head())
    index = torch.tensor([5, 5, 0, 17])
    taken = mesh.take(index).deform(gaussians.map(lambda t: t[index]), 0.15)
    whole = mesh.deform(gaussians, 0.15).map(lambda t: t[index])
    torch.testing.assert_close(taken.means, whole.means, atol=0, rtol=0)


def test_parts_rebuild_the_same_motion_bit_for_bit() -> None:
    gaussians, mesh = bound(tiny_head())
    again = BoundMesh.from_parts(mesh.config(), mesh.tensors())
    assert torch.equal(again.deform(gaussians, 0.07).means, mesh.deform(gaussians, 0.07).means)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("binding", torch.tensor([10_000], dtype=torch.int32), "points beyond"),
        ("seconds", torch.zeros(4, dtype=torch.float64), "do not ascend"),
        ("frames", torch.zeros(2, 50, 3), "do not belong together"),
    ],
)
def test_damaged_parts_are_refused(name: str, value: Tensor, sentence: str) -> None:
    _, mesh = bound(tiny_head())
    with pytest.raises(InputError, match=sentence):
        BoundMesh.from_parts(mesh.config(), mesh.tensors() | {name: value})


def flame_sized_model() -> HeadModel:
    """Random arrays in FLAME's sizes; the lip rings lie where lips would."""
    model = tiny_model()
    template = torch.randn(FLAME_VERTICES, 3)
    for height, ring in ((0.005, UPPER_LIP), (-0.005, LOWER_LIP)):
        across = torch.linspace(-0.03, 0.03, 15)
        template[list(ring)] = torch.stack([across, torch.full((15,), height), 0.1 - 8 * across**2], dim=1)
    return HeadModel(
        "flame",
        template,
        torch.randint(FLAME_VERTICES, (FLAME_FACES, 3)),
        torch.randn(2, 3, FLAME_VERTICES),
        torch.randn(2, 3, FLAME_VERTICES),
        torch.zeros(36, 3, FLAME_VERTICES),
        torch.rand(5, FLAME_VERTICES),
        torch.rand(FLAME_VERTICES, 5),
        regions=dict(model.regions),
    )


def test_teeth_follow_the_reference_topology() -> None:
    model = with_teeth(flame_sized_model())
    assert (len(model.template), len(model.faces)) == (5143, 10144)
    faces = teeth_faces(5023)
    assert faces.shape == (168, 3) and int(faces.min()) == 5023 and int(faces.max()) == 5142
    # every tooth vertex is used, upper triangles only by upper rows
    assert len(faces.unique()) == 120
    upper = set(faces[:84].unique().tolist())
    assert upper == {5023 + row + i for row in (0, 30, 60, 75) for i in range(15)}
    weights = model.weights[5023:]
    assert torch.equal(weights.sum(1), torch.ones(120))
    assert torch.equal(weights[:15, 1], torch.ones(15)) and torch.equal(weights[15:30, 2], torch.ones(15))
    # the teeth's edges lie 0.2 lip distances apart, upper above lower, behind the lips
    teeth, distance = model.template[5023:], 0.01
    assert float(teeth[30:45, 1].mean()) - float(teeth[45:60, 1].mean()) == pytest.approx(
        0.2 * distance, abs=1e-6
    )
    assert with_teeth(model) is model


def test_parameters_of_another_model_are_refused() -> None:
    head = tiny_head()
    with pytest.raises(InputError, match=r"HED-002"):
        Head(tiny_model(expressions=2), head.motion)
    with pytest.raises(InputError, match=r"of 7 vertices"):
        Head(head.model, head.motion.with_(static_offset=torch.zeros(7, 3)))
