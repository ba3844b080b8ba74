"""DPM-Solver++ of order 2: deterministic sampling in few steps, in three variants.

Source: DPM-Solver++ (Lu et al. 2022): data prediction, algorithm 1 (single-step) and algorithm 2 (multistep); the step-size
control of DPM-Solver (Lu et al. 2022), appendix C. Details that the papers leave open are those of their public code.

All three are generators over the states, so that a caller can show progress, and cancel by closing; the last state is the
result, and a run goes on from any of them with the same bits. `predict(x, t)` is one call of the network, guidance included:
it takes latents of any shape and the network's own time, and returns the raw output. The update formulas below use
h = λ_t − λ_s and the prediction x̂ at s:

    x_t = (σ_t / σ_s) x_s − α_t (e^(−h) − 1) x̂
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import Tensor

from ..errors import InputError
from .noise_schedule import ContinuousSchedule

# raw network output for latents [...] at the network's time
Predict = Callable[[Tensor, float], Tensor]

# up to this number of steps the multistep variant ends with a first-order step
FEW_STEPS = 9
# of the adaptive variant: tolerances, safety factor, first step in half-logSNR, distance from the end that counts as there
ABSOLUTE, RELATIVE = 0.0078, 0.05
SAFETY = 0.9
FIRST_STEP = 0.05
ARRIVED = 1e-5
# trial steps of the adaptive variant before it gives up; it needs about 16
MOST_TRIALS = 2000


@dataclass(frozen=True, eq=False)
class Sample:
    """The state of a sampling run after a step.

    Args:
        latents: Of any shape.
        t: Time of the latents in the schedule.
        clean: The clean latents that the step predicted.
        memory: What else the sampler needs to go on from here: tensors by name.
        numbers: The same for numbers.
    """

    latents: Tensor
    t: float
    clean: Tensor
    memory: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    numbers: dict[str, float] = field(default_factory=dict[str, float])


def time_uniform(schedule: ContinuousSchedule, steps: int) -> list[float]:
    """Evenly spaced times from the schedule's first to its last, steps + 1 of them.

    Raises:
        InputError: Less than one step.
    """
    if steps < 1:
        raise InputError("DIF-050", f"The number of sampling steps is {steps}; choose at least 1.")
    length = schedule.last - schedule.first
    return [schedule.first + length * i / steps for i in range(steps)] + [schedule.last]


def multistep(
    predict: Predict, noise: Tensor, schedule: ContinuousSchedule, steps: int, begun: Sample | None = None
) -> Iterator[Sample]:
    """Second-order multistep sampling: one network call per step.

    The first step is of first order, and so is the last of at most 9 steps.

    Args:
        predict: The network, see above.
        noise: Latents at the schedule's first time, any shape.
        schedule: The noise schedule.
        steps: Number of steps, evenly spaced in time.
        begun: A state of the same run to go on from; `noise` is then not used.

    Yields:
        The state after each step.

    Raises:
        InputError: Less than one step.

    Source:
        DPM-Solver++, algorithm 2.
    """
    times = time_uniform(schedule, steps)
    x, done = noise, 0
    # the prediction before, and the λ it was carried over
    before: tuple[Tensor, float] | None = None
    if begun is not None:
        x, done = begun.latents, int(begun.numbers["step"])
        before = begun.memory["clean"], begun.numbers["h"]
    for i in range(done, steps):
        s, t = times[i], times[i + 1]
        clean = towards = _clean(predict, schedule, x, s)
        h = schedule.half_log_snr(t) - schedule.half_log_snr(s)
        if before is not None and not (i == steps - 1 and steps <= FEW_STEPS):
            towards = clean + (0.5 * h / before[1]) * (clean - before[0])
        x = _update(schedule, x, towards, s, t)
        before = clean, h
        yield Sample(x, t, clean, {"clean": clean}, {"step": i + 1, "h": h})


def singlestep(
    predict: Predict, noise: Tensor, schedule: ContinuousSchedule, steps: int, begun: Sample | None = None
) -> Iterator[Sample]:
    """Second-order single-step sampling: two network calls per step.

    Args:
        predict: The network, see above.
        noise: Latents at the schedule's first time, any shape.
        schedule: The noise schedule.
        steps: Number of steps, evenly spaced in time; each passes the middle of its time interval.
        begun: A state of the same run to go on from; `noise` is then not used.

    Yields:
        The state after each step.

    Raises:
        InputError: Less than one step.

    Source:
        DPM-Solver++, algorithm 1.
    """
    times = time_uniform(schedule, steps)
    x, done = (noise, 0) if begun is None else (begun.latents, int(begun.numbers["step"]))
    for i, (s, t) in enumerate(itertools.pairwise(times[done:]), done + 1):
        clean = _clean(predict, schedule, x, s)
        x = _second_order(predict, schedule, x, clean, s, t, (s + t) / 2)
        yield Sample(x, t, clean, numbers={"step": i})


def adaptive(
    predict: Predict,
    noise: Tensor,
    schedule: ContinuousSchedule,
    largest_step: float = math.inf,
    begun: Sample | None = None,
) -> Iterator[Sample]:
    """Second-order sampling that chooses its own steps: two network calls per trial step, rejected ones included.

    The difference between the first- and second-order results, relative to the tolerance, is the error of a trial; its root
    mean square must be at most 1 in each element of the batch. Where both results agree only because neither has met the
    data's structure yet, the reference takes one huge step across it; `largest_step` prevents this.

    Args:
        predict: The network, see above.
        noise: Latents [B, ...] at the schedule's first time.
        schedule: The noise schedule.
        largest_step: Longest step in half-logSNR; unlimited as in the reference. The cosine schedule spans about 10.
        begun: A state of the same run to go on from; `noise` is then not used.

    Yields:
        The state after each accepted step.

    Raises:
        InputError: The network's outputs never meet the tolerance (NaN, for example).

    Source:
        DPM-Solver, appendix C, with the single step of DPM-Solver++.
    """
    s, x, lower_before, h = schedule.first, noise, noise, FIRST_STEP
    if begun is not None:
        s, x, lower_before, h = begun.t, begun.latents, begun.memory["lower"], begun.numbers["h"]
    position, end = schedule.half_log_snr(s), schedule.half_log_snr(schedule.last)
    for _ in range(MOST_TRIALS):
        if abs(s - schedule.last) <= ARRIVED:
            return
        t = schedule.time_at(position + h)
        clean = _clean(predict, schedule, x, s)
        lower = _update(schedule, x, clean, s, t)
        middle = schedule.time_at(position + 0.5 * h)
        higher = _second_order(predict, schedule, x, clean, s, t, middle)
        tolerance = (RELATIVE * lower.abs().maximum(lower_before.abs())).clamp(min=ABSOLUTE)
        error = float(((higher - lower) / tolerance).flatten(1).square().mean(dim=1).sqrt().max())
        if not math.isfinite(error):
            break
        accepted = error <= 1
        if accepted:
            x, lower_before, s = higher, lower, t
            position = schedule.half_log_snr(s)
        h = min(SAFETY * h * max(error, 1e-12) ** -0.5, largest_step, end - position)
        if accepted:
            yield Sample(x, s, clean, {"lower": lower_before}, {"h": h})
    raise InputError(
        "DIF-051",
        f"Adaptive sampling did not finish within {MOST_TRIALS} trial steps (it stands at time {s:.4g}): the network's outputs "
        "do not change smoothly or are not numbers. Choose a number of steps instead, or check the weights.",
    )


def _clean(predict: Predict, schedule: ContinuousSchedule, x: Tensor, t: float) -> Tensor:
    return schedule.predict_x0(predict(x, schedule.network_time(t)), x, t)


def _update(schedule: ContinuousSchedule, x: Tensor, clean: Tensor, s: float, t: float) -> Tensor:
    """The first-order step from s to t towards a prediction of the clean latents."""
    signal, sigma = schedule.rates(t)
    _, sigma_before = schedule.rates(s)
    h = schedule.half_log_snr(t) - schedule.half_log_snr(s)
    return (sigma / sigma_before) * x - (signal * math.expm1(-h)) * clean


def _second_order(
    predict: Predict,
    schedule: ContinuousSchedule,
    x: Tensor,
    clean: Tensor,
    s: float,
    t: float,
    middle: float,
) -> Tensor:
    """The step from s to t with a second prediction at the time `middle`."""
    start = schedule.half_log_snr(s)
    part = (schedule.half_log_snr(middle) - start) / (schedule.half_log_snr(t) - start)
    there = _update(schedule, x, clean, s, middle)
    second = _clean(predict, schedule, there, middle)
    return _update(schedule, x, clean + (0.5 / part) * (second - clean), s, t)
