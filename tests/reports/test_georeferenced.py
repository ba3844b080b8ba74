"""Captures in UTM, ECEF and other coordinates far from zero: the same cameras, training and files as near zero."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from engine import messages as m
from engine.capture.convert.native_folder import convert_dataset
from engine.capture.readers import load_video
from engine.cli.kinds import READERS
from engine.errors import InputError
from engine.files.ply_header import header_bytes
from engine.io.ply import read_ply, write_ply
from engine.io.scene_file import describe_scene, load_scene, save_scene
from engine.playback.player_file import decode_player_file
from engine.render.camera_paths import FramedView
from engine.scene import Cameras, Gaussians, MultiViewVideo, Scene4D
from engine.scene.cameras import AT_ZERO, Origin, in_words
from engine.scene.origins import in_coordinates_of, origin_for
from engine.scene.rotations import matrices_to_quats
from engine.steps import (
    bake_clip,
    camera_path,
    evaluate_scene,
    export_scene,
    fit_scene,
    import_scene,
    lift_mask,
    preflight,
    render_scene,
    sample_scene,
    splat_to_scene,
)
from engine.steps.step import Kind
from tests.scenes import RenderedFrames, moving_scene

UTM: Origin = (500120.0, 4649780.0, 90.0)
ECEF: Origin = (-2694050.0, -4297220.0, 3854360.0)
QUICK = fit_scene.Config(
    iterations=80, budget=300, initial_count=200, views_per_step=2, sh_degree=0, coarse_fraction=0.2
)


@pytest.fixture(scope="module")
def truth() -> Scene4D:
    return moving_scene(moments=3, views=6, sh_degree=0)


@pytest.fixture(scope="module")
def frames(truth: Scene4D, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/camNN/N.png and masks/camNN/N.png of the scene."""
    folder = tmp_path_factory.mktemp("frames")
    source = RenderedFrames(truth)
    for view, name in enumerate(truth.rig.names):
        for moment in range(len(truth.times)):
            frame = source.read(view, moment)
            for kind, pixels in (("images", frame.image), ("masks", frame.mask)):
                assert pixels is not None
                path = folder / kind / name / f"{moment}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.numpy()).save(path)
    return folder


def rig_at(truth: Scene4D, place: Origin, scale: float = 1.0) -> Cameras:
    """The scene's cameras in a world that is `scale` times as large and has its middle at `place`."""
    poses = truth.rig.world_to_camera.double().clone()
    poses[:, :3, 3] = scale * poses[:, :3, 3] - poses[:, :3, :3] @ torch.tensor(place, dtype=torch.float64)
    return replace(truth.rig, world_to_camera=poses)


def write_points(path: Path, points: Tensor, kind: str = "double") -> None:
    header = header_bytes(len(points), [(kind, axis) for axis in "xyz"])
    path.write_bytes(header + points.numpy().astype("<f8" if kind == "double" else "<f4").tobytes())


def points_of(truth: Scene4D, place: Origin, scale: float = 1.0) -> Tensor:
    return scale * truth.canonical.means.double() + torch.tensor(place, dtype=torch.float64)


def native(frames: Path, folder: Path, rig: Cameras, digits: int = 17) -> Path:
    """The pack's own layout; every number has `digits` digits."""
    cameras = [
        {
            "name": name,
            "frames": f"images/{name}",
            "masks": f"masks/{name}",
            "width": rig.sizes[i][0],
            "height": rig.sizes[i][1],
            "K": rig.K[i].tolist(),
            "w2c": [[float(f"{n:.{digits}g}") for n in row] for row in rig.world_to_camera[i].tolist()],
        }
        for i, name in enumerate(rig.names)
    ]
    about = {
        "format": "multiview-video",
        "version": 1,
        "fps": 2,
        "hold_out": ["cam00"],
        "background": [1, 1, 1],
    }
    copied(frames, folder)
    (folder / "cameras.json").write_text(json.dumps(about | {"points": "points.ply", "cameras": cameras}))
    return folder


def nerfstudio(frames: Path, folder: Path, rig: Cameras) -> Path:
    copied(frames, folder)
    flip = torch.diag(torch.tensor([1.0, -1, -1, 1])).double()
    listed = [
        {
            "file_path": f"images/{name}/{moment}.png",
            "transform_matrix": (rig.camera_to_world[i].double() @ flip).tolist(),
            "time": moment / 2,
            "camera_label": name,
        }
        for i, name in enumerate(rig.names)
        for moment in range(3)
    ]
    width, height = rig.sizes[0]
    focal = float(rig.K[0, 0, 0])
    about = {"w": width, "h": height, "fl_x": focal, "fl_y": focal, "cx": width / 2, "cy": height / 2}
    (folder / "transforms.json").write_text(json.dumps(about | {"frames": listed}))
    return folder


