"""Every layout that GS4D_LAYOUTS holds, against the cameras and times that are known to be true."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.capture.readers import LoadOptions, detect_layout, load_video, scene_bounds
from engine.scene.video import MultiViewVideo
from engine.train.targets import composite

ROOT = Path(__file__).parents[2]
LAYOUTS = Path(os.environ.get("GS4D_LAYOUTS", ROOT / "../shared/data/layouts"))
SCENES = sorted(p.parent for p in LAYOUTS.glob("scene_*/*/truth.json"))
EXPECTED = {"native": "folder", "colmap_multiview": "colmap", "colmap_text": "colmap"}

pytestmark = pytest.mark.skipif(not SCENES, reason=f"no scenes with truth in {LAYOUTS} (see GS4D_LAYOUTS)")


def truth_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "truth.json").read_text())


@pytest.fixture(scope="module", params=SCENES, ids=lambda p: f"{p.parent.name}/{p.name}")
def scene(request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any], MultiViewVideo]:
    return request.param, truth_of(request.param), load_video(request.param)


def true_view_of(name: str, truth: dict[str, Any]) -> dict[str, Any]:
    """The true camera behind one of our views."""
    by_name = {v["name"]: v for v in truth["views"]}
    for sample in truth.get("samples", []):
        if name == sample.get("id") or name == str(Path(sample.get("file", "?")).with_suffix("")):
            return by_name[sample["view"]]
    folders = {str(pattern).split("/")[0]: view for view, pattern in truth.get("files", {}).items()}
    return by_name[folders[name]] if truth["layout"] == "colmap_multiview" else by_name[name]


def test_the_layout_is_recognised(scene: tuple[Path, dict[str, Any], MultiViewVideo]) -> None:
    folder, truth, video = scene
    wanted = EXPECTED.get(truth["layout"], truth["layout"])
    assert detect_layout(folder) == wanted == video.layout


def test_every_view_is_there_once(scene: tuple[Path, dict[str, Any], MultiViewVideo]) -> None:
    _, truth, video = scene
    if "samples" in truth:
        assert video.views == len(truth["samples"])
        assert all(n == 1 for n in video.available.sum(1).tolist())
    else:
        assert {true_view_of(n, truth)["name"] for n in video.cameras.names} == {
            v["name"] for v in truth["views"]
        }
        assert video.views == len(truth["views"])
        assert bool(video.available.all())


def test_cameras_are_the_true_ones(scene: tuple[Path, dict[str, Any], MultiViewVideo]) -> None:
    _, truth, video = scene
    for i, name in enumerate(video.cameras.names):
        true = true_view_of(name, truth)
        assert video.cameras.sizes[i] == (true["width"], true["height"])
        assert np.allclose(video.cameras.K[i].numpy(), true["K"], atol=2e-3)
        assert np.allclose(video.cameras.world_to_camera[i].numpy(), true["world_to_camera"], atol=2e-5)


def test_surface_points_project_to_where_they_are_seen(
    scene: tuple[Path, dict[str, Any], MultiViewVideo],
) -> None:
    _, truth, video = scene
    checks = truth["check_points"]
    points = torch.tensor(checks["xyz"], dtype=torch.float64)
    order = [v["name"] for v in truth["views"]]
    worst = 0.0
    for i, name in enumerate(video.cameras.names):
        true = np.array(checks["uv"][order.index(true_view_of(name, truth)["name"])], dtype=float)
        got = video.cameras.project(points, i)[0].numpy()
        worst = max(worst, float(np.abs(got - true).max()))
    assert worst < 0.02, f"{worst} pixels off"


def test_times_are_the_true_ones(scene: tuple[Path, dict[str, Any], MultiViewVideo]) -> None:
    _, truth, video = scene
    true = np.array(sorted({f["time"] for f in truth["frames"]}))
    if "samples" in truth:
        true = np.array(sorted({s["time"] for s in truth["samples"]}))
    times = video.times.numpy()
    assert len(times) == len(true)
    assert np.allclose(
        (times - times[0]) / (times[-1] - times[0]), (true - true[0]) / (true[-1] - true[0]), atol=1e-6
    )
    if video.fps:
        assert np.isclose(video.fps, truth["fps"])
        assert np.allclose(times, [f["seconds"] for f in truth["frames"]], atol=1e-6)


def test_a_given_frame_rate_makes_the_true_seconds(
    scene: tuple[Path, dict[str, Any], MultiViewVideo],
) -> None:
    folder, truth, _ = scene
    if not all("seconds" in f for f in truth["frames"]):
        pytest.skip("the truth of this layout has no seconds")
    video = load_video(folder, LoadOptions(frames_per_second=truth["fps"]))
    assert np.allclose(video.times.numpy(), [f["seconds"] for f in truth["frames"]], atol=1e-6)


def test_samples_have_their_own_moment(scene: tuple[Path, dict[str, Any], MultiViewVideo]) -> None:
    _, truth, video = scene
    if "samples" not in truth:
        pytest.skip("not a layout of single samples")
    span = float(video.times[-1] - video.times[0])
    first, last = min(s["time"] for s in truth["samples"]), max(s["time"] for s in truth["samples"])
    for sample in truth["samples"]:
        name = sample.get("id") or str(Path(sample["file"]).with_suffix(""))
        view = video.cameras.names.index(name)
        moment = int(video.available[view].nonzero()[0])
        share = float(video.times[moment] - video.times[0]) / span
        assert abs(share - (sample["time"] - first) / (last - first)) < 1e-6
        held_out = view in video.test_views
        assert held_out == (
            sample["split"] == "test" or (truth["layout"] == "hypernerf" and sample["split"] == "val")
        )
        assert (view in video.views_to_train()) == (sample["split"] == "train")


def test_the_conventions_test_view_is_held_out(scene: tuple[Path, dict[str, Any], MultiViewVideo]) -> None:
    _, truth, video = scene
    wanted = truth.get("test_view") or truth.get("held_out_view")
    if wanted is None:
        pytest.skip("this layout holds nothing out by name")
    assert [video.cameras.names[v] for v in video.test_views] == [wanted]
    assert video.test_views[0] not in video.views_to_train()


def test_pictures_are_those_of_their_view_and_moment(
    scene: tuple[Path, dict[str, Any], MultiViewVideo],
) -> None:
    """Where pictures are files, each frame equals its file; masks too."""
    folder, truth, video = scene
    patterns = truth.get("files", {})
    if "video" in truth or not any("%" in p for p in patterns.values()):
        pytest.skip("this layout has no picture files named by view and frame")
    for view, name in enumerate(video.cameras.names):
        true = true_view_of(name, truth)["name"]
        pattern, from_one = patterns[true].split(" ")[0], "numbered from 1" in patterns[true]
        for moment in (0, video.moments // 2, video.moments - 1):
            frame = video.source.read(view, moment)
            stored = np.asarray(Image.open(folder / (pattern % (moment + from_one))).convert("RGB"))
            assert (frame.image.numpy() == stored).all()
            if "masks" in truth:
                mask = np.asarray(Image.open(folder / (truth["masks"][true] % moment)).convert("L"))
                assert frame.mask is not None and (frame.mask.numpy() == mask).all()


def test_videos_show_what_the_picture_files_show(scene: tuple[Path, dict[str, Any], MultiViewVideo]) -> None:
    """The same camera filmed for another layout: frames of a video agree with it in time, place and color."""
    folder, _, video = scene
    if video.layout != "folder":
        pytest.skip("compares the pack's own layout with a layout of picture files")
    for other in SCENES:
        if other.parent == folder.parent and truth_of(other)["layout"] == "nerfstudio":
            break
    else:
        pytest.skip("no layout of picture files beside it")
    files = truth_of(other)["files"]
    for view, name in enumerate(video.cameras.names[:4]):
        apart: list[float] = []
        for moment in (0, video.moments // 2, video.moments - 1):
            frame = video.source.read(view, moment).image.numpy().astype(float)
            stored = [np.asarray(Image.open(other / (files[name] % m)).convert("RGB"), dtype=float) for m in
                      (moment, (moment + video.moments // 3) % video.moments)]  # fmt: skip
            subject = stored[0].min(axis=2) < 240
            apart.append(np.abs(frame - stored[0])[subject].mean())
            colour = np.abs((frame - stored[0])[subject].mean(axis=0)).max()
            assert colour < 4, "colours of the video are converted with the wrong matrix"
            assert apart[-1] < np.abs(frame - stored[1])[subject].mean(), "another moment fits better"
        assert max(apart) < 14


@pytest.mark.parametrize("scale", [0.5, 0.75])
def test_cameras_follow_a_smaller_picture(
    scene: tuple[Path, dict[str, Any], MultiViewVideo], scale: float
) -> None:
    folder, _, full = scene
    video = load_video(folder, LoadOptions(scale=scale))
    point = scene_bounds(full).mean(0, keepdim=True)
    for view in range(0, video.views, max(1, video.views // 6)):
        width, height = video.cameras.sizes[view]
        moment = int(video.available[view].nonzero()[0])
        assert tuple(video.source.read(view, moment).image.shape) == (height, width, 3)
        before, after = (v.cameras.project(point, view)[0][0] for v in (full, video))
        stretch = torch.tensor([width, height]) / torch.tensor(full.cameras.sizes[view])
        assert torch.allclose(after, before * stretch, atol=1e-6)
        small, large = (composite(v.source.read(view, moment), torch.zeros(3)).image for v in (video, full))
        assert (small.mean((0, 1)) - large.mean((0, 1))).abs().max() < 0.01


def test_chosen_frames_are_those_of_the_whole_clip(
    scene: tuple[Path, dict[str, Any], MultiViewVideo],
) -> None:
    folder, _, full = scene
    video = load_video(folder, LoadOptions(first_frame=1, frame_step=2, frame_count=3, cache_megabytes=16))
    chosen = [1, 3, 5]
    assert torch.allclose(video.times, full.times[chosen])
    for name in video.cameras.names[:5]:
        here, there = video.cameras.names.index(name), full.cameras.names.index(name)
        for moment, original in enumerate(chosen):
            if bool(video.available[here, moment]):
                a, b = video.source.read(here, moment), full.source.read(there, original)
                assert torch.equal(a.image, b.image)


def test_the_scenes_box_holds_the_subject(scene: tuple[Path, dict[str, Any], MultiViewVideo]) -> None:
    _, truth, video = scene
    low, high = scene_bounds(video)
    points = torch.tensor(truth["check_points"]["xyz"], dtype=torch.float64)
    inside = ((points >= low) & (points <= high)).all(1).double().mean()
    assert inside > 0.95
    assert float((high - low).max()) < 4 * float((points.amax(0) - points.amin(0)).max())
