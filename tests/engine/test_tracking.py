"""Optical flow and tracks on a room of which everything is known."""

import pytest
import torch

from engine.messages import returned
from engine.tracking.flow import optical_flow
from engine.tracking.patches import registered
from engine.tracking.tracks import ClipFlow, clip_flow, grid_tracks
from tests.filmed_room import Clip, Room, film_clip, walk


@pytest.fixture(scope="module")
def clip() -> Clip:
    return film_clip(Room(), walk(7, (128, 96), reach=0.3))


def solved(images: torch.Tensor) -> ClipFlow:
    return returned(clip_flow(images))


@pytest.fixture(scope="module")
def flow(clip: Clip) -> ClipFlow:
    return solved(clip.images)


def test_flow_is_exact_to_a_tenth_of_a_pixel(clip: Clip) -> None:
    found = optical_flow(clip.images[:1], clip.images[1:2])[0]
    error = (found - clip.flow(0, 1)).norm(dim=-1)[clip.visible(0, 1)]
    assert float(error.median()) < 0.1
    assert float(error.mean()) < 0.5


def test_flow_follows_movement_of_many_pixels(clip: Clip) -> None:
    true, seen = clip.flow(1, 5), clip.visible(1, 5)
    found = optical_flow(clip.images[1:2], clip.images[5:6])[0]
    error = (found - true).norm(dim=-1)[seen]
    assert float(true.norm(dim=-1)[seen].mean()) > 4
    assert float(error.median()) < 0.35


def test_a_change_of_brightness_is_not_motion(clip: Clip) -> None:
    found = optical_flow(clip.images[:1], clip.images[:1] + 0.1)
    assert float(found.norm(dim=-1).median()) < 0.05


def test_pixels_that_get_hidden_fail_the_check(clip: Clip, flow: ClipFlow) -> None:
    seen = clip.visible(0, 1)
    agrees = flow.forward_agrees[0]
    assert float(agrees[seen].float().mean()) > 0.95
    assert float(agrees[~seen].float().mean()) < float(agrees[seen].float().mean())


def test_a_followed_point_ends_where_it_leaves(flow: ClipFlow) -> None:
    width, height = flow.size
    _, visible = flow.followed(0, torch.tensor([[width - 0.5, height / 2], [width / 2, height / 2]]))
    assert visible[0].all()
    # once lost, a point is not found again
    assert not bool((visible[1:] & ~visible[:-1]).any())


def test_registration_keeps_tracks_from_drifting(clip: Clip, flow: ClipFlow) -> None:
    chained = grid_tracks(flow, clip.images, 8, 7)
    chained = chained.take(chained.anchors == 0)
    fixed = registered(flow, clip.images, chained)
    errors = []
    for tracks in (chained, fixed):
        row, column = tracks.pixels[0].floor().long().flip(1).unbind(1)
        true = clip.flow(0, 6)[row, column]
        error = (tracks.pixels[6] - tracks.pixels[0] - true).norm(dim=1)[tracks.visible[6]]
        errors.append(float(error.median()))
    assert errors[1] < 0.2
    assert errors[1] < 0.7 * errors[0]
    assert float(fixed.visible[6].float().mean()) > 0.6
