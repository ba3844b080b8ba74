"""Cameras of OpenUSD files: written by the command line, judged and authored with usd-core, read back as the rig's first."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import messages as m
from engine.cli import main
from engine.io.scene_file import save_scene
from engine.io.usd import write_usd
from engine.playback.bake import bake
from engine.playback.bake_config import BakeConfig
from engine.scene import Cameras, Scene4D, Static
from engine.scene.rigs import UPS, found_up
from engine.steps import camera_path, export_scene
from tests.engine.test_usd_export import all_changing
from tests.engine.test_usd_import import author, note, run
from tests.scenes import moving_scene

pytest.importorskip("pxr", reason="the package usd-core, which reads and writes OpenUSD, is not installed")
from pxr import Gf, Usd, UsdGeom

Y, Z = (torch.tensor(UPS[name], dtype=torch.float64) for name in ("y up", "z up"))


def aimed(
    stage: Usd.Stage, path: str, place: tuple[float, float, float], target=(0.0, 0.0, 0.0), up=(0.0, 1.0, 0.0)
) -> UsdGeom.Camera:
    """A camera as other programs author it: one matrix, the schema's own lens."""
    camera = UsdGeom.Camera.Define(stage, path)
    matrix = Gf.Matrix4d().SetLookAt(Gf.Vec3d(*place), Gf.Vec3d(*target), Gf.Vec3d(*up)).GetInverse()
    UsdGeom.Xformable(camera).AddTransformOp().Set(matrix)
    return camera