def colmap(frames: Path, folder: Path, rig: Cameras) -> Path:
    copied(frames, folder)
    (folder / "sparse/0").mkdir(parents=True)
    width, height = rig.sizes[0]
    lens = f"1 PINHOLE {width} {height} {float(rig.K[0, 0, 0])!r} {float(rig.K[0, 1, 1])!r} {width / 2} {height / 2}\n"
    (folder / "sparse/0/cameras.txt").write_text(lens)
    lines: list[str] = []
    for i, name in enumerate(rig.names):
        pose = rig.world_to_camera[i].double()
        numbers = [*matrices_to_quats(pose[:3, :3]).tolist(), *pose[:3, 3].tolist()]
        for moment in range(3):
            lines.append(f"{len(lines) + 1} {' '.join(map(repr, numbers))} 1 {name}/{moment}.png\n\n")
    (folder / "sparse/0/images.txt").write_text("".join(lines))
    return folder


def copied(frames: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("images", "masks"):
        shutil.copytree(frames / kind, folder / kind)


LAYOUTS: dict[str, Callable[[Path, Path, Cameras], Path]] = {
    "folder": native,
    "nerfstudio": nerfstudio,
    "colmap": colmap,
}


def assert_same_cameras(found: Cameras, wanted: Cameras, within: float) -> None:
    moved = found.with_origin(AT_ZERO)
    for name in wanted.names:
        a, b = found.names.index(name), wanted.names.index(name)
        assert float((moved.centers[a] - wanted.centers[b]).norm()) < within
        assert (
            float((found.world_to_camera[a, :3, :3] - wanted.world_to_camera[b, :3, :3]).abs().max()) < 1e-9
        )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("place", "scale"),
    [(UTM, 1.0), (ECEF, 1.0), ((3.0, -800.0, 2.0), 0.002), ((6.4e6, 6.4e6, 6.4e6), 300.0)],
    ids=["utm", "ecef", "small", "large"],
)
def test_cameras_are_read_around_a_local_origin(
    truth: Scene4D, frames: Path, tmp_path: Path, layout: str, place: Origin, scale: float
) -> None:
    rig = rig_at(truth, place, scale)
    video = load_video(LAYOUTS[layout](frames, tmp_path / "capture", rig))
    assert video.views == 6 and video.moments == 3
    # float64 resolves a billionth at the Earth's radius; a rotation's last digit moves a center as far
    assert_same_cameras(video.cameras, rig, within=1e-8 + 1e-6 * scale)
    assert float(video.cameras.centers.abs().max()) < 20 * scale
    said = [note for note in video.notes if note.startswith("Coordinates:")]
    assert len(said) == 1 and in_words(video.cameras.origin) in said[0]
    assert said[0] in m.result(preflight.run(video)).text()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ordinary_captures_keep_their_bits(truth: Scene4D, frames: Path, tmp_path: Path, layout: str) -> None:
    rig = rig_at(truth, (0.5, 2.0, -30.0))
    video = load_video(LAYOUTS[layout](frames, tmp_path / "capture", rig))
    assert video.cameras.origin == AT_ZERO and not any("Coordinates" in note for note in video.notes)
    if layout == "folder":
        assert torch.equal(video.cameras.world_to_camera, rig.world_to_camera)


@pytest.mark.parametrize("place", [UTM, ECEF], ids=["utm", "ecef"])
def test_points_in_double_meet_the_cameras(
    truth: Scene4D, frames: Path, tmp_path: Path, place: Origin
) -> None:
    folder = native(frames, tmp_path / "capture", rig_at(truth, place))
    points = points_of(truth, place)
    write_points(folder / "points.ply", points)
    video = load_video(folder)
    assert video.points is not None and video.warnings == ()
    back = video.points.double() + torch.tensor(video.cameras.origin, dtype=torch.float64)
    assert float((back - points).abs().max()) < 1e-6


