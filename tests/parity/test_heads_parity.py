"""Head model, triangle frames and bound Gaussians against numbers from GaussianAvatars' own code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.deform import BoundMesh
from engine.errors import InputError
from engine.heads import Head, HeadModel, HeadMotion, to_local, to_world, triangle_frames
from engine.io.imports.gaussian_avatars import export_gaussian_avatar, import_gaussian_avatar
from engine.messages import result
from engine.scene import Gaussians
from engine.steps import export_scene, import_scene

FIXTURES = Path(os.environ.get("GS4D_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures"))
VARIANTS = sorted(p.parent for p in FIXTURES.glob("gaussianavatars_binding*/*/config.json"))


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures in {FIXTURES}; set GS4D_FIXTURES")
def test_there_are_fixtures() -> None:
    assert VARIANTS


def fixture_head(folder: Path) -> Head:
    model, params = load_file(folder / "model.safetensors"), load_file(folder / "params.safetensors")
    shapes = len(params["shape"])
    dirs = model["shapedirs"].permute(2, 1, 0).contiguous()
    return Head(
        HeadModel(
            name="fixture",
            template=model["v_template"],
            faces=model["faces"].long(),
            shape_dirs=dirs[:shapes],
            expression_dirs=dirs[shapes:],
            pose_dirs=model["posedirs"].unflatten(1, (-1, 3)).transpose(1, 2).contiguous(),
            joint_regressor=model["J_regressor"],
            weights=model["lbs_weights"],
        ),
        HeadMotion(
            times=torch.arange(len(params["expr"]), dtype=torch.float64),
            static_offset=params["static_offset"][0],
            **{name: t for name, t in params.items() if name not in ("static_offset", "dynamic_offset")},
        ),
    )


def fixture_gaussians(folder: Path) -> tuple[Gaussians, Tensor]:
    local = load_file(folder / "local.safetensors")
    sh = torch.cat([local["features_dc"], local["features_rest"]], dim=1)
    gaussians = Gaussians(local["xyz"], local["scaling"], local["rotation"], local["opacity"][:, 0], sh)
    return gaussians, local["binding"].long()


@pytest.mark.parametrize("folder", VARIANTS, ids=lambda p: p.name)
def test_posed_vertices(folder: Path) -> None:
    truth = load_file(folder / "frames.safetensors")
    torch.testing.assert_close(fixture_head(folder).vertices(), truth["verts"], atol=2e-6, rtol=0)


@pytest.mark.parametrize("folder", VARIANTS, ids=lambda p: p.name)
def test_triangle_frames(folder: Path) -> None:
    truth, head = load_file(folder / "frames.safetensors"), fixture_head(folder)
    frames = triangle_frames(head.vertices(), head.model.faces)
    torch.testing.assert_close(frames.centers, truth["face_center"], atol=2e-6, rtol=0)
    torch.testing.assert_close(frames.axes, truth["face_orien_mat"], atol=1e-4, rtol=0)
    torch.testing.assert_close(frames.sizes, truth["face_scaling"][..., 0], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("folder", VARIANTS, ids=lambda p: p.name)
def test_bound_gaussians_in_world_space(folder: Path) -> None:
    truth, head = load_file(folder / "frames.safetensors"), fixture_head(folder)
    local, binding = fixture_gaussians(folder)
    frames = triangle_frames(head.vertices(), head.model.faces)
    for index in range(len(head.motion)):
        world = to_world(local, frames[index], binding)
        activated = world.activated()
        torch.testing.assert_close(activated.means, truth["means"][index], atol=2e-6, rtol=0)
        torch.testing.assert_close(activated.scales, truth["scales"][index], atol=1e-7, rtol=1e-5)
        same = (activated.quats * truth["rotations"][index]).sum(-1).abs()
        assert float(same.min()) > 1 - 1e-6
        back = to_local(world, frames[index], binding)
        torch.testing.assert_close(back.means, local.means, atol=1e-4, rtol=0)


@pytest.mark.parametrize("folder", VARIANTS, ids=lambda p: p.name)
def test_an_imported_avatar_moves_as_the_reference(folder: Path, tmp_path: Path) -> None:
    """Import of the stored folder, and of its export: both give the reference's frames."""
    truth, head = load_file(folder / "frames.safetensors"), fixture_head(folder)
    first = import_gaussian_avatar(folder / "avatar", head.model, "import_scene", frames_per_second=10)
    again = import_gaussian_avatar(
        export_gaussian_avatar(first, tmp_path), head.model, "import_scene", frames_per_second=10
    )
    for scene in (first, again):
        assert len(scene.times) == len(truth["means"])
        for index, seconds in enumerate(scene.times.tolist()):
            activated = scene.at(seconds).activated()
            torch.testing.assert_close(activated.means, truth["means"][index], atol=2e-6, rtol=0)
            torch.testing.assert_close(activated.scales, truth["scales"][index], atol=1e-7, rtol=1e-5)
            same = (activated.quats * truth["rotations"][index]).sum(-1).abs()
            assert float(same.min()) > 1 - 1e-6
            torch.testing.assert_close(activated.sh, truth["shs"], atol=0, rtol=0)
    before, after = first.deformation, again.deformation
    assert isinstance(before, BoundMesh) and isinstance(after, BoundMesh)
    assert torch.equal(before.binding, after.binding)
    locals_ = [to_local(s.canonical, before.rest_frames, before.binding).means for s in (first, again)]
    torch.testing.assert_close(locals_[0], locals_[1], atol=1e-4, rtol=0)
    stored, _ = fixture_gaussians(folder)
    torch.testing.assert_close(locals_[0], stored.means, atol=1e-4, rtol=0)
    for seconds in first.times.tolist():
        torch.testing.assert_close(again.at(seconds).means, first.at(seconds).means, atol=1e-6, rtol=0)
    assert len(first.rig) == len(json.loads((folder / "avatar" / "cameras.json").read_text()))


@pytest.mark.parametrize("folder", VARIANTS, ids=lambda p: p.name)
def test_the_steps_import_and_export_the_stored_avatar(folder: Path, tmp_path: Path) -> None:
    truth, head = load_file(folder / "frames.safetensors"), fixture_head(folder)
    with pytest.raises(InputError, match="Connect Load Head"):
        result(import_scene.run(folder / "avatar"))
    config = import_scene.Config(fps=10)
    first = result(import_scene.run(folder / "avatar", config, head))
    kind = export_scene.Config(kind="GaussianAvatars folder")
    result(export_scene.run(first, kind, tmp_path / "again"))
    for scene in (first, result(import_scene.run(tmp_path / "again", config, head))):
        for index, seconds in enumerate(scene.times.tolist()):
            torch.testing.assert_close(scene.at(seconds).means, truth["means"][index], atol=2e-6, rtol=0)
