"""OpenUSD files that are written: what usd-core's own API, validators and cameras find in them."""

import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import messages as m
from engine.deform.moments import HIDDEN, scene_of_moments
from engine.errors import InputError
from engine.io.usd import write_usd, writing_usd
from engine.render import CameraPath, choose, render_gaussians
from engine.scene import Cameras, Gaussians, Scene4D, harmonics, rotations
from engine.scene.cameras import look_at
from engine.scene.rigs import UPS, ring_of_cameras
from engine.steps import camera_path, export_scene
from tests.scenes import moving_scene

pxr = pytest.importorskip(
    "pxr", reason="the package usd-core, which reads and writes OpenUSD, is not installed"
)
from pxr import Gf, Usd, UsdGeom, UsdValidation, UsdVol  # noqa: E402

SUFFIXES = ["usda", "usdc", "usdz"]


def all_changing(count: int = 30, frames: int = 5, up: str = "y up") -> Scene4D:
    """Everything changes: SH of degree 3, opacity, size, turn and place."""
    generator = torch.Generator().manual_seed(1)
    first = moving_scene(count, sh_degree=3).canonical
    moments: list[Gaussians] = []
    for _ in range(frames):
        changed = {
            name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
            for name, tensor in first.tensors().items()
        }
        moments.append(Gaussians(**changed))
    return scene_of_moments(moments, 12.0, torch.tensor(UPS[up]), blends=True)


def splat_of(path: Path):
    stage = Usd.Stage.Open(str(path))
    (prim,) = [p for p in stage.Traverse() if p.IsA(UsdVol.ParticleField3DGaussianSplat)]
    return stage, UsdVol.ParticleField3DGaussianSplat(prim)


def orientations(splat, code) -> torch.Tensor:
    return torch.tensor([[q.real, *q.imaginary] for q in splat.GetOrientationsAttr().Get(code)])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_usd_core_reads_every_value_at_its_time(suffix, tmp_path):
    scene = all_changing()
    stage, splat = splat_of(write_usd(scene, scene.times.tolist(), tmp_path / f"a.{suffix}"))
    assert (stage.GetTimeCodesPerSecond(), stage.GetFramesPerSecond()) == (12, 12)
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0, 4)
    assert splat.GetRadianceSphericalHarmonicsDegreeAttr().Get() == 3
    for t in scene.times.tolist():
        code, true = t * stage.GetTimeCodesPerSecond(), scene.at(t).activated()
        assert np.array_equal(np.array(splat.GetPositionsAttr().Get(code)), true.means.numpy())
        assert np.array_equal(np.array(splat.GetScalesAttr().Get(code)), true.scales.numpy())
        assert np.array_equal(np.array(splat.GetOpacitiesAttr().Get(code)), true.opacities.numpy())
        coefficients = np.array(splat.GetRadianceSphericalHarmonicsCoefficientsAttr().Get(code))
        assert np.array_equal(coefficients.reshape(-1, 16, 3), true.sh.numpy())
        agreement = (orientations(splat, code) * true.quats).sum(-1).abs()
        assert float((agreement - 1).abs().max()) < 1e-6
        low, high = np.array(splat.GetExtentAttr().Get(code))
        assert (low < true.means.numpy().min(0)).all() and (high > true.means.numpy().max(0)).all()
    # what USD shows between two frames is what the scene shows
    between = np.array(splat.GetPositionsAttr().Get(0.5))
    assert np.abs(between - scene.at(0.5 / 12).means.numpy()).max() < 1e-6


def test_orientations_do_not_jump_between_frames(tmp_path):
    scene = all_changing(frames=2)
    spun = [
        scene.canonical.with_(quats=torch.tensor([[math.cos(a / 2), 0, math.sin(a / 2), 0]]).repeat(30, 1))
        for a in torch.linspace(0, 4 * math.pi, 40).tolist()
    ]
    spinning = scene_of_moments(spun, 24.0, torch.tensor(UPS["y up"]), blends=True)
    _, splat = splat_of(write_usd(spinning, spinning.times.tolist(), tmp_path / "a.usdc"))
    frames = [orientations(splat, code) for code in range(40)]
    assert min(float((a * b).sum(-1).min()) for a, b in pairwise(frames)) > 0


def test_what_does_not_change_is_written_once(tmp_path):
    scene = moving_scene(20, sh_degree=2)
    _, splat = splat_of(write_usd(scene, scene.times.tolist(), tmp_path / "a.usda"))
    prim = splat.GetPrim()
    sampled = {a.GetName() for a in prim.GetAuthoredAttributes() if a.GetNumTimeSamples()}
    assert sampled == {"positions", "extent"}
    assert splat.GetPositionsAttr().GetNumTimeSamples() == len(scene.times)
    still = Scene4D.still(scene.canonical, scene.times, scene.rig, scene.bounds, scene.background)
    stage, splat = splat_of(write_usd(still, scene.times.tolist(), tmp_path / "still.usdc"))
    assert not any(a.GetNumTimeSamples() for a in splat.GetPrim().GetAuthoredAttributes())
    stage, _ = splat_of(write_usd(scene, [0.3], tmp_path / "frame.usdc"))
    assert not stage.HasAuthoredTimeCodeRange()