def test_points_in_float32_or_in_other_coordinates_are_left_out_and_named(
    truth: Scene4D, frames: Path, tmp_path: Path
) -> None:
    rounded = native(frames, tmp_path / "rounded", rig_at(truth, UTM))
    write_points(rounded / "points.ply", points_of(truth, UTM), "float")
    local = native(frames, tmp_path / "local", rig_at(truth, UTM))
    write_points(local / "points.ply", points_of(truth, AT_ZERO))
    far = native(frames, tmp_path / "far", rig_at(truth, AT_ZERO))
    write_points(far / "points.ply", points_of(truth, UTM))
    for folder, words in ((rounded, "float32"), (local, "other coordinates"), (far, "other coordinates")):
        video = load_video(folder)
        assert video.points is None and video.point_colors is None
        assert len(video.warnings) == 1 and words in video.warnings[0] and "not used" in video.warnings[0]


def test_rotations_of_few_digits_do_not_move_cameras(truth: Scene4D, frames: Path, tmp_path: Path) -> None:
    # as the file has them, such cameras are affine: what they show near the subject must stay
    rig = rig_at(truth, ECEF)
    rounded = native(frames, tmp_path / "capture", rig)
    data = json.loads((rounded / "cameras.json").read_text())
    for camera in data["cameras"]:
        turn = np.array(camera["w2c"])[:3, :3].round(6)
        center = -np.linalg.solve(np.array(camera["w2c"])[:3, :3], np.array(camera["w2c"])[:3, 3])
        for i in range(3):
            camera["w2c"][i] = [*turn[i].tolist(), float(-turn[i] @ center)]
    (rounded / "cameras.json").write_text(json.dumps(data))
    found = load_video(rounded).cameras.with_origin(AT_ZERO)
    assert float((found.centers - rig.centers).norm(dim=1).max()) < 1e-4


def test_a_moving_camera_far_away_stays_a_moving_camera(truth: Scene4D, frames: Path, tmp_path: Path) -> None:
    rig = rig_at(truth, (0.0, 640.0, 0.0), 0.002)
    folder = nerfstudio(frames, tmp_path / "capture", rig)
    data = json.loads((folder / "transforms.json").read_text())
    for frame in data["frames"]:
        frame["transform_matrix"][0][3] += 0.0005 * frame["time"]
    (folder / "transforms.json").write_text(json.dumps(data))
    assert load_video(folder).views == 18


def trained(video: MultiViewVideo, config: fit_scene.Config = QUICK) -> Scene4D:
    return m.result(fit_scene.run(video, config))


def psnr(scene: Scene4D, video: MultiViewVideo) -> float:
    return m.result(evaluate_scene.run(scene, video)).summary["psnr"]


@pytest.fixture(scope="module")
def capture(truth: Scene4D, frames: Path, tmp_path_factory: pytest.TempPathFactory) -> MultiViewVideo:
    folder = native(frames, tmp_path_factory.mktemp("utm") / "capture", rig_at(truth, UTM))
    write_points(folder / "points.ply", points_of(truth, UTM))
    return load_video(folder)


@pytest.fixture(scope="module")
def scene(capture: MultiViewVideo) -> Scene4D:
    return trained(capture)


def test_training_is_as_good_as_near_zero(
    truth: Scene4D, frames: Path, tmp_path: Path, capture: MultiViewVideo, scene: Scene4D
) -> None:
    folder = native(frames, tmp_path / "capture", rig_at(truth, AT_ZERO))
    write_points(folder / "points.ply", points_of(truth, AT_ZERO))
    near = load_video(folder)
    assert near.cameras.origin == AT_ZERO
    wanted = psnr(trained(near), near)
    assert wanted > 15 and abs(psnr(scene, capture) - wanted) < 0.1
    assert len(scene.canonical.means.unique(dim=0)) == len(scene.canonical)
    assert scene.rig.origin == capture.cameras.origin and "relative to (500120," in scene.summary()


def test_the_origin_survives_files_and_renders(
    capture: MultiViewVideo, scene: Scene4D, tmp_path: Path
) -> None:
    loaded = load_scene(save_scene(scene, tmp_path / "scene.safetensors"))
    assert loaded.rig.origin == scene.rig.origin
    assert torch.equal(loaded.rig.world_to_camera, scene.rig.world_to_camera)
    assert Cameras.from_json(json.loads(json.dumps(scene.rig.to_json()))).origin == scene.rig.origin
    path = camera_path.make(scene, camera_path.Config(frames=2))
    assert path.cameras.origin == scene.rig.origin and scene.rig.scaled(0.5)[1:].origin == scene.rig.origin
    baked = m.result(bake_clip.run(scene))
    played = decode_player_file(baked.data, "clip")
    assert played.cameras.origin == scene.rig.origin and "(500120, 4649780, 90)" in played.notes[0]
    edited = scene.with_(canonical=scene.canonical.map(lambda t: t[:50])).with_history("edit")
    assert edited.rig.origin == scene.rig.origin
    assert psnr(loaded, capture) == psnr(scene, capture)


