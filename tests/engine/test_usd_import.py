"""OpenUSD files that are read: this pack's own, and stages as other programs author them with usd-core."""

import os
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import messages as m
from engine.deform.moments import scene_of_moments
from engine.errors import InputError
from engine.io.usd import UsdSplats, layers, write_usd
from engine.io.usd import reading as reading_module
from engine.io.usd.library import library
from engine.scene import Scene4D, harmonics, rotations
from engine.scene.rigs import UPS, found_up
from engine.steps import export_scene, import_scene
from tests.engine.test_usd_export import all_changing
from tests.scenes import moving_scene

pytest.importorskip("pxr", reason="the package usd-core, which reads and writes OpenUSD, is not installed")
from pxr import Gf, Sdf, Usd, UsdGeom, UsdUtils, UsdVol, Vt


def run(path: Path, **config: object) -> Scene4D:
    return m.result(import_scene.run(path, import_scene.Config(**config)))


def note(scene: Scene4D) -> str:
    return import_scene.summary(scene).split("\n", 1)[1]


def author(
    path: Path, count: int = 4, degree: int = 1, prim: str = "/Splat"
) -> tuple[Usd.Stage, UsdVol.ParticleField3DGaussianSplat]:
    """A stage with one still splat, as a converter writes it."""
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    return stage, fill(stage, prim, count, degree)


def fill(stage: Usd.Stage, prim: str, count: int = 4, degree: int = 1) -> UsdVol.ParticleField3DGaussianSplat:
    generator = np.random.default_rng(5)
    splat = UsdVol.ParticleField3DGaussianSplat.Define(stage, prim)
    splat.CreatePositionsAttr(vectors(generator.normal(size=(count, 3))))
    quats = generator.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    splat.CreateOrientationsAttr(Vt.QuatfArray([Gf.Quatf(*map(float, q)) for q in quats]))
    splat.CreateScalesAttr(vectors(generator.uniform(0.05, 0.3, size=(count, 3))))
    splat.CreateOpacitiesAttr(Vt.FloatArray([0.1 + 0.8 * i / count for i in range(count)]))
    splat.CreateRadianceSphericalHarmonicsDegreeAttr(degree)
    splat.CreateRadianceSphericalHarmonicsCoefficientsAttr(
        vectors(generator.normal(size=(count * (degree + 1) ** 2, 3)))
    )
    return splat


def vectors(values: np.ndarray) -> Vt.Vec3fArray:
    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, dtype=np.float32))


def covariances(gaussians) -> torch.Tensor:
    a = gaussians.activated()
    axes = rotations.quats_to_matrices(a.quats.double()) * a.scales.double()[:, None]
    return axes @ axes.mT


@pytest.mark.parametrize("suffix", ["usda", "usdc", "usdz"])
@pytest.mark.parametrize("up", ["y up", "y down", "z up"])
def test_an_exported_scene_comes_back(suffix, up, tmp_path):
    scene = all_changing(up=up)
    (path,) = m.result(export_scene.run(scene, export_scene.Config(kind=suffix), tmp_path / f"a.{suffix}"))
    again = run(path)
    turn = torch.diag(torch.tensor([1.0, -1, -1])) if up == "y down" else torch.eye(3)
    wanted_up = torch.tensor(UPS["z up" if up == "z up" else "y up"], dtype=torch.float64)
    assert torch.allclose(found_up(again.rig), wanted_up, atol=1e-6), "cameras stand upright"
    assert again.times.tolist() == pytest.approx(scene.times.tolist(), abs=1e-9)
    directions = torch.nn.functional.normalize(torch.ones(30, 3), dim=-1)
    for t in (*scene.times.tolist(), 0.03, 0.29):
        found, true = again.at(t), scene.at(t)
        assert torch.allclose(found.means, true.means @ turn.T, atol=1e-6)
        at_frame = min(abs(t - frame) for frame in scene.times.tolist()) < 1e-9
        # between frames, USD and a scene interpolate scales and opacities differently
        if at_frame:
            assert torch.allclose(found.log_scales, true.log_scales, atol=1e-5)
            assert torch.allclose(found.logit_opacities.sigmoid(), true.logit_opacities.sigmoid(), atol=2e-6)
            sent = turn.double() @ covariances(true) @ turn.double().T
            assert torch.allclose(covariances(found), sent, atol=1e-6)
        seen = harmonics.evaluate(found.sh, directions @ turn.T)
        assert torch.allclose(seen, harmonics.evaluate(true.sh, directions), atol=1e-5)
    axis = "Z" if up == "z up" else "Y"
    assert note(again) == f"USD: {axis} up; 1 m per unit; 12 frames per second."
    assert len(m.result(import_scene.run(path)).history) == 1