def test_uneven_times_are_exact(tmp_path):
    scene = moving_scene(5)
    seconds = [0.25, 0.3, 0.7, 0.75, 0.8]
    stage, splat = splat_of(write_usd(scene, seconds, tmp_path / "a.usdc"))
    codes = splat.GetPositionsAttr().GetTimeSamples()
    found = [0.25 + code / stage.GetTimeCodesPerSecond() for code in codes]
    assert found == pytest.approx(seconds, abs=1e-12)
    assert stage.GetFramesPerSecond() == 20, "the most common distance makes the frame rate"


def test_a_scene_that_holds_its_frames_holds_them_in_usd(tmp_path):
    scene = all_changing()
    moments = [scene.at(t) for t in scene.times.tolist()]
    # births and deaths: the last frame has fewer Gaussians, the first does not have them yet
    moments = [moments[0].map(lambda t: t[:20]), *moments[1:4], moments[4].map(lambda t: t[:10])]
    held = scene_of_moments(moments, 12.0, torch.tensor(UPS["y up"]), blends=True)
    _, splat = splat_of(write_usd(held, held.times.tolist(), tmp_path / "a.usdc"))
    for frame in range(5):
        true = held.at(frame / 12)
        for code in [frame, frame + 0.5, frame + 0.999] if frame < 4 else [frame]:
            assert np.array_equal(np.array(splat.GetPositionsAttr().Get(code)), true.means.numpy())
            opacities = np.array(splat.GetOpacitiesAttr().Get(code))
            assert np.array_equal(opacities, true.logit_opacities.sigmoid().numpy())
            assert (opacities > 1e-6).sum() == len(moments[frame])
    assert float(held.at(0.0).logit_opacities.min()) == HIDDEN


MARKERS = {
    "right": (1.0, 0.0, 0.0),
    "up": (0.0, 1.0, 0.0),
    "near": (0.0, 0.0, 1.0),
    "middle": (0.0, 0.0, 0.0),
}
COLORS = {"right": (1.0, 0, 0), "up": (0, 1.0, 0), "near": (0, 0, 1.0), "middle": (1.0, 1.0, 1.0)}


def marker_scene(axes: torch.Tensor) -> Scene4D:
    """Four colored Gaussians whose right, up and toward the viewer are the columns of `axes` [3, 3]."""
    places = torch.tensor(list(MARKERS.values())) @ axes.T
    sh = torch.zeros(4, 4, 3)
    sh[:, 0] = harmonics.rgb_to_dc(torch.tensor(list(COLORS.values())))
    gaussians = Gaussians(
        means=places,
        # long along their own y axis, which is turned to the viewer's right
        log_scales=torch.tensor([[0.05, 0.2, 0.05]]).log().repeat(4, 1),
        quats=rotations.matrices_to_quats(axes @ torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])).repeat(
            4, 1
        ),
        logit_opacities=torch.full((4,), 4.0),
        sh=sh,
    )
    bounds = torch.tensor([[-1.5, -1.5, -1.5], [1.5, 1.5, 1.5]], dtype=torch.float64)
    rig = ring_of_cameras(bounds, axes[:, 1].double())
    return Scene4D.still(
        gaussians, torch.tensor([0.0, 1.0], dtype=torch.float64), rig, bounds, torch.zeros(3)
    )


def signed_axes(up: str) -> torch.Tensor:
    """A right-handed frame [3, 3] of viewer axes in a world with that up axis."""
    names = {
        "+x": (1, 0, 0),
        "-x": (-1, 0, 0),
        "+y": (0, 1, 0),
        "-y": (0, -1, 0),
        "+z": (0, 0, 1),
        "-z": (0, 0, -1),
    }
    if up == "tilted":
        return rotations.axis_angles_to_matrices(torch.tensor([0.3, 0.5, -0.2]))
    upward = torch.tensor(names[up], dtype=torch.float32)
    right = upward.roll(1)
    return torch.stack([right, upward, torch.linalg.cross(right, upward)], dim=1)


