"""Masks of a head's parts: what each pixel sees of a mesh, growth, and the selection of bound Gaussians."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.deform import BoundMesh
from engine.errors import InputError
from engine.heads import Head
from engine.masks.edges import dilated
from engine.masks.head_regions import draw_part, part_faces, select_part
from engine.render.mesh import nearest_faces_slowly, visible_faces
from engine.scene import Cameras, Gaussians, Scene4D
from tests.tiny_head import tiny_head


def camera(distance: float = 0.5, size: tuple[int, int] = (40, 32)) -> Cameras:
    """One camera in front of the face, looking along −z."""
    pose = torch.tensor(
        [[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, distance], [0, 0, 0, 1]], dtype=torch.float64
    )
    K = torch.tensor([[70.0, 0, 19.3], [0, 70, 15.1], [0, 0, 1]], dtype=torch.float64)
    return Cameras(pose[None], K[None], (size,), ("front",))


def scene_of(head: Head) -> Scene4D:
    vertices = head.vertices()
    binding = torch.arange(len(head.model.faces))
    centers = vertices[0][head.model.faces].mean(1)
    count = len(centers)
    gaussians = Gaussians(
        centers,
        torch.full((count, 3), -6.0),
        torch.ones(count, 4),
        torch.ones(count),
        torch.zeros(count, 1, 3),
    )
    mesh = BoundMesh(head.model.faces, vertices[0], vertices, head.motion.times, binding)
    return Scene4D(gaussians, mesh, head.motion.times, camera(), torch.zeros(2, 3), torch.ones(3))


def corners_of(vertices: Tensor, cameras: Cameras) -> Tensor:
    pixels, depth = cameras.project(vertices.double(), 0)
    return torch.cat([pixels, torch.where(depth > 1e-6, 1 / depth.clamp(min=1e-6), 0)[:, None]], dim=1)


@pytest.mark.parametrize("distance", [0.5, 0.12, 0.05])
def test_the_kernel_sees_what_its_slow_twin_sees(distance: float) -> None:
    head, cameras = tiny_head(frames=1), camera(distance)
    vertices = head.vertices()[0]
    fast = visible_faces(vertices, head.model.faces, cameras)
    slow = nearest_faces_slowly(corners_of(vertices, cameras), head.model.faces, *cameras.sizes[0])
    assert int((fast >= 0).sum()) > 50
    assert torch.equal(fast, slow)


def test_the_nearer_of_two_triangles_is_seen_from_either_side() -> None:
    square = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
    vertices = torch.cat([square, square * 3 + torch.tensor([0, 0, -1.0])])
    faces = torch.tensor([[0, 1, 2], [5, 4, 3]])
    found = visible_faces(vertices, faces, camera(distance=4.0))
    assert int(found[16, 19]) == 0
    assert set(found.unique().tolist()) == {-1, 0, 1}


def test_a_part_is_drawn_where_it_is_visible_only() -> None:
    head = tiny_head(frames=3)
    scene = scene_of(head)
    masks = draw_part(scene, head.model, "lips", scene.rig[[0, 0]], scene.times[:2].tolist())
    inside = part_faces(head.model, "lips")
    for mask, seconds in zip(masks, scene.times[:2].tolist(), strict=True):
        found = visible_faces(scene.deformation.vertices_at(seconds), head.model.faces, scene.rig)
        assert torch.equal(mask > 0, inside[found.clamp(min=0)] & (found >= 0))
    assert float(masks.sum()) > 0


def test_the_selection_holds_the_gaussians_of_the_parts_triangles() -> None:
    head = tiny_head()
    selection = select_part(scene_of(head), head.model, "lips")
    assert torch.equal(selection.weights > 0, part_faces(head.model, "lips"))


def test_growing_and_shrinking() -> None:
    mask = torch.zeros(1, 15, 15)
    mask[0, 5:10, 5:10] = 1
    grown = dilated(mask, 2)
    assert float(grown[0, 3, 7]) == 1 and float(grown[0, 3, 3]) == 0  # a disk: corners stay out
    assert torch.equal(dilated(mask, -1), dilated(mask, -1) * mask)
    assert float(dilated(mask, -2).sum()) == 1


def test_a_part_that_the_model_does_not_name_is_refused() -> None:
    head = tiny_head()
    with pytest.raises(InputError, match=r"does not say where 'brows' is \(its regions: face, lips\)"):
        part_faces(head.model, "brows")
    with pytest.raises(InputError, match="not a part of a head"):
        part_faces(head.model, "elbow")


def test_a_scene_without_a_head_is_refused() -> None:
    head = tiny_head()
    still = Scene4D.still(
        scene_of(head).canonical, head.motion.times, camera(), torch.zeros(2, 3), torch.ones(3)
    )
    with pytest.raises(InputError, match="not a head's"):
        select_part(still, head.model, "lips")