def test_a_scene_that_comes_back_leaves_again_as_it_was(tmp_path):
    scene = all_changing(up="y down")
    first = write_usd(scene, scene.times.tolist(), tmp_path / "a.usdc")
    again = run(first)
    second = write_usd(again, again.times.tolist(), tmp_path / "b.usdc")
    a, b = UsdSplats(first), UsdSplats(second)
    assert torch.equal(a.seconds, b.seconds)
    for i in range(len(a)):
        assert torch.allclose(a.frame(i).means, b.frame(i).means, atol=1e-6)
        assert torch.allclose(covariances(a.frame(i)), covariances(b.frame(i)), atol=1e-6)


def test_a_damaged_up_axis_is_y(tmp_path):
    stage, _ = author(tmp_path / "a.usda")
    stage.Save()
    text = (tmp_path / "a.usda").read_text()
    (tmp_path / "b.usda").write_text(text.replace('upAxis = "Y"', 'upAxis = "18"'))
    scene = run(tmp_path / "b.usda")
    assert note(scene).startswith("USD: Y up")
    assert torch.allclose(found_up(scene.rig), torch.tensor(UPS["y up"], dtype=torch.float64), atol=1e-6)


def test_births_and_deaths_come_back_held(tmp_path):
    moments = [all_changing().at(t) for t in (0.0, 1 / 12, 2 / 12, 3 / 12)]
    moments = [moments[0].map(lambda t: t[:20]), moments[1], moments[2], moments[3].map(lambda t: t[:10])]
    scene = scene_of_moments(moments, 12.0, torch.tensor(UPS["y up"]), blends=True)
    again = run(write_usd(scene, scene.times.tolist(), tmp_path / "a.usdc"))
    assert again.times.tolist() == pytest.approx(scene.times.tolist())
    for t in (0.0, 0.04, 0.083, 1 / 12, 0.2, 0.25):
        true, found = scene.at(t), again.at(t)
        assert torch.allclose(found.means, true.means, atol=1e-6), t
        visible = true.logit_opacities.sigmoid() > 1e-3
        assert torch.equal(found.logit_opacities.sigmoid() > 1e-3, visible), t
    assert "held" in note(again)


def test_counts_that_change_per_sample_are_births_and_deaths(tmp_path):
    stage, splat = author(tmp_path / "a.usda", degree=0)
    stage.SetTimeCodesPerSecond(10)
    sizes = {0: 3, 1: 5, 2: 2}
    for code, count in sizes.items():
        splat.GetPositionsAttr().Set(vectors(np.full((count, 3), code)), code)
        splat.GetOrientationsAttr().Set(Vt.QuatfArray([Gf.Quatf(1)] * count), code)
        splat.GetScalesAttr().Set(vectors(np.full((count, 3), 0.1)), code)
        splat.GetOpacitiesAttr().Set(Vt.FloatArray([0.5] * count), code)
        splat.GetRadianceSphericalHarmonicsCoefficientsAttr().Set(vectors(np.zeros((count, 3))), code)
    stage.Save()
    scene = run(tmp_path / "a.usda")
    for code, count in sizes.items():
        for t in (code / 10, code / 10 + 0.05 * (code < 2)):
            now = scene.at(t)
            shown = now.logit_opacities.sigmoid() > 0.4
            assert int(shown.sum()) == count
            assert bool((now.means[shown] == code).all())