@pytest.mark.parametrize("up", ["+y", "-y", "+z", "-z", "+x", "-x", "tilted"])
def test_a_marker_scene_stands_upright_and_its_camera_sees_the_same_image(up, tmp_path):
    axes = signed_axes(up)
    scene = marker_scene(axes)
    # a viewer before the markers, a little to the side and above, with an off-center lens
    place = torch.tensor([0.7, 0.5, 5.0]) @ axes.T
    pose = look_at(place, torch.zeros(3), axes[:, 1])
    K = torch.tensor([[300.0, 0, 150], [0, 310, 90], [0, 0, 1]], dtype=torch.float64)
    cameras = Cameras(pose[None], K[None], ((320, 200),), ("viewer",))
    path = write_usd(scene, [0.0], tmp_path / "a.usda", cameras, rate=24.0)
    stage, splat = splat_of(path)
    axis = UsdGeom.GetStageUpAxis(stage)
    assert axis == {"+z": "Z", "-z": "Z"}.get(up, "Y") or up == "tilted"
    positions = dict(zip(MARKERS, np.array(splat.GetPositionsAttr().Get()), strict=True))
    upward = {"Y": (0, 1, 0), "Z": (0, 0, 1)}[axis]
    assert np.abs(positions["up"] - np.array(upward)).max() < 1e-6, "up is the stage's up axis"
    frame = np.stack([positions[name] for name in ("right", "up", "near")])
    assert np.linalg.det(frame) == pytest.approx(1, abs=1e-5), "nothing is mirrored"

    # the pixels that USD's own camera gives, against those of the scene's image
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/Scene/Camera")).GetCamera(Usd.TimeCode.Default())
    frustum = camera.frustum
    to_screen = frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()
    image = render_gaussians(scene.canonical, cameras, choose("auto"), torch.zeros(3)).rgb[0]
    for i, (name, position) in enumerate(positions.items()):
        x, y, _ = to_screen.Transform(Gf.Vec3d(*position.tolist()))
        column, row = (x + 1) / 2 * 320, (1 - y) / 2 * 200
        true, _ = cameras.project(scene.canonical.means[i : i + 1].double(), 0)
        assert (column, row) == pytest.approx(tuple(true[0].tolist()), abs=1e-3)
        seen = image[int(row), int(column)]
        assert float((seen / seen.max() - torch.tensor(COLORS[name])).abs().max()) < 0.2, name

    # covariances turn along
    turn = torch.tensor(frame.T, dtype=torch.float32) @ torch.linalg.inv(axes)
    a = scene.canonical.activated()
    before = rotations.quats_to_matrices(a.quats) * a.scales[:, None]
    after = rotations.quats_to_matrices(orientations(splat, Usd.TimeCode.Default())) * a.scales[:, None]
    assert torch.allclose(turn @ before @ before.mT @ turn.T, after @ after.mT, atol=1e-6)


@pytest.mark.parametrize("up", ["y down", "z up"])
def test_colors_from_the_side_turn_along(up, tmp_path):
    scene = all_changing(up=up)
    _, splat = splat_of(write_usd(scene, scene.times.tolist(), tmp_path / "a.usdc"))
    turn = torch.diag(torch.tensor([1.0, -1, -1])) if up == "y down" else torch.eye(3)
    directions = torch.nn.functional.normalize(
        torch.randn(1, 30, 3, generator=torch.Generator().manual_seed(3)), dim=-1
    )[0]
    for frame in (0, 3):
        stored = torch.tensor(np.array(splat.GetRadianceSphericalHarmonicsCoefficientsAttr().Get(frame)))
        seen = harmonics.evaluate(stored.reshape(-1, 16, 3), directions @ turn.T)
        assert torch.allclose(seen, harmonics.evaluate(scene.at(frame / 12).sh, directions), atol=1e-5)


def problems(path: Path) -> list[str]:
    """What usd-core's validators find."""
    context = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators())
    found = context.Validate(Usd.Stage.Open(str(path)))
    return [f"{error.GetIdentifier()}: {error.GetMessage()}" for error in found]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_validators_of_usd_core_find_nothing(suffix, tmp_path):
    scene = all_changing(up="y down")
    path = camera_path.make(scene, camera_path.Config(frames=4))
    config = export_scene.Config(kind=suffix)
    (file,) = m.result(export_scene.run(scene, config, tmp_path / f"a.{suffix}", path=path))
    assert problems(file) == []
    stage = Usd.Stage.Open(str(file))
    assert stage.GetDefaultPrim().GetPath() == "/Scene"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1
    if suffix == "usda":
        # the validators do look
        bare = tmp_path / "bare.usda"
        bare.write_text(file.read_text().replace('upAxis = "Y"', ""))
        assert "upAxis" in " ".join(problems(bare))


