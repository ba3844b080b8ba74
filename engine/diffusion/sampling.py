"""Sampling a network of a discrete schedule in two ways: DDIM, and as a rectified flow.

Both follow the same curve. In straight time τ = σ_t / (α_t + σ_t), with latents divided by α_t + σ_t, a
variance-preserving process is a rectified flow whose velocity is ε̂ − x̂_0, and one DDIM step without added noise is one
Euler step (Gao et al. 2024, "Diffusion Meets Flow Matching"; Liu et al. 2023). What differs is where the steps are: DDIM
takes the model's own timesteps, the flow spaces them evenly in τ, with a time shift. A network that was trained with a
v-prediction loss can so be trained on with a flow-matching loss: Diff4Splat does this with CogVideoX.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from .dpm_solver import Predict
from .flow import FlowSample, StraightSchedule
from .noise_schedule import DiscreteSchedule


def ddim(
    predict: Predict, noise: Tensor, schedule: DiscreteSchedule, steps: int, done: int = 0
) -> Iterator[FlowSample]:
    """DDIM sampling without added noise: one call of `predict` per step.

    Args:
        predict: Raw network output of latents at a timestep, guidance included.
        noise: Latents of pure noise, any shape; those after `done` steps where a run goes on.
        schedule: The schedule; its `timesteps` are used.
        steps: Number of steps.
        done: Steps that were made before.

    Yields:
        The state after each step; the last one is the result.

    Raises:
        InputError: `steps` is out of range.

    Source:
        DDIM (Song et al. 2021), eq. 12 with eta 0.
    """
    x = noise
    for t, earlier in itertools.pairwise([*schedule.timesteps(steps), -1][done:]):
        output = predict(x, t)
        clean = schedule.predict_x0(output, x, t)
        x = schedule.step(output, x, t, earlier)
        yield FlowSample(x, float(earlier), clean)


@dataclass(frozen=True)
class Straightened(StraightSchedule):
    """A discrete schedule as straight lines, so that `euler` samples its network as a rectified flow.

    Times are τ of the discrete timesteps; `network_time` gives the timestep back. The network is never asked between two
    timesteps, so it needs no training for it.

    Args:
        discrete: The schedule of the network.
        shift: Time shift, as in `StraightSchedule`.

    Example:
        flow = Straightened(discrete=backbone.noise_schedule, shift=3.0)
        for sample in euler(flow.velocity(predict), noise, flow, steps=20):
            latents = sample.latents
    """

    sigma_min: float = 0.0
    discrete: DiscreteSchedule = field(kw_only=True)

    @cached_property
    def straight_times(self) -> list[float]:
        """τ of every timestep, increasing."""
        rates = [self.discrete.rates(t) for t in range(len(self.discrete))]
        return [sigma / (signal + sigma) for signal, sigma in rates]

    def times(self, steps: int) -> list[float]:
        """Times from the noisiest timestep to 0, evenly spaced after the shift, each moved to the nearest timestep.

        Where fewer timesteps are left than steps are asked for, there are fewer times.
        """
        known = self.straight_times
        chosen = {self._nearest(t) for t in super().times(steps)[:-1]}
        return [known[index] for index in sorted(chosen, reverse=True)] + [0.0]

    def network_time(self, t: float) -> float:
        """The timestep at time t."""
        return self._nearest(t)

    def _nearest(self, t: float) -> int:
        known = self.straight_times
        above = min(bisect_left(known, t), len(known) - 1)
        return above - 1 if above and t - known[above - 1] < known[above] - t else above

    def velocity(self, predict: Predict) -> Predict:
        """The velocity ε̂ − x̂_0 of straightened latents at a timestep, from a network of the discrete schedule."""

        def velocity(x: Tensor, t: float) -> Tensor:
            noisy = sum(self.discrete.rates(t)) * x
            output = predict(noisy, t)
            return self.discrete.predict_eps(output, noisy, t) - self.discrete.predict_x0(output, noisy, t)

        return velocity


def straight_alphas(total: int = 1000) -> Tensor:
    """ᾱ [total] of a discrete schedule whose straight times are 1/total, 2/total, … 1: that of a network trained as a flow."""
    t = torch.arange(1, total + 1, dtype=torch.float64) / total
    return (1 - t) ** 2 / ((1 - t) ** 2 + t**2)


def as_v_prediction(velocity: Predict, schedule: DiscreteSchedule, total: int = 1000) -> Predict:
    """The other direction: a network trained on velocities, as a v-prediction network of a discrete schedule.

    Args:
        velocity: The network: velocity ε − z_0 at `total` · τ.
        schedule: A discrete schedule with v-prediction.
        total: What the network's time is multiplied with.
    """

    def predict(noisy: Tensor, t: float) -> Tensor:
        signal, sigma = schedule.rates(t)
        size = signal + sigma
        output = velocity(noisy / size, total * sigma / size)
        # v = α ε − σ z_0, with ε and z_0 on the line through the straightened latents
        return (signal - sigma) / size * noisy + output / size

    return predict
