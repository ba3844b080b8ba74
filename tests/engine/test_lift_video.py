"""Lift Video to 4D: static parts stay and are seen from beside, moving parts follow their tracks, bad input is named."""

import math
from typing import Any

import pytest
import torch

from engine.errors import InputError
from engine.generation.lift.clip_checks import check_cuts, picture_box
from engine.generation.lift.depth_maps import depth_maps
from engine.generation.lift.moving_parts import moving_parts
from engine.losses.metrics import psnr
from engine.messages import Finished, Preview, Progress, Started, result
from engine.render import choose, render_gaussians
from engine.render.camera_paths import CameraPath
from engine.steps import lift_video as step
from engine.steps.lift_video import Config, Lifted
from engine.tracking.tracks import ClipFlow, returns
from tests.filmed_room import Clip, Room, beside, film_clip, pinholes, scrambled, walk

FRAMES, SIZE = 8, (112, 84)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return film_clip(Room(), walk(FRAMES, SIZE, reach=0.35))


@pytest.fixture(scope="module")
def path(clip: Clip) -> CameraPath:
    return CameraPath(clip.cameras, torch.arange(FRAMES).double(), 24.0)


@pytest.fixture(scope="module")
def messages(clip: Clip, path: CameraPath) -> list[Any]:
    """With known cameras; depth has another scale and shift in every frame."""
    return list(step.run(clip.images, scrambled(clip.depth), path, clip.moving.float()))


@pytest.fixture(scope="module")
def lifted(messages: list[Any]) -> Lifted:
    return messages[-1].value


def test_the_stream_counts_up_and_shows_a_preview(messages: list[Any]) -> None:
    assert isinstance(messages[0], Started) and isinstance(messages[-1], Finished)
    done = [m.done for m in messages if isinstance(m, Progress)]
    assert done == sorted(done) and done[-1] <= messages[0].total
    assert any(isinstance(m, Preview) and float(m.image.std()) > 0.05 for m in messages)


def test_static_parts_are_seen_from_a_camera_beside_the_path(clip: Clip, lifted: Lifted) -> None:
    frame = FRAMES // 2
    camera = beside(clip.cameras[frame], 6)
    true = clip.room.film(camera, clip.times[frame])
    scene = lifted.scene
    drawn = render_gaussians(scene.at(float(scene.times[frame])), camera, choose("auto"), scene.background)
    still = (drawn.alpha[0] > 0.9) & ~clip.room.is_moving(true.part)
    assert float(still.float().mean()) > 0.6
    assert psnr(drawn.rgb[0].clamp(0, 1)[still][None], true.image[still][None]) > 25


def test_moving_parts_follow_their_tracks(clip: Clip, lifted: Lifted) -> None:
    scene = lifted.scene
    frames = [scene.at(float(seconds)) for seconds in scene.times]
    moves = (frames[-1].means - frames[0].means).norm(dim=1) > 1e-3
    middle = FRAMES // 2
    shown = moves & (frames[middle].logit_opacities > 0)
    pixels, z = clip.cameras.project(frames[middle].means, middle)
    column, row = pixels.floor().long().unbind(1)
    column, row = column.clamp(0, SIZE[0] - 1), row.clamp(0, SIZE[1] - 1)
    on = shown & clip.moving[middle][row, column] & ((clip.depth[middle][row, column] - z).abs() < 0.05 * z)
    assert int(on.sum()) > 100
    error, rest = 0.0, 0.0
    for t in (0, FRAMES - 1):
        true = (clip.placed(middle, t) - clip.points[middle])[row, column][on]
        error += float(((frames[t].means - frames[middle].means)[on] - true).norm(dim=1).mean())
        rest += float(true.norm(dim=1).mean())
    assert error < 0.5 * rest


def test_what_does_not_move_keeps_its_place_exactly(lifted: Lifted) -> None:
    count = lifted.scene.history[-1]["background"]
    first, last = (lifted.scene.at(float(lifted.scene.times[i])).means[:count] for i in (0, -1))
    assert torch.equal(first, last)