def test_units_and_up_axis_are_the_files_own(tmp_path):
    stage, splat = author(tmp_path / "a.usda")
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    stage.Save()
    scene = run(tmp_path / "a.usda", up="y down", duration=2.0)
    positions = torch.tensor(np.array(splat.GetPositionsAttr().Get()))
    assert torch.allclose(scene.canonical.means, positions * 0.01)
    assert torch.allclose(
        scene.canonical.log_scales.exp(), torch.tensor(np.array(splat.GetScalesAttr().Get())) * 0.01
    )
    assert torch.allclose(found_up(scene.rig), torch.tensor([0.0, 0, 1], dtype=torch.float64), atol=1e-6)
    assert (scene.duration, scene.deformation.kind) == (2.0, "still")
    assert note(scene) == "USD: Z up; scaled by 0.01 to meters."
    stage.GetRootLayer().pseudoRoot.ClearInfo("metersPerUnit")
    stage.Save()
    scene = run(tmp_path / "a.usda")
    assert torch.allclose(scene.canonical.means, positions)
    assert "units not stated" in note(scene)


MATRICES = {
    "shifted": Gf.Matrix4d().SetTranslate(Gf.Vec3d(1, 2, 3)),
    "turned": Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d(1, 2, -1), 70)),
    "scaled": Gf.Matrix4d().SetScale(2.5) * Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d(0, 1, 0), 30)),
    "mirrored": Gf.Matrix4d().SetScale(Gf.Vec3d(-1, 1, 1))
    * Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d(1, 1, 0), 40)),
    "stretched": Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d(1, 0, 0), 20))
    * Gf.Matrix4d().SetScale(Gf.Vec3d(1, 3, 0.5)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_transforms_move_centers_ellipsoids_and_colors(name, tmp_path):
    stage, _ = author(tmp_path / "still.usda", degree=3)
    stage.Save()
    plain = run(tmp_path / "still.usda").canonical
    stage, _ = author(tmp_path / "moved.usda", degree=3, prim="/Set/Prop/Splat")
    # half of it above the prim, and half on it
    UsdGeom.Xform.Define(stage, "/Set").AddTransformOp().Set(MATRICES[name])
    UsdGeom.Xformable(stage.GetPrimAtPath("/Set/Prop/Splat")).AddTranslateOp().Set(Gf.Vec3d(0, 0, 1))
    stage.Save()
    found = run(tmp_path / "moved.usda").canonical
    true = np.array(
        [MATRICES[name].Transform(Gf.Vec3d(*p.tolist()) + Gf.Vec3d(0, 0, 1)) for p in plain.means]
    )
    assert np.abs(found.means.numpy() - true).max() < 1e-5
    linear = torch.tensor(np.array(MATRICES[name])[:3, :3].T)
    assert torch.allclose(covariances(found), linear @ covariances(plain) @ linear.T, atol=1e-6)
    if name != "stretched":
        turn = linear / linear.det().abs() ** (1 / 3)
        directions = torch.nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.9]] * 4), dim=-1)
        seen = harmonics.evaluate(found.sh, directions @ turn.float().T)
        assert torch.allclose(seen, harmonics.evaluate(plain.sh, directions), atol=1e-4)


def test_a_turntable_with_two_keys_turns_between_them(tmp_path):
    stage, splat = author(tmp_path / "a.usda")
    stage.SetTimeCodesPerSecond(24)
    stage.SetStartTimeCode(1)
    stage.SetEndTimeCode(25)
    turn = UsdGeom.Xformable(splat.GetPrim()).AddRotateYOp()
    turn.Set(0.0, 1)
    turn.Set(180.0, 25)
    stage.Save()
    scene = run(tmp_path / "a.usda")
    assert len(scene.times) == 25 and scene.duration == pytest.approx(1)
    start, middle = scene.at(0.0).means, scene.at(0.5).means
    assert torch.allclose(middle, torch.stack([start[:, 2], start[:, 1], -start[:, 0]], dim=1), atol=1e-5)


