"""Rectified flow on data whose velocity is known, and the properties of its schedule and guidance."""

import pytest
import torch

from engine.diffusion import NoiseSchedule
from engine.diffusion.flow import StraightSchedule, euler, guided
from engine.errors import InputError

SCHEDULE = StraightSchedule(shift=3.0)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_times_run_from_noise_to_clean_and_the_shift_keeps_both_ends():
    for shift in (0.5, 1.0, 3.0):
        times = StraightSchedule(shift).times(7)
        assert times[0] == 1 and times[-1] == 0 and len(times) == 8
        assert times == sorted(times, reverse=True)
    assert StraightSchedule(1.0).times(4) == [1, 0.75, 0.5, 0.25, 0]
    # a shift of 3 spends three quarters of the steps on the noisier half
    assert SCHEDULE.times(4)[3] == pytest.approx(0.5)
    with pytest.raises(InputError, match="at least 1"):
        SCHEDULE.times(0)
    with pytest.raises(ValueError, match="positive"):
        StraightSchedule(0.0)


def test_velocity_gives_back_what_was_mixed():
    assert isinstance(SCHEDULE, NoiseSchedule)
    clean, noise = random(2, 3, 4), random(2, 3, 4, seed=1)
    velocity = (1 - SCHEDULE.sigma_min) * noise - clean
    for t in (0.0, 0.3, 1.0):
        noisy = SCHEDULE.add_noise(clean, noise, t)
        torch.testing.assert_close(SCHEDULE.predict_x0(velocity, noisy, t), clean)
        torch.testing.assert_close(SCHEDULE.predict_eps(velocity, noisy, t), noise)
        torch.testing.assert_close(
            SCHEDULE.step(velocity, noisy, t, 0.1), SCHEDULE.add_noise(clean, noise, 0.1)
        )


def test_one_point_is_reached_in_one_step():
    target = random(5)

    def predict(x, t):
        return (x - target) / (t / SCHEDULE.total)

    for steps in (1, 6):
        samples = list(euler(predict, random(5, seed=1), StraightSchedule(3.0, sigma_min=0.0), steps))
        torch.testing.assert_close(samples[-1].latents, target)
        torch.testing.assert_close(samples[0].clean, target)


def test_a_gaussian_is_sampled_with_its_mean_and_deviation():
    mean, deviation = 1.5, 0.4
    schedule = StraightSchedule(shift=1.0, sigma_min=0.0)

    def predict(x, t):
        # E[ε − z_0 | z_t] of Gaussian data
        t = t / schedule.total
        variance = (1 - t) ** 2 * deviation**2 + t**2
        return -mean + (t - (1 - t) * deviation**2) / variance * (x - (1 - t) * mean)

    noise = random(20000)
    errors = []
    for steps in (20, 40):
        *_, last = euler(predict, noise, schedule, steps)
        errors.append(float((last.latents - (mean + deviation * noise)).abs().mean()))
    # of first order: half the error with twice the steps
    assert errors[1] < 0.02 and errors[1] < 0.6 * errors[0]


def test_guidance_is_a_straight_line_from_unconditional_and_only_inside_its_interval():
    calls = []

    def constant(value, name):
        def predict(x, t):
            calls.append(name)
            return torch.full_like(x, value)

        return predict

    predict = guided(constant(2.0, "yes"), constant(1.0, "no"), SCHEDULE, strength=3.0, interval=(0.5, 0.9))
    x = torch.zeros(2)
    for t, want, names in (
        (0.5, 5, ["yes", "no"]),
        (0.9, 5, ["yes", "no"]),
        (0.91, 2, ["yes"]),
        (0.4, 2, ["yes"]),
    ):
        calls.clear()
        assert predict(x, SCHEDULE.network_time(t)).tolist() == [want, want]
        assert calls == names
    calls.clear()
    guided(constant(2.0, "yes"), constant(1.0, "no"), SCHEDULE, strength=0.0)(x, 500.0)
    assert calls == ["yes"]


def test_closing_a_run_stops_calling_the_network():
    calls = []

    def predict(x, t):
        calls.append(t)
        return x

    run = euler(predict, random(3), SCHEDULE, 10)
    next(run)
    run.close()
    assert calls == [1000.0]