@pytest.mark.slow
def test_cameras_and_what_moves_are_found_in_images_alone(clip: Clip) -> None:
    made = result(step.run(clip.images, scrambled(clip.depth), config=Config(fov=60, depth_kind="depth")))
    found = made.moving > 0.5
    assert float((found & clip.moving).sum() / clip.moving.sum()) > 0.65
    assert float((found & clip.moving).sum() / found.sum()) > 0.8
    assert "cameras: solved" in made.note


def test_geometry_of_other_nodes_is_read(clip: Clip) -> None:
    width, height = SIZE
    depth = clip.depth.clone()
    depth[:, :5] = torch.inf
    K = clip.cameras.K
    poses = clip.cameras.world_to_camera[None]
    of_da3 = depth_maps({"depth": depth, "intrinsics": K[None], "extrinsics": poses}, FRAMES, SIZE)
    assert of_da3.K is not None and torch.allclose(of_da3.K, K)
    assert of_da3.world_to_camera is not None and bool(of_da3.values[:, :5].isnan().all())
    assert not of_da3.may_be_disparity
    relative = K.clone()
    relative[:, 0] /= width
    relative[:, 1] /= height
    points = torch.stack([depth, depth, depth], -1)
    mask = torch.ones_like(depth)
    mask[:, -3:] = 0
    of_moge = depth_maps({"points": points, "intrinsics": relative, "mask": mask}, FRAMES, SIZE)
    assert of_moge.K is not None and torch.allclose(of_moge.K, K)
    assert of_moge.world_to_camera is None and bool(of_moge.values[:, -3:].isnan().all())
    # without a multi-view mode, every camera is the identity
    identity = torch.eye(4).repeat(1, FRAMES, 1, 1)
    assert depth_maps({"depth": depth, "extrinsics": identity}, FRAMES, SIZE).world_to_camera is None


def test_large_values_are_the_sky_in_depth_but_near_in_disparities(clip: Clip) -> None:
    values = clip.depth.clone()
    values[:, :5, :5] = 1e4
    for given, is_depth, is_sky in (
        (values, False, False),
        (values, True, True),
        ({"depth": values}, False, True),
    ):
        maps = depth_maps(given, FRAMES, SIZE, is_depth)
        assert bool(maps.values[:, :5, :5].isnan().all()) is is_sky
        assert not maps.values[:, 5:, 5:].isnan().any()


@pytest.mark.parametrize("cameras", ["connected", "of the depth", "fixed"])
def test_a_given_field_of_view_replaces_that_of_the_cameras(
    clip: Clip, path: CameraPath, cameras: str
) -> None:
    depth = {"depth": clip.depth[:3], "intrinsics": clip.cameras.K[:3]}
    if cameras == "of the depth":
        depth["extrinsics"] = clip.cameras.world_to_camera[:3]
    known = CameraPath(path.cameras[:3], path.seconds[:3], 24.0) if cameras == "connected" else None
    config = Config(cameras="fixed" if cameras == "fixed" else "auto", fov=40)
    scene = result(step.run(clip.images[:3], depth, known, clip.moving[:3].float(), config)).scene
    focal = SIZE[0] / 2 / math.tan(math.radians(20))
    assert abs(focal / float(clip.cameras.K[0, 0, 0]) - 1) > 0.1
    assert torch.allclose(scene.rig.K[:, 0, 0], torch.tensor(focal, dtype=scene.rig.K.dtype))
    assert torch.allclose(scene.rig.K[:, 1, 1], scene.rig.K[:, 0, 0])


@pytest.mark.parametrize(
    "given, code",
    [
        (torch.rand(3, 84, 112), "GEN-030"),
        (torch.rand(FRAMES, 40, 112), "GEN-031"),
        ([0.5] * FRAMES, "GEO-012"),
        ({"normal": torch.rand(FRAMES, 84, 112, 3)}, "GEO-011"),
        (torch.full((FRAMES, 84, 112), torch.nan), "GEN-033"),
        (torch.full((FRAMES, 84, 112), 0.5), "GEN-034"),
    ],
)
def test_depth_that_does_not_fit_is_named(given: Any, code: str) -> None:
    with pytest.raises(InputError, match=code):
        depth_maps(given, FRAMES, SIZE)


