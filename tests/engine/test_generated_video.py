"""Measures of one generated video: consistency, CLIP score, matches and camera error where the answer is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from engine.errors import InputError
from engine.generation.output_measures import (
    OutputNetworks,
    OutputVideo,
    TrackedVideo,
    frame_consistency,
    match_numbers,
    network_numbers,
    path_numbers,
)
from engine.generation.video_sources import is_path
from engine.geometry.pose_errors import relative_pose_error
from engine.losses.means import Number
from engine.losses.perceptual import load_clip
from engine.messages import returned
from engine.models.dino import DinoFeatures
from engine.scene import Cameras, rotations
from tests.engine.test_perceptual import clip_folder
from tests.filmed_room import Clip, Room, film_clip, pinholes, walk
from tests.tiny_dino import KINDS, save_dino

__all__ = ["clip_folder"]


def by_name(numbers: tuple[Number, ...]) -> dict[str, Number]:
    return {n.name: n for n in numbers}


# -- consistency ------------------------------------------------------------------------------------------------------


def test_consistency_is_the_mean_similarity_to_the_first_and_the_previous_frame() -> None:
    angles = torch.tensor([0.0, 30, 90, 200]).deg2rad()
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    cos = [math.cos(math.radians(a)) for a in (30, 60)]
    # the last frame is more than a right angle from both: negative similarities count as 0
    wanted = torch.tensor([cos[0], (0.0 + cos[1]) / 2, 0.0])
    torch.testing.assert_close(frame_consistency(features), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_dino_features_are_the_models_own_class_tokens(tmp_path: Path, kind: str) -> None:
    import transformers

    dino = DinoFeatures(save_dino(tmp_path / "tiny-dino", kind))
    images = torch.rand(2, 224, 224, 3, generator=torch.Generator().manual_seed(0))
    found = dino.images(images)
    model = getattr(transformers, KINDS[kind][0]).from_pretrained(tmp_path / "tiny-dino").eval()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((images - mean) / deviation).permute(0, 3, 1, 2)
    more = {"interpolate_pos_encoding": True} if kind == "vit" else {}
    with torch.no_grad():
        own = F.normalize(model(pixel_values=pixels, **more).last_hidden_state[:, 0], dim=-1)
    torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-4)
    # any shape is taken; its features are those of a whole number of patches
    assert dino.images(torch.rand(1, 30, 47, 3)).shape == found[:1].shape


def test_another_models_folder_is_refused(clip_folder: Path) -> None:
    with pytest.raises(InputError, match="'clip', not DINO"):
        DinoFeatures(clip_folder)


def test_a_still_video_is_consistent_and_its_score_is_the_cosine(clip_folder: Path, tmp_path: Path) -> None:
    clip, dino = load_clip(clip_folder), DinoFeatures(save_dino(tmp_path / "tiny-dino"))
    generator = torch.Generator().manual_seed(0)
    still = torch.rand(1, 40, 56, 3, generator=generator).expand(5, -1, -1, -1)
    networks = OutputNetworks(clip, dino, "a dog")
    found = by_name(tuple(network_numbers(OutputVideo(still), networks)))
    assert found["subject_consistency"].value == pytest.approx(1, abs=1e-5)
    assert found["background_consistency"].value == pytest.approx(1, abs=1e-5)
    assert found["subject_consistency"].pictures == 4
    assert found["subject_consistency"].model == "tiny-dino at 224 px"
    assert found["background_consistency"].model == "tiny-random-clip at 32 px"
    wanted = 100 * float(clip.images(still[:1])[0] @ clip.texts(["a dog"])[0])
    assert found["clip_score"].value == pytest.approx(wanted, abs=1e-3) and found["clip_score"].pictures == 5
    torn = torch.rand(5, 40, 56, 3, generator=generator)
    torn[::2] = 1 - torn[::2] ** 4
    other = by_name(tuple(network_numbers(OutputVideo(torn), networks)))
    for name in ("subject_consistency", "background_consistency"):
        assert other[name].value < found[name].value - 1e-3
    assert not tuple(network_numbers(OutputVideo(still), OutputNetworks(None, None, "a dog")))
    without = by_name(tuple(network_numbers(OutputVideo(still), OutputNetworks(clip, None, ""))))
    assert set(without) == {"background_consistency"}


# -- camera error -----------------------------------------------------------------------------------------------------


def in_another_world(cameras: Cameras, scale: float, seed: int = 0) -> Cameras:
    """The same cameras after a similarity transform of the world."""
    generator = torch.Generator().manual_seed(seed)
    quat = F.normalize(torch.randn(4, generator=generator, dtype=torch.float64), dim=0)
    turn, shift = rotations.quats_to_matrices(quat), torch.randn(3, generator=generator, dtype=torch.float64)
    poses = cameras.camera_to_world.double().clone()
    poses[:, :3, 3] = scale * poses[:, :3, 3] @ turn.T + shift
    poses[:, :3, :3] = turn @ poses[:, :3, :3]
    return replace(cameras, world_to_camera=torch.linalg.inv(poses))


def test_the_same_path_in_any_world_has_no_error() -> None:
    path = walk(9)
    for found in (path, in_another_world(path, 0.2), in_another_world(path, 30, seed=1)):
        error = relative_pose_error(found, path)
        assert error.translation < 1e-9 and error.rotation < 1e-5
    assert error.length == pytest.approx(float(path.centers.diff(dim=0).norm(dim=1).sum()))


def test_a_known_turn_of_one_camera_is_measured_exactly() -> None:
    path = walk(9)
    poses = path.world_to_camera.double().clone()
    angle = math.radians(3)
    turn = torch.eye(4, dtype=torch.float64)
    turn[0, 0], turn[0, 2], turn[2, 0], turn[2, 2] = (
        math.cos(angle),
        math.sin(angle),
        -math.sin(angle),
        math.cos(angle),
    )
    # the last camera turns about its own center: one of eight movements is off by 3°, and none in place
    poses[-1] = turn @ poses[-1]
    found = replace(path, world_to_camera=poses)
    for world in (found, in_another_world(found, 5.0)):
        error = relative_pose_error(world, path)
        assert error.rotation == pytest.approx(3 / math.sqrt(8), rel=1e-6)
        assert error.translation < 1e-8


def test_a_known_shift_of_cameras_is_measured_exactly() -> None:
    """Two cameras of a straight path step aside, oppositely: centers stay the same size on average to first order."""
    count = 8
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    poses[:, 0, 3] = -torch.arange(count)
    path = pinholes(poses, (40, 30), 60.0)
    moved = poses.clone()
    offset = 1e-4
    moved[2, 1, 3], moved[5, 1, 3] = offset, -offset
    found = replace(path, world_to_camera=moved)
    # each of the two is one end of two movements
    wanted = offset * math.sqrt(4 / (count - 1))
    assert relative_pose_error(found, path).translation == pytest.approx(wanted, rel=1e-3)
    assert relative_pose_error(in_another_world(found, 7.0), path).translation == pytest.approx(
        wanted, rel=1e-3
    )


# -- tracking ---------------------------------------------------------------------------------------------------------

FRAMES, SIZE = 7, (112, 84)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return film_clip(Room(), walk(FRAMES, SIZE, reach=0.35))


def tracked_of(video: OutputVideo) -> TrackedVideo:
    return returned(TrackedVideo.of(video))


@pytest.fixture(scope="module")
def tracked(clip: Clip) -> TrackedVideo:
    return tracked_of(OutputVideo(clip.images, clip.cameras, clip.depth))


def test_cameras_solved_from_a_video_follow_its_path(clip: Clip, tracked: TrackedVideo) -> None:
    numbers, reason = path_numbers(tracked)
    found = by_name(numbers)
    assert not reason
    assert found["rpe_translation / path length"].value < 0.02 and found["rpe_rotation"].value < 1
    assert "112×84" in found["rpe_rotation"].model and found["rpe_rotation"].pictures == FRAMES - 1
    length = float(clip.cameras.centers.diff(dim=0).norm(dim=1).sum())
    ratio = found["rpe_translation"].value / found["rpe_translation / path length"].value
    assert ratio == pytest.approx(length)


def test_a_video_that_does_not_follow_its_path_shows_it(clip: Clip, tracked: TrackedVideo) -> None:
    right = by_name(path_numbers(tracked)[0])
    # asked for: the same path, with every other camera turned by 4°
    poses = clip.cameras.world_to_camera.double().clone()
    c, s = math.cos(math.radians(4)), math.sin(math.radians(4))
    turn = torch.eye(4, dtype=torch.float64)
    turn[0, 0], turn[0, 1], turn[1, 0], turn[1, 1] = c, -s, s, c
    poses[1::2] = turn @ poses[1::2]
    asked = replace(tracked, cameras=replace(clip.cameras, world_to_camera=poses))
    wrong = by_name(path_numbers(asked)[0])
    assert wrong["rpe_rotation"].value == pytest.approx(4, abs=1) and right["rpe_rotation"].value < 1


def test_a_path_that_cannot_be_checked_is_left_out_with_a_sentence(clip: Clip, tracked: TrackedVideo) -> None:
    still = replace(clip.cameras, world_to_camera=clip.cameras.world_to_camera[:1].repeat(FRAMES, 1, 1))
    empty = torch.full_like(clip.depth, torch.nan)
    cases = (
        (replace(tracked, cameras=None), "needs the camera path"),
        (replace(tracked, cameras=still), "does not move"),
        (replace(tracked, depth=empty), "is not seen"),
    )
    for video, words in cases:
        numbers, reason = path_numbers(video)
        assert not numbers and words in reason


def test_every_keypoint_of_a_still_video_matches_and_none_across_a_cut(clip: Clip) -> None:
    still = clip.images[:1].expand(6, -1, -1, -1)
    found = by_name(match_numbers(tracked_of(OutputVideo(still))))
    assert found["match_share"].value == 1 and found["matches"].value > 100
    assert found["matches"].pictures == 2 * 5 and "TV-L1" in found["matches"].model
    cut = torch.cat([clip.images[:1].expand(3, -1, -1, -1), clip.images[:1].flip(1, 2).expand(3, -1, -1, -1)])
    halves = by_name(match_numbers(tracked_of(OutputVideo(cut))))
    # from each frame, two of the other five frames show the same image
    assert halves["match_share"].value == pytest.approx(2 / 5, abs=0.06)
    assert not match_numbers(tracked_of(OutputVideo(torch.full((4, 48, 64, 3), 0.5))))


def test_large_videos_are_tracked_at_a_smaller_size_and_with_their_cameras(clip: Clip) -> None:
    large = clip.images[:3].repeat_interleave(4, 1).repeat_interleave(4, 2)
    cameras = clip.cameras[:3].resized(((4 * SIZE[0], 4 * SIZE[1]),) * 3)
    depth = clip.depth[:3].repeat_interleave(4, 1).repeat_interleave(4, 2)
    found = tracked_of(OutputVideo(large, cameras, depth))
    assert found.size == (320, 240) and found.depth is not None and found.depth.shape == (3, 240, 320)
    assert found.cameras is not None and found.cameras.sizes == ((320, 240),) * 3
    torch.testing.assert_close(found.cameras.K[0, 0, 0], clip.cameras.K[0, 0, 0] * 320 / SIZE[0])


def test_a_rig_is_not_a_path(clip: Clip) -> None:
    times = torch.arange(FRAMES).double()
    assert is_path(clip.cameras, times) and not is_path(clip.cameras, times[:-1])
    around = clip.cameras.world_to_camera.double().clone()
    around[3, :3] *= -1
    assert not is_path(replace(clip.cameras, world_to_camera=around), times)