def test_a_stretched_splat_does_not_flicker_while_it_turns(tmp_path):
    stage, splat = author(tmp_path / "a.usda", count=30)
    stage.SetTimeCodesPerSecond(24)
    xform = UsdGeom.Xformable(splat.GetPrim())
    xform.AddScaleOp().Set(Gf.Vec3f(1, 1, 2))
    turn = xform.AddRotateYOp()
    turn.Set(0.0, 0)
    turn.Set(90.0, 24)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(24)
    stage.Save()
    splats = UsdSplats(tmp_path / "a.usda")
    frames = [splats.frame(i) for i in range(len(splats))]
    for a, b in pairwise(frames):
        signs = torch.where((a.quats * b.quats).sum(-1, keepdim=True) < 0, -1.0, 1.0)
        between = a.with_(quats=a.quats + signs * b.quats, log_scales=(a.log_scales + b.log_scales) / 2)
        apart = (covariances(between) - (covariances(a) + covariances(b)) / 2).abs().amax()
        assert float(apart) < 0.02, "interpolated ellipsoids lie between the frames' own"


def test_half_precision_attributes_are_read_where_single_is_missing(tmp_path):
    stage, splat = author(tmp_path / "a.usda")
    single = run_saved(stage, tmp_path / "a.usda").canonical
    prim = splat.GetPrim()
    splat.CreatePositionshAttr(Vt.Vec3hArray([Gf.Vec3h(*p) for p in splat.GetPositionsAttr().Get()]))
    splat.CreateScaleshAttr(Vt.Vec3hArray([Gf.Vec3h(*p) for p in splat.GetScalesAttr().Get()]))
    splat.CreateOrientationshAttr(Vt.QuathArray([Gf.Quath(q) for q in splat.GetOrientationsAttr().Get()]))
    splat.CreateOpacitieshAttr(Vt.HalfArray(list(splat.GetOpacitiesAttr().Get())))
    coefficients = splat.GetRadianceSphericalHarmonicsCoefficientsAttr()
    splat.CreateRadianceSphericalHarmonicsCoefficientshAttr(
        Vt.Vec3hArray([Gf.Vec3h(*c) for c in coefficients.Get()])
    )
    both = run_saved(stage, tmp_path / "a.usda").canonical
    assert torch.equal(both.means, single.means), "single precision is preferred"
    for name in ("positions", "scales", "orientations", "opacities", coefficients.GetName()):
        prim.RemoveProperty(name)
    half = run_saved(stage, tmp_path / "a.usda").canonical
    for name, tensor in single.tensors().items():
        assert torch.allclose(half.tensors()[name], tensor, atol=5e-3), name
    assert not torch.equal(half.means, single.means)


def run_saved(stage: Usd.Stage, path: Path) -> Scene4D:
    stage.Save()
    return run(path)


def test_a_file_that_is_open_elsewhere_is_read_as_it_is_on_the_disk(tmp_path):
    first = moving_scene(5)
    path = write_usd(first, [0.0], tmp_path / "a.usda")
    still_open = Usd.Stage.Open(str(path))
    write_usd(first.with_(canonical=first.canonical.map(lambda t: t[:2])), [0.0], path)
    assert len(run(path).canonical) == 2
    assert still_open


def test_all_visible_splats_of_a_set_become_one_scene(tmp_path):
    prop, _ = author(tmp_path / "prop.usda", count=2, prim="/Prop")
    prop.SetDefaultPrim(prop.GetPrimAtPath("/Prop"))
    prop.Save()
    stage, _ = author(tmp_path / "set.usda", count=3, degree=2)
    for i in range(2):
        copy = stage.DefinePrim(f"/Copy{i}")
        copy.GetReferences().AddReference("./prop.usda")
        UsdGeom.Xformable(copy).AddTranslateOp().Set(Gf.Vec3d(10.0 * (i + 1), 0, 0))
        copy.SetInstanceable(True)
    fill(stage, "/Proxy", 50).CreatePurposeAttr(UsdGeom.Tokens.proxy)
    UsdGeom.Imageable(fill(stage, "/Hidden", 60).GetPrim()).MakeInvisible()
    surflets = UsdVol.ParticleField.Define(stage, "/Surflets")
    UsdVol.ParticleFieldPositionAttributeAPI.Apply(surflets.GetPrim())
    UsdVol.ParticleFieldKernelConstantSurfletAPI.Apply(surflets.GetPrim())
    stage.Save()
    scene = run(tmp_path / "set.usda")
    assert len(scene.canonical) == 3 + 2 + 2
    assert scene.canonical.sh_degree == 2
    assert sorted(round(float(x) / 10) for x in scene.canonical.means[:, 0]) == [0, 0, 0, 1, 1, 2, 2]
    assert "1 other particle fields left out" in note(scene)


