"""What a lift gives beyond the scene: things that stand still for a while, and the capture that refines the scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.capture.depth_maps import UNIT
from engine.capture.single_video import depth_beside, load_clip
from engine.generation.lift.seen_through import corrected, presence
from engine.io.image_files import load_depth_images
from engine.messages import result
from engine.render import choose, render_gaussians
from engine.render.camera_paths import CameraPath
from engine.steps import fit_scene, lift_video
from engine.steps.lift_video import Lifted
from tests.filmed_room import Clip, Room, film_clip, pinholes, walk

ROOM = Path(__file__).resolve().parents[2] / "assets" / "clips" / "room" / "room.mp4"
FRAMES, SIZE = 6, (80, 60)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return film_clip(Room(), walk(FRAMES, SIZE, reach=0.3))


@pytest.fixture(scope="module")
def lifted(clip: Clip) -> Lifted:
    path = CameraPath(clip.cameras, torch.arange(FRAMES).double(), 24.0)
    return result(lift_video.run(clip.images, clip.depth, path, clip.moving.float()))


def test_what_stands_still_and_then_is_gone_is_found() -> None:
    frames, width, height = 8, 48, 32
    depth = torch.full((frames, height, width), 4.0)
    depth[:4, 8:24, 6:16] = 2.0
    depth[4:, 8:24, 30:40] = 2.0
    cameras = pinholes(torch.eye(4).repeat(frames, 1, 1), (width, height), 60)
    nothing = torch.zeros(depth.shape, dtype=torch.bool)
    found = corrected(nothing, depth, cameras)
    # the rim of a thing is an edge of the depth
    assert bool(found[:4, 10:22, 8:14].all()) and bool(found[4:, 10:22, 32:38].all())
    assert not bool(found[depth == 4.0].any())
    # flow that spills over to the wall is taken back, but not that of a wall far from the thing
    spilled = nothing.clone()
    spilled[1, 8:24, 16:18] = True
    assert not bool(corrected(spilled, depth, cameras)[1, 8:24, 16:18].any())
    flows = nothing.clone()
    flows[1, 8:24, 24:28] = True
    assert bool(corrected(flows, depth, cameras)[1, 8:24, 24:28].all())


def test_nothing_is_gone_from_a_scene_at_rest_although_the_camera_moves(clip: Clip) -> None:
    found = presence(clip.depth, clip.cameras, 0.001).gone
    assert float(found[~clip.moving].float().mean()) < 0.002


def test_the_capture_has_the_frames_with_depth_and_tracks(clip: Clip, lifted: Lifted) -> None:
    video = lifted.video
    assert video.views == video.moments == FRAMES and video.has_depths
    frame = video.source.read(3, 3)
    assert torch.allclose(frame.image.float() / 255, clip.images[3], atol=0.003)
    assert frame.depth is not None and torch.allclose(frame.depth, clip.depth[3], rtol=0.02)
    tracks = video.tracks
    assert tracks is not None
    both = tracks.visible[:, 1] & tracks.visible[:, 4]
    assert int(both.sum()) > 50
    column, row = tracks.pixels[both, 1].floor().long().unbind(1)
    moved = tracks.pixels[both, 4] - tracks.pixels[both, 1]
    assert float((moved - clip.flow(1, 4)[row, column]).norm(dim=1).median()) < 0.5


def test_training_goes_on_from_the_lifted_scene(clip: Clip, lifted: Lifted) -> None:
    config = fit_scene.Config(
        iterations=10,
        motion="per_frame",
        density="none",
        sh_degree=0,
        start_scale=1.0,
        depth_weight=0.1,
        track_weight=0.5,
        preview_every=0,
    )
    trained = result(fit_scene.run(lifted.video, config, start=lifted.scene))
    assert len(trained.canonical) == len(lifted.scene.canonical)

    def error(scene: fit_scene.Scene4D) -> float:
        drawn = [
            render_gaussians(scene.at(float(scene.times[t])), clip.cameras[t], choose("auto"), torch.zeros(3))
            for t in range(FRAMES)
        ]
        return float((torch.cat([d.rgb for d in drawn]) - clip.images).square().mean())

    assert error(trained) < 0.97 * error(lifted.scene)


def test_the_bundled_clip_has_exact_depth() -> None:
    frames, fps, _ = load_clip(ROOM)
    folder = depth_beside(ROOM)
    assert folder is not None and fps == 12
    depth = load_depth_images(folder, UNIT)
    assert depth.shape == frames.shape[:3]
    stored = np.asarray(Image.open(sorted(folder.glob("*.png"))[5])).astype(np.float32)
    assert np.array_equal((depth[5] / UNIT).round().numpy(), stored) and stored.max() > 5000


def test_a_video_without_a_depth_folder_has_none(tmp_path: Path) -> None:
    assert depth_beside(tmp_path / "clip.mp4") is None
    (tmp_path / "clip_depth").mkdir()
    assert depth_beside(tmp_path / "clip.mp4") == tmp_path / "clip_depth"
