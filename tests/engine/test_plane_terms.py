"""Regularizers of planes: the kernel against its twin of PyTorch's operators."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engine.deform import PRESETS, HexPlaneConfig
from engine.kernels.threads import fixed_threads
from engine.losses.regularizers import (
    hexplane_regularizer,
    hexplane_regularizer_reference,
    plane_smoothness,
    time_l1,
    time_smoothness,
)

pytest.importorskip("numba", reason="numba is not installed")

CONFIGS = (
    HexPlaneConfig(16, (5, 6, 7, 4), (1, 2)),
    HexPlaneConfig(3, (33, 17, 40, 9), (1,)),
    # axes of one and two samples: no second difference
    HexPlaneConfig(2, (4, 1, 2, 1), (1, 3)),
)
WEIGHTS = ((0.3, 0.2, 0.1), (0.0, 0.2, 0.1), (0.3, 0.0, 0.0), (0.0, 0.0, 0.5), (0.0, 0.0, 0.0))


def levels(config: HexPlaneConfig, dtype: torch.dtype = torch.float64) -> list[list[Tensor]]:
    """Planes, some of whose values are exactly one."""
    generator = torch.Generator().manual_seed(1)
    made = [
        [torch.rand(shape, generator=generator, dtype=dtype) + 0.5 for shape in level]
        for level in config.plane_shapes()
    ]
    for level in made:
        for plane in level:
            plane[..., ::3] = 1
    return [[plane.requires_grad_() for plane in level] for level in made]


def gradient(
    function: Callable[..., Tensor], planes: list[list[Tensor]], weights: tuple[float, ...]
) -> tuple[Tensor, list[Tensor]]:
    value = function(planes, *weights)
    flat = [plane for level in planes for plane in level]
    return value, list(torch.autograd.grad(3 * value, flat, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.resolution))
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_kernel_equals_its_twin(config: HexPlaneConfig, weights: tuple[float, ...]) -> None:
    planes = levels(config)
    value, slopes = gradient(hexplane_regularizer, planes, weights)
    expected, exact = gradient(hexplane_regularizer_reference, planes, weights)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)
    for a, b in zip(slopes, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_it_is_the_sum_of_the_terms() -> None:
    planes = levels(CONFIGS[0])
    total = 0.3 * plane_smoothness(planes) + 0.2 * time_smoothness(planes) + 0.1 * time_l1(planes)
    torch.testing.assert_close(hexplane_regularizer(planes, 0.3, 0.2, 0.1), total)


def test_float32_is_as_close_to_float64_as_the_twin_is() -> None:
    config = HexPlaneConfig(16, (32, 32, 32, 15), (1, 2))
    value, exact = gradient(hexplane_regularizer_reference, levels(config), WEIGHTS[0])
    single = [[p.detach().float().requires_grad_() for p in level] for level in levels(config)]
    for function in (hexplane_regularizer, hexplane_regularizer_reference):
        found, slopes = gradient(function, single, WEIGHTS[0])
        assert abs(float((found - value).detach())) < 2e-6 * float(value.detach())
        for a, b in zip(slopes, exact, strict=True):
            assert float((a - b).abs().max()) < 2e-6 * float(b.abs().max())


def test_bits_do_not_depend_on_threads_or_memory_layout() -> None:
    planes = levels(PRESETS["small"], torch.float32)
    turned = [
        [p.detach().permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).requires_grad_() for p in level]
        for level in planes
    ]
    assert not turned[0][0].is_contiguous()
    found = []
    for threads, each in ((1, planes), (2, planes), (5, planes), (1, turned)):
        with fixed_threads(threads):
            value, slopes = gradient(hexplane_regularizer, each, WEIGHTS[0])
            found.append((value, *slopes))
    for again in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(again, found[0], strict=True))


@pytest.mark.parametrize("plane", [0, 4])
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_reaches_the_same_results(plane: int, broken: float) -> None:
    planes = levels(CONFIGS[0])
    with torch.no_grad():
        planes[0][plane][0, 7, 2, 1] = broken
    value, slopes = gradient(hexplane_regularizer, planes, WEIGHTS[0])
    expected, exact = gradient(hexplane_regularizer_reference, planes, WEIGHTS[0])
    for a, b in zip((value, *slopes), (expected, *exact), strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)
    # a term that is not in use does not see it
    unused = (0.0, 0.2, 0.1) if plane == 0 else (0.3, 0.0, 0.0)
    assert bool(hexplane_regularizer(planes, *unused).isfinite())


@pytest.mark.parametrize("function", [hexplane_regularizer, hexplane_regularizer_reference])
def test_second_derivatives_are_refused(function: Callable[..., Tensor]) -> None:
    planes, weight = levels(CONFIGS[0]), torch.ones((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(weight * function(planes, 0.3, 0.2, 0.1), planes[0][0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_planes_train_alike_with_kernel_and_twin() -> None:
    """A hundred Adam steps from noise end within 1e-5."""

    def trained(function: Callable[..., Tensor]) -> list[Tensor]:
        planes = levels(CONFIGS[0])
        flat = [plane for level in planes for plane in level]
        optimizer = torch.optim.Adam(flat, 1e-3)
        for _ in range(100):
            # toward other values, so that the terms balance something
            loss = function(planes, 0.3, 0.2, 0.1) + sum((p - 0.9).square().mean() for p in flat)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return [plane.detach() for plane in flat]

    start = [plane.detach() for level in levels(CONFIGS[0]) for plane in level]
    for before, a, b in zip(
        start, trained(hexplane_regularizer), trained(hexplane_regularizer_reference), strict=True
    ):
        assert float((b - before).abs().max()) > 0.01, "it was trained"
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
