"""Regularizers of planes: the kernel against its twin of PyTorch's operators."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engine.deform import PRESETS, HexPlaneConfig
from engine.deform.hexplane_layout import GridLayout
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


Function = Callable[..., Tensor]


def twin(grids: Tensor, layout: GridLayout, *weights: float) -> Tensor:
    """The twin, of flat planes."""
    return hexplane_regularizer_reference(layout.planes(grids), *weights)


def flat(config: HexPlaneConfig, dtype: torch.dtype = torch.float64) -> tuple[Tensor, GridLayout]:
    """Planes, some of whose values are exactly one."""
    generator, layout = torch.Generator().manual_seed(1), config.grid_layout()
    grids = torch.rand(sum(layout.sizes), generator=generator, dtype=dtype) + 0.5
    grids[::3] = 1
    return grids.requires_grad_(), layout


def gradient(
    function: Function, grids: Tensor, layout: GridLayout, weights: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    value = function(grids, layout, *weights)
    # no term may be in use
    (slope,) = torch.autograd.grad(3 * value, grids, allow_unused=True, materialize_grads=True)
    return value, slope


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.resolution))
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_kernel_equals_its_twin(config: HexPlaneConfig, weights: tuple[float, ...]) -> None:
    grids, layout = flat(config)
    found, expected = (gradient(f, grids, layout, weights) for f in (hexplane_regularizer, twin))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_it_is_the_sum_of_the_terms() -> None:
    grids, layout = flat(CONFIGS[0])
    planes = layout.planes(grids)
    total = 0.3 * plane_smoothness(planes) + 0.2 * time_smoothness(planes) + 0.1 * time_l1(planes)
    torch.testing.assert_close(hexplane_regularizer(grids, layout, 0.3, 0.2, 0.1), total)


def test_flat_planes_are_the_planes() -> None:
    grids, layout = flat(CONFIGS[0])
    grids = grids.detach()
    planes = layout.planes(grids)
    assert [[tuple(plane.shape) for plane in level] for level in planes] == CONFIGS[0].plane_shapes()
    assert torch.equal(layout.pack(planes), grids)
    # channels of a point are neighbors
    assert float(planes[0][1][0, 1, 2, 3]) == float(grids[layout.starts[1] + (2 * 5 + 3) * 16 + 1])


def test_float32_is_as_close_to_float64_as_the_twin_is() -> None:
    config = HexPlaneConfig(16, (32, 32, 32, 15), (1, 2))
    grids, layout = flat(config)
    value, exact = gradient(twin, grids, layout, WEIGHTS[0])
    single = grids.detach().float().requires_grad_()
    for function in (hexplane_regularizer, twin):
        found, slope = gradient(function, single, layout, WEIGHTS[0])
        assert abs(float((found - value).detach())) < 2e-6 * float(value.detach())
        for a, b in zip(slope.split(layout.sizes), exact.split(layout.sizes), strict=True):
            assert float((a - b).abs().max()) < 2e-6 * float(b.abs().max())


def test_bits_do_not_depend_on_threads() -> None:
    grids, layout = flat(PRESETS["small"], torch.float32)
    found = []
    for threads in (1, 2, 5):
        with fixed_threads(threads):
            found.append(gradient(hexplane_regularizer, grids, layout, WEIGHTS[0]))
    for again in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(again, found[0], strict=True))


@pytest.mark.parametrize("plane", [0, 4])
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_reaches_the_same_results(plane: int, broken: float) -> None:
    grids, layout = flat(CONFIGS[0])
    with torch.no_grad():
        layout.planes(grids)[0][plane][0, 7, 2, 1] = broken
    found, expected = (gradient(f, grids, layout, WEIGHTS[0]) for f in (hexplane_regularizer, twin))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)
    # a term that is not in use does not see it
    unused = (0.0, 0.2, 0.1) if plane == 0 else (0.3, 0.0, 0.0)
    assert bool(hexplane_regularizer(grids, layout, *unused).isfinite())


@pytest.mark.parametrize("function", [hexplane_regularizer, twin])
def test_second_derivatives_are_refused(function: Function) -> None:
    (grids, layout), weight = flat(CONFIGS[0]), torch.ones((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(weight * function(grids, layout, 0.3, 0.2, 0.1), grids, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_planes_train_alike_with_kernel_and_twin() -> None:
    """A hundred Adam steps from noise end within 1e-5."""

    def trained(function: Function) -> Tensor:
        grids, layout = flat(CONFIGS[0])
        optimizer = torch.optim.Adam([grids], 1e-3)
        for _ in range(100):
            # toward other values, so that the terms balance something
            loss = function(grids, layout, 0.3, 0.2, 0.1) + (grids - 0.9).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return grids.detach()

    found, expected = trained(hexplane_regularizer), trained(twin)
    assert float((expected - flat(CONFIGS[0])[0].detach()).abs().max()) > 0.01, "it was trained"
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