def test_a_particle_field_with_the_same_schemas_is_read(tmp_path):
    stage = Usd.Stage.CreateNew(str(tmp_path / "a.usda"))
    prim = UsdVol.ParticleField.Define(stage, "/Field").GetPrim()
    for schema in (UsdVol.ParticleFieldPositionAttributeAPI, UsdVol.ParticleFieldKernelGaussianEllipsoidAPI):
        schema.Apply(prim)
    prim.GetAttribute("positions").Set(vectors(np.eye(3)))
    stage.Save()
    scene = run(tmp_path / "a.usda")
    a = scene.canonical.activated()
    assert torch.equal(a.scales, torch.ones(3, 3)) and bool((a.opacities > 0.999).all())
    assert torch.equal(harmonics.dc_to_rgb(a.sh[:, 0]), torch.full((3, 3), 0.5))
    assert (
        "no opacities, orientations, radiance:sphericalHarmonicsCoefficients, scales: OpenUSD's defaults"
        in note(scene)
    )


def test_visibility_over_time_is_a_birth(tmp_path):
    stage, _ = author(tmp_path / "a.usda", count=3)
    visible = UsdGeom.Imageable(fill(stage, "/Later", 2).GetPrim()).CreateVisibilityAttr()
    visible.Set("invisible", 0)
    visible.Set("inherited", 12)
    stage.Save()
    scene = run(tmp_path / "a.usda")
    assert [int((scene.at(t).logit_opacities > -5).sum()) for t in (0.0, 0.4, 0.5)] == [3, 3, 5]


def test_a_stage_that_promises_motion_and_has_none_is_still(tmp_path):
    stage, _ = author(tmp_path / "a.usda")
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(48)
    scene = run_saved(stage, tmp_path / "a.usda")
    assert scene.deformation.kind == "still"
    assert "no motion in its Gaussians" in note(scene)


def test_only_what_the_stage_plays_is_read(tmp_path):
    stage, splat = author(tmp_path / "a.usda", degree=0)
    base = np.array(splat.GetPositionsAttr().Get())
    for code in range(10):
        splat.GetPositionsAttr().Set(vectors(base + code), code)
    stage.SetStartTimeCode(2)
    stage.SetEndTimeCode(5)
    stage.SetTimeCodesPerSecond(24)
    stage.SetFramesPerSecond(12)
    scene = run_saved(stage, tmp_path / "a.usda")
    # two time codes are a frame, and samples between frames are kept
    assert scene.times.tolist() == pytest.approx([0, 1 / 24, 2 / 24, 3 / 24])
    assert torch.allclose(scene.at(0.0).means, torch.tensor(base + 2), atol=1e-6)


def test_coordinates_of_a_georeferenced_scene_come_back(tmp_path):
    scene = all_changing(up="z up")
    place = (4.5e6, 100.25, -3.0)
    far = scene.with_(rig=scene.rig.with_origin(place))
    far = far.with_(
        rig=type(far.rig)(scene.rig.world_to_camera, scene.rig.K, scene.rig.sizes, scene.rig.names, place)
    )
    again = run(write_usd(far, far.times.tolist(), tmp_path / "a.usdc"))
    assert again.rig.origin == place
    assert torch.allclose(again.canonical.means, far.canonical.means)


