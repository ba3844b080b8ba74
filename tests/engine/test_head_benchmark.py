"""The benchmark of heads: measures whose value is known, and every promised key on a tiny head with RANDOM weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import head_expression
from benchmarks.head_edits import Config, HeadEditBenchmark, RegionEdit, Truth
from benchmarks.head_expression import ExpressionFit
from engine.deform.head_scenes import with_motion
from engine.heads import Head
from engine.render import choose, render_gaussians
from engine.scene import Scene4D
from engine.steps.edit_head import HeadEdit
from tests.engine.test_edit_head import rig
from tests.engine.test_head_steps import scene_of
from tests.scenes import capture_of
from tests.tiny_diffusion import tiny_backbone
from tests.tiny_head import tiny_head

KEYS = {
    "eyes_mouth_psnr",
    "eyes_mouth_ssim",
    "expression_error",
    "edit_psnr",
    "edit_psnr_unedited",
    "outside_change",
    "multi_view_gap",
    "flow_warp_error",
    "seconds",
    "diffusion_calls",
}
CONFIG = Config(
    prompt="-",
    steps=2,
    levels="999 300",
    frames_per_round=2,
    iterations_per_frame=3,
    keep_grow=0,
    resolution=48,
    preview_every=0,
)


@pytest.fixture(scope="module")
def head() -> Head:
    """The tiny head with eyes and lips on its front."""
    found = tiny_head(frames=4)
    x, y, z = found.model.template.T
    front = z > 0.02
    parts = {
        "left_eyeball": front & (x > 0.02) & (y > 0.01),
        "right_eyeball": front & (x < -0.02) & (y > 0.01),
        "left_eye_region": front & (x > 0) & (y > 0),
        "right_eye_region": front & (x < 0) & (y > 0),
        "lips": front & (y < -0.02),
        "face": front,
    }
    regions = {name: inside.nonzero()[:, 0] for name, inside in parts.items()}
    return replace(found, model=replace(found.model, regions=regions))


@pytest.fixture(scope="module")
def scene(head: Head) -> Scene4D:
    return scene_of(head).with_(rig=rig())


@pytest.fixture(scope="module")
def benchmark(scene: Scene4D, head: Head) -> HeadEditBenchmark:
    return HeadEditBenchmark(capture_of(scene), None, scene, head, tiny_backbone(), CONFIG, every=2)


def test_every_variant_has_every_key(benchmark: HeadEditBenchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_expression, "PYRAMID", ((2, 2),))
    rows = {name: measure()[1] for name, measure in benchmark.variants(RegionEdit("bronze")).items()}
    json.dumps(rows)
    assert tuple(rows) == ("with_inpainting", "without_inpainting", "uncoherent", "baseline")
    for name, row in rows.items():
        assert row.keys() >= KEYS, name
    assert rows["with_inpainting"]["edit_psnr"] != rows["without_inpainting"]["edit_psnr"]
    # 2 rounds of 3 views × 2 frames: 2 steps and 1, three branches of guidance, and key views where views share
    assert rows["uncoherent"]["diffusion_calls"] == rows["baseline"]["diffusion_calls"] == 6 * 3 * 3
    assert rows["with_inpainting"]["diffusion_calls"] > rows["uncoherent"]["diffusion_calls"]


def test_an_unedited_avatar_changes_nothing_and_gains_nothing(
    benchmark: HeadEditBenchmark, scene: Scene4D, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_expression, "PYRAMID", ((2, 2),))
    views = HeadEdit(
        scene, benchmark.head, benchmark.backbone, replace(CONFIG, prompt="x", force=True)
    ).editing.views
    row = benchmark.figures(RegionEdit("green", "lips"), scene, views)
    assert row["outside_change"] == 0 and row["edit_psnr"] == row["edit_psnr_unedited"]
    assert row["eyes_mouth_psnr"] == 120, "the images of an edit that has not begun are the originals"


def test_parts_come_from_stored_ids_where_they_have_one_and_else_from_the_mesh(
    scene: Scene4D, head: Head, tmp_path: Path
) -> None:
    """Lips are id 5; 8 is part of an eye, so it is not edited with all of the head."""
    ids = np.zeros((48, 48), np.uint8)
    ids[:4], ids[4:8], ids[8:12] = 5, 8, 1
    Image.fromarray(ids).save(tmp_path / "00000_00.png")
    video = capture_of(scene)
    stored, drawn = (Truth(video, folder, scene, head) for folder in (tmp_path, None))
    assert torch.equal(stored.part("lips", 0, 0), torch.from_numpy(ids == 5))
    assert not bool(stored.part("", 0, 0)[:8].any())
    assert torch.equal(stored.part("eyes", 0, 0), drawn.part("eyes", 0, 0)), "eyes alone have no entry"
    assert bool(drawn.part("eyes", 0, 0).any())


def test_the_best_look_up_table_reaches_a_recolored_head_and_spills_from_a_part(
    benchmark: HeadEditBenchmark,
) -> None:
    whole, part = (benchmark.lookup_table(e) for e in (RegionEdit("green"), RegionEdit("green", "lips")))
    assert whole["edit_psnr"] > whole["edit_psnr_unedited"] + 5
    assert part["edit_psnr"] < whole["edit_psnr"] and part["outside_change"] > 0


def test_the_expression_is_found_and_a_change_of_color_does_not_count(head: Head) -> None:
    """With large expressions, and a color of its own on each triangle."""
    model = replace(head.model, expression_dirs=head.model.expression_dirs * 4)
    expr = torch.tensor([[1.0, -0.8, 0.6]])
    motion = replace(head.motion.frames(slice(0, 1)), expr=expr, jaw_pose=torch.zeros(1, 3))
    own = Head(model, motion)
    scene = with_motion(scene_of(own), model, motion).with_(rig=rig())
    fit = ExpressionFit(scene, model, choose("auto", "cpu"))
    neutral = replace(motion, expr=torch.zeros_like(expr))
    with torch.no_grad():
        images = render_gaussians(scene.at(0.0), scene.rig, fit.rasterizer, scene.background).rgb
    before = fit.distance(neutral, motion)
    assert fit.distance(motion, motion) == 0 and before > 0.02
    assert fit.error(images, scene.rig, 0) < 0.3 * before
    recolored = 0.7 * images[..., [2, 0, 1]] + 0.1
    assert fit.error(recolored, scene.rig, 0) < 0.4 * before
    flat = torch.full_like(images, 0.5)
    assert fit.error(flat, scene.rig, 0) > 0.7 * before, "nothing to be seen, nothing found"
