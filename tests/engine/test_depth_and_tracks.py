"""Depth and tracks: losses, readers, targets, and trainings that use them or leave them alone."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from engine import messages as m
from engine.capture.readers import LoadOptions, load_video, write_cameras_json
from engine.errors import InputError
from engine.files.npzfile import write_arrays
from engine.losses.geometric import DEPTH_LOSSES, track_loss
from engine.render import choose, render_gaussians
from engine.scene import Cameras, Frame, MultiViewVideo, Scene4D, Tracks
from engine.steps import fit_scene
from engine.train.config import FitConfig
from engine.train.fit import Fit
from engine.train.geometry_terms import GeometryTerms
from engine.train.targets import composite, resize
from tests.scenes import RenderedFrames, capture_of, moving_scene, ring

QUICK = fit_scene.Config(iterations=24, budget=200, initial_count=150, preview_every=0, coarse_fraction=0.2)


class WithDepth(RenderedFrames):
    """Rendered frames with the true depth, in units of its own."""

    def read(self, view: int, moment: int) -> Frame:
        frame = super().read(view, moment)
        with torch.no_grad():
            now, camera = self.scene.at(float(self.scene.times[moment])), self.scene.rig[view]
            drawn = render_gaussians(now, camera, self.rasterizer, want_depth=True)
        assert drawn.depth is not None
        return replace(frame, depth=torch.where(drawn.alpha[0] > 0.9, 3 * drawn.depth[0] + 1, 0.0))


def tracks_of(scene: Scene4D) -> Tracks:
    """Where each Gaussian is seen: by view p mod V, at the frames in which nothing is in front of it."""
    rasterizer, rig = choose("auto"), scene.rig
    count, frames = len(scene.canonical), len(scene.times)
    views = (torch.arange(count) % len(rig))[:, None].expand(count, frames).clone()
    pixels, visible = torch.zeros(count, frames, 2), torch.zeros(count, frames, dtype=torch.bool)
    for t, seconds in enumerate(scene.times.tolist()):
        now = scene.at(seconds)
        for v in range(len(rig)):
            with torch.no_grad():
                depth = render_gaussians(now, rig[v], rasterizer, want_depth=True).depth
            at, away = rig.project(now.means.double(), v)
            mine = (views[:, t] == v).nonzero().flatten()
            column, row = at[mine].long().unbind(-1)
            assert depth is not None
            pixels[mine, t] = at[mine].float()
            visible[mine, t] = (away[mine] - depth[0][row, column].double()).abs() < 0.08
    return Tracks(pixels, visible, views)


@pytest.fixture(scope="module")
def scene() -> Scene4D:
    return moving_scene()


@pytest.fixture(scope="module")
def video(scene: Scene4D) -> MultiViewVideo:
    return replace(capture_of(scene), source=WithDepth(scene), has_depths=True, tracks=tracks_of(scene))


@pytest.mark.parametrize("name", list(DEPTH_LOSSES))
def test_a_depth_loss_is_blind_to_scale_and_shift_and_nothing_else(name: str) -> None:
    loss, g = DEPTH_LOSSES[name], torch.Generator().manual_seed(0)
    depth = torch.rand(500, generator=g) + 1
    assert float(loss(0.2 * depth + 7, depth)) < 1e-4 and float(loss(depth, 40 * depth - 3)) < 1e-4
    wrong = depth + 0.1 * torch.randn(500, generator=g)
    assert float(loss(wrong, depth)) > 0.01
    assert float(loss(3 - depth, depth)) > 1.5, "near and far are not exchanged"
    assert torch.allclose(loss(wrong, depth), loss(5 * wrong + 2, 0.1 * depth), atol=1e-4)
    rendered = wrong.clone().requires_grad_()
    loss(rendered, torch.full((500,), 2.0)).backward()
    assert not rendered.grad.any(), "a constant depth map says nothing"
    flat = torch.ones(500, requires_grad=True)
    loss(flat, depth).backward()
    assert bool(torch.isfinite(flat.grad).all())


def test_a_track_loss_is_0_on_true_tracks_and_grows_with_the_distance() -> None:
    tracked = torch.rand(30, 2, generator=torch.Generator().manual_seed(1)) * 40
    moved = tracked.clone().requires_grad_()
    loss = track_loss(moved, tracked, (48, 40))
    loss.backward()
    assert float(loss.detach()) == 0 and bool(torch.isfinite(moved.grad).all())
    away = track_loss(tracked + torch.tensor([3.0, 4.0]), tracked, (48, 40))
    assert float(away) == pytest.approx((2 * 5 + 7) / 48, rel=1e-5)
    assert float(track_loss(torch.zeros(0, 2), torch.zeros(0, 2), (48, 40))) == 0


def term(video: MultiViewVideo, scene: Scene4D, moment: int, later: int, scale: float = 1.0) -> float:
    """The track term of a scene, over all views."""
    terms = GeometryTerms(video, FitConfig(track_weight=1.0))
    rig = video.cameras.scaled(scale)
    group = list(range(len(rig)))
    with torch.no_grad():
        rendered = render_gaussians(
            scene.at(float(video.times[moment])), rig, choose("auto"),
            next_means=scene.at(float(video.times[later])).means,
            next_cameras=rig[terms.later_views(group, moment, later)],
        )  # fmt: skip
    targets = [composite(Frame(torch.zeros(1, 1, 3, dtype=torch.uint8)), torch.ones(3)) for _ in group]
    found = terms.loss(rendered, targets, group, rig, moment, later)
    assert found is not None
    return float(found)


def test_the_true_scene_moves_with_its_tracks_and_a_still_one_does_not(video, scene) -> None:
    still = Scene4D.still(scene.canonical, scene.times, scene.rig, scene.bounds, scene.background)
    for scale in (1.0, 0.5):
        assert term(video, scene, 0, 3, scale) < 0.35 * term(video, still, 0, 3, scale)


def test_tracks_are_followed_from_one_view_to_another(scene) -> None:
    """A monocular capture: another view for every frame, and nothing moves but the camera."""
    still = Scene4D.still(scene.canonical, scene.times, ring(6)[[0] * 6], scene.bounds, scene.background)
    turned = Cameras.concatenate([ring(60)[2 * (i % 2) : 2 * (i % 2) + 1] for i in range(6)])
    still = still.with_(rig=replace(turned, names=tuple("abcdef")))
    tracks = tracks_of(still)
    assert int(tracks.visible.sum()) > 100
    views = torch.arange(6).expand(len(tracks.views), 6)
    pixels = torch.stack([still.rig.project(still.canonical.means.double(), v)[0] for v in range(6)], dim=1)
    seen = tracks.visible.any(1, keepdim=True).expand(-1, 6)
    moving = replace(capture_of(still), tracks=Tracks(pixels.float(), seen.contiguous(), views))
    terms = GeometryTerms(moving, FitConfig(track_weight=1.0))
    assert terms.later_views([2], 2, 5) == [5]
    assert term(moving, still, 2, 5) < 0.02


def test_tracks_in_images_that_are_not_trained_on_are_not_looked_at(video, scene) -> None:
    count, frames = 6, len(scene.times)
    seen_by = torch.full((count, frames), 1)
    # most tracks of view 1 end in view 0, which is held out
    seen_by[:4, 3], seen_by[4:, 3] = 0, 2
    tracks = Tracks(torch.zeros(count, frames, 2), torch.ones(count, frames, dtype=torch.bool), seen_by)
    held = replace(video, tracks=tracks, test_views=(0,), train_views=())
    config = replace(QUICK, track_weight=1.0)
    terms = Fit(held, config, "cpu").geometry
    assert terms.later_views([1], 0, 3) == [2]
    terms = Fit(held, replace(config, keeps_test_views_out=False), "cpu").geometry
    assert terms.later_views([1], 0, 3) == [0]


@pytest.mark.parametrize("changed", [{"depth_weight": 0.1}, {"track_weight": 0.1}])
def test_a_weight_without_its_data_is_refused(scene, changed) -> None:
    with pytest.raises(InputError, match=r"has no (depth maps|tracks)"):
        m.result(fit_scene.run(capture_of(scene), replace(QUICK, **changed)))


def tensors_of(scene: Scene4D) -> dict[str, torch.Tensor]:
    return {**scene.canonical.tensors(), **{f"motion.{k}": v for k, v in scene.deformation.tensors().items()}}


def test_with_weights_of_0_depth_and_tracks_leave_every_bit(video, scene) -> None:
    plain = tensors_of(m.result(fit_scene.run(capture_of(scene), QUICK)))
    rich = tensors_of(m.result(fit_scene.run(video, QUICK)))
    assert plain.keys() == rich.keys()
    assert all(torch.equal(tensor, rich[name]) for name, tensor in plain.items())


@pytest.mark.parametrize("depth_loss", list(DEPTH_LOSSES))
def test_trainings_with_both_terms_resume_with_the_same_bits(video, tmp_path, depth_loss) -> None:
    config = replace(QUICK, depth_weight=0.2, track_weight=0.5, depth_loss=depth_loss)
    whole = tensors_of(m.result(fit_scene.run(video, config)))
    plain = tensors_of(m.result(fit_scene.run(video, QUICK)))
    assert not torch.equal(whole["means"], plain["means"])
    checkpoint = tmp_path / "training.safetensors"
    stream = fit_scene.run(video, config, checkpoint=checkpoint)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == 12:
            break
    stream.close()
    resumed = tensors_of(m.result(fit_scene.run(video, config, checkpoint=checkpoint)))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_targets_average_known_depths_alone() -> None:
    depth = torch.tensor([[2.0, 4.0, 0.0, 0.0], [2.0, 4.0, 0.0, 6.0]])
    frame = Frame(torch.zeros(2, 4, 3, dtype=torch.uint8), depth=depth)
    small = resize(composite(frame, torch.ones(3)), (2, 1)).depth
    assert torch.equal(small, torch.tensor([[3.0, 0.0]]))


def depth_picture(path: Path, millimeters: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(millimeters.astype(np.uint16)).save(path)


def rendered_folder(folder: Path, with_video_frames: int = 3) -> Path:
    """Two cameras with three frames each; the depth of camera a is 1000 + frame, at half the size."""
    rig = replace(ring(2, size=(32, 24)), names=("a", "b"))
    for name in "ab":
        for i in range(with_video_frames):
            path = folder / f"images/{name}/{10 + i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 24), (i, i, i)).save(path)
    for i in range(2):
        depth_picture(folder / f"depth/{10 + i}.png", np.full((12, 16), 1000 + i))
    shape = (5, with_video_frames)
    arrays = {
        "pixels": np.arange(30, dtype=np.float32).reshape(*shape, 2),
        "visible": np.ones(shape, dtype=np.uint8),
        "views": np.zeros(shape, dtype=np.int32),
    }
    write_arrays(folder / "tracks.npz", arrays)
    write_cameras_json(
        folder,
        rig,
        30,
        frames=["images/a", "images/b"],
        depths=["depth", None],
        depth_unit=0.01,
        tracks="tracks.npz",
    )
    return folder


def test_cameras_json_gives_depth_and_tracks(tmp_path: Path) -> None:
    video = load_video(rendered_folder(tmp_path), LoadOptions(scale=0.5, first_frame=1))
    assert video.has_depths and video.moments == 2
    depth = video.source.read(0, 0).depth
    assert depth is not None and depth.shape == (12, 16) and torch.allclose(depth, torch.tensor(10.01))
    assert video.source.read(0, 1).depth is None and video.source.read(1, 0).depth is None
    assert video.tracks is not None and video.tracks.visible.shape == (5, 2)
    assert torch.equal(video.tracks.pixels[0, 0], torch.tensor([1.0, 1.5])), "halved with the images"


def test_a_depth_map_without_its_image_is_named(tmp_path: Path) -> None:
    folder = rendered_folder(tmp_path)
    depth_picture(folder / "depth/17.png", np.full((12, 16), 1000))
    with pytest.raises(InputError, match=r"1 depth maps .* such as depth/17\.png.*CAP-172"):
        load_video(folder)


def test_a_video_needs_a_depth_map_for_every_frame(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 32, 24
        for i in range(3):
            image = np.full((24, 32, 3), 50 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    for number in (0, 5):
        depth_picture(tmp_path / f"depth/{number}.png", np.full((24, 32), 1000 + number))
    write_cameras_json(tmp_path, ring(1, size=(32, 24)), 10, videos=["a.mp4"], depths=["depth"])
    with pytest.raises(InputError, match=r"2 depth maps, but a\.mp4 has 3 frames.*CAP-171"):
        load_video(tmp_path)
    depth_picture(tmp_path / "depth/10.png", np.full((24, 32), 1010))
    depth = load_video(tmp_path).source.read(0, 2).depth
    assert depth is not None and float(depth[0, 0]) == pytest.approx(1.01)


def test_wrong_tracks_of_cameras_json_are_refused(tmp_path: Path) -> None:
    folder = rendered_folder(tmp_path)
    good = {
        "pixels": np.zeros((5, 3, 2), np.float32),
        "visible": np.ones((5, 3), np.uint8),
        "views": np.zeros((5, 3), np.int32),
    }
    for changed, words in (
        ({"views": np.full((5, 3), 2, np.int32)}, "cameras, counted from 0"),
        ({"views": np.zeros((5, 4), np.int32)}, "at each of 3 frames"),
        ({"pixels": np.zeros((4, 3, 2), np.float32)}, "do not belong together"),
        ({"pixels": np.full((5, 3, 2), np.nan, np.float32)}, "no finite position"),
    ):
        write_arrays(folder / "tracks.npz", {**good, **changed})
        with pytest.raises(InputError, match=words):
            load_video(folder)
    write_arrays(folder / "tracks.npz", {"pixels": good["pixels"]})
    with pytest.raises(InputError, match="visible or views is missing"):
        load_video(folder)


def nerfstudio(folder: Path, depths: list[str], **common: float) -> Path:
    frames = []
    for i, name in enumerate(depths):
        Image.new("RGB", (32, 24)).save(folder / f"{i}.png")
        pose = torch.linalg.inv(ring(4).world_to_camera[i]) * torch.tensor([1.0, -1.0, -1.0, 1.0])
        frames.append(
            {
                "file_path": f"{i}.png",
                "transform_matrix": pose.tolist(),
                "time": i / 3,
                "depth_file_path": name,
            }
        )
    data = {"fl_x": 40.0, "w": 32, "h": 24, **common, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def test_nerfstudio_gives_depth_in_its_own_unit(tmp_path: Path) -> None:
    depth_picture(tmp_path / "d0.png", np.where(np.arange(32) < 16, 0, 2500)[None].repeat(24, 0))
    np.save(tmp_path / "d1.npy", np.full((24, 32), np.inf, np.float32))
    video = load_video(nerfstudio(tmp_path, ["d0.png", "d1.npy", "d2.png"]))
    assert video.has_depths and any("1 depth maps are missing, such as d2.png" in w for w in video.warnings)
    views = {name: i for i, name in enumerate(video.cameras.names)}
    depth = video.source.read(views["0"], 0).depth
    assert float(depth[0, 0]) == 0 and float(depth[0, 31]) == pytest.approx(2.5)
    assert not video.source.read(views["1"], 1).depth.any(), "infinite depth is unknown"
    assert video.source.read(views["2"], 2).depth is None
    scaled = load_video(nerfstudio(tmp_path, ["d0.png"], depth_unit_scale_factor=0.01))
    assert float(scaled.source.read(0, 0).depth[0, 31]) == pytest.approx(25.0)


def test_depth_maps_of_another_shape_or_with_colors_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (32, 24)).save(tmp_path / "color.png")
    depth_picture(tmp_path / "square.png", np.ones((24, 24)))
    np.save(tmp_path / "flat.npy", np.ones(5))
    for name, words in (("color.png", "several channels"), ("square.png", "24 × 24"), ("flat.npy", "shape")):
        video = load_video(nerfstudio(tmp_path, [name]))
        with pytest.raises(InputError, match=words):
            video.source.read(0, 0)