def test_values_that_are_not_numbers_leave_their_gaussian_out(tmp_path):
    stage, splat = author(tmp_path / "a.usda", count=5)
    positions = np.array(splat.GetPositionsAttr().Get())
    positions[1, 2] = np.nan
    splat.GetPositionsAttr().Set(vectors(positions))
    scales = np.array(splat.GetScalesAttr().Get())
    scales[3, 0] = np.inf
    splat.GetScalesAttr().Set(vectors(scales))
    quats = list(splat.GetOrientationsAttr().Get())
    quats[0] = Gf.Quatf(0, 0, 0, 0)
    splat.GetOrientationsAttr().Set(Vt.QuatfArray(quats))
    scene = run_saved(stage, tmp_path / "a.usda")
    assert len(scene.canonical) == 3
    assert "2 Gaussians were left out" in note(scene)
    assert torch.equal(scene.canonical.quats[0], torch.tensor([1.0, 0, 0, 0]))


def test_higher_harmonics_than_three_are_left_out(tmp_path):
    stage, splat = author(tmp_path / "a.usda", degree=4)
    scene = run_saved(stage, tmp_path / "a.usda")
    stored = np.array(splat.GetRadianceSphericalHarmonicsCoefficientsAttr().Get()).reshape(4, 25, 3)
    assert np.array_equal(scene.canonical.sh.numpy(), stored[:, :16])
    assert "above degree 3 left out" in note(scene)


def test_arrays_that_are_too_long_are_cut_and_too_short_ones_named(tmp_path):
    stage, splat = author(tmp_path / "a.usda", count=4)
    splat.GetScalesAttr().Set(vectors(np.full((6, 3), 0.1)))
    assert len(run_saved(stage, tmp_path / "a.usda").canonical) == 4
    splat.GetOpacitiesAttr().Set(Vt.FloatArray([0.5] * 4), 0)
    splat.GetOpacitiesAttr().Set(Vt.FloatArray([0.5] * 3), 12)
    with pytest.raises(InputError, match="time code 12, opacities of /Splat has 3 values, but 4"):
        run_saved(stage, tmp_path / "a.usda")


def test_another_schema_version_is_named(tmp_path):
    stage, _ = author(tmp_path / "a.usda")
    stage.Save()
    text = (tmp_path / "a.usda").read_text()
    (tmp_path / "later.usda").write_text(
        text.replace("ParticleField3DGaussianSplat", "ParticleField3DGaussianSplat_2")
    )
    with pytest.raises(
        InputError, match=r"type 'ParticleField3DGaussianSplat_2', which usd-core .* update usd-core"
    ):
        run(tmp_path / "later.usda")
    (tmp_path / "draft.usda").write_text(
        text.replace("ParticleField3DGaussianSplat", "ParticleField_3DGaussianSplat")
    )
    with pytest.raises(InputError, match="does not know"):
        run(tmp_path / "draft.usda")
    (tmp_path / "mesh.usda").write_text('#usda 1.0\ndef Mesh "A" { }\n')
    with pytest.raises(InputError, match=r"no Gaussian splats .* it has Mesh"):
        run(tmp_path / "mesh.usda")


def test_missing_positions_and_strange_degrees_are_named(tmp_path):
    stage, splat = author(tmp_path / "a.usda")
    splat.GetPrim().RemoveProperty("positions")
    with pytest.raises(InputError, match="no visible Gaussians"):
        run_saved(stage, tmp_path / "a.usda")
    stage, splat = author(tmp_path / "b.usda")
    splat.GetRadianceSphericalHarmonicsDegreeAttr().Set(-1)
    with pytest.raises(InputError, match="degree -1"):
        run_saved(stage, tmp_path / "b.usda")
    # the schema's own degree where none is written
    stage, splat = author(tmp_path / "c.usda", degree=3)
    splat.GetPrim().RemoveProperty("radiance:sphericalHarmonicsDegree")
    assert run_saved(stage, tmp_path / "c.usda").canonical.sh_degree == 3


