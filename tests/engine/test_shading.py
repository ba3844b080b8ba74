"""Activation and view-dependent colors: the kernel against its twin of PyTorch's operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.kernels.threads import fixed_threads
from engine.render.shading import Shaded, shade, shade_reference
from engine.scene import Cameras, Gaussians, harmonics
from tests.scenes import ring

pytest.importorskip("numba", reason="numba is not installed")

CAMERAS = ring(8)


def gaussians(count: int, degree: int, dtype: torch.dtype = torch.float64) -> Gaussians:
    """Among them some whose colors are clamped, one at a camera's center, and one whose quaternion is zero."""
    generator = torch.Generator().manual_seed(count)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    quats, means = normal(count, 4), normal(count, 3)
    if count > 2:
        quats[1] = 0
        means[2] = CAMERAS.centers[0]
    made = Gaussians(
        means=means,
        log_scales=normal(count, 3) - 3,
        quats=quats,
        logit_opacities=4 * normal(count),
        sh=normal(count, harmonics.bases(degree), 3),
    )
    return made.map(lambda t: t.to(dtype).requires_grad_())


def gradients(seen: Shaded, given: Gaussians) -> tuple[Tensor, ...]:
    weights = [torch.linspace(-1, 2, t.numel(), dtype=t.dtype).view_as(t) for t in seen]
    total = sum((t * w).sum() for t, w in zip(seen, weights, strict=True))
    assert isinstance(total, Tensor)
    return torch.autograd.grad(
        total, list(given.tensors().values()), allow_unused=True, materialize_grads=True
    )


def both(
    given: Gaussians, cameras: Cameras, degree: int | None = None
) -> list[tuple[Shaded, tuple[Tensor, ...]]]:
    found = []
    for function in (shade, shade_reference):
        seen = function(given, cameras, degree)
        found.append((seen, gradients(seen, given)))
    return found


@pytest.mark.parametrize("count", [1, 16, 50])
@pytest.mark.parametrize("stored", [0, 1, 2, 3])
@pytest.mark.parametrize("used", [None, 0, 1, 2, 3])
def test_the_kernel_equals_its_twin(count: int, stored: int, used: int | None) -> None:
    (seen, slopes), (expected, exact) = both(gaussians(count, stored), CAMERAS[[0, 3, 5]], used)
    assert seen.colors.shape == (3, count, 3)
    for name, a, b in zip(Shaded._fields, seen, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14, msg=name)
    for a, b in zip(slopes, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_float32_is_as_close_to_float64_as_the_twin_is() -> None:
    # without the Gaussian at a camera's center, and the one without a rotation: neither has a direction
    exact = both(gaussians(200, 3).map(lambda t: t.detach()[3:].requires_grad_()), CAMERAS[:2])[1][1]
    given = gaussians(200, 3, torch.float32).map(lambda t: t.detach()[3:].requires_grad_())
    for _, slopes in both(given, CAMERAS[:2]):
        for a, b in zip(slopes, exact, strict=True):
            assert float((a - b).abs().max()) < 2e-6 * float(b.abs().max())


def test_black_gaussians_keep_their_gradient() -> None:
    """Their SH sum is -0.5, and the color is clamped at 0: rounding must not put it below."""
    for degree in (0, 1):
        black = gaussians(40, degree, torch.float32)
        sh = torch.zeros(40, harmonics.bases(degree), 3)
        sh[:, 0] = harmonics.rgb_to_dc(torch.zeros(40, 3))
        given = black.with_(sh=sh.requires_grad_())
        (_, slopes), (_, exact) = both(given, CAMERAS[:2])
        assert bool((exact[4][:, 0] != 0).all())
        torch.testing.assert_close(slopes[4], exact[4])


def test_bits_do_not_depend_on_threads_or_memory_layout() -> None:
    given = gaussians(5000, 2, torch.float32)
    turned = given.map(lambda t: t.detach().t().contiguous().t() if t.ndim == 2 else t.detach())
    turned = turned.with_(sh=torch.cat([turned.sh, turned.sh], dim=1)[:, : turned.sh.shape[1]])
    assert not turned.means.is_contiguous() and not turned.sh.is_contiguous()
    found = []
    for threads, each in ((1, given), (2, given), (5, given), (1, turned.map(lambda t: t.requires_grad_()))):
        with fixed_threads(threads):
            seen = shade(each, CAMERAS[[1, 2]])
            found.append((*seen, *gradients(seen, each)))
    for again in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(again, found[0], strict=True))


def test_no_gaussians() -> None:
    (seen, slopes), (expected, exact) = both(gaussians(0, 1), CAMERAS[:2])
    assert [t.shape for t in (*seen, *slopes)] == [t.shape for t in (*expected, *exact)]


@pytest.mark.parametrize("name", ["means", "log_scales", "quats", "logit_opacities", "sh"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_reaches_the_same_results(name: str, value: float) -> None:
    given = gaussians(40, 1)
    broken = given.tensors()[name].detach().clone()
    broken[20].view(-1)[0] = value
    given = given.with_(**{name: broken.requires_grad_()})
    (seen, slopes), (expected, exact) = both(given, CAMERAS[:2])
    for a, b in zip((*seen, *slopes), (*expected, *exact), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12, equal_nan=True)


def test_second_derivatives_are_refused() -> None:
    given, weight = gaussians(20, 1), torch.ones((), dtype=torch.float64, requires_grad=True)
    loss = weight * shade(given, CAMERAS[:1]).colors.sum()
    (slope,) = torch.autograd.grad(loss, given.means, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_what_the_kernel_does_not_take_goes_to_the_twin() -> None:
    given, cameras = gaussians(20, 1), CAMERAS[:2]
    mixed = given.with_(sh=given.sh.detach().float())
    assert torch.equal(shade(mixed, cameras).colors, shade_reference(mixed, cameras).colors)
    poses = cameras.world_to_camera.clone().requires_grad_()
    moved = replace(cameras, world_to_camera=poses)
    (slope,) = torch.autograd.grad(shade(given, moved).colors.sum(), poses)
    assert bool((slope != 0).any()), "gradients reach the cameras"


def test_gaussians_train_alike_with_kernel_and_twin() -> None:
    """A hundred Adam steps toward other colors, sizes and opacities end within 1e-5."""

    def trained(function: Callable[[Gaussians, Cameras], Shaded]) -> Gaussians:
        now = gaussians(60, 2).map(lambda t: t.detach()[3:].clone().requires_grad_())
        wanted = shade(gaussians(57, 2), CAMERAS)
        optimizer = torch.optim.Adam(list(now.tensors().values()), 1e-2)
        for step in range(100):
            views = [step % 8, (step + 3) % 8]
            seen = function(now, CAMERAS[views])
            loss = (seen.colors - wanted.colors[views]).square().mean()
            for name in ("quats", "scales", "opacities"):
                loss = loss + (getattr(seen, name) - getattr(wanted, name)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            wanted = Shaded(*(t.detach() for t in wanted))
        return now.map(Tensor.detach)

    start, fused, twin = gaussians(60, 2), trained(shade), trained(shade_reference)
    for name, a in fused.tensors().items():
        b = twin.tensors()[name]
        assert float((b - start.tensors()[name].detach()[3:]).abs().max()) > 0.1, f"{name} was trained"
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