def test_a_camera_path_gives_the_frames_and_their_rate(tmp_path):
    scene = moving_scene(20)
    made = camera_path.make(scene, camera_path.Config(frames=7))
    # slow motion: the same second of the scene over seven frames, the last ones backward
    seconds = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.2, 0.1, 0.1], dtype=torch.float64)
    path = CameraPath(made.cameras, seconds, 30.0)
    messages = list(export_scene.run(scene, export_scene.Config(kind="usdc"), tmp_path / "a.usdc", path=path))
    assert [x.done for x in messages if isinstance(x, m.Progress)] == list(range(1, 8))
    stage, splat = splat_of(tmp_path / "a.usdc")
    assert (stage.GetTimeCodesPerSecond(), stage.GetEndTimeCode()) == (30, 6)
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/Scene/Camera"))
    for i, t in enumerate(seconds.tolist()):
        assert np.array_equal(np.array(splat.GetPositionsAttr().Get(i)), scene.at(t).means.numpy())
        view = np.array(camera.GetCamera(i).frustum.ComputeViewMatrix()).T
        true = np.diag([1.0, -1, -1, 1]) @ path.cameras.world_to_camera[i].numpy()
        assert np.abs(view - true).max() < 1e-6
    with pytest.raises(InputError, match="camera path"):
        m.result(export_scene.run(scene, export_scene.Config(kind="ply"), tmp_path / "a.ply", path=path))


def test_a_zoom_is_animated(tmp_path):
    scene = moving_scene(5)
    made = camera_path.make(scene, camera_path.Config(frames=3))
    K = made.cameras.K.clone()
    K[2, :2, :2] *= 2
    cameras = Cameras(made.cameras.world_to_camera, K, made.cameras.sizes, made.cameras.names)
    stage, _ = splat_of(write_usd(scene, [0.0, 0.1, 0.2], tmp_path / "a.usdc", cameras, rate=10.0))
    lens = UsdGeom.Camera(stage.GetPrimAtPath("/Scene/Camera")).GetFocalLengthAttr()
    assert lens.Get(2) == pytest.approx(2 * lens.Get(0))


def test_exports_say_what_was_turned_and_where_zero_lies(tmp_path):
    scene = all_changing(up="y down")
    place = (4.5e6, 100.0, -3.0)
    rig = Cameras(scene.rig.world_to_camera, scene.rig.K, scene.rig.sizes, scene.rig.names, place)
    far = scene.with_(rig=rig)
    written = m.result(export_scene.run(far, export_scene.Config(kind="usdc"), tmp_path / "a.usdc"))
    assert "−y, is now USD's Y axis" in written.text()
    assert "turn them back and add it" in written.text()
    _, splat = splat_of(written[0])
    assert tuple(splat.GetPrim().GetCustomDataByKey("gs4d:origin")) == (4.5e6, -100.0, 3.0)
    upright = all_changing(up="y up")
    assert not m.result(
        export_scene.run(upright, export_scene.Config(kind="usdc"), tmp_path / "b.usdc")
    ).notes


def test_nothing_is_left_of_an_export_that_stops(tmp_path):
    scene = moving_scene(20)
    old = write_usd(scene, [0.0], tmp_path / "a.usdz").read_bytes()
    work = writing_usd(scene, scene.times.tolist(), tmp_path / "a.usdz")
    assert next(work) == 1
    work.close()
    assert (tmp_path / "a.usdz").read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a.usdz"]


def test_a_scene_that_cannot_be_stored_is_named(tmp_path):
    scene = moving_scene(20)
    bad = scene.canonical.means.clone()
    bad[3, 1] = float("nan")
    with pytest.raises(InputError, match=r"at 0\.300 s, means contain NaN"):
        write_usd(scene.with_(canonical=scene.canonical.with_(means=bad)), [0.3], tmp_path / "a.usdc")
    with pytest.raises(InputError, match="has no Gaussians"):
        write_usd(scene.with_(canonical=scene.canonical.map(lambda t: t[:0])), [0.3], tmp_path / "a.usdc")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of a file's size")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_named_and_keeps_the_old_file(suffix, tmp_path):
    import resource

    scene, path = moving_scene(4000), tmp_path / f"a.{suffix}"
    path.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(InputError, match=f"a.{suffix} was not written"):
            write_usd(scene, scene.times.tolist(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_a_missing_or_old_usd_core_is_named(monkeypatch, tmp_path):
    from engine import backends

    scene = moving_scene(5)
    monkeypatch.delattr(UsdVol, "ParticleField3DGaussianSplat")
    with pytest.raises(InputError, match="pip install --upgrade usd-core"):
        write_usd(scene, [0.0], tmp_path / "a.usdc")
    monkeypatch.setattr(backends, "installed", lambda package: package != "pxr")
    with pytest.raises(InputError, match="pip install usd-core"):
        write_usd(scene, [0.0], tmp_path / "a.usdc")
    assert not list(tmp_path.iterdir())
