"""A capture goes through: straight is straight again, bars are gone, poses are adjusted, nothing is left half."""

import json
import os
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from engine.capture.convert.background import empty_scene, subject_mask
from engine.capture.convert.capture_folder import read_capture_folder, read_sightings
from engine.capture.convert.native_folder import convert_dataset, encoder
from engine.capture.convert.real_capture import CaptureConfig, convert_capture, ideal_cameras
from engine.capture.convert.silhouettes import agreeing_masks
from engine.capture.readers import LoadOptions, load_video
from engine.capture.undistort import Distortion
from engine.errors import InputError
from engine.geometry.carving import carve
from engine.geometry.pose_adjustment import (
    Sighting,
    adjust_poses,
    reprojection_errors,
    rms,
    triangulate,
)
from engine.messages import Finished, Preview, Progress, Started, result
from engine.scene.cameras import Cameras, look_at
from engine.steps import convert_capture as step

SIZE = (320, 240)
K = np.array([[300.0, 0.0, 165.0], [0.0, 295.0, 116.0], [0.0, 0.0, 1.0]])
LENS = Distortion("opencv", (-0.3, 0.09, 0.003, -0.002))
CENTERS = [(3.0, 0.0, 1.4), (0.0, 3.2, 1.0), (-2.9, 0.4, 1.8), (0.3, -3.0, 1.2)]
MIDDLE = torch.tensor([0.0, 0.0, 0.9])
RADIUS = 0.35
MOMENTS = 9


def pose(view: int) -> np.ndarray:
    return look_at(torch.tensor(CENTERS[view]), MIDDLE, torch.tensor([0.0, 0.0, 1.0])).numpy()


def ball(moment: int) -> np.ndarray:
    """Center of the moving subject."""
    return np.array([-1.0 + 0.25 * moment, 0.8 - 0.2 * moment, 0.9])


def filmed(view: int, moment: int, lens: Distortion = LENS) -> np.ndarray:
    """What the lens shows [H, W, 3] uint8: a red ball in front of a striped surrounding, ray by ray."""
    return scene(view, moment, lens.undistort(pinhole_points()))


