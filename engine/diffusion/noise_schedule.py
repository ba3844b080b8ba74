"""Noise schedules of diffusion models: the forward process, and deterministic DDIM steps back.

Source: DDPM (Ho et al. 2020) for alphas, DDIM (Song et al. 2021, eq. 12 with eta 0) for the step, v-prediction after
Salimans and Ho (2022). With zero terminal SNR (Lin et al. 2024) the last timestep is pure noise: nothing here divides
by the square root of alpha there.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import InputError

PREDICTIONS = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "trailing", "linspace")


@runtime_checkable
class NoiseSchedule(Protocol):
    """How noise is mixed with clean latents at a time t, and what a network's output means there.

    Kinds: `DiscreteSchedule` (numbered timesteps) and `CosineSchedule` (continuous time), both variance-preserving, and
    `StraightSchedule` (rectified flow, continuous time). What a time is depends on the kind; a larger one is noisier.
    """

    @property
    def prediction(self) -> str:
        """What the network predicts: "epsilon", "v_prediction", "sample" or, in rectified flow, "velocity"."""
        ...

    def rates(self, t: float) -> tuple[float, float]:
        """Signal rate α_t and noise rate σ_t of z_t = α_t z_0 + σ_t ε."""
        ...

    def add_noise(self, latents: Tensor, noise: Tensor, t: float) -> Tensor:
        """Forward process: z_t = α_t z_0 + σ_t ε.

        Args:
            latents: Clean latents z_0, any shape.
            noise: ε of the same shape.
            t: Time.
        """
        ...

    def predict_x0(self, output: Tensor, noisy: Tensor, t: float) -> Tensor:
        """Clean latents x̂_0 of a network output.

        Args:
            output: Raw network output, any shape.
            noisy: z_t, the latents that the network was given.
            t: Time.
        """
        ...

    def predict_eps(self, output: Tensor, noisy: Tensor, t: float) -> Tensor:
        """Noise ε̂ of a network output; arguments as `predict_x0`."""
        ...

    def step(self, output: Tensor, noisy: Tensor, t: float, earlier: float) -> Tensor:
        """One first-order step without added noise.

        Args:
            output: Raw network output, any shape.
            noisy: z_t, the latents that the network was given.
            t: Time of `noisy`.
            earlier: Time to step to.

        Returns:
            Latents at `earlier`.
        """
        ...


class ContinuousSchedule(NoiseSchedule, Protocol):
    """A schedule that has a value at every time, as the samplers of dpm_solver.py need it."""

    @property
    def first(self) -> float:
        """Time at which sampling starts: noise."""
        ...

    @property
    def last(self) -> float:
        """Time at which sampling ends: clean."""
        ...

    def half_log_snr(self, t: float) -> float:
        """λ(t) = log(α_t / σ_t), which decreases with t."""
        ...

    def time_at(self, half_log_snr: float) -> float:
        """The inverse of `half_log_snr`."""
        ...

    def network_time(self, t: float) -> float:
        """The time that the network is given for t."""
        ...


class VariancePreserving(ABC):
    """The part of a variance-preserving schedule that follows from ᾱ alone: α_t = √ᾱ, σ_t = √(1 − ᾱ).

    Source: DDPM (Ho et al. 2020), eq. 4; v-prediction after Salimans and Ho (2022), appendix D.
    """

    prediction: str

    @abstractmethod
    def alpha(self, t: float) -> float:
        """ᾱ at time `t`."""

    def rates(self, t: float) -> tuple[float, float]:
        """Signal rate √ᾱ and noise rate √(1 − ᾱ)."""
        a = self.alpha(t)
        return a**0.5, (1 - a) ** 0.5

    def add_noise(self, latents: Tensor, noise: Tensor, t: float) -> Tensor:
        """Forward process: z_t = √ᾱ z_0 + √(1 − ᾱ) ε; see `NoiseSchedule`."""
        signal, sigma = self.rates(t)
        return signal * latents + sigma * noise

    def predict_x0(self, output: Tensor, noisy: Tensor, t: float) -> Tensor:
        """Clean latents x̂_0 of a network output; see `NoiseSchedule`."""
        signal, sigma = self.rates(t)
        if self.prediction == "sample":
            return output
        if self.prediction == "v_prediction":
            return signal * noisy - sigma * output
        return (noisy - sigma * output) / max(signal, 1e-6)

    def predict_eps(self, output: Tensor, noisy: Tensor, t: float) -> Tensor:
        """Noise ε̂ of a network output; arguments as `predict_x0`."""
        signal, sigma = self.rates(t)
        if self.prediction == "epsilon":
            return output
        if self.prediction == "v_prediction":
            return signal * output + sigma * noisy
        return (noisy - signal * output) / max(sigma, 1e-6)

    def step(self, output: Tensor, noisy: Tensor, t: float, earlier: float) -> Tensor:
        """One DDIM step without added noise (Song et al. 2021, eq. 12 with eta 0); see `NoiseSchedule`."""
        signal, sigma = self.rates(earlier)
        return signal * self.predict_x0(output, noisy, t) + sigma * self.predict_eps(output, noisy, t)


def check_prediction(prediction: str) -> None:
    """InputError where a network predicts something that no schedule knows."""
    if prediction not in PREDICTIONS:
        raise InputError(
            "DIF-030",
            f"The model predicts '{prediction}', which is not one of {', '.join(PREDICTIONS)}; use another "
            "checkpoint.",
        )


def cosine_betas(total: int) -> list[float]:
    """Betas [T] of the cosine schedule, float64 (Nichol and Dhariwal 2021, eq. 17, β ≤ 0.999)."""
    kept = [math.cos((i / total + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(total + 1)]
    return [min(1 - b / a, 0.999) for a, b in itertools.pairwise(kept)]


@dataclass(frozen=True, eq=False)
class DiscreteSchedule(VariancePreserving):
    """Noise schedule with timesteps 0 (clean) to T − 1 (noise).

    Args:
        alphas_cumprod: Cumulative alphas ᾱ [T], float64 on the CPU, decreasing.
        prediction: What the network predicts: "epsilon", "v_prediction" or "sample".
        spacing: How a few steps are spread over the T timesteps: "leading", "trailing" or "linspace".
        offset: Added to each timestep with leading spacing.
        final_alpha: ᾱ of the image after the last step.

    Raises:
        InputError: Unknown prediction or spacing.

    Example:
        schedule = DiscreteSchedule.from_config(scheduler_config)
        noisy = schedule.add_noise(latents, noise, t=500)
    """

    alphas_cumprod: Tensor
    prediction: str = "epsilon"
    spacing: str = "leading"
    offset: int = 1
    final_alpha: float = 1.0

    def __post_init__(self) -> None:
        check_prediction(self.prediction)
        if self.spacing not in SPACINGS:
            raise InputError(
                "DIF-031",
                f"Timestep spacing is '{self.spacing}', which is not one of {', '.join(SPACINGS)}; use another "
                "checkpoint.",
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DiscreteSchedule:
        """Read the config of any diffusers scheduler as diffusers' DDIM scheduler does.

        Args:
            config: The content of scheduler_config.json; missing entries take diffusers' defaults.

        Raises:
            InputError: DDIM does not support the schedule.
        """
        total = int(config.get("num_train_timesteps", 1000))
        is_video = str(config.get("_class_name", "")).startswith("CogVideoX")
        # in the precision of diffusers' schedulers, so that sampling equals theirs
        dtype = torch.float64 if is_video else torch.float32
        first, last = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
        schedule = str(config.get("beta_schedule", "linear"))
        if config.get("trained_betas") is not None:
            betas = torch.tensor(config["trained_betas"], dtype=torch.float32)
        elif schedule == "linear":
            betas = torch.linspace(first, last, total, dtype=torch.float32)
        elif schedule == "scaled_linear":
            betas = torch.linspace(first**0.5, last**0.5, total, dtype=dtype) ** 2
        elif schedule == "squaredcos_cap_v2":
            betas = torch.tensor(cosine_betas(total))
        else:
            raise InputError(
                "DIF-032",
                f"The scheduler's beta_schedule is '{schedule}', which is not one of linear, scaled_linear and "
                "squaredcos_cap_v2; use a Stable Diffusion 1.x, 2.x or InstructPix2Pix model.",
            )
        alphas = torch.cumprod(1 - betas, dim=0)
        # Esser et al. 2024, as CogVideoX uses it: 1 leaves the schedule as it is, more shifts it to noise
        shift = float(config.get("snr_shift_scale", 3.0 if is_video else 1.0))
        if shift != 1:
            alphas = alphas / (shift + (1 - shift) * alphas)
        if config.get("rescale_betas_zero_snr"):
            # Lin et al. 2024, algorithm 1
            root = alphas.sqrt()
            alphas = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        return cls(
            alphas.double(),
            prediction=str(config.get("prediction_type", "epsilon")),
            spacing=str(config.get("timestep_spacing", "leading")),
            offset=int(config.get("steps_offset", 0)),
            final_alpha=1.0 if config.get("set_alpha_to_one", True) else float(alphas[0]),
        )

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def timesteps(self, steps: int) -> list[int]:
        """Timesteps of a sampling run, spaced as by the model's own scheduler.

        Args:
            steps: Number of steps, 1 to T.

        Returns:
            `steps` timesteps, from noisy to clean.

        Raises:
            InputError: `steps` is out of range.
        """
        total = len(self)
        if not 1 <= steps <= total:
            raise InputError("DIF-033", f"diffusion steps is {steps}; choose 1 to {total}.")
        if self.spacing == "linspace":
            return torch.linspace(0, total - 1, steps, dtype=torch.float64).round().long().flip(0).tolist()
        if self.spacing == "trailing":
            # as diffusers: arange(T, 0, -T/steps) rounded, minus one
            return [round(total - i * total / steps) - 1 for i in range(steps)]
        return [min(i * (total // steps) + self.offset, total - 1) for i in reversed(range(steps))]

    def alpha(self, t: float) -> float:
        """ᾱ at timestep `t`, a whole number; `t` = −1 is the image after the last step."""
        return self.final_alpha if t < 0 else float(self.alphas_cumprod[int(t)])
