"""Detail of the originals under the colors of an edit: the guided filter's own properties."""

import pytest
import torch

from engine.guidance.detail import _window, carry_detail


def pictures(seed: int = 0) -> torch.Tensor:
    """[2, 40, 56, 3] soft noise with sharp stripes in it."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 3, 5, 7, generator=g)
    soft = torch.nn.functional.interpolate(coarse, (40, 56), mode="bilinear").permute(0, 2, 3, 1)
    stripes = (torch.arange(56) // 3 % 2).float()[None, None, :, None]
    return (0.15 + 0.5 * soft + 0.2 * stripes).contiguous()


def blurred(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(
        images.permute(0, 3, 1, 2), 5, 1, 2, count_include_pad=False
    ).permute(0, 2, 3, 1)


def test_an_edit_that_changes_nothing_gives_the_originals_back():
    originals = pictures()
    assert torch.allclose(carry_detail(originals, originals, smoothing=1e-9), originals, atol=1e-4)


def test_an_affine_change_of_colours_is_carried_exactly():
    originals = pictures()
    matrix = torch.tensor([[0.2, 0.3, 0.1], [0.4, 0.1, 0.1], [0.1, 0.2, 0.5]])
    edited = originals @ matrix + torch.tensor([0.1, 0.05, 0.0])
    assert torch.allclose(carry_detail(edited, originals, smoothing=1e-9), edited, atol=1e-4)


def test_a_blurred_edit_becomes_sharp_again():
    g = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 3, 10, 14, generator=g)
    soft = torch.nn.functional.interpolate(coarse, (40, 56), mode="bilinear").permute(0, 2, 3, 1)
    originals = 0.1 + 0.7 * soft + 0.1 * torch.rand(2, 40, 56, 3, generator=g)
    truth = 1 - originals
    painted = blurred(truth)
    carried = carry_detail(painted, originals, seen=blurred(originals), smoothing=1e-4)
    before, after = (painted - truth).square().mean(), (carried - truth).square().mean()
    assert after < before / 4


def test_a_background_without_weight_has_no_say():
    originals, weights = pictures(), torch.zeros(2, 40, 56)
    weights[:, :, :28] = 1
    edited = 1 - originals
    spoilt = edited.clone()
    spoilt[:, :, 28:] = 0.3
    clean = carry_detail(edited, originals, weights)[:, :, :28]
    assert torch.allclose(carry_detail(spoilt, originals, weights)[:, :, :28], clean, atol=2e-3)


@pytest.mark.parametrize("radius", [1, 3, 50])
def test_window_sums_are_those_of_brute_force(radius):
    planes = torch.rand(1, 2, 9, 11, dtype=torch.float64)
    for y, x in ((0, 0), (4, 5), (8, 10)):
        part = planes[..., max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        assert torch.allclose(_window(planes, radius)[..., y, x], part.sum((-1, -2)))