def test_ordinary_scene_files_do_not_change(truth: Scene4D) -> None:
    assert set(describe_scene(truth)["rig"]) == {"names", "sizes"}
    assert "origin" not in truth.rig.to_json() and "relative" not in truth.summary()


def exported(scene: Scene4D, kind: str, target: Path) -> export_scene.Written:
    return m.result(export_scene.run(scene, export_scene.Config(kind=kind), target))


def test_exports_name_the_origin_and_imports_take_it_back(scene: Scene4D, tmp_path: Path) -> None:
    for kind, name in (("ply", "a.ply"), ("spz", "a.spz"), ("ply sequence", "frames"), ("html", "a.html")):
        written = exported(scene, kind, tmp_path / name)
        assert "(500120, 4649780, 90)" in written.text(), kind
    assert exported(scene, "scene", tmp_path / "a.safetensors").text() == ""
    for name in ("a.ply", "frames"):
        back = m.result(import_scene.run(tmp_path / name))
        assert back.rig.origin == scene.rig.origin
        assert torch.equal(back.canonical.means, scene.at(float(scene.times[0])).means)
        assert "(500120, 4649780, 90)" in import_scene.summary(back)
    sampled = sample_scene.run(scene)
    assert sampled["origin"].tolist() == list(scene.rig.origin)
    assert "(500120, 4649780, 90)" in sample_scene.summary(sampled)


def test_frames_with_different_origins_are_brought_together(scene: Scene4D, tmp_path: Path) -> None:
    now = scene.at(0.0)
    write_ply(now, tmp_path / "0.ply", origin=UTM)
    moved = now.with_(means=now.means - torch.tensor([10.0, 0, 20]))
    write_ply(moved, tmp_path / "1.ply", origin=(UTM[0] + 10, UTM[1], UTM[2] + 20))
    both = m.result(import_scene.run(tmp_path))
    assert both.rig.origin == UTM
    first, second = (both.at(float(t)).means for t in both.times)
    assert float((first - second).abs().max()) < 1e-5


def test_splats_in_double_are_read_around_a_local_origin(scene: Scene4D, tmp_path: Path) -> None:
    path = write_ply(scene.at(0.0), tmp_path / "a.ply")
    raw = read_ply(path)
    head, _, body = path.read_bytes().partition(b"end_header\n")
    table = np.frombuffer(body, "<f4").reshape(len(raw), -1)
    for axis in "xyz":
        head = head.replace(f"float {axis}\n".encode(), f"double {axis}\n".encode())
    rows = np.zeros(len(raw), dtype=[(f"f{i}", "<f8" if i < 3 else "<f4") for i in range(table.shape[1])])
    for i in range(table.shape[1]):
        rows[f"f{i}"] = table[:, i].astype(np.float64) + (ECEF[i] if i < 3 else 0)
    path.write_bytes(head + b"end_header\n" + rows.tobytes())
    found = m.result(import_scene.run(path))
    back = found.canonical.means.double() + torch.tensor(found.rig.origin, dtype=torch.float64)
    wanted = raw.means.double() + torch.tensor(ECEF, dtype=torch.float64)
    assert found.canonical.means.dtype == torch.float32
    assert float((back - wanted).abs().max()) < 1e-6


def test_a_converted_capture_is_in_the_coordinates_of_the_first(
    truth: Scene4D, capture: MultiViewVideo, tmp_path: Path
) -> None:
    pytest.importorskip("av")
    for _ in convert_dataset(capture, tmp_path / "made"):
        pass
    again = load_video(tmp_path / "made")
    assert_same_cameras(again.cameras, rig_at(truth, UTM), within=1e-8)
    assert again.points is not None and capture.points is not None
    assert float((again.points - capture.points).abs().max()) < 1e-6


