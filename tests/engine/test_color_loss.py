"""The loss of colors: the kernel against its twin of PyTorch's operators."""

from __future__ import annotations

import pytest
import torch

from engine.kernels.threads import fixed_threads
from engine.losses.color_loss import color_loss, color_loss_reference

pytest.importorskip("numba", reason="numba is not installed")


def images(
    count: int, height: int, width: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rendered and captured images, a few of whose pixels are equal."""
    generator = torch.Generator().manual_seed(height)
    captured = torch.rand(count, height, width, 3, generator=generator, dtype=dtype)
    rendered = captured + 0.1 * torch.randn(captured.shape, generator=generator, dtype=dtype)
    rendered[:, ::3, ::2] = captured[:, ::3, ::2]
    return rendered.requires_grad_(), captured


def gradient(function, rendered: torch.Tensor, captured: torch.Tensor, weight: float) -> tuple:
    found = function(rendered, captured, weight)
    (slope,) = torch.autograd.grad(3 * found.loss, rendered)
    return found, slope


# the widest are computed in two and three strips of columns
SIZES = [(1, 1, 1), (1, 3, 40), (2, 13, 7), (3, 26, 16), (1, 200, 5), (2, 70, 91), (2, 15, 214), (1, 23, 427)]


@pytest.mark.parametrize("size", SIZES)
def test_the_kernel_equals_its_twin(size: tuple[int, int, int]) -> None:
    for weight in (0.2, 1.0):
        found, slope = gradient(color_loss, *images(*size), weight)
        expected, exact = gradient(color_loss_reference, *images(*size), weight)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(slope, exact, rtol=1e-8, atol=1e-12)


def test_float32_is_as_close_to_float64_as_the_twin_is() -> None:
    exact = gradient(color_loss_reference, *images(2, 90, 70), 0.2)[1]
    given = images(2, 90, 70, torch.float64)
    single = given[0].detach().float().requires_grad_(), given[1].float()
    limit = 2e-6 * exact.abs().max()
    for function in (color_loss, color_loss_reference):
        assert (gradient(function, *single, 0.2)[1] - exact).abs().max() < limit, function


def test_bits_do_not_depend_on_threads_or_memory_layout() -> None:
    rendered, captured = images(1, 300, 40, torch.float32)
    found = []
    for threads in (1, 2, 5):
        with fixed_threads(threads):
            found.append(gradient(color_loss, rendered, captured, 0.2))
    turned = captured.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    found.append(gradient(color_loss, rendered, turned, 0.2))
    for again, slope in found[1:]:
        assert torch.equal(again.loss, found[0][0].loss) and torch.equal(slope, found[0][1])


def test_the_gradient_is_the_same_the_second_time() -> None:
    rendered, captured = images(1, 30, 20)
    loss = color_loss(rendered, captured, 0.2).loss
    (once,) = torch.autograd.grad(loss, rendered, retain_graph=True)
    once = once.clone()
    (doubled,) = torch.autograd.grad(2 * loss, rendered, retain_graph=True)
    (again,) = torch.autograd.grad(loss, rendered)
    assert torch.equal(again, once) and torch.equal(doubled, 2 * once)


def test_equal_images_have_no_loss_and_no_gradient() -> None:
    same = torch.rand(1, 30, 20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, slope = gradient(color_loss, same.clone().requires_grad_(), same, 0.2)
    assert float(found.l1) == float(found.squared) == 0
    assert abs(float(found.loss.detach())) < 1e-12 and float(slope.abs().max()) < 1e-12


def test_nan_in_an_image_is_seen_in_the_loss() -> None:
    rendered, captured = images(1, 30, 20, torch.float32)
    broken = rendered.detach().clone()
    broken[0, 15, 10, 1] = float("nan")
    assert bool(color_loss(broken.requires_grad_(), captured, 0.2).loss.isnan())


def test_without_ssim_it_is_l1() -> None:
    rendered, captured = images(1, 30, 20)
    found = color_loss(rendered, captured, 0.0)
    assert torch.equal(found.loss.detach(), (rendered - captured).abs().mean().detach())
