"""Images in memory as a capture: each view gets its images, whatever their order, and what does not fit is refused."""

from __future__ import annotations

import pytest
import torch

from engine.capture.from_images import capture_of_images, frame_rate
from engine.errors import InputError
from tests.scenes import ring

VIEWS, FRAMES = 3, 4


def cameras_at(width: int, height: int):
    return ring(VIEWS).resized(((width, height),) * VIEWS)


def numbered() -> torch.Tensor:
    """[V, T, 4, 6, 3]: view and frame in the brightness."""
    return (torch.arange(VIEWS * FRAMES).reshape(VIEWS, FRAMES, 1, 1, 1).float() / 255).expand(
        -1, -1, 4, 6, 3
    )


@pytest.mark.parametrize("order", ["view by view", "frame by frame", "list"])
def test_every_view_has_its_images(order):
    images = numbered()
    if order == "list":
        batches = list(images)
    elif order == "view by view":
        batches = [images.reshape(-1, 4, 6, 3)]
    else:
        batches = [images.transpose(0, 1).reshape(-1, 4, 6, 3)]
    found = capture_of_images(batches, VIEWS, cameras_at, 8.0, order if order != "list" else "view by view")
    assert found.views == VIEWS and found.moments == FRAMES and bool(found.available.all())
    assert found.times.tolist() == [0, 0.125, 0.25, 0.375]
    assert found.cameras.sizes == ((6, 4),) * VIEWS
    for view in range(VIEWS):
        for frame in range(FRAMES):
            assert int(found.source.read(view, frame).image.float().mean()) == view * FRAMES + frame
    same = capture_of_images(batches, VIEWS, cameras_at, 8.0, order if order != "list" else "view by view")
    assert same.source.fingerprint() == found.source.fingerprint()


def test_a_moving_camera_has_one_frame_in_each_view():
    found = capture_of_images([numbered()[0][:VIEWS]], VIEWS, cameras_at, 24.0, "one moving camera")
    assert found.samples() == [(0, 0), (1, 1), (2, 2)]
    assert [int(found.source.read(i, i).image.float().mean()) for i in range(VIEWS)] == [0, 1, 2]


def test_a_moving_camera_takes_single_images():
    found = capture_of_images(
        [batch[:1] for batch in numbered()], VIEWS, cameras_at, 24.0, "one moving camera"
    )
    assert found.samples() == [(0, 0), (1, 1), (2, 2)]
    assert [int(found.source.read(i, i).image.float().mean()) for i in range(VIEWS)] == [0, 4, 8]


def test_connected_masks_replace_the_alpha_of_some_views():
    images = [torch.zeros(2, 4, 6, 4), torch.zeros(2, 4, 6, 3), torch.zeros(2, 4, 6, 4)]
    found = capture_of_images(images, VIEWS, cameras_at, 8.0, masks=[torch.ones(6, 4, 6)])
    mask = found.source.read(0, 1).mask
    assert mask is not None and int(mask.min()) == 255


def test_alpha_and_masks_are_masks():
    images = numbered()
    masks = torch.zeros(VIEWS, FRAMES, 4, 6)
    masks[1, 2] = 1
    with_alpha = torch.cat([images, masks[..., None]], -1)
    for found in (
        capture_of_images(list(with_alpha), VIEWS, cameras_at, 8.0),
        capture_of_images(list(images), VIEWS, cameras_at, 8.0, masks=[masks.reshape(-1, 4, 6)]),
    ):
        assert found.has_masks
        assert int(found.source.read(1, 2).mask.min()) == 255 and int(found.source.read(0, 2).mask.max()) == 0


@pytest.mark.parametrize(
    ("code", "batches", "order", "masks"),
    [
        ("CAP-265", [torch.zeros(2, 4, 6, 3), torch.zeros(3, 4, 6, 3), torch.zeros(2, 4, 6, 3)], "view by view", []),
        ("CAP-266", [torch.zeros(6, 4, 6, 3)], "view by view", [torch.zeros(6, 4, 5)]),
        ("CAP-267", [torch.zeros(2, 4, 6, 3)] * 2, "view by view", []),
        ("CAP-268", [torch.zeros(7, 4, 6, 3)], "frame by frame", []),
        ("CAP-268", [torch.zeros(6, 4, 6, 3)], "one moving camera", []),
        ("CAP-268", [torch.zeros(0, 4, 6, 3)], "view by view", []),
        ("CAP-269", [torch.zeros(5, 4, 6, 3)] * 3, "one moving camera", []),
        ("CAP-269", [torch.zeros(2, 4, 6, 3)] * 3, "one moving camera", []),
        ("CAP-270", [torch.zeros(2, 4, 6, 4), torch.zeros(2, 4, 6, 3), torch.zeros(2, 4, 6, 4)], "view by view", []),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(code, batches, order, masks):
    with pytest.raises(InputError) as refused:
        capture_of_images(batches, VIEWS, cameras_at, 8.0, order, masks)
    assert refused.value.code == code


def test_the_frame_rate_is_that_of_the_videos_and_24_for_images():
    assert frame_rate(0.0, [30000 / 1001, 29.97]) == 30000 / 1001
    assert frame_rate(0.0, []) == 24
    assert frame_rate(12.0, [24.0, 30.0]) == 12


def test_videos_of_different_frame_rates_are_refused():
    with pytest.raises(InputError, match="24, 30 frames per second") as refused:
        frame_rate(0.0, [24.0, 30.0])
    assert refused.value.code == "CAP-271"