def test_files_that_are_not_usd_are_named(tmp_path):
    (tmp_path / "empty.usdc").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.usdc is empty"):
        run(tmp_path / "empty.usdc")
    for name in ("text.usda", "text.usdc", "text.usd"):
        (tmp_path / name).write_text("what is this\n")
        with pytest.raises(InputError, match=f"{name} cannot be read as USD"):
            run(tmp_path / name)
    # names that are not text, and values of another type
    stage, _ = author(tmp_path / "a.usda")
    stage.Save()
    text = (tmp_path / "a.usda").read_bytes()
    (tmp_path / "bytes.usda").write_bytes(text.replace(b'"Splat"', b'"Spl\xffat"'))
    with pytest.raises(InputError, match=r"bytes\.usda cannot be read as USD"):
        run(tmp_path / "bytes.usda")
    (tmp_path / "types.usda").write_bytes(
        text.replace(b"float[] opacities = [0.1,", b'string[] opacities = ["x",')
    )
    with pytest.raises(InputError, match=r"types\.usda"):
        run(tmp_path / "types.usda")
    (tmp_path / "text.usdz").write_text("what is this\n")
    with pytest.raises(InputError, match="not a complete zip"):
        run(tmp_path / "text.usdz")
    with pytest.raises(InputError, match="nothing at"):
        run(tmp_path / "none.usdc")


def test_too_many_frames_or_numbers_are_refused_before_they_are_read(tmp_path, monkeypatch):
    stage, splat = author(tmp_path / "a.usda", count=100)
    for code in range(4):
        splat.GetPositionsAttr().Set(vectors(np.full((100, 3), code)), code)
    stage.Save()
    # 300 numbers change per frame, and 100 · (4 + 3 + 1 + 12) do not
    monkeypatch.setattr(reading_module, "MOST_NUMBERS", 4 * 300 + 2000)
    assert len(UsdSplats(tmp_path / "a.usda")) == 4
    monkeypatch.setattr(reading_module, "MOST_NUMBERS", 4 * 300 + 1999)
    with pytest.raises(InputError, match=r"need .* GB of memory"):
        UsdSplats(tmp_path / "a.usda")
    monkeypatch.setattr(reading_module, "MOST_FRAMES", 3)
    with pytest.raises(InputError, match="4 different times"):
        UsdSplats(tmp_path / "a.usda")


def outside_of(tmp_path: Path) -> Path:
    """A folder next to a file that nobody may read through it."""
    stage, _ = author(tmp_path / "secret.usda", prim="/S")
    stage.SetDefaultPrim(stage.GetPrimAtPath("/S"))
    stage.Save()
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


LAYERS = {
    "reference": 'def "A" (prepend references = @{}@) {{ }}',
    "payload": 'def "A" (prepend payload = @{}@) {{ }}',
    "variant": 'def "A" (\n    variants = {{ string v = "x" }}\n    prepend variantSets = "v"\n) {{\n    variantSet "v" = {{\n'
    '        "x" (prepend references = @{}@) {{\n        }}\n    }}\n}}',
    "clips": 'def "A" (\n    clips = {{\n        dictionary default = {{\n            asset[] assetPaths = [@{}@]\n'
    '            string primPath = "/S"\n            double2[] active = [(0, 0)]\n        }}\n    }}\n) {{ }}',
}


@pytest.mark.parametrize("arc", LAYERS)
def test_files_outside_of_the_folder_are_not_opened(arc, tmp_path):
    folder = outside_of(tmp_path)
    for place in ("../secret.usda", str(tmp_path / "secret.usda"), "http://example.com/a.usda"):
        (folder / "a.usda").write_text("#usda 1.0\n" + LAYERS[arc].format(place) + "\n")
        with pytest.raises(InputError, match=r"a\.usda"):
            run(folder / "a.usda")
        assert Sdf.Layer.Find(str(tmp_path / "secret.usda")) is None, "it was not even opened"


def test_layers_of_layers_and_links_do_not_lead_out(tmp_path):
    folder = outside_of(tmp_path)
    (folder / "a.usda").write_text("#usda 1.0\n(\n    subLayers = [@./b.usda@]\n)\n")
    (folder / "b.usda").write_text("#usda 1.0\n(\n    subLayers = [@../secret.usda@]\n)\n")
    with pytest.raises(InputError, match=r"\.\./secret\.usda"):
        run(folder / "a.usda")
    (folder / "b.usda").unlink()
    if os.name != "nt":
        (folder / "b.usda").symlink_to(tmp_path / "secret.usda")
        with pytest.raises(InputError, match=r"b\.usda"):
            run(folder / "a.usda")
        (folder / "b.usda").unlink()
    (folder / "c.usda").write_text('#usda 1.0\ndef "A" (references = @`"${X}"`@) { }\n')
    with pytest.raises(InputError, match="only files in its own folder"):
        run(folder / "c.usda")
    # one that is inside, through another folder
    (folder / "sub").mkdir()
    stage, _ = author(folder / "good.usda", prim="/S")
    stage.Save()
    (folder / "sub" / "b.usda").write_text("#usda 1.0\n(\n    subLayers = [@../good.usda@]\n)\n")
    (folder / "d.usda").write_text("#usda 1.0\n(\n    subLayers = [@sub/b.usda@, @missing.usda@]\n)\n")
    assert len(run(folder / "d.usda").canonical) == 4