def test_letterbox_bars_are_found_and_a_dark_video_is_left_alone() -> None:
    images = 0.2 + 0.5 * torch.rand(4, 60, 80, 3)
    images[:, :9], images[:, -7:] = 0.01, 0
    assert picture_box(images) == (0, 9, 80, 44)
    assert picture_box(torch.zeros(4, 60, 80, 3)) == (0, 0, 80, 60)


def test_a_cut_is_named_by_its_frame() -> None:
    g = torch.Generator().manual_seed(0)
    forward = torch.zeros(5, 40, 50, 2)
    forward[2] = 8 * torch.randn(40, 50, 2, generator=g)
    agrees = returns(forward, torch.zeros_like(forward))
    flow = ClipFlow(forward, torch.zeros_like(forward), agrees, agrees)
    with pytest.raises(InputError, match=r"cut before frame 16.*'frame count' 3.*GEN-035"):
        check_cuts(flow, first=10, step=2)


def test_numbers_of_frames_cameras_and_masks_must_agree(clip: Clip, path: CameraPath) -> None:
    with pytest.raises(InputError, match="STP-082"):
        result(step.run(clip.images[:2], clip.depth[:2]))
    with pytest.raises(InputError, match=r"leaves 2 frames; 3 to 121.*STP-083"):
        result(step.run(clip.images, clip.depth, config=Config(frame_count=2)))
    with pytest.raises(InputError, match="STP-084"):
        short = CameraPath(path.cameras[:3], path.seconds[:3], 24.0)
        result(step.run(clip.images, clip.depth, short))
    with pytest.raises(InputError, match="STP-085"):
        result(step.run(clip.images, clip.depth, masks=clip.moving[:2].float()))


def test_cameras_of_another_aspect_ratio_are_refused(clip: Clip, path: CameraPath) -> None:
    for size, fits in (((56, 43), True), ((224, 168), True), ((112, 112), False), ((112, 80), False)):
        cameras = path.cameras.resized((size,) * FRAMES)
        work = step.run(clip.images, clip.depth, CameraPath(cameras, path.seconds, 24.0))
        if fits:
            assert isinstance(next(work), Started)
            continue
        with pytest.raises(InputError, match=rf"{size[0]}×{size[1]}, but the video is 112×84, .*STP-088"):
            next(work)


def test_a_mask_over_the_whole_video_is_named(clip: Clip, path: CameraPath) -> None:
    few = CameraPath(path.cameras[:4], path.seconds[:4], 24.0)
    with pytest.raises(InputError, match=r"The mask covers the whole video.*STP-086"):
        result(step.run(clip.images[:4], clip.depth[:4], few, torch.ones(1, SIZE[1], SIZE[0])))


def test_a_frame_without_depth_does_not_end_tracks() -> None:
    frames, width, height = 5, 16, 12
    depth = (3 + 0.1 * torch.arange(frames).float())[:, None, None].repeat(1, height, width)
    depth[1] = torch.nan
    still = torch.zeros(frames - 1, height, width, 2)
    agrees = torch.ones(frames - 1, height, width, dtype=torch.bool)
    cameras = pinholes(torch.eye(4).repeat(frames, 1, 1), (width, height), 60)
    work = moving_parts(
        torch.rand(frames, height, width, 3),
        depth,
        cameras,
        torch.ones(frames, height, width, dtype=torch.bool),
        ClipFlow(still, still, agrees, agrees),
    )
    while True:
        try:
            next(work)
        except StopIteration as end:
            parts = end.value
            break
    assert parts is not None and bool(parts.places.isfinite().all())
    for t in (0, 2, 3, 4):
        assert torch.allclose(parts.places[t, :, 2].float(), torch.tensor(3 + 0.1 * t)), t