def pixels_of(stage: Usd.Stage, path: str, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where usd-core's own frustum shows points [N, 3] of the stage, in an image of the lens's aspect ratio."""
    frustum = UsdGeom.Camera(stage.GetPrimAtPath(path)).GetCamera(Usd.TimeCode.EarliestTime()).frustum
    to_screen = frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()
    seen = np.array([to_screen.Transform(Gf.Vec3d(*map(float, p))) for p in points])
    return (seen[:, :2] * [1, -1] + 1) / 2 * size


@pytest.mark.parametrize("up", ["y up", "y down", "z up"])
def test_the_camera_of_an_export_comes_back(up: str, tmp_path: Path) -> None:
    scene = all_changing(up=up)
    config = camera_path.Config(kind="arc left", frames=6, width=320, height=180, start_seconds=0.1)
    path = camera_path.make(scene, config)
    (file,) = m.result(
        export_scene.run(scene, export_scene.Config(kind="usdc"), tmp_path / "a.usdc", path=path)
    )
    again = run(file)
    assert again.rig.names[0] == "Camera" and len(again.rig) == 9 and again.rig.sizes[0] == (320, 180)
    assert torch.allclose(again.rig.K[0], path.cameras.K[0], atol=1e-4)
    assert again.times.tolist() == pytest.approx([i / 24 for i in range(6)], abs=1e-9)
    # the same pixels of the same Gaussians
    true, _ = path.cameras.project(scene.at(float(path.seconds[0])).means.double(), 0)
    found, _ = again.rig.project(again.at(0.0).means.double(), 0)
    assert float((true - found).abs().max()) < 1e-2
    assert torch.allclose(found_up(again.rig), Z if up == "z up" else Y, atol=1e-9)
    assert note(again).endswith("USD cameras: Camera (the first of 6 samples of its motion).")
    # where the player starts
    assert m.returned(bake(again, BakeConfig(), "a")).player_file.cameras.names[0] == "Camera"
    # and out again: not turned
    second = write_usd(again, again.times.tolist(), tmp_path / "b.usdc")
    assert torch.allclose(run(second).at(0.0).means, again.at(0.0).means, atol=1e-6)


@pytest.mark.parametrize(("axis", "unit"), [("y", 1.0), ("z", 0.01)])
def test_a_camera_of_another_program_shows_the_same_pixels(axis: str, unit: float, tmp_path: Path) -> None:
    stage, splat = author(tmp_path / "a.usda")
    UsdGeom.SetStageUpAxis(stage, axis.upper())
    UsdGeom.SetStageMetersPerUnit(stage, unit)
    # a set that is moved, turned about the vertical, and scaled
    group = UsdGeom.Xform.Define(stage, "/Set")
    group.AddTranslateOp().Set(Gf.Vec3d(0.3, 0.2, -0.1))
    (group.AddRotateYOp if axis == "y" else group.AddRotateZOp)().Set(40.0)
    group.AddScaleOp().Set(Gf.Vec3f(2, 2, 2))
    up = (0.0, 1.0, 0.0) if axis == "y" else (0.0, 0.0, 1.0)
    camera = aimed(stage, "/Set/Shot", (3.0, 2.0, 4.0) if axis == "y" else (3.0, 4.0, 2.0), up=up)
    camera.GetFocalLengthAttr().Set(35.0)
    camera.GetHorizontalApertureAttr().Set(24.0)
    camera.GetVerticalApertureAttr().Set(16.0)
    camera.GetHorizontalApertureOffsetAttr().Set(1.5)
    camera.GetVerticalApertureOffsetAttr().Set(-0.7)
    stage.Save()
    scene = run(tmp_path / "a.usda")
    rig = scene.rig
    assert rig.names[0] == "Shot" and rig.sizes[0] == (768, 512)
    points = np.array(splat.GetPositionsAttr().Get(), dtype=np.float64)
    true = pixels_of(stage, "/Set/Shot", points, rig.sizes[0])
    found, depth = rig.project(scene.at(0.0).means.double(), 0)
    assert float(depth.min()) > 0 and np.abs(found.numpy() - true).max() < 1e-2
    assert torch.allclose(found_up(rig), torch.tensor(up, dtype=torch.float64), atol=1e-9)
    assert note(scene).endswith("USD cameras: Shot.")


def test_the_ring_shows_the_scene_through_the_first_cameras_lens(tmp_path: Path) -> None:
    """A camera path takes its lens from the first camera and its distance from the ring."""
    stage, _ = author(tmp_path / "a.usda")
    camera = aimed(stage, "/Long", (0.0, 1.0, 60.0))
    camera.GetFocalLengthAttr().Set(400.0)
    stage.Save()
    scene = run(tmp_path / "a.usda")
    plain, _ = author(tmp_path / "b.usda")
    plain.Save()
    before = run(tmp_path / "b.usda")
    for each in (before, scene):
        path = camera_path.make(each, camera_path.Config(frames=3))
        width, height = path.cameras.sizes[0]
        means = each.at(0.0).means.double()
        seen = torch.cat([path.cameras.project(means, i)[0] for i in range(3)])
        spread = (seen - torch.tensor([width / 2, height / 2])).abs().max(0).values
        assert 0.1 * height < float(spread.max()) and bool((spread < torch.tensor([width, height]) / 2).all())


def test_motion_of_pose_and_lens_is_counted(tmp_path: Path) -> None:
    stage, _ = author(tmp_path / "a.usda")
    camera = aimed(stage, "/Zoom", (0.0, 0.0, 8.0))
    for code, focal in enumerate((20.0, 30.0, 50.0)):
        camera.GetFocalLengthAttr().Set(focal, code)
    still = UsdGeom.Xformable(aimed(stage, "/Flies", (0.0, 0.0, 9.0)))
    place = still.AddTranslateOp()
    for code in range(5):
        place.Set(Gf.Vec3d(0, 0, code / 100), code)
    stage.Save()
    scene = run(tmp_path / "a.usda")
    assert scene.rig.names[:2] == ("Zoom", "Flies")
    width = scene.rig.sizes[0][0]
    aperture = camera.GetHorizontalApertureAttr().Get()
    assert float(scene.rig.K[0, 0, 0]) == pytest.approx(20.0 * width / aperture, rel=1e-5)
    assert (
        "Zoom (the first of 3 samples of its motion); Flies (the first of 5 samples of its motion)."
        in note(scene)
    )


def test_a_rolled_camera_is_leveled_so_that_the_scene_stays_upright(tmp_path: Path) -> None:
    stage, _ = author(tmp_path / "a.usda")
    roll = math.radians(30)
    aimed(stage, "/Rolled", (0.0, 0.0, 8.0), up=(math.sin(roll), math.cos(roll), 0.0))
    # straight down: nothing is rolled
    aimed(stage, "/Down", (0.0, 9.0, 0.0), up=(0.6, 0.0, -0.8))
    stage.Save()
    scene = run(tmp_path / "a.usda")
    assert torch.allclose(found_up(scene.rig), Y, atol=1e-9)
    assert torch.allclose(scene.rig.world_to_camera[0, 1, :3], -Y, atol=1e-6)
    top = torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64)
    assert torch.allclose(-scene.rig.world_to_camera[1, 1, :3], top, atol=1e-6)
    assert note(scene).endswith("USD cameras: Rolled (without its roll of 30.0°); Down.")


def test_what_is_not_read_of_cameras_is_counted(tmp_path: Path) -> None:
    stage, _ = author(tmp_path / "a.usda")
    flat = aimed(stage, "/Flat", (0.0, 0.0, 8.0))
    flat.GetProjectionAttr().Set(UsdGeom.Tokens.orthographic)
    mirrored = UsdGeom.Xform.Define(stage, "/Mirror")
    mirrored.AddScaleOp().Set(Gf.Vec3f(-1, 1, 1))
    aimed(stage, "/Mirror/Shot", (0.0, 0.0, 8.0))
    for i, bad in enumerate((0.0, -3.0, float("nan"), float("inf"))):
        aimed(stage, f"/Bad{i}", (0.0, 0.0, 8.0)).GetFocalLengthAttr().Set(bad)
    aimed(stage, "/Wide", (0.0, 0.0, 8.0)).GetVerticalApertureAttr().Set(0.1)
    aimed(stage, "/Past", (0.0, 0.0, 8.0), target=(900.0, 0.0, 0.0))
    stage.Save()
    scene = run(tmp_path / "a.usda")
    assert scene.rig.names == tuple(f"ring{i}" for i in range(8))
    assert note(scene).endswith(
        "USD cameras: 1 left out, which look past the Gaussians; 7 left out (orthographic, mirrored, without a lens, or "
        "beyond 16)."
    )


def test_many_cameras_and_names_that_are_taken(tmp_path: Path) -> None:
    stage, _ = author(tmp_path / "a.usda")
    for i in range(18):
        UsdGeom.Xform.Define(stage, f"/G{i}")
        aimed(stage, f"/G{i}/{'ring1' if i == 0 else 'Camera'}", (0.0, 0.1 * i, 8.0))
    stage.Save()
    scene = run(tmp_path / "a.usda")
    assert scene.rig.names[:4] == ("camera ring1", "Camera", "Camera 2", "Camera 3")
    assert len(set(scene.rig.names)) == len(scene.rig) == 16 + 8
    assert note(scene).endswith(
        "USD cameras: camera ring1; Camera; Camera 2; Camera 3; 12 more; 2 left out (orthographic, mirrored, without a lens, "
        "or beyond 16)."
    )


def test_a_georeferenced_camera_stands_by_its_scene(tmp_path: Path) -> None:
    scene = all_changing(up="y up")
    place = (4.5e6, 100.0, -3.0)
    rig = Cameras(scene.rig.world_to_camera, scene.rig.K, scene.rig.sizes, scene.rig.names, place)
    far = scene.with_(rig=rig)
    path = camera_path.make(far, camera_path.Config(frames=2))
    (file,) = m.result(
        export_scene.run(far, export_scene.Config(kind="usdc"), tmp_path / "a.usdc", path=path)
    )
    again = run(file)
    assert again.rig.origin == place
    assert torch.allclose(again.rig.centers[0], path.cameras.centers[0].double(), atol=1e-5)


def still(tmp_path: Path) -> tuple[Scene4D, Path]:
    scene = moving_scene(30).with_(deformation=Static())
    return scene, save_scene(scene, tmp_path / "scene.safetensors")


def test_the_command_line_writes_a_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, kept = still(tmp_path)

    def export(name: str, *more: str) -> Usd.Stage:
        words = [
            "export",
            "--scene",
            str(kept),
            "--out",
            str(tmp_path / name),
            "--kind",
            "usda",
            *more,
            "--json",
        ]
        assert main(words) == 0, capsys.readouterr().err
        return Usd.Stage.Open(str(tmp_path / name))

    assert not export("a.usda").GetPrimAtPath("/Scene/Camera")
    stage = export("b.usda", "--with-camera")
    assert (stage.GetFramesPerSecond(), stage.GetEndTimeCode()) == (24, 59)
    flags = "--camera-kind still --camera-view 2 --camera-frames 12 --camera-fps 30 --camera-speed 0.5 --camera-width 96".split()
    stage = export("c.usda", *flags)
    assert (stage.GetFramesPerSecond(), stage.GetEndTimeCode()) == (30, 11)
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/Scene/Camera"))
    assert tuple(camera.GetPrim().GetCustomDataByKey("gs4d:imageSize")) == (96, 80)
    view = np.array(camera.GetCamera(0).frustum.ComputeViewMatrix()).T
    true = np.diag([1.0, -1, -1, 1]) @ scene.rig.world_to_camera[2].double().numpy()
    assert np.abs(view - true).max() < 1e-6
    capsys.readouterr()

    imported = tmp_path / "again.safetensors"
    assert main(["import", "--source", str(tmp_path / "c.usda"), "--out", str(imported)]) == 0
    assert "USD cameras: Camera (the first of 12 samples of its motion)." in capsys.readouterr().out
    for words in (["--with-camera"], ["--camera-frames", "4"]):
        assert main(["export", "--scene", str(kept), "--out", str(tmp_path / "d.ply"), *words, "--json"]) == 1
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert said["code"] == "GS4D-USD-016" and "choose usdc, usda or usdz" in said["error"]
    words = [
        "export",
        "--scene",
        str(kept),
        "--out",
        str(tmp_path / "d.usda"),
        "--kind",
        "usda",
        "--camera-view",
        "99",
    ]
    assert main(words) == 1 and "view is 99" in capsys.readouterr().err
    assert not (tmp_path / "d.usda").exists() and not (tmp_path / "d.ply").exists()
