"""Samples of HexPlane planes: the kernel against its twin of PyTorch's operators."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from engine.deform import HexPlane, HexPlaneConfig
from engine.deform.hexplane_layout import GridLayout
from engine.deform.plane_sampling import field_features, field_features_reference
from engine.kernels.threads import fixed_threads

pytest.importorskip("numba", reason="numba is not installed")

CONFIGS = (
    HexPlaneConfig(16, (5, 6, 7, 4), (1, 2)),
    HexPlaneConfig(32, (4, 3, 2, 5), (1,)),
    # an axis of a single sample
    HexPlaneConfig(16, (4, 1, 3, 1), (1, 3)),
)


def features_of(grids: Tensor, layout: GridLayout, points: Tensor, times: Sequence[float]) -> Tensor:
    """The twin, of flat planes."""
    return field_features_reference(layout.planes(grids), points, times)


def inputs(
    config: HexPlaneConfig, count: int = 60, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, GridLayout, Tensor]:
    """Flat planes, where they lie, and points of which some lie beyond the box, on its border and on samples of the planes."""
    generator = torch.Generator().manual_seed(1)
    layout = config.grid_layout()
    grids = torch.rand(sum(layout.sizes), generator=generator, dtype=dtype) + 0.5
    points = torch.rand(count, 3, generator=generator, dtype=dtype) * 2.6 - 1.3
    points[:3] = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [3.0, -3.0, 0.1]])
    return grids.requires_grad_(), layout, points.requires_grad_()


def gradients(features: Tensor, grids: Tensor, points: Tensor) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    return torch.autograd.grad((features * weights).sum(), [points, grids])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.resolution))
@pytest.mark.parametrize("time", [-1.0, 0.31, 1.0, 7.0])
def test_the_kernel_equals_its_twin(config: HexPlaneConfig, time: float) -> None:
    grids, layout, points = inputs(config)
    found, expected = (f(grids, layout, points, [time]) for f in (field_features, features_of))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    # points on a sample have two slopes, of which either is right
    inner = (slice(3, None),)
    for i, (a, b) in enumerate(
        zip(gradients(found, grids, points), gradients(expected, grids, points), strict=True)
    ):
        torch.testing.assert_close(
            *((a[inner], b[inner]) if i == 0 else (a, b)), rtol=1e-11, atol=1e-12, msg=f"gradient {i}"
        )


def test_bits_do_not_depend_on_threads() -> None:
    grids, layout, points = inputs(CONFIGS[0], 5000, torch.float32)
    results = []
    for threads in (1, 3):
        with fixed_threads(threads):
            features = field_features(grids, layout, points, [0.2])
            results.append((features, *gradients(features, grids, points)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_what_the_kernel_does_not_take_goes_to_the_twin() -> None:
    few = HexPlaneConfig(8, (4, 4, 4, 4), (1,))
    grids, layout, points = inputs(few)
    assert torch.equal(
        field_features(grids, layout, points, [0.5]), features_of(grids, layout, points, [0.5])
    )
    grids, layout, points = inputs(CONFIGS[0])
    both = field_features(grids, layout, points, [0.5, -0.5])
    assert torch.equal(both, features_of(grids, layout, points, [0.5, -0.5]))
    each = torch.cat([field_features(grids, layout, points, [t]) for t in (0.5, -0.5)], dim=1)
    torch.testing.assert_close(both, each, rtol=1e-12, atol=1e-12)


def test_a_frozen_field_passes_gradients_on() -> None:
    grids, layout, points = inputs(CONFIGS[0])
    exact = gradients(field_features(grids, layout, points, [0.2]), grids, points)[0]
    features = field_features(grids.detach(), layout, points, [0.2])
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    assert torch.equal(torch.autograd.grad((features * weights).sum(), points)[0], exact)


def test_a_field_trains_alike_with_kernel_and_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred Adam steps toward a motion end within 1e-5."""

    def trained() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        field = HexPlane.create(
            HexPlaneConfig(16, (8, 8, 8, 6), (1, 2), 0, 48, ("position",), time_mapping="symmetric"),
            torch.tensor([[1.0] * 3, [-1.0] * 3]),
            generator,
        ).double()
        points = torch.rand(200, 3, generator=generator, dtype=torch.float64) * 2 - 1
        optimizer = torch.optim.Adam(field.parameters(), 3e-2)
        for step in range(100):
            seconds = step % 7 / 6
            wanted = 0.3 * torch.sin(3 * points.roll(1, 1) + 5 * seconds)
            loss = (field.deltas(points, [seconds])["position"][0] - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return field.deltas(points, [0.4])["position"].detach()

    fused = trained()
    monkeypatch.setattr("engine.backends.installed", lambda package: package != "numba")
    twin = trained()
    assert float(twin.abs().max()) > 0.1, "it learned to move"
    torch.testing.assert_close(fused, twin, rtol=0, atol=1e-5)
