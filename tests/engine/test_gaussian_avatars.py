"""Avatars in GaussianAvatars' folders: import, export and back, and folders that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.cli import main
from engine.deform import BoundMesh, FrozenAppearance, Static
from engine.errors import InputError
from engine.heads import Head, to_local, triangle_frames
from engine.io.imports.gaussian_avatars import (
    export_gaussian_avatar,
    import_gaussian_avatar,
    is_gaussian_avatar,
)
from engine.io.ply import read_bound_ply, read_ply, write_ply
from engine.io.scene_file import load_scene, save_scene
from engine.messages import result
from engine.scene import Cameras, Scene4D
from engine.steps import export_scene, import_scene
from tests.engine.test_head_motion_files import write_motion
from tests.engine.test_heads import gaussians_on
from tests.scenes import ring
from tests.tiny_head import tiny_head, tiny_model


def write_avatar(folder: Path, head: Head, **changed: Any) -> Path:
    """An avatar with one Gaussian bound to each of 150 random triangles."""
    made = folder / "point_cloud" / "iteration_30000"
    made.mkdir(parents=True)
    vertices = head.vertices()[0]
    gaussians, binding = gaussians_on(vertices, head.model.faces)
    local = to_local(gaussians, triangle_frames(vertices, head.model.faces), binding)
    write_ply(local, made / "point_cloud.ply", binding)
    write_motion(made / "flame_param.npz", head, **changed)
    text = "Namespace(sh_degree=1, source_path='x', white_background=False, bind_to_mesh=True)"
    (folder / "cfg_args").write_text(text)
    return folder


def imported(folder: Path, head: Head) -> Scene4D:
    return import_gaussian_avatar(folder, head.model, "import_scene", frames_per_second=10)


def test_the_scene_of_an_avatar(tmp_path: Path) -> None:
    head = tiny_head()
    scene = imported(write_avatar(tmp_path, head), head)
    mesh = scene.deformation
    assert isinstance(mesh, BoundMesh) and mesh.model == "tiny head"
    assert set(mesh.parameters) >= {"shape", "expr", "rotation", "translation", "static_offset"}
    torch.testing.assert_close(scene.times, torch.arange(4, dtype=torch.float64) / 10)
    assert scene.background.tolist() == [0, 0, 0] and len(scene.rig) == 8
    assert scene.history[-1]["iteration"] == "iteration_30000"
    at_rest = mesh.carry(scene.canonical, mesh.rest)
    torch.testing.assert_close(at_rest.means, scene.canonical.means, atol=1e-7, rtol=0)
    inside = (scene.canonical.means >= scene.bounds[0]) & (scene.canonical.means <= scene.bounds[1])
    assert float(inside.all(1).double().mean()) > 0.9


def test_import_export_import(tmp_path: Path) -> None:
    head = tiny_head()
    first = imported(write_avatar(tmp_path / "a", head), head)
    again = imported(export_gaussian_avatar(first, tmp_path / "b"), head)
    before, after = first.deformation, again.deformation
    assert isinstance(before, BoundMesh) and isinstance(after, BoundMesh)
    assert torch.equal(before.binding, after.binding)
    for name, tensor in before.parameters.items():
        assert torch.equal(tensor, after.parameters[name]), name
    plys = [next((tmp_path / name).glob("point_cloud/*/*.ply")) for name in "ab"]
    local = [read_bound_ply(path)[0].means for path in plys]
    torch.testing.assert_close(local[0], local[1], atol=1e-4, rtol=0)
    for seconds in (0.0, 0.1, 0.25, 0.3):
        torch.testing.assert_close(again.at(seconds).means, first.at(seconds).means, atol=1e-6, rtol=0)
    torch.testing.assert_close(again.rig.world_to_camera, first.rig.world_to_camera, atol=1e-9, rtol=0)
    assert again.rig.names == first.rig.names and again.rig.sizes == first.rig.sizes
    assert torch.equal(again.background, first.background)


def test_an_avatar_survives_a_scene_file(tmp_path: Path) -> None:
    head = tiny_head()
    scene = imported(write_avatar(tmp_path / "a", head), head)
    loaded = load_scene(save_scene(scene, tmp_path / "scene.safetensors"))
    assert torch.equal(loaded.at(0.15).means, scene.at(0.15).means)
    export_gaussian_avatar(loaded.with_(deformation=FrozenAppearance(loaded.deformation)), tmp_path / "b")
    assert is_gaussian_avatar(tmp_path / "b")


def test_files_are_what_the_reference_code_asks_for(tmp_path: Path) -> None:
    head = tiny_head()
    scene = imported(write_avatar(tmp_path / "a", head), head)
    export_gaussian_avatar(scene, tmp_path / "b", iteration=7)
    arrays = np.load(tmp_path / "b/point_cloud/iteration_7/flame_param.npz")
    shapes = {name: (arrays[name].shape, arrays[name].dtype) for name in arrays.files}
    f = np.dtype(np.float32)
    assert shapes == {
        "shape": ((4,), f),
        "expr": ((4, 3), f),
        "rotation": ((4, 3), f),
        "neck_pose": ((4, 3), f),
        "jaw_pose": ((4, 3), f),
        "eyes_pose": ((4, 6), f),
        "translation": ((4, 3), f),
        "static_offset": ((1, 50, 3), f),
        "dynamic_offset": ((4, 50, 3), f),
    }
    header = (tmp_path / "b/point_cloud/iteration_7/point_cloud.ply").read_bytes()[:4000]
    assert b"property float binding_0\nend_header" in header


def test_a_bound_ply_is_no_ordinary_scene(tmp_path: Path) -> None:
    folder = write_avatar(tmp_path, tiny_head())
    path = folder / "point_cloud/iteration_30000/point_cloud.ply"
    sentence = r"binding_0.*Import the avatar's folder .* head model.*IO-052"
    with pytest.raises(InputError, match=sentence):
        read_ply(path)
    with pytest.raises(InputError, match=sentence):
        result(import_scene.run(path))
    with pytest.raises(
        InputError, match=r"is an avatar of GaussianAvatars.*Connect Load Head .*--head-model.*STP-033"
    ):
        result(import_scene.run(folder))
    assert is_gaussian_avatar(folder) and not is_gaussian_avatar(tmp_path / "point_cloud")


def test_an_avatar_is_imported_with_its_head_and_exported_again(tmp_path: Path) -> None:
    head = tiny_head()
    folder = write_avatar(tmp_path / "a", head)
    other_motion = Head(head.model, tiny_head(frames=2, seed=5).motion, "another motion")
    scene = result(import_scene.run(folder, import_scene.Config(fps=10), other_motion))
    direct = imported(folder, head)
    assert torch.equal(scene.times, direct.times)
    assert torch.equal(scene.at(0.2).means, direct.at(0.2).means)
    kind = "GaussianAvatars folder"
    files = result(export_scene.run(scene, export_scene.Config(kind=kind), tmp_path / "b"))
    assert [file.name for file in files] == ["point_cloud.ply", "flame_param.npz", "cameras.json", "cfg_args"]
    again = result(import_scene.run(tmp_path / "b", import_scene.Config(fps=10), head))
    torch.testing.assert_close(again.at(0.2).means, scene.at(0.2).means, atol=1e-6, rtol=0)


def test_an_assumed_frame_rate_is_noted(tmp_path: Path) -> None:
    head = tiny_head()
    folder = write_avatar(tmp_path, head)
    scene = result(import_scene.run(folder, head=head))
    torch.testing.assert_close(scene.times, torch.arange(4, dtype=torch.float64) / 25)
    assert "25 frames per second are assumed" in import_scene.summary(scene)
    known = result(import_scene.run(folder, import_scene.Config(fps=25), head))
    assert torch.equal(known.times, scene.times) and import_scene.summary(known) == known.summary()


def test_the_commands_import_and_export_an_avatar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    head = tiny_head()
    folder, out = write_avatar(tmp_path / "a", head), tmp_path / "avatar.safetensors"
    asked: list[tuple[Any, ...]] = []

    def loaded(*files: Any) -> Head:
        asked.append(files)
        return head

    monkeypatch.setattr("engine.cli.kinds.load_head", loaded)
    words = ["import", "--source", str(folder), "-o", str(out), "--fps", "10"]
    assert main(words) == 1 and "--head-model" in capsys.readouterr().err
    assert not asked
    assert main([*words, "--head-model", "flame2023.pkl"]) == 0
    assert asked == [("flame2023.pkl", None, 0.0)]
    assert len(load_scene(out).times) == 4
    words = ["export", "--scene", str(out), "-o", str(tmp_path / "b"), "--kind", "GaussianAvatars folder"]
    assert main(words) == 0 and is_gaussian_avatar(tmp_path / "b")


def test_cameras_are_read_once_each(tmp_path: Path) -> None:
    head = tiny_head()
    scene = imported(write_avatar(tmp_path, head), head)
    rig = ring(3)
    centered = Cameras(rig.world_to_camera, rig.K, rig.sizes, rig.names)
    export_gaussian_avatar(scene.with_(rig=centered), tmp_path)
    entries = json.loads((tmp_path / "cameras.json").read_text())
    later = [entry | {"id": 3 + i, "img_name": f"00001_cam{i:02}"} for i, entry in enumerate(entries)]
    (tmp_path / "cameras.json").write_text(json.dumps(entries + later))
    read = imported(tmp_path, head).rig
    assert read.names == ("cam00", "cam01", "cam02")
    torch.testing.assert_close(read.world_to_camera, rig.world_to_camera, atol=1e-9, rtol=0)
    torch.testing.assert_close(read.K, rig.K.double(), atol=1e-9, rtol=0)


def no_binding(folder: Path) -> None:
    path = folder / "point_cloud/iteration_30000/point_cloud.ply"
    write_ply(read_bound_ply(path)[0], path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (no_binding, "no property binding_0"),
        (
            lambda f: (f / "point_cloud/iteration_30000/flame_param.npz").unlink(),
            "flame_param.npz is missing",
        ),
        (lambda f: (f / "point_cloud/iteration_30000/point_cloud.ply").unlink(), "is not an avatar"),
        (lambda f: (f / "cfg_args").write_text("__import__('os').system('x')"), "Namespace"),
        (lambda f: (f / "cameras.json").write_text("{}"), "is not a list"),
        (lambda f: (f / "cameras.json").write_text('[{"width": 3}]'), "entry 0 is not a camera"),
        (lambda f: (f / "cameras.json").write_text("[["), "cannot be read as JSON"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(
    tmp_path: Path, change: Callable[[Path], Any], sentence: str
) -> None:
    head = tiny_head()
    change(write_avatar(tmp_path, head))
    with pytest.raises(InputError, match=sentence):
        imported(tmp_path, head)


def test_a_head_of_another_topology_is_refused_with_both_counts(tmp_path: Path) -> None:
    head = tiny_head()
    write_avatar(tmp_path, head)
    other = tiny_model()
    fewer = Head(replace(other, faces=other.faces[:20]), head.motion)
    with pytest.raises(InputError, match=r"triangles up to 9\d, tiny head has 20 triangles.*IO-057"):
        imported(tmp_path, fewer)
    with pytest.raises(InputError, match=r"mesh of 50 vertices, tiny head has 49"):
        imported(tmp_path, Head(replace(other, template=other.template[:49]), head.motion))
    with pytest.raises(InputError, match=r"4 shape and 3 expression"):
        import_gaussian_avatar(tmp_path, tiny_model(expressions=2), "import_scene")


def test_parameters_of_two_lengths_are_refused(tmp_path: Path) -> None:
    head = tiny_head()
    write_avatar(tmp_path, head, translation=np.zeros((2, 3), np.float32))
    with pytest.raises(
        InputError, match=r"'translation' has shape \(2, 3\), expected \(4, 3\). 'expr' has 4 frames"
    ):
        imported(tmp_path, head)


def test_only_bound_scenes_are_exported_as_avatars(tmp_path: Path) -> None:
    head = tiny_head()
    scene = imported(write_avatar(tmp_path / "a", head), head)
    mesh = scene.deformation
    assert isinstance(mesh, BoundMesh)
    with pytest.raises(InputError, match="is not bound to a head"):
        export_gaussian_avatar(scene.with_(deformation=Static()), tmp_path / "b")
    with pytest.raises(InputError, match="without head parameters"):
        export_gaussian_avatar(scene.with_(deformation=mesh.with_(parameters={})), tmp_path / "b")
    assert not (tmp_path / "b").exists()