def test_a_package_reads_only_its_own_files(tmp_path):
    folder = outside_of(tmp_path)

    def package(text: str, name: str, **files: str) -> Path:
        (tmp_path / "root.usda").write_text("#usda 1.0\n" + text)
        with Sdf.ZipFileWriter.CreateNew(str(folder / name)) as archive:
            archive.AddFile(str(tmp_path / "root.usda"), "root.usda")
            for stored, source in files.items():
                archive.AddFile(source, stored.replace("_", "/") + ".usda")
        return folder / name

    secret = str(tmp_path / "secret.usda")
    for i, place in enumerate(("../secret.usda", secret)):
        with pytest.raises(InputError, match="only files in its own folder"):
            run(package(f'def "A" (references = @{place}@) {{ }}\n', f"bad{i}.usdz"))
    with pytest.raises(InputError, match="leads out"):
        run(package('def "A" { }\n', "names.usdz", **{".._x": secret}))
    good = package('def "A" (references = @./sub/x.usda@) { }\n', "good.usdz", sub_x=secret)
    assert len(run(good).canonical) == 4


def test_a_package_that_usd_core_makes_is_read(tmp_path):
    stage, _ = author(tmp_path / "a.usdc")
    stage.Save()
    assert UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(tmp_path / "a.usdc")), str(tmp_path / "b.usdz"))
    assert len(run(tmp_path / "b.usdz").canonical) == 4


def test_a_package_with_changed_bytes_is_named(tmp_path):
    scene = moving_scene(20)
    data = bytearray(write_usd(scene, scene.times.tolist(), tmp_path / "a.usdz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "b.usdz").write_bytes(data)
    with pytest.raises(InputError, match=r"b\.usdz cannot be read as USD.*a checksum in it differs"):
        run(tmp_path / "b.usdz")


def test_cut_and_changed_files_are_read_or_named(tmp_path):
    scene = moving_scene(20)
    source = write_usd(scene, scene.times.tolist(), tmp_path / "a.usdc").read_bytes()
    choose = random.Random(7)
    outcomes = set[str]()
    for i in range(60):
        data = bytearray(source)
        if i % 2:
            data = data[: choose.randrange(len(data))]
        for _ in range(0 if i % 2 else 20):
            data[choose.randrange(len(data))] = choose.randrange(256)
        path = tmp_path / f"bad{i}.usdc"
        path.write_bytes(data)
        try:
            run(path)
            outcomes.add("read")
        except InputError as error:
            outcomes.add("named")
            assert error.code
    assert "named" in outcomes


def test_every_kind_of_arc_is_looked_at():
    layer = Sdf.Layer.CreateAnonymous(".usda")
    layer.ImportFromString(
        "#usda 1.0\n(\n    subLayers = [@sub.usda@]\n)\n"
        'def "A" (\n    references = @a.usda@\n    prepend payload = [@b.usda@</X>, @c.usda@]\n'
        '    append variantSets = "v"\n) {\n'
        '    variantSet "v" = {\n        "x" (prepend references = @d.usda@) {\n'
        '            def "C" (add payload = @e.usda@) {\n            }\n        }\n    }\n'
        '    def "D" (append references = [@f.usda@</Y>, </A>]) {\n    }\n}\n'
    )
    named = layers._named(library(), layer)
    assert sorted(filter(None, named)) == sorted(filter(None, layer.GetCompositionAssetDependencies()))
    assert len(set(filter(None, named))) == 7
