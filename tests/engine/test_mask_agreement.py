"""Masks are checked against each other: exact ones agree, and one that lacks a part or keeps the background is named."""

import pytest
import torch
from torch import Tensor

from engine.capture.mask_agreement import check_agreement, check_jumps, mask_agreement, small_mask
from engine.scene.cameras import Cameras
from tests.scenes import ring

BOUNDS = torch.tensor([[-1.2, -1.2, -1.2], [1.2, 1.2, 1.2]], dtype=torch.float64)
# two balls, one above the other: center and radius
BALLS = ((0.0, 0.0, -0.4, 0.45), (0.1, 0.0, 0.35, 0.35))


@pytest.fixture(scope="module")
def cameras() -> Cameras:
    return ring(5, size=(96, 80))


def silhouette(cameras: Cameras, view: int) -> Tensor:
    """The exact mask [H, W] of the balls: a ray meets a ball if it passes its center at less than its radius."""
    width, height = cameras.sizes[view]
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    K, pose = cameras.K[view].double(), cameras.world_to_camera[view].double()
    rays = torch.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], torch.ones_like(u)], -1).double()
    rays = torch.nn.functional.normalize(rays @ pose[:3, :3], dim=-1)
    hit = torch.zeros(height, width, dtype=torch.bool)
    for x, y, z, radius in BALLS:
        away = torch.tensor([x, y, z], dtype=torch.float64) - cameras.centers[view].double()
        hit |= (away.square().sum() - (rays @ away).square()) < radius**2
    return hit


@pytest.fixture
def masks(cameras: Cameras) -> dict[int, Tensor]:
    return {view: silhouette(cameras, view) for view in range(len(cameras))}


def finding(cameras: Cameras, masks: dict[int, Tensor]):
    return check_agreement(cameras.names, {7: mask_agreement(cameras, masks, BOUNDS)})[0]


def test_exact_masks_agree(cameras: Cameras, masks: dict[int, Tensor]) -> None:
    found = mask_agreement(cameras, masks, BOUNDS)
    assert set(found.agreed) == set(range(5)) and min(found.agreed.values()) > 0.98
    assert max(found.lacking.values()) < 0.02
    assert finding(cameras, masks).severity == "ok"


def test_a_mask_without_a_part_of_the_subject_is_named(cameras: Cameras, masks: dict[int, Tensor]) -> None:
    rows = masks[3].any(1).nonzero()
    masks[3][: int(rows.double().mean())] = False
    row = finding(cameras, masks)
    assert row.severity == "warning" and "frame 7" in row.finding
    assert f"That of {cameras.names[3]} probably lacks part of the subject" in row.finding


def test_a_mask_that_keeps_the_background_is_named(cameras: Cameras, masks: dict[int, Tensor]) -> None:
    masks[1][:, :40] = True
    row = finding(cameras, masks)
    assert row.severity == "warning"
    assert (
        f"of the mask of {cameras.names[1]} is inside" in row.finding
        and "more than the subject" in row.finding
    )


def test_a_person_that_most_views_miss_is_seen(cameras: Cameras, masks: dict[int, Tensor]) -> None:
    """Two views show both balls, three only the lower one: what the two show is not in the others' hull."""
    for view in (0, 2, 4):
        rows = masks[view].any(1).nonzero()
        masks[view][: int(rows.double().mean())] = False
    found = mask_agreement(cameras, masks, BOUNDS)
    assert max(found.agreed[1], found.agreed[3]) < 0.8 < min(found.agreed[v] for v in (0, 2, 4))


def test_masks_are_compared_at_a_small_size_and_any_number_of_views(cameras: Cameras, masks) -> None:
    large = torch.nn.functional.interpolate(masks[0][None, None].float(), scale_factor=8)[0, 0]
    assert small_mask((255 * large).byte()).shape == (213, 256)
    assert mask_agreement(cameras, {0: masks[0]}, BOUNDS).agreed == {}
    assert min(mask_agreement(cameras, {0: masks[0], 2: masks[2]}, BOUNDS).agreed.values()) > 0.98
    assert check_agreement(cameras.names, {}) == []


def test_a_jump_of_one_view_is_found_and_a_step_of_all_is_none() -> None:
    names = [f"cam{i}" for i in range(4)]
    steady = [(v, m, 0.1 + 0.02 * m) for v in range(4) for m in range(3)]
    assert check_jumps(names, steady) == []
    assert check_jumps(names, [(v, m, 0.1 if m == 0 else 0.3) for v in range(4) for m in range(2)]) == []
    jumping = [(v, m, 0.02 if (v, m) == (2, 1) else share) for v, m, share in steady]
    (row,) = check_jumps(names, jumping)
    assert row.severity == "warning" and "cam2" in row.finding and "frame 1" in row.finding
