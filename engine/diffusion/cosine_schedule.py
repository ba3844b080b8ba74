"""The cosine noise schedule in continuous time, as DPM-Solver makes it from a discrete one."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from dataclasses import dataclass, field

from .noise_schedule import VariancePreserving, check_prediction, cosine_betas

# half-logSNR below which DPM-Solver drops the last timesteps
LEAST_HALF_LOG_SNR = -5.1


@dataclass(frozen=True)
class CosineSchedule(VariancePreserving):
    """The cosine schedule of T timesteps, interpolated over times up to 1 (noise); evaluated in float64.

    The last timesteps, whose half-logSNR is below −5.1, are dropped; the K that stay (996 of 1000) are spread again over
    t_i = i/K, i = 1 … K, and log α is linear between these knots and beyond the first one. The network's time is
    (t − 1/K)·T, a little stretched: t = 1 gives 998.996 though it stands for timestep 995.

    Args:
        total: T, the timesteps that the network was trained with.
        prediction: What the network predicts: "epsilon", "v_prediction" or "sample".

    Raises:
        InputError: Unknown prediction.

    Source:
        Schedule: Nichol and Dhariwal 2021, eq. 17. Interpolation: DPM-Solver (Lu et al. 2022), appendix D.4. The dropped
        timesteps and the stretched time are those of GVFDiffusion's released sampler (Zhang et al., ICCV 2025).

    Example:
        for sample in multistep(predict, noise, CosineSchedule(), steps=20):
            latents = sample.latents
    """

    total: int = 1000
    prediction: str = "v_prediction"
    # log α at the knots, decreasing
    _log_alphas: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_prediction(self.prediction)
        sums = itertools.accumulate(0.5 * math.log1p(-beta) for beta in cosine_betas(self.total))
        kept = tuple(a for a in sums if a - 0.5 * math.log(-math.expm1(2 * a)) >= LEAST_HALF_LOG_SNR)
        object.__setattr__(self, "_log_alphas", kept)

    @property
    def first(self) -> float:
        return 1.0

    @property
    def last(self) -> float:
        return 1 / self.total

    @property
    def knots(self) -> int:
        """K, the timesteps that stay."""
        return len(self._log_alphas)

    def log_alpha(self, t: float) -> float:
        """log α_t; 0 where extrapolation to times near 0 would make it positive."""
        knots = self._log_alphas
        below = min(max(math.ceil(t * len(knots)) - 2, 0), len(knots) - 2)
        weight = t * len(knots) - 1 - below
        return min(knots[below] + weight * (knots[below + 1] - knots[below]), 0.0)

    def alpha(self, t: float) -> float:
        """ᾱ = α_t² at time `t`."""
        return math.exp(2 * self.log_alpha(t))

    def rates(self, t: float) -> tuple[float, float]:
        """Signal rate α_t and noise rate σ_t = √(1 − α_t²)."""
        log_alpha = self.log_alpha(t)
        return math.exp(log_alpha), math.sqrt(-math.expm1(2 * log_alpha))

    def half_log_snr(self, t: float) -> float:
        """λ(t) = log(α_t / σ_t)."""
        log_alpha = self.log_alpha(t)
        return log_alpha - 0.5 * math.log(-math.expm1(2 * log_alpha))

    def time_at(self, half_log_snr: float) -> float:
        """The inverse of `half_log_snr`."""
        # log α = −½ log(1 + e^(−2λ)), without overflow for either sign
        log_alpha = min(half_log_snr, 0.0) - 0.5 * math.log1p(math.exp(-2 * abs(half_log_snr)))
        knots = self._log_alphas
        below = min(max(bisect_left(knots, -log_alpha, key=lambda a: -a) - 1, 0), len(knots) - 2)
        weight = (log_alpha - knots[below]) / (knots[below + 1] - knots[below])
        return (below + 1 + weight) / len(knots)

    def network_time(self, t: float) -> float:
        """(t − 1/K)·T."""
        return (t - 1 / len(self._log_alphas)) * self.total