def test_cameras_meet_scenes_of_other_origins(capture: MultiViewVideo, scene: Scene4D) -> None:
    wanted = psnr(scene, capture)
    # a capture of the same place that got another origin, one in world coordinates, and one without an origin
    others = [
        capture.cameras.with_origin((UTM[0] - 70, UTM[1] + 30, UTM[2])),
        capture.cameras.with_origin(AT_ZERO),
    ]
    others.append(replace(capture.cameras, origin=AT_ZERO))
    for cameras in others:
        assert abs(psnr(scene, replace(capture, cameras=cameras)) - wanted) < 1e-3
    without = scene.with_(rig=replace(scene.rig, origin=AT_ZERO))
    assert abs(psnr(without, capture) - wanted) < 1e-3
    assert in_coordinates_of(scene, scene.rig) is scene.rig


def test_paths_meet_scenes_of_other_origins(scene: Scene4D) -> None:
    path = camera_path.make(scene, camera_path.Config(frames=2, kind="still"))
    wanted = m.result(render_scene.run(scene, path)).images
    elsewhere = replace(path, cameras=path.cameras.with_origin((UTM[0] - 70, UTM[1] + 30, UTM[2])))
    assert float((m.result(render_scene.run(scene, elsewhere)).images - wanted).abs().max()) < 1e-3
    world = FramedView(scene.rig.with_origin(AT_ZERO).world_to_camera[0], 40.0)
    local = FramedView(scene.rig.world_to_camera[0], 40.0)
    made = [camera_path.make(scene, camera_path.Config(frames=2), framed) for framed in (world, local)]
    assert torch.allclose(made[0].cameras.world_to_camera, made[1].cameras.world_to_camera, atol=1e-6)


def test_a_typed_box_is_in_the_coordinates_of_the_files(capture: MultiViewVideo) -> None:
    low, high = (" ".join(str(c + d) for c in UTM) for d in (-1.5, 1.5))
    config = replace(QUICK, iterations=1, bounds=f"{low} {high}")
    made = trained(capture, config)
    assert float((made.bounds.abs() - 1.5).abs().max()) < 1e-6
    report = m.result(preflight.run(capture))
    assert all(abs(c - o) < 10 for corner in report.bounds for c, o in zip(corner, UTM, strict=True))
    with pytest.raises(InputError) as error:
        trained(capture, replace(config, bounds="-1.5 -1.5 -1.5 1.5 1.5 1.5"))
    assert error.value.code == "TRN-038" and "(500120, 4649780, 90)" in str(error.value)


def test_a_start_scene_of_another_origin_keeps_it(capture: MultiViewVideo, scene: Scene4D) -> None:
    other = (UTM[0] - 30, UTM[1], UTM[2] + 10)
    moved = replace(capture, cameras=capture.cameras.with_origin(other))
    start = scene.with_(history=())
    result = m.result(fit_scene.run(moved, replace(QUICK, iterations=2), start=start))
    assert result.rig.origin == scene.rig.origin
    assert abs(psnr(result, capture) - psnr(scene, capture)) < 1.0


def test_scenes_of_different_places_are_not_shown_together(scene: Scene4D, tmp_path: Path) -> None:
    other = scene.with_(rig=replace(scene.rig, origin=ECEF))
    config = export_scene.Config(kind="html")
    with pytest.raises(InputError) as error:
        m.result(export_scene.run(scene, config, tmp_path / "a.html", compare=other))
    assert error.value.code == "SCN-017"
    local = scene.with_(rig=replace(scene.rig, origin=AT_ZERO))
    m.result(export_scene.run(scene, config, tmp_path / "b.html", compare=local))


def test_masks_lift_onto_the_same_gaussians(capture: MultiViewVideo, scene: Scene4D) -> None:
    mask = torch.zeros(1, 40, 48)
    mask[:, :, :24] = 1
    selection = m.result(lift_mask.run(scene, None, mask))
    local = scene.with_(rig=replace(scene.rig, origin=AT_ZERO))
    assert torch.equal(selection.weights, m.result(lift_mask.run(local, None, mask)).weights)


def test_origins_are_round_and_only_where_float32_needs_them() -> None:
    around = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)).double()
    assert origin_for(around) == origin_for(around + 50) == AT_ZERO
    assert origin_for(around + 5000) == (5000.0, 5000.0, 5000.0)
    assert origin_for(around + 5000, reach=100.0) == AT_ZERO
    nan = around.clone()
    nan[0] = float("nan")
    assert origin_for(nan) in (AT_ZERO, origin_for(around))
    assert origin_for(torch.zeros(1, 3)) == AT_ZERO


