"""The bundled head: its files, its names and regions, and that joints move what they should."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.capture.readers import load_video
from engine.heads import Head, HeadModel, HeadMotion
from engine.heads.motion import POSES
from engine.io.heads import bundled_head, read_head_model, read_head_motion
from engine.masks.head_regions import NAMES, PARTS, part_faces
from engine.render.mesh import visible_faces

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "assets" / "clips" / "talking_head"
ICT = Path(os.environ.get("GS4D_DATA", ROOT / ".." / "shared" / "data")) / "head_ict" / "ict_facekit_f16.npz"

BOTH_SIDES = (
    "browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint",
    "eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp",
    "noseSneer",
)  # fmt: skip
ARKIT = {
    "browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel", "mouthLeft",
    "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "tongueOut",
    *(stem + side for stem in BOTH_SIDES for side in ("Left", "Right")),
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return read_head_model(bundled_head())


def motion(model: HeadModel, **changed: Tensor) -> HeadMotion:
    """One frame at rest, with changes."""
    zero = {name: torch.zeros(1, width) for name, width in POSES.items()}
    shape, expr = torch.zeros(model.shapes), torch.zeros(1, model.expressions)
    return HeadMotion(times=torch.zeros(1).double(), **({"shape": shape, "expr": expr} | zero | changed))


def expression(model: HeadModel, *names: str) -> Tensor:
    """[1, E] with these at their full strength."""
    made = torch.zeros(1, model.expressions)
    made[0, [model.expression_names.index(name) for name in names]] = 1
    return made


def moved(model: HeadModel, **changed: Tensor) -> Tensor:
    """[V, 3] how far a change takes each vertex from the template."""
    return model.pose(motion(model, **changed))[0] - model.template


def test_it_is_small_and_opens_quickly(model: HeadModel) -> None:
    folder = bundled_head().parent
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 3_000_000
    assert 3000 <= len(model.template) <= 6000
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        read_head_model(bundled_head())
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.2
    assert "USC Institute for Creative Technologies" in (folder / "CARD.md").read_text(encoding="utf-8")


def test_zero_parameters_give_the_template(model: HeadModel) -> None:
    assert float(moved(model).abs().max()) < 1e-7
    torch.testing.assert_close(model.weights.sum(dim=1), torch.ones(len(model.weights)))
    torch.testing.assert_close(model.joint_regressor.sum(dim=1), torch.ones(5))


def test_expressions_have_the_52_names_of_arkit(model: HeadModel) -> None:
    assert len(ARKIT) == 52 == len(model.expression_names)
    assert set(model.expression_names) == ARKIT
    assert bool((model.expression_dirs.abs().amax(dim=(1, 2)) > 1e-3).all())


@pytest.mark.parametrize("part", NAMES)
def test_every_part_has_its_regions_and_triangles(model: HeadModel, part: str) -> None:
    for name in PARTS[part]:
        assert len(model.regions[name]) > 0, name
    assert int(part_faces(model, part).sum()) > 20


def test_parts_lie_where_they_should(model: HeadModel) -> None:
    for side, sign in (("left", 1), ("right", -1)):
        iris, ball = (set(model.regions[f"{side}_{name}"].tolist()) for name in ("iris", "eyeball"))
        assert iris < ball
        for name in ("iris", "brow", "ear", "eye_region"):
            assert bool((model.template[model.regions[f"{side}_{name}"], 0] * sign > 0).all()), name
    height = {name: float(model.template[ids, 1].mean()) for name, ids in model.regions.items()}
    assert height["neck"] < height["lips"] < height["nose"] < height["left_iris"] < height["left_brow"]
    top = {name: float(model.template[ids, 1].max()) for name, ids in model.regions.items()}
    assert top["left_brow"] < top["forehead"] < top["scalp"]
    assert height["teeth_lower"] < height["teeth_upper"]


def test_the_mesh_is_a_clean_surface(model: HeadModel) -> None:
    faces = model.faces.numpy()
    assert set(faces.ravel().tolist()) == set(range(len(model.template)))
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert np.unique(edges, axis=0, return_counts=True)[1].max() <= 2
    corners = model.template.double()[model.faces]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    assert float(areas.min()) > 1e-10


def test_the_jaw_moves_lower_teeth_alone_and_as_the_expression_does(model: HeadModel) -> None:
    opened = moved(model, jaw_pose=torch.tensor([[np.radians(25.4), 0, 0]], dtype=torch.float32))
    upper, lower = (model.regions[f"teeth_{name}"] for name in ("upper", "lower"))
    assert float(opened[upper].abs().max()) < 1e-6
    assert float(opened[lower, 1].max()) < -0.01
    by_name = moved(model, expr=expression(model, "jawOpen"))
    assert float((opened - by_name)[lower].norm(dim=1).max()) < 0.5e-3


def test_eyes_turn_about_their_centers_and_only_lids_follow_by_name(model: HeadModel) -> None:
    turn = torch.tensor([[0.2, 0.3, 0, 0.2, 0.3, 0]])
    joints = model.joint_regressor @ model.template
    turned = model.pose(motion(model, eyes_pose=turn))[0]
    looks = [name for name in model.expression_names if name.startswith("eyeLook")]
    lids = moved(model, expr=expression(model, *looks))
    assert len(looks) == 8 and float(lids.abs().max()) > 1e-3
    for joint, side in ((3, "left"), (4, "right")):
        ball = model.regions[f"{side}_eyeball"]
        before, after = (v[ball] - joints[joint] for v in (model.template, turned))
        torch.testing.assert_close(before.norm(dim=1), after.norm(dim=1), atol=1e-6, rtol=0)
        assert float((after - before).norm(dim=1).max()) > 3e-3
        assert float(lids[ball].abs().max()) < 1e-7


def test_left_is_the_subjects_left(model: HeadModel) -> None:
    for name in ("eyeBlink", "mouthSmile", "browDown"):
        for side, sign in (("Left", 1), ("Right", -1)):
            far = moved(model, expr=expression(model, name + side)).norm(dim=1)
            assert float(model.template[far.argmax(), 0]) * sign > 0


def test_joints_follow_the_identity(model: HeadModel) -> None:
    shape = torch.randn(model.shapes, generator=torch.Generator().manual_seed(0))
    person = model.pose(motion(model, shape=shape))[0]
    joints = model.joint_regressor @ person
    for joint, side in ((3, "left"), (4, "right")):
        away = (person[model.regions[f"{side}_eyeball"]] - joints[joint]).norm(dim=1)
        # the cornea bulges by an eighth
        assert float(away.max() / away.min()) < 1.35


def test_the_appearance_fits_the_mesh(model: HeadModel) -> None:
    with np.load(bundled_head().with_name("head_appearance.npz"), allow_pickle=False) as file:
        colors, hair, source = file["vertex_colors"], file["hair"], file["ict_vertex_index"]
    assert colors.shape == (len(model.template), 3) and colors.dtype == np.uint8
    assert len(hair) == len(source) == len(model.template)
    bright = {name: float(colors[ids.numpy()].mean()) for name, ids in model.regions.items()}
    assert bright["left_brow"] < bright["face"] < bright["teeth_upper"]
    assert bright["scalp"] < bright["face"]


@pytest.mark.skipif(
    not ICT.is_file(), reason=f"ICT-FaceKit as one file is not in {ICT.parent} (see GS4D_DATA)"
)
def test_every_vertex_is_one_of_ict_facekit_and_moves_like_it(model: HeadModel) -> None:
    from training.head.ict import load

    ict: Any = load(ICT.parents[1])
    with np.load(bundled_head().with_name("head_appearance.npz"), allow_pickle=False) as file:
        source = file["ict_vertex_index"]
    np.testing.assert_allclose(model.template, ict.vertices[source], atol=1e-7)
    for name, dirs in zip(model.expression_names, model.expression_dirs, strict=True):
        np.testing.assert_allclose(dirs.T, ict.expressions[name][source], atol=2**-18 * 1.01, rtol=2**-11)
    for i in (0, 7, model.shapes - 1):
        np.testing.assert_allclose(
            model.shape_dirs[i].T, ict.identities[i][source], atol=2**-18 * 1.01, rtol=2**-11
        )


def test_simplification_keeps_vertices_borders_and_what_is_locked() -> None:
    from training.head.simplify import simplify

    side = 12
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    flat = np.stack([x, y, 0.02 * (x - 5) ** 2], axis=-1).reshape(-1, 3).astype(np.float64)
    faces = []
    for i in range(side - 1):
        for j in range(side - 1):
            a = i * side + j
            faces += [[a, a + side, a + side + 1], [a, a + side + 1, a + 1]]
    triangles = np.array(faces)
    labels = (flat[triangles][..., 1].mean(axis=1) > 6).astype(np.int64)
    bent = flat + np.array([0, 0, 0.1]) * (flat[:, 1:2] > 5)
    kept, left = simplify(
        np.stack([flat, bent]), triangles, labels, np.ones(len(flat)), 60, np.array([5 * side + 5])
    )
    assert len(kept) == 60 and 5 * side + 5 in kept
    # the outline of the sheet
    assert {0, side - 1, side * (side - 1), side * side - 1} <= set(kept.tolist())
    corners = flat[kept][left]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normal[:, 2] > 0).all()
    assert normal[:, 2].sum() / 2 == pytest.approx((side - 1) ** 2)


# -- the demo capture -----------------------------------------------------------------------------------------------


def test_the_demo_opens_as_a_head_capture_with_what_is_held_out() -> None:
    video = load_video(DEMO)
    assert video.layout == "avatar" and not video.warnings
    assert (len(video.cameras), len(video.times), video.fps) == (8, 24, 12)
    assert set(video.cameras.sizes) == {(192, 256)}
    assert len(video.test_views) == 1 and video.test_moments == tuple(range(18, 24))
    assert video.has_masks and bool(video.available.all())
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 4_000_000
    assert "bundled" in (DEMO / "CARD.md").read_text(encoding="utf-8")


def test_the_parameters_of_the_demo_draw_its_masks(model: HeadModel) -> None:
    from PIL import Image

    head = Head(model, read_head_motion(DEMO), "talking_head")
    video = load_video(DEMO)
    assert len(head.motion) == 24 and head.motion.shape.shape == (model.shapes,)
    for step, view in ((0, 3), (11, 0), (20, 7)):
        drawn = visible_faces(head.vertices()[step], model.faces, video.cameras, view) >= 0
        with Image.open(DEMO / "fg_masks" / f"{step:05d}_{view:02d}.png") as image:
            stored = torch.from_numpy(np.array(image)) > 127
        assert float((drawn & stored).sum() / (drawn | stored).sum()) > 0.98


def test_the_driver_is_another_person_with_another_performance(model: HeadModel) -> None:
    driver = Head(model, read_head_motion(DEMO / "driver", 12.0), "driver")
    person = read_head_motion(DEMO)
    torch.testing.assert_close(driver.motion.times, person.times)
    assert float((driver.motion.shape - person.shape).abs().max()) > 0.5
    assert float((driver.motion.expr - person.expr).abs().max()) > 0.5


def test_a_capture_of_another_size_is_written_whole(tmp_path: Path) -> None:
    from training.head.make_demo import Shoot, make

    shoot = Shoot(
        tmp_path / "made", bundled_head(), 24, 32, cameras=4, frames=3, suffix="png", supersampling=1, regions=True, lights=4
    )  # fmt: skip
    made: Any = make(shoot)
    assert json.loads(json.dumps(made))["cameras"] == 4
    video = load_video(tmp_path / "made")
    assert (video.layout, len(video.cameras), len(video.times)) == ("avatar", 4, 3)
    assert video.test_moments == (2,) and len(video.test_views) == 1
    assert len(list((tmp_path / "made" / "region_ids").iterdir())) == 12
