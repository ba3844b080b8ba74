"""Rectified flow: the straight noise schedule, Euler sampling, and guidance inside an interval of times.

Source: Rectified flow (Liu et al. 2023) and flow matching (Lipman et al. 2023); time shift after Esser et al. 2024; guidance
in an interval after Kynkäänniemi et al. 2024; the combination and its constants are those of TRELLIS (Xiang et al., CVPR
2025), released code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError
from .dpm_solver import Predict


@dataclass(frozen=True)
class StraightSchedule:
    """Straight lines from clean latents (t = 0) to noise (t = 1): z_t = (1 − t) z_0 + (m + (1 − m) t) ε.

    The network predicts the velocity dz/dt = (1 − m) ε − z_0.

    Args:
        shift: Time shift r of a sampling run: times become r t / (1 + (r − 1) t). Higher spends more steps on noisy
            latents; 1 spaces them evenly.
        sigma_min: Noise m that is left at t = 0.
        total: The network is given `total` · t.

    Raises:
        ValueError: `shift` is not positive.

    Example:
        for sample in euler(predict, noise, StraightSchedule(shift=3.0), steps=12):
            latents = sample.latents
    """

    shift: float = 1.0
    sigma_min: float = 1e-5
    total: int = 1000

    def __post_init__(self) -> None:
        if not self.shift > 0:
            raise ValueError(f"the time shift is {self.shift}; it must be positive")

    @property
    def prediction(self) -> str:
        """What the network predicts."""
        return "velocity"

    @property
    def first(self) -> float:
        """Time at which sampling starts."""
        return 1.0

    @property
    def last(self) -> float:
        """Time at which sampling ends."""
        return 0.0

    def times(self, steps: int) -> list[float]:
        """Times of a sampling run from 1 to 0, steps + 1 of them, after the time shift.

        Raises:
            InputError: Less than one step.
        """
        if steps < 1:
            raise InputError("DIF-060", f"The number of flow steps is {steps}; choose at least 1.")
        even = [1 - i / steps for i in range(steps)] + [0.0]
        return [self.shift * t / (1 + (self.shift - 1) * t) for t in even]

    def network_time(self, t: float) -> float:
        """The time that the network is given for t."""
        return self.total * t

    def rates(self, t: float) -> tuple[float, float]:
        """Signal rate 1 − t and noise rate m + (1 − m) t."""
        return 1 - t, self.sigma_min + (1 - self.sigma_min) * t

    def add_noise(self, latents: Tensor, noise: Tensor, t: float) -> Tensor:
        """Forward process: z_t of clean latents and noise ε of any same shape."""
        signal, sigma = self.rates(t)
        return signal * latents + sigma * noise

    def predict_x0(self, output: Tensor, noisy: Tensor, t: float) -> Tensor:
        """Clean latents x̂_0 of a velocity.

        Args:
            output: Velocity, any shape.
            noisy: z_t, the latents that the network was given.
            t: Time.
        """
        return (1 - self.sigma_min) * noisy - self.rates(t)[1] * output

    def predict_eps(self, output: Tensor, noisy: Tensor, t: float) -> Tensor:
        """Noise ε̂ of a velocity; arguments as `predict_x0`."""
        return noisy + (1 - t) * output

    def step(self, output: Tensor, noisy: Tensor, t: float, earlier: float) -> Tensor:
        """One Euler step along the velocity.

        Args:
            output: Velocity, any shape.
            noisy: z_t, the latents that the network was given.
            t: Time of `noisy`.
            earlier: Time to step to.

        Returns:
            Latents at `earlier`.
        """
        return noisy - (t - earlier) * output


@dataclass(frozen=True, eq=False)
class FlowSample:
    """The state of a sampling run after a step.

    Args:
        latents: Latents at `t`, any shape.
        t: Their time.
        clean: The clean latents that the step predicted.
    """

    latents: Tensor
    t: float
    clean: Tensor


def euler(
    predict: Predict, noise: Tensor, schedule: StraightSchedule, steps: int, done: int = 0
) -> Iterator[FlowSample]:
    """Euler sampling of a rectified flow: one call of `predict` per step.

    Args:
        predict: Velocity of latents at the network's time, guidance included; see `guided`.
        noise: Latents at t = 1, any shape; those after `done` steps where a run goes on.
        schedule: The schedule, with its time shift.
        steps: Number of steps.
        done: Steps that were made before.

    Yields:
        The state after each step; the last one is the result.

    Raises:
        InputError: Less than one step.
    """
    x = noise
    for t, earlier in itertools.pairwise(schedule.times(steps)[done:]):
        velocity = predict(x, schedule.network_time(t))
        clean = schedule.predict_x0(velocity, x, t)
        x = schedule.step(velocity, x, t, earlier)
        yield FlowSample(x, earlier, clean)


def guided(
    conditional: Predict,
    unconditional: Predict,
    schedule: StraightSchedule,
    strength: float,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Predict:
    """Classifier-free guidance inside an interval of times: (1 + w) v_c − w v_u, and v_c alone outside.

    Args:
        conditional: Velocity with the condition.
        unconditional: Velocity without it; called second, and only inside the interval.
        schedule: The schedule, which gives the network's times.
        strength: w, the guidance scale minus 1; 0 turns guidance off.
        interval: First and last time with guidance, both included, after the time shift.
    """
    low, high = (schedule.network_time(t) for t in interval)

    def predict(x: Tensor, t: float) -> Tensor:
        velocity = conditional(x, t)
        if strength == 0 or not low <= t <= high:
            return velocity
        return (1 + strength) * velocity - strength * unconditional(x, t)

    return predict
