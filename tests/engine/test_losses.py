"""SSIM and its derivative against a plain convolution, and the identities that metrics must keep."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from engine.errors import InputError
from engine.losses import l1, l2, lpips, photometric, psnr, ssim
from engine.losses.photometric import blur


def images(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain_blur(x):
    taps = torch.tensor([math.exp(-((i - 5) ** 2) / 4.5) for i in range(11)], dtype=x.dtype)
    window = taps[:, None] * taps[None] / taps.sum() ** 2
    flat = x.reshape(-1, 1, *x.shape[-2:])
    return F.conv2d(flat, window[None, None], padding=5).reshape(x.shape)


def plain_ssim(a, b):
    ma, mb = plain_blur(a), plain_blur(b)
    va, vb, cov = plain_blur(a * a) - ma**2, plain_blur(b * b) - mb**2, plain_blur(a * b) - ma * mb
    value = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return value.mean(dim=(1, 2, 3))


@given(st.integers(1, 70), st.integers(1, 70))
@settings(max_examples=30, deadline=None)
def test_blur_equals_a_convolution_at_every_size(height, width):
    x = images(2, 1, height, width)
    torch.testing.assert_close(blur(x), plain_blur(x), rtol=0, atol=1e-12)


def test_the_blur_of_a_gpu_equals_that_of_a_cpu_and_is_never_in_tf32(monkeypatch):
    seen = []
    convolve = F.conv2d

    def watched(*args, **kwargs):
        seen.append(torch.backends.cudnn.allow_tf32)
        return convolve(*args, **kwargs)

    monkeypatch.setattr(photometric.F, "conv2d", watched)
    x = torch.rand(3, 40, 33, dtype=torch.float64)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark
    torch.testing.assert_close(photometric._blur_taps(x), blur(x), rtol=0, atol=1e-12)
    assert seen == [False, False]
    after = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark
    assert after == before


def test_blur_of_many_pictures_at_once_equals_one_by_one():
    x = images(3, 3, 500, 400, dtype=torch.float32)  # more than one block of the cache
    torch.testing.assert_close(blur(x)[2, 1], blur(x[2:, 1:2])[0, 0])


@pytest.mark.parametrize("size", [(5, 7), (16, 32), (33, 40)])
def test_ssim_and_both_gradients_equal_the_plain_formula(size):
    a, b = images(2, 3, *size).requires_grad_(), images(2, 3, *size, seed=1).requires_grad_()
    torch.testing.assert_close(ssim(a, b), plain_ssim(a, b), rtol=0, atol=1e-10)
    weight = torch.tensor([0.3, 1.7], dtype=torch.float64)
    got = torch.autograd.grad((ssim(a, b) * weight).sum(), (a, b))
    want = torch.autograd.grad((plain_ssim(a, b) * weight).sum(), (a, b))
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-10)


def test_ssim_gradient_agrees_with_finite_differences():
    a, b = images(1, 1, 6, 7).requires_grad_(), images(1, 1, 6, 7, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(ssim, (a, b))


def test_equal_images_are_perfect():
    a = images(2, 3, 176, 180)
    assert torch.allclose(ssim(a, a), torch.ones(2).double())
    assert bool((psnr(a, a) == math.inf).all())
    assert float(l1(a, a)) == float(l2(a, a)) == 0.0


def test_metrics_are_symmetric_per_image_and_fall_with_noise():
    a, noise = images(2, 3, 176, 180), images(2, 3, 176, 180, seed=1) - 0.5
    for metric in (psnr, ssim):
        values = [metric(a, a + noise * s) for s in (0.05, 0.2, 0.6)]
        assert bool((values[0] > values[1]).all() and (values[1] > values[2]).all())
        b = a + noise * 0.2
        torch.testing.assert_close(metric(a, b), metric(b, a))
        torch.testing.assert_close(metric(a, b)[1:], metric(a[1:], b[1:]))


def test_psnr_of_a_known_error_and_of_masked_pixels():
    a = torch.zeros(1, 3, 4, 4)
    b = a.clone()
    b[:, :, :2] = 0.1
    assert float(psnr(a, b)) == pytest.approx(-10 * math.log10(0.005), abs=1e-4)
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    assert float(psnr(a, b, mask)) == pytest.approx(20.0, abs=1e-4)
    assert float(psnr(a, b, ~mask)) == math.inf
    assert math.isnan(float(psnr(a, b, torch.zeros_like(mask))))


def test_lpips_feeds_the_range_that_was_asked_for():
    seen = []

    def network(a, b):
        seen.append((float(a.min()), float(a.max())))
        return (a - b).abs().mean(dim=(1, 2, 3), keepdim=True)

    a, b = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(2, 3, 1, 2), torch.zeros(2, 3, 1, 2)
    assert lpips(a, b, network).shape == (2,)
    lpips(a, b, network, "3dgs")
    assert seen == [(-1.0, 1.0), (0.0, 1.0)]
    with pytest.raises(InputError):
        lpips(a, b, network, "percent")