def scene(view: int, moment: int, ideal: np.ndarray) -> np.ndarray:
    """The same for given ideal points [H, W, 2]: stripes along x and y, and the ball."""
    stripes = 120 + 60 * np.sin(12 * ideal[..., 0] + view) * np.cos(14 * ideal[..., 1])
    picture = np.stack([0.4 * stripes, stripes, stripes], axis=-1)
    w2c = pose(view)
    rays = np.concatenate([ideal, np.ones_like(ideal[..., :1])], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    center = w2c[:3, :3] @ ball(moment) + w2c[:3, 3]
    missed = np.linalg.norm(np.cross(rays, center), axis=-1)
    picture[missed < RADIUS] = (230, 40, 30)
    return np.nan_to_num(picture).round().clip(0, 255).astype(np.uint8)


def encode(path: Path, pictures: list[np.ndarray], rate: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv444p", {"crf": "4"}
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def calibration(lens: Distortion = LENS, turned: float = 0.0, size: tuple[int, int] = SIZE) -> str:
    """Calib.toml of the rig; `turned` degrees falsify every other camera."""
    tables = []
    fx, fy, cx, cy = (float(K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    for view in range(len(CENTERS)):
        w2c = pose(view)
        if turned:
            axis = [(0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.6, 0.0, 0.8)][view]
            false = np.eye(4)
            false[:3, :3] = Rotation.from_rotvec(np.radians(turned) * np.array(axis)).as_matrix()
            w2c = false @ w2c
        rotation = Rotation.from_matrix(w2c[:3, :3]).as_rotvec().tolist()
        matrix = [[fx, 0.0, cx - 0.5], [0.0, fy, cy - 0.5], [0.0, 0.0, 1.0]]
        tables.append(
            f'[c{view}]\nname = "c{view}"\nsize = {list(map(float, size))}\nmatrix = {matrix}\n'
            f"distortions = {list(lens.params) or [0.0, 0.0, 0.0, 0.0]}\nrotation = {rotation}\n"
            f"translation = {w2c[:3, 3].tolist()}\nfisheye = false\n"
        )
    return "\n".join(tables)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio")
    for view in range(len(CENTERS)):
        encode(folder / "videos" / f"c{view}.mp4", [filmed(view, m) for m in range(MOMENTS)])
    (folder / "calibration").mkdir()
    (folder / "calibration" / "Calib.toml").write_text(calibration())
    return folder


def finish(source: Path, target: Path, **config: object) -> Path:
    for _ in convert_capture(source, target, CaptureConfig(**config)):  # type: ignore[arg-type]
        pass
    return target


@pytest.fixture(scope="module")
def converted(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(capture, tmp_path_factory.mktemp("native") / "out", height=240, quality=0)


def ideal_points(cameras: Cameras, view: int) -> np.ndarray:
    width, height = cameras.sizes[view]
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    k = cameras.K[view].numpy()
    return np.stack([(x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1]], axis=-1)


def test_a_distorted_clip_becomes_what_a_pinhole_camera_would_have_filmed(converted: Path) -> None:
    video = load_video(converted)
    assert video.views == 4 and video.moments == MOMENTS and video.has_masks and video.fps == 10
    for view in range(4):
        for moment in (0, MOMENTS - 1):
            got = video.source.read(view, moment).image.numpy().astype(float)
            want = scene(view, moment, ideal_points(video.cameras, view)).astype(float)
            # chroma is stored at half size, so brightness is compared; edges of the ball are resampled
            error = np.abs((got - want).mean(axis=-1))
            assert np.median(error) < 2.5 and (error > 25).mean() < 0.02


def middle_of_red(picture: np.ndarray) -> np.ndarray:
    y, x = np.nonzero((picture[..., 0] > 150) & (picture[..., 1] < 110))
    return np.array([x.mean() + 0.5, y.mean() + 0.5])


def test_the_ball_lies_where_the_converted_cameras_say(converted: Path) -> None:
    """In pixels, against the outline that a pinhole camera sees; without undistortion it lies far off."""
    video = load_video(converted)
    bent: list[float] = []
    for moment in (0, 4, 8):
        for view in range(4):
            want = middle_of_red(scene(view, moment, ideal_points(video.cameras, view)))
            got = middle_of_red(video.source.read(view, moment).image.numpy())
            assert np.linalg.norm(got - want) < 0.35
            projected = video.cameras.project(torch.from_numpy(ball(moment))[None], view)[0][0].numpy()
            assert np.linalg.norm(got - projected) < 6, (
                "a sphere's outline is an ellipse, its middle pushed out"
            )
            naive = (filmed(view, moment)[..., 0] > 150).nonzero()
            straight = middle_of_red(scene(view, moment, pinhole_points()))
            bent.append(float(np.linalg.norm(straight - [naive[1].mean() + 0.5, naive[0].mean() + 0.5])))
    assert max(bent) > 3, "the lens must move something"


def pinhole_points() -> np.ndarray:
    """Ideal points of the pixels as if the filmed picture had no distortion."""
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    return np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1]], axis=-1)


def test_masks_cover_the_moving_ball_and_nothing_else(converted: Path) -> None:
    video = load_video(converted)
    for view in range(4):
        for moment in (0, MOMENTS - 1):
            frame = video.source.read(view, moment)
            assert frame.mask is not None
            truth = scene(view, moment, ideal_points(video.cameras, view))[..., 0] > 150
            found = frame.mask.numpy() > 127
            assert (found & truth).sum() / (found | truth).sum() > 0.85


def test_smaller_pictures_keep_the_cameras_true(capture: Path, tmp_path: Path) -> None:
    video = load_video(finish(capture, tmp_path / "small", height=60, makes_masks=False, every=2))
    assert video.moments == 5 and video.fps == 5 and not video.has_masks
    assert set(video.cameras.sizes) == {(80, 60)}
    image = video.source.read(1, 2).image.numpy().astype(int)
    y, x = np.nonzero((image[..., 0] > 150) & (image[..., 1] < 110))
    want = video.cameras.project(torch.from_numpy(ball(4))[None], 1)[0][0].numpy()
    assert np.hypot(x.mean() + 0.5 - want[0], y.mean() + 0.5 - want[1]) < 0.6


def letterboxed(picture: np.ndarray, width: int) -> np.ndarray:
    """Sampled at a smaller width with black bars above and below, the picture's height unchanged."""
    height = SIZE[1]
    zoom = width / SIZE[0]
    y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    from_x, from_y = x / zoom, (y - (height - zoom * height) / 2) / zoom
    inside = (from_y >= 0) & (from_y < height)
    nearest = picture[from_y.astype(int).clip(0, height - 1), from_x.astype(int).clip(0, SIZE[0] - 1)]
    return np.where(inside[..., None], nearest, 0).astype(np.uint8)


def test_black_bars_are_recognised_and_taken_off(capture: Path, tmp_path: Path) -> None:
    source = tmp_path / "barred"
    for view in range(4):
        pictures = [filmed(view, m) for m in (2, 3)]
        encode(source / f"c{view}.mp4", [letterboxed(p, 288) for p in pictures] if view < 2 else pictures)
    (source / "Calib.toml").write_text(calibration())
    shots, _ = read_capture_folder(source)
    assert shots[0].zoom == (0.9, 0.9) and shots[0].offset == pytest.approx((0.0, 12.0))
    assert shots[2].zoom == (1.0, 1.0)
    video = load_video(finish(source, tmp_path / "out", height=240, makes_masks=False))
    assert set(video.cameras.sizes) == {SIZE}
    image = video.source.read(0, 0).image.numpy().astype(int)
    assert image[0].mean() > 40 and image[-1].mean() > 40, "no bars left"
    y, x = np.nonzero((image[..., 0] > 150) & (image[..., 1] < 110))
    want = video.cameras.project(torch.from_numpy(ball(2))[None], 0)[0][0].numpy()
    assert np.hypot(x.mean() + 0.5 - want[0], y.mean() + 0.5 - want[1]) < 1.7


def sightings_of(points: np.ndarray) -> str:
    """Where the true, distorted cameras show world points, as the JSON of marked points."""
    marked = []
    for i, point in enumerate(points):
        seen = {}
        for view in range(4):
            p = pose(view)[:3] @ np.append(point, 1.0)
            d = LENS.distort(p[:2] / p[2])
            seen[f"c{view}"] = [float(K[0, 0] * d[0] + K[0, 2]), float(K[1, 1] * d[1] + K[1, 2])]
        marked.append({"name": f"p{i}", "accuracy": 0.3, "seen": seen})
    return json.dumps({"points": marked})


def test_marked_points_turn_a_false_calibration_right(capture: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    points = generator.uniform([-0.6, -0.6, 0.4], [0.6, 0.6, 1.4], (12, 3))
    (tmp_path / "marks.json").write_text(sightings_of(points))
    true_shots, _ = read_capture_folder(capture)
    sightings = read_sightings(tmp_path / "marks.json", true_shots)
    rig = ideal_cameras(true_shots)
    assert rms(reprojection_errors(rig, sightings)) < 1e-3
    assert np.allclose(triangulate(rig, sightings[0]), points[0], atol=1e-5)
    source = tmp_path / "false"
    (source / "videos").mkdir(parents=True)
    for view in range(4):
        os.link(capture / "videos" / f"c{view}.mp4", source / "videos" / f"c{view}.mp4")
    (source / "Calib.toml").write_text(calibration(turned=1.5))
    shots, _ = read_capture_folder(source)
    false = ideal_cameras(shots)
    fitted, held_out = sightings[:8], sightings[8:]
    assert rms(reprojection_errors(false, held_out)) > 2.0
    assert rms(reprojection_errors(adjust_poses(false, fitted), held_out)) < 0.2
    out = finish(source, tmp_path / "out", height=120, makes_masks=False, points=str(tmp_path / "marks.json"))
    assert "Poses adjusted to 12 marked points" in (out / "notes.txt").read_text()


def test_a_visual_hull_is_the_size_of_its_subject() -> None:
    rig = Cameras(
        torch.from_numpy(np.stack([pose(v) for v in range(4)])),
        torch.from_numpy(np.stack([K] * 4)),
        (SIZE,) * 4,
        tuple("abcd"),
    )
    masks = [scene(v, 4, ideal_points(rig, v))[..., 0] > 150 for v in range(4)]
    axes = [torch.arange(low + 0.025, low + 2.0, 0.05, dtype=torch.float64) for low in (-1.0, -1.0, 0.0)]
    carved = carve(
        rig, ((v, torch.from_numpy(mask)) for v, mask in enumerate(masks)), torch.cartesian_prod(*axes)
    )
    cells = carved.cells[carved.seen >= 2].numpy()
    assert np.allclose(cells.mean(axis=0), ball(4), atol=0.05)
    assert 0.6 < np.ptp(cells[:, 2]) < 0.95  # a hull is never smaller than the ball of 0.7
    shadow = [m.copy() for m in masks]
    shadow[0][200:230, 20:60] = True  # one camera alone sees something there
    hole = masks[1].copy()
    y, x = np.argwhere(hole).mean(axis=0).astype(int)
    shadow[1][y - 4 : y + 4, x - 4 : x + 4] = False
    agreed = agreeing_masks(rig, shadow)
    assert not agreed[0][205:225, 25:55].any(), "what only one camera sees goes"
    assert agreed[1][y - 4 : y + 4, x - 4 : x + 4].all(), "a hole is filled where the others see a body"
    for kept, truth in zip(agreed, masks, strict=True):
        assert (kept & truth).sum() / (kept | truth).sum() > 0.97


def test_the_empty_scene_comes_from_the_plate_where_a_subject_stays() -> None:
    generator = np.random.default_rng(0)
    empty = generator.integers(80, 120, (40, 60, 3)).astype(np.uint8)
    samples = np.repeat(empty[None], 10, axis=0)
    for i, sample in enumerate(samples):
        sample[10:30, 5 + 4 * i : 15 + 4 * i] = 220  # passes
        if i < 8:
            sample[5:9, 2:10] = 250 - i  # stays for most of the clip
    plate = np.concatenate([empty, np.full((40, 60, 1), 255, np.uint8)], axis=2)
    assert np.abs(empty_scene(samples).astype(int) - empty)[10:30].max() < 12, (
        "what passes goes without a plate"
    )
    assert (empty_scene(samples)[5:9, 2:10] > 200).all()
    assert np.abs(empty_scene(samples, plate).astype(int) - empty).max() < 12
    mask = subject_mask(samples[3], empty)
    assert mask[12:28, 19:25].all() and not mask[33:].any()


def test_the_step_tells_its_progress_and_ends_with_the_folder(capture: Path, tmp_path: Path) -> None:
    stream = list(step.run(capture, tmp_path / "out", step.Config(height=60)))
    assert isinstance(stream[0], Started) and "4 views, 9 frames" in stream[0].note
    done = [m.done for m in stream if isinstance(m, Progress)]
    assert done == sorted(done) and done[-1] == stream[0].total
    assert sum(isinstance(m, Preview) for m in stream) == 4
    assert isinstance(stream[-1], Finished) and (stream[-1].value / "cameras.json").is_file()
    assert not (tmp_path / "out" / "masks.rough").exists()


def test_any_data_set_goes_the_same_way(converted: Path, tmp_path: Path) -> None:
    before, out = (
        load_video(converted),
        result(step.run(converted, tmp_path / "again", step.Config(quality=4))),
    )
    after = load_video(out)
    assert after.cameras.names == before.cameras.names and after.moments == before.moments and after.has_masks
    assert torch.equal(after.cameras.K, before.cameras.K)
    a, b = before.source.read(2, 3), after.source.read(2, 3)
    assert (a.image.float() - b.image.float()).abs().mean() < 3
    assert a.mask is not None and b.mask is not None and (a.mask.float() - b.mask.float()).abs().mean() < 3


@pytest.mark.parametrize("colored", [True, False])
def test_what_a_data_set_says_of_itself_is_not_lost(converted: Path, tmp_path: Path, colored: bool) -> None:
    """Held-out views and frames above all: trained on after a conversion, they would make every figure too good."""
    points = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    colors = (points * 255).round() / 255 if colored else None
    video = replace(
        load_video(converted),
        test_views=(2,),
        test_moments=(1, 5),
        near=0.7,
        far=12.5,
        points=points,
        point_colors=colors,
    )
    for _ in convert_dataset(video, tmp_path / "again"):
        pass
    again = load_video(tmp_path / "again")
    assert again.test_views == (2,) and again.views_to_train() == (0, 1, 3)
    assert again.test_moments == (1, 5)
    assert load_video(tmp_path / "again", LoadOptions(frame_step=5)).test_moments == (1,)
    assert (again.near, again.far) == (0.7, 12.5) and not again.warnings
    assert again.points is not None and torch.equal(again.points, points)
    assert colors is None or (again.point_colors is not None and torch.allclose(again.point_colors, colors))


def test_stopping_early_leaves_nothing(capture: Path, tmp_path: Path) -> None:
    conversion = convert_capture(capture, tmp_path / "out", CaptureConfig(height=60))
    for _ in range(9):
        next(conversion)
    assert any(tmp_path.iterdir())
    conversion.close()
    assert not any(tmp_path.iterdir())


def test_nothing_is_overwritten(capture: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="nothing is overwritten"):
        finish(capture, tmp_path / "out", height=60)
    assert [f.name for f in tmp_path.rglob("*") if f.is_file()] == ["mine.txt"]


def broken(capture: Path, folder: Path, case: str) -> str:
    """Make the broken folder; returns what the sentence must say."""
    (folder / "videos").mkdir(parents=True)
    for view in range(4):
        os.link(capture / "videos" / f"c{view}.mp4", folder / "videos" / f"c{view}.mp4")
    (folder / "Calib.toml").write_text(calibration())
    videos = folder / "videos"
    if case == "no calibration":
        (folder / "Calib.toml").unlink()
        return "does not contain a calibration"
    if case == "two calibrations":
        (folder / "Calib_old.toml").write_text(calibration())
        return "Select the one to use"
    if case == "no videos":
        for file in videos.iterdir():
            file.unlink()
        return "does not contain any videos"
    if case == "more videos than cameras":
        os.link(videos / "c0.mp4", videos / "extra.mp4")
        return "describes 4 cameras"
    if case == "another size":
        (folder / "Calib.toml").write_text(calibration(size=(300, 240)))
        return "calibrated at 300x240"
    if case == "another rate":
        (videos / "c1.mp4").unlink()
        encode(videos / "c1.mp4", [filmed(1, 0)] * 3, rate=25)
        return "export them at one frame rate"
    if case == "not a video":
        (videos / "c1.mp4").unlink()
        (videos / "c1.mp4").write_bytes(b"nothing of the kind" * 50)
        return "c1.mp4"
    raise AssertionError(case)


@pytest.mark.parametrize(
    "case",
    [
        "no calibration",
        "two calibrations",
        "no videos",
        "more videos than cameras",
        "another size",
        "another rate",
        "not a video",
    ],
)
def test_a_folder_that_cannot_be_converted_says_why(case: str, capture: Path, tmp_path: Path) -> None:
    said = broken(capture, tmp_path / "studio", case)
    with pytest.raises(InputError) as caught:
        finish(tmp_path / "studio", tmp_path / "out")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_videos_are_found_by_name_and_by_order(capture: Path, tmp_path: Path) -> None:
    for view in range(3):
        os.link(capture / "videos" / f"c{view}.mp4", tmp_path / f"c{view}.mp4")
    (tmp_path / "Calib.toml").write_text(calibration())
    shots, warnings = read_capture_folder(tmp_path)
    assert [s.camera.name for s in shots] == ["c0", "c1", "c2"] and "c3" in warnings[0]
    os.link(capture / "videos" / "c3.mp4", tmp_path / "z10.mp4")
    shots, warnings = read_capture_folder(tmp_path)
    assert [s.path.name for s in shots] == [
        "c0.mp4",
        "c1.mp4",
        "c2.mp4",
        "z10.mp4",
    ] and "in order" in warnings[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"points": []}', "at least one"),
        ('{"points": [{"name": "a", "seen": {"c0": [1, 2]}}]}', "fewer than two"),
        ('{"points": [{"name": "a", "seen": {"c0": [1, 2], "c9": [1, 2]}}]}', "c9"),
        ('{"points": [{"name": "a", "seen": {"c0": [1, 2], "c1": [1]}}]}', "no pixel"),
        ('{"points": [{"name": "a", "accuracy": 0, "seen": {"c0": [1, 2], "c1": [1, 2]}}]}', "accuracy"),
    ],
)
def test_marked_points_that_cannot_be_used_say_why(
    text: str, said: str, capture: Path, tmp_path: Path
) -> None:
    (tmp_path / "marks.json").write_text(text)
    with pytest.raises(InputError, match=r"marks\.json") as caught:
        read_sightings(tmp_path / "marks.json", read_capture_folder(capture)[0])
    assert said in str(caught.value)


def test_one_view_is_not_enough_to_triangulate() -> None:
    rig = Cameras(torch.from_numpy(pose(0))[None], torch.from_numpy(K)[None], (SIZE,), ("a",))
    with pytest.raises(InputError, match="two or more"):
        triangulate(rig, Sighting("nose", {0: (1.0, 2.0)}))


def test_written_videos_have_a_key_frame_every_twelve_frames(tmp_path: Path) -> None:
    with encoder(tmp_path / "video.mp4", (32, 32), 30.0, 18) as video:
        for i in range(30):
            video.add(np.full((32, 32, 3), 4 * i, np.uint8))
    with av.open(str(tmp_path / "video.mp4")) as container:
        frames = [frame.key_frame for frame in container.decode(video=0)]
    keys = [i for i, is_key in enumerate(frames) if is_key]
    assert len(frames) == 30 and keys[0] == 0
    assert max(np.diff([*keys, 30])) <= 12
