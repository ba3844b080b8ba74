"""The noise of MCMC: the kernel against its twin of PyTorch's operators, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch

from engine.train.exploration import shaped_reference, shift

pytest.importorskip("numba", reason="numba is not installed")

DEAD, STRENGTH = 0.005, 40.0


def gaussians(count: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Dead, faint and living ones, some with quaternions of odd lengths and one of zeros."""
    generator = torch.Generator().manual_seed(count)
    quats = torch.randn(count, 4, generator=generator, dtype=dtype) * 3
    quats[0] = 0
    return {
        "log_scales": torch.randn(count, 3, generator=generator, dtype=dtype) - 3,
        "quats": quats,
        "logit_opacities": torch.linspace(-9, 5, count, dtype=dtype),
    }


def some_held(count: int) -> torch.Tensor:
    return torch.arange(count) % 5 == 3


def both(given: dict[str, torch.Tensor], strength: float = STRENGTH) -> tuple[torch.Tensor, torch.Tensor]:
    """(the kernel's shift, the twin's from the same random numbers)."""
    held = some_held(len(given["quats"]))
    found = shift(given, held, strength, DEAD, torch.Generator().manual_seed(1))
    scales = given["log_scales"]
    noise = torch.randn(scales.shape, generator=torch.Generator().manual_seed(1)).to(scales)
    return found, shaped_reference(given, held, noise, strength, DEAD)


@pytest.mark.parametrize("count", [1, 7, 9000])
def test_the_kernel_equals_its_twin(count: int) -> None:
    found, expected = both(gaussians(count))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
    assert float(expected.abs().max()) > 0.01


def test_float32_is_as_close_to_float64_as_the_twin_is() -> None:
    given = gaussians(3000)
    found, expected = both({name: t.float() for name, t in given.items()})
    exact = both(given)[1]
    limit = 3e-6 * float(exact.abs().max())
    for single in (found, expected):
        assert float((single - exact).abs().max()) < limit


def test_held_and_opaque_gaussians_stay_and_dead_ones_move() -> None:
    given = gaussians(3000)
    moved = both(given)[0].norm(dim=-1)
    opacity, held = given["logit_opacities"].sigmoid(), some_held(3000)
    assert bool((moved[held | (opacity > 0.4)] == 0).all())
    assert bool((moved[~held & (opacity < DEAD)] > 0).all())


def test_a_rate_of_zero_draws_the_same_numbers_and_moves_nothing() -> None:
    given, generator, other = (
        gaussians(50),
        torch.Generator().manual_seed(2),
        torch.Generator().manual_seed(2),
    )
    assert float(shift(given, some_held(50), 0.0, DEAD, generator).abs().max()) == 0
    shift(given, some_held(50), STRENGTH, DEAD, other)
    assert torch.equal(generator.get_state(), other.get_state())


def test_nan_is_passed_on() -> None:
    given = gaussians(50)
    given["logit_opacities"][10] = float("nan")
    assert bool(both(given)[0][10].isnan().all())
