"""Cameras of a clip, solved from known tracks with noise and depth maps of another scale and shift in every frame."""

import math

import pytest
import torch

from engine.errors import InputError
from engine.generation.lift.depth_maps import depth_maps
from engine.generation.lift.placing import fixed_clip, given_clip, rests, sightings, solved_clip
from engine.geometry.clip_cameras import solve_cameras
from engine.scene import Cameras
from engine.tracking.tracks import ClipTracks
from tests.filmed_room import CROWDED, Clip, Room, film_clip, scrambled, walk

SIZE = (120, 90)


def true_tracks(clip: Clip, spacing: int = 9, noise: float = 0.1) -> ClipTracks:
    """Points of a grid in every fourth frame, with noise in pixels."""
    frames, height, width = clip.depth.shape
    row, column = torch.meshgrid(
        torch.arange(spacing // 2, height, spacing), torch.arange(spacing // 2, width, spacing), indexing="ij"
    )
    row, column = row.flatten(), column.flatten()
    start = torch.stack([column, row], 1) + 0.5
    parts, g = [], torch.Generator().manual_seed(0)
    for a in range(0, frames, 4):
        pixels, visible = [], []
        for t in range(frames):
            jitter = noise * torch.randn(len(start), 2, generator=g) * (t != a)
            pixels.append(start + clip.flow(a, t)[row, column] + jitter)
            inside = ((pixels[-1] > 0) & (pixels[-1] < torch.tensor([width, height]))).all(1)
            visible.append(clip.visible(a, t)[row, column] & inside)
        parts.append(ClipTracks(torch.stack(pixels), torch.stack(visible), torch.full((len(start),), a)))
    return ClipTracks(
        torch.cat([p.pixels for p in parts], 1),
        torch.cat([p.visible for p in parts], 1),
        torch.cat([p.anchors for p in parts]),
    )


def camera_errors(found: Cameras, true: Cameras) -> tuple[float, float]:
    """Largest distance between centers after fitting the scale, relative to the path's length, and degrees."""
    relative = true.world_to_camera @ torch.linalg.inv(true.world_to_camera[:1])
    wanted = -(relative[:, :3, :3].transpose(1, 2) @ relative[:, :3, 3:])[..., 0]
    scale = (wanted * found.centers).sum() / found.centers.square().sum()
    length = wanted.diff(dim=0).norm(dim=1).sum()
    turn = relative[:, :3, :3] @ found.world_to_camera[:, :3, :3].transpose(1, 2)
    cosine = (turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    distance = (scale * found.centers - wanted).norm(dim=1).max() / length
    return float(distance), math.degrees(float(cosine.clamp(-1, 1).acos().max()))


@pytest.fixture(scope="module")
def room() -> Clip:
    return film_clip(Room(), walk(8, SIZE), rays_per_side=1)


@pytest.fixture(scope="module")
def crowded() -> Clip:
    return film_clip(Room(CROWDED), walk(8, SIZE), rays_per_side=1)


@pytest.fixture(scope="module")
def tracks(room: Clip) -> ClipTracks:
    return true_tracks(room)


def test_cameras_are_solved_with_a_known_focal_length(room: Clip, tracks: ClipTracks) -> None:
    seen = sightings(tracks, scrambled(room.depth), False)
    found = solve_cameras(seen, SIZE, float(room.cameras.K[0, 0, 0]))
    distance, degrees = camera_errors(found.cameras, room.cameras)
    assert distance < 0.02
    assert degrees < 1


@pytest.mark.slow
def test_cameras_are_solved_without_a_focal_length(room: Clip, tracks: ClipTracks) -> None:
    found = solve_cameras(sightings(tracks, scrambled(room.depth), False), SIZE)
    distance, degrees = camera_errors(found.cameras, room.cameras)
    assert distance < 0.04
    assert degrees < 1
    assert float(found.cameras.K[0, 0, 0]) == pytest.approx(float(room.cameras.K[0, 0, 0]), rel=0.05)


def test_a_third_of_the_image_may_move(crowded: Clip) -> None:
    assert float(crowded.moving.float().mean()) > 0.3
    seen = sightings(true_tracks(crowded), scrambled(crowded.depth), False)
    found = solve_cameras(seen, SIZE, float(crowded.cameras.K[0, 0, 0]))
    distance, degrees = camera_errors(found.cameras, crowded.cameras)
    assert distance < 0.02
    assert degrees < 1


def test_disparity_is_recognized_and_depth_restored(room: Clip, tracks: ClipTracks) -> None:
    disparity = scrambled(1 / room.depth + 0.2)
    images = disparity[..., None].expand(-1, -1, -1, 3)
    maps = depth_maps(images, len(images), SIZE)
    placed = solved_clip(tracks, maps, "auto", float(room.cameras.K[0, 0, 0]), None)
    assert any("disparity" in note for note in placed.notes)
    still = ~room.moving
    ratio = placed.depth[still] / room.depth[still]
    assert float((ratio / ratio.median() - 1).abs().median()) < 0.02


def test_a_camera_that_only_turns_is_refused_with_an_offer() -> None:
    clip = film_clip(Room(), walk(6, SIZE, pans=True), rays_per_side=1)
    maps = depth_maps(clip.depth, 6, SIZE)
    with pytest.raises(InputError, match=r"only turns.*'fixed'.*GEN-036"):
        solved_clip(true_tracks(clip), maps, "depth", float(clip.cameras.K[0, 0, 0]), None)


def test_a_camera_at_rest_is_recognized() -> None:
    cameras = walk(5, SIZE)[[0] * 5]
    clip = film_clip(Room(), cameras, rays_per_side=1)
    tracks = true_tracks(clip, noise=0.02)
    assert rests(tracks, SIZE[0])
    placed = fixed_clip(depth_maps(scrambled(clip.depth), 5, SIZE), tracks, "depth", 100.0)
    first = placed.depth[:1].expand(5, -1, -1)
    still = ~clip.moving.any(0).expand(5, -1, -1)
    assert float((placed.depth / first - 1).abs()[still].median()) < 1e-3


def test_depth_is_fitted_to_given_cameras(room: Clip, tracks: ClipTracks) -> None:
    maps = depth_maps(scrambled(room.depth), len(room.depth), SIZE)
    placed = given_clip(room.cameras, maps, tracks, "depth", "connected")
    still = ~room.moving
    assert float((placed.depth / room.depth - 1).abs()[still].median()) < 0.02