def test_gaussians_keep_their_bits_near_zero(truth: Scene4D, tmp_path: Path) -> None:
    path = write_ply(truth.canonical, tmp_path / "a.ply")
    assert b"comment" not in path.read_bytes()[:200]
    found: Gaussians = m.result(import_scene.run(path)).canonical
    assert torch.equal(found.means, truth.canonical.means)


def test_reported_captures_are_resolved_by_float32(reported: Callable[..., list[Path]]) -> None:
    """What float32 makes of the cameras agrees with float64 in the file's coordinates within a hundredth of a pixel."""
    for folder in reported("12_georeferenced"):
        video = load_video(folder)
        assert video.cameras.origin != AT_ZERO, folder.name
        assert any(note.startswith("Coordinates:") for note in video.notes), folder.name
        corners = torch.cartesian_prod(
            *torch.tensor(m.result(preflight.run(video)).bounds, dtype=torch.float64).T
        )
        local = corners - torch.tensor(video.cameras.origin, dtype=torch.float64)
        world = video.cameras.with_origin(AT_ZERO)
        for view in range(video.views):
            exact, depth = world.project(corners, view)
            rounded, _ = video.cameras.project(local.float(), view)
            front = depth > 0
            assert float((exact - rounded)[front].abs().max()) < 0.01, folder.name


def test_positions_and_rotations_without_their_digits_are_named(
    truth: Scene4D, frames: Path, tmp_path: Path
) -> None:
    rig = rig_at(truth, UTM)
    centers = nerfstudio(frames, tmp_path / "centers", rig)
    data = json.loads((centers / "transforms.json").read_text())
    for frame in data["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] = float(np.float32(row[3]))
    (centers / "transforms.json").write_text(json.dumps(data))
    rotations = native(frames, tmp_path / "rotations", rig)
    data = json.loads((rotations / "cameras.json").read_text())
    for camera in data["cameras"]:
        for row in camera["w2c"]:
            row[:3] = [round(n, 6) for n in row[:3]]
    (rotations / "cameras.json").write_text(json.dumps(data))
    for folder, words in (
        (centers, "Camera positions are rounded to 0.5 units"),
        (rotations, "Rotations are rounded"),
    ):
        warnings = load_video(folder).warnings
        assert len(warnings) == 1 and words in warnings[0]


def test_rounded_rotations_of_stored_positions_are_no_fault(
    truth: Scene4D, frames: Path, tmp_path: Path
) -> None:
    rig = rig_at(truth, ECEF)
    folder = nerfstudio(frames, tmp_path / "capture", rig)
    data = json.loads((folder / "transforms.json").read_text())
    for frame in data["frames"]:
        for row in frame["transform_matrix"]:
            row[:3] = [round(n, 5) for n in row[:3]]
    (folder / "transforms.json").write_text(json.dumps(data))
    video = load_video(folder)
    assert video.warnings == ()
    assert float((video.cameras.with_origin(AT_ZERO).centers - rig.centers).norm(dim=1).max()) < 1e-3


def test_splats_rounded_by_float32_are_named(scene: Scene4D, tmp_path: Path) -> None:
    now = scene.at(0.0).map(lambda t: t.detach())
    far = now.with_(means=now.means + torch.tensor(UTM))
    found = m.result(import_scene.run(write_ply(far, tmp_path / "a.ply")))
    assert "resolves steps of 0.5" in import_scene.summary(found)
    batch = splat_to_scene.make([far, far])
    assert "resolves steps of 0.5" in splat_to_scene.summary(batch)
    assert float(batch.canonical.means.abs().max()) < 100 and batch.rig.origin != AT_ZERO


def test_exported_gaussians_serve_as_initial_points(
    truth: Scene4D, frames: Path, tmp_path: Path, scene: Scene4D
) -> None:
    folder = native(frames, tmp_path / "capture", rig_at(truth, UTM))
    write_ply(scene.canonical, folder / "points.ply", origin=scene.rig.origin)
    points = load_video(folder).points
    assert points is not None and float((points - scene.canonical.means).abs().max()) < 1e-6


def test_splats_of_the_command_line_keep_their_origin(scene: Scene4D, tmp_path: Path) -> None:
    path = write_ply(scene.at(0.0), tmp_path / "a.ply", origin=scene.rig.origin)
    read = READERS[Kind.CANONICAL].read
    found = read(str(path), argparse.Namespace(), {})
    assert isinstance(found, Scene4D) and found.rig.origin == scene.rig.origin
    plain = write_ply(scene.at(0.0), tmp_path / "b.ply")
    assert isinstance(read(str(plain), argparse.Namespace(), {}), list)
