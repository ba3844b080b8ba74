"""Least-squares splines through sampled motion, with the fewest knots that keep the error within limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..scene import rotations
from .tracks import Track, quantize, quats_of, vectors_of, weights

# numbers in one block of a product
AT_ONCE = 1 << 22
# Gaussians by which most knot counts are rejected
SUBSET = 4096
# fraction of the limits that splines may use; the rest is for rounding
SHARE = 0.8
# quantile of a subset's errors that is compared with the limit, for tracks other than positions
QUANTILE = 0.99


@dataclass(frozen=True, eq=False)
class Samples:
    """Values of M Gaussians at S times, and the allowed errors.

    Attributes:
        seconds: [S] float64, ascending.
        judged: [S] bool: times whose errors count (the captured frames).
        values: Track name → [S, M, c] float32; rotation: quaternions, c = 4.
        weights: Track name → [M]; error × weight is compared with the limit.
        limits: Track name → limit. "position" applies to every Gaussian and frame, the others to most.
    """

    seconds: Tensor
    judged: Tensor
    values: dict[str, Tensor]
    weights: dict[str, Tensor]
    limits: dict[str, float]

    @property
    def count(self) -> int:
        """M."""
        return next(iter(self.values.values())).shape[1]

    def at_moments(self) -> Samples:
        """Only the times whose errors count."""
        values = {name: v[self.judged] for name, v in self.values.items()}
        return replace(
            self, seconds=self.seconds[self.judged], judged=self.judged[self.judged], values=values
        )


@dataclass(frozen=True, eq=False)
class Knots:
    """Values of each track at K knots."""

    seconds: Tensor  # [K] float64
    interpolation: str
    values: dict[str, Tensor]  # track name → [K, M, c] float32


class KnotSearch:
    """Cubic splines with the fewest evenly spaced knots, 2 to `most`, that keep within SHARE of the limits.

    A knot count that fails on some Gaussians fails on all of them, so most counts are rejected by a subset; the worst
    Gaussians are added to it whenever all are tested. If no count suffices, `most` is used.

    Args:
        samples: The motion to fit.
        most: Largest number of knots; used without a test.
        settles_below: The search succeeds with fewer knots than this.
        is_linear: With `most` knots, interpolate linearly.
    """

    def __init__(
        self, samples: Samples, most: int, settles_below: float = math.inf, is_linear: bool = False
    ) -> None:
        self.samples, self.most = samples, most
        self._settles_below, self._is_linear = settles_below, is_linear
        g = torch.Generator().manual_seed(0)
        self._subset = torch.randperm(samples.count, generator=g)[:SUBSET]
        self._count = 2
        self._is_found = False

    def has_more(self) -> bool:
        """Whether there is another number of knots to try."""
        return not self._is_found and self._count < self.most

    def try_next(self) -> None:
        """Try one number of knots."""
        solver = _Solver(self.samples, self._count)
        if solver.subset_within(self._subset, SHARE):
            worst = solver.worst_positions(SHARE)
            if worst is None:
                self._is_found = True
                return
            self._subset = torch.cat([self._subset, worst]).unique()
        self._count += max(1, self._count // 24)

    def has_settled(self) -> bool:
        return min(self._count, self.most) < self._settles_below

    def knots(self) -> Knots:
        """The knots of the count that was found."""
        knots = _Solver(self.samples, min(self._count, self.most)).solve()
        # with a knot at every frame, both interpolations pass through all frames
        is_linear = self._is_linear and len(knots.seconds) == self.most
        return replace(knots, interpolation="linear") if is_linear else knots


def held(samples: Samples) -> Knots:
    """A knot at every judged time whose values differ from the previous knot; without interpolation."""
    judged = samples.judged.nonzero()[:, 0].tolist()
    kept = judged[:1]
    for i in judged[1:]:
        if any(not torch.equal(v[i], v[kept[-1]]) for v in samples.values.values()):
            kept.append(i)
    return Knots(samples.seconds[kept], "hold", {name: v[kept] for name, v in samples.values.items()})


def quantize_positions(samples: Samples, knots: Knots, limit: float) -> Track:
    """The position track with the fewest bits, up to 16, that keeps every judged center within `limit` world units."""
    values = knots.values["position"]
    spare = limit - largest_error(samples, knots, values)
    first = _bits(values, max(0.35 * limit, 0.75 * spare), 4, 16)
    for bits in range(first, 17):
        track = quantize("position", values, bits)
        if bits == 16 or largest_error(samples, knots, track.values()) <= limit:
            return track
    raise AssertionError("unreachable: 16 bits are accepted in any case")


def quantize_others(samples: Samples, knots: Knots, name: str, least: int, most: int) -> Track:
    """A track with the fewest bits, `least` to `most`, whose rounding stays below half the limit for most Gaussians."""
    weight, limit, values = samples.weights[name], 0.5 * samples.limits[name], knots.values[name]
    if name != "rotation":
        return quantize(name, values, _bits(values, limit / max(_quantile(weight), 1e-30), least, most))
    # near 180°, w = √(1 − |v|²) magnifies the rounding of v, so the error is measured
    quats = rotations.normalise(values)
    vectors = vectors_of(quats)
    some = slice(None, None, max(1, vectors.shape[1] // SUBSET))
    for bits in range(least, most + 1):
        track = quantize(name, vectors, bits)
        cosine = (quats_of(track.values()[:, some]) * quats[:, some]).sum(-1).abs()
        left = (2 - 2 * cosine.clamp(max=1)).sqrt() * weight[some]
        if bits == most or _quantile(left) <= limit:
            return track
    raise AssertionError("unreachable: the most bits are accepted in any case")


def _quantile(values: Tensor) -> float:
    flat = values.flatten()
    return float(flat.kthvalue(max(1, int(QUANTILE * len(flat)))).values)


def _bits(values: Tensor, error: float, least: int, most: int) -> int:
    """Bits that round values [K, M, c] by no more than `error` (length over channels), `least` to `most`."""
    flat = values.reshape(-1, values.shape[-1])
    steps = float((flat.amax(0) - flat.amin(0)).norm()) / 2 / max(error, 1e-30)
    return min(max(math.ceil(math.log2(steps + 1)), least), most)


def largest_error(samples: Samples, knots: Knots, values: Tensor) -> float:
    """Largest distance, over judged times, between positions `values` [K, M, 3] at the knots and the sampled ones."""
    rows = weights(samples.seconds[samples.judged], knots.seconds, knots.interpolation).float()
    wanted, largest = samples.values["position"][samples.judged], 0.0
    for part in _parts(wanted.shape[1], len(rows)):
        left = torch.tensordot(rows, values[:, part], dims=1) - wanted[:, part]
        largest = max(largest, float(left.norm(dim=-1).max()))
    return largest


class _Solver:
    """Least squares for one number of knots: the same matrices serve every Gaussian and track."""

    def __init__(self, samples: Samples, count: int) -> None:
        self.samples = samples
        self.knots = torch.linspace(
            float(samples.seconds[0]), float(samples.seconds[-1]), count, dtype=torch.float64
        )
        rows = weights(samples.seconds, self.knots, "cubic")
        self.to_knots = torch.linalg.pinv(rows).float()  # [K, S]
        self.judged = rows[samples.judged].float()  # [J, K]
        # errors left at the judged times, straight from the samples
        self.left = (rows[samples.judged] @ torch.linalg.pinv(rows)).float()

    def _errors(self, name: str, which: Tensor | slice) -> Tensor:
        """[J, m] weighted errors of some Gaussians."""
        values = self.samples.values[name][:, which]
        left = torch.tensordot(self.left, values, dims=1) - values[self.samples.judged]
        return left.norm(dim=-1) * self.samples.weights[name][which]

    def subset_within(self, subset: Tensor, share: float) -> bool:
        for name, limit in self.samples.limits.items():
            if name not in self.samples.values:
                continue
            errors = self._errors(name, subset)
            if name == "position":
                left = float(errors.max())
            else:
                left = _quantile(errors)
            if left > share * limit:
                return False
        return True

    def worst_positions(self, share: float) -> Tensor | None:
        """The Gaussians furthest beyond the limit; None if all stay within it."""
        if "position" not in self.samples.values:
            return None
        count = self.samples.values["position"].shape[1]
        errors = torch.cat(
            [self._errors("position", part).amax(0) for part in _parts(count, len(self.samples.seconds))]
        )
        bad = (errors > share * self.samples.limits["position"]).nonzero()[:, 0]
        return None if len(bad) == 0 else bad[errors[bad].argsort(descending=True)[:SUBSET]]

    def solve(self) -> Knots:
        values: dict[str, Tensor] = {}
        for name, sampled in self.samples.values.items():
            result = sampled.new_empty(len(self.knots), *sampled.shape[1:])
            for part in _parts(sampled.shape[1], len(sampled)):
                result[:, part] = torch.tensordot(self.to_knots, sampled[:, part], dims=1)
            values[name] = result
        return Knots(self.knots, "cubic", values)


def _parts(count: int, times: int) -> list[slice]:
    size = max(1, AT_ONCE // (3 * max(times, 1)))
    return [slice(start, start + size) for start in range(0, count, size)]
