"""Least-squares splines through sampled motion, with the fewest knots that keep the error within limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..scene import rotations
from .series import Series
from .tracks import Track, quantize, quats_of, vectors_of, weights

# numbers in one block of a product
AT_ONCE = 1 << 20
# Gaussians by which most knot counts are rejected, and numbers at which there are fewer: their samples stay in memory
SUBSET, SUBSET_NUMBERS = 4096, 1 << 23
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
        values: Track name → [S, M, c]; rotation: quaternions, c = 4.
        weights: Track name → [M]; error × weight is compared with the limit.
        limits: Track name → limit. "position" applies to every Gaussian and frame, the others to most.
    """

    seconds: Tensor
    judged: Tensor
    values: dict[str, Series]
    weights: dict[str, Tensor]
    limits: dict[str, float]

    @property
    def count(self) -> int:
        """M."""
        return next(iter(self.values.values())).shape[1]

    def judged_rows(self) -> list[int]:
        """The indices of the times whose errors count."""
        return self.judged.nonzero()[:, 0].tolist()

    def parts(self, which: Tensor) -> dict[str, Tensor]:
        """Track name → [S, m, c] of the Gaussians `which` [m]."""
        return {name: series.part(which) for name, series in self.values.items()}

    def at_moments(self) -> Samples:
        """Only the times whose errors count."""
        values = {name: v.at(self.judged_rows()) for name, v in self.values.items()}
        return replace(
            self, seconds=self.seconds[self.judged], judged=self.judged[self.judged], values=values
        )


@dataclass(frozen=True, eq=False)
class Knots:
    """Values of each track at K knots, of one track at a time.

    Attributes:
        seconds: [K] float64.
        interpolation: "cubic", "linear" or "hold".
        of: Gives the values [K, M, c] float32 of a track.
    """

    seconds: Tensor
    interpolation: str
    of: Callable[[str], Tensor]


class KnotSearch:
    """Cubic splines with the fewest evenly spaced knots, 2 to `most`, that keep within SHARE of the limits.

    A knot count that fails on some Gaussians fails on all of them, so most counts are rejected by a subset; the worst
    Gaussians are added to it whenever all are tested. If no count suffices, `most` is used.

    Args:
        samples: The motion to fit.
        most: Largest number of knots; used without a test.
        settles_below: The search succeeds with fewer knots than this.
        is_linear: With `most` knots, interpolate linearly.
        share: Fraction of the limits that splines may use.
        is_pinned: The first and the last knot are the first and the last sample, so that splines of neighboring
            segments meet.
    """

    def __init__(
        self,
        samples: Samples,
        most: int,
        settles_below: float = math.inf,
        is_linear: bool = False,
        share: float = SHARE,
        is_pinned: bool = False,
    ) -> None:
        self.samples, self.most, self.share, self.is_pinned = samples, most, share, is_pinned
        self._settles_below, self._is_linear = settles_below, is_linear
        g = torch.Generator().manual_seed(0)
        channels = sum(series.shape[-1] for series in samples.values.values())
        self._most = min(SUBSET, max(1, SUBSET_NUMBERS // (channels * max(len(samples.seconds), 1))))
        self._subset = torch.randperm(samples.count, generator=g)[: self._most]
        self._values = samples.parts(self._subset)
        self._count = 2
        self._is_found = False

    def has_more(self) -> bool:
        """Whether there is another number of knots to try."""
        return not self._is_found and self._count < self.most

    def try_next(self) -> None:
        """Try one number of knots."""
        solver = _Solver(self.samples, self._count, self.is_pinned)
        if solver.subset_within(self._subset, self._values, self.share):
            worst = solver.worst_positions(self.share, self._most)
            if worst is None:
                self._is_found = True
                self._values = {}
                return
            self._subset = torch.cat([self._subset, worst]).unique()
            self._values = self.samples.parts(self._subset)
        self._count += max(1, self._count // 24)
        if not self.has_more():
            self._values = {}

    def has_settled(self) -> bool:
        return min(self._count, self.most) < self._settles_below

    def knots(self) -> Knots:
        """The knots of the count that was found."""
        solver = _Solver(self.samples, min(self._count, self.most), self.is_pinned)
        knots = Knots(solver.knots, "cubic", solver.solve)
        # with a knot at every frame, both interpolations pass through all frames
        is_linear = self._is_linear and len(knots.seconds) == self.most
        return replace(knots, interpolation="linear") if is_linear else knots


def held(samples: Samples) -> Knots:
    """A knot at every judged time whose values differ from the previous knot; without interpolation."""
    judged = samples.judged_rows()
    kept = judged[:1]
    for i in judged[1:]:
        if any(not torch.equal(v.row(i), v.row(kept[-1])) for v in samples.values.values()):
            kept.append(i)
    return Knots(samples.seconds[kept], "hold", lambda name: samples.values[name].at(kept).part(slice(None)))


def quantize_positions(samples: Samples, knots: Knots, limit: float) -> Track:
    """The position track with the fewest bits, up to 16, that keeps every judged center within `limit` world units."""
    values = knots.of("position")
    spare = limit - largest_error(samples, knots, lambda part: values[:, part])
    first = _bits(values, max(0.35 * limit, 0.75 * spare), 4, 16)
    for bits in range(first, 17):
        track = quantize("position", values, bits)
        if bits == 16 or largest_error(samples, knots, track.values) <= limit:
            return track
    raise AssertionError("unreachable: 16 bits are accepted in any case")


def quantize_others(samples: Samples, values: Tensor, name: str, least: int, most: int) -> Track:
    """A track of `values` [K, M, c] with the fewest bits, `least` to `most`.

    Its rounding stays below half the limit for most Gaussians.
    """
    weight, limit = samples.weights[name], 0.5 * samples.limits[name]
    if name != "rotation":
        return quantize(name, values, _bits(values, limit / max(_quantile(weight), 1e-30), least, most))
    # near 180°, w = √(1 − |v|²) magnifies the rounding of v, so the error is measured
    quats = rotations.normalise(values)
    vectors = vectors_of(quats)
    some = slice(None, None, max(1, vectors.shape[1] // SUBSET))
    for bits in range(least, most + 1):
        track = quantize(name, vectors, bits)
        cosine = (quats_of(track.values(some)) * quats[:, some]).sum(-1).abs()
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


def largest_error(samples: Samples, knots: Knots, values: Callable[[slice], Tensor]) -> float:
    """Largest distance, over judged times, between positions at the knots and the sampled ones.

    `values`: gives the positions [K, m, 3] of some Gaussians.
    """
    rows = weights(samples.seconds[samples.judged], knots.seconds, knots.interpolation).float()
    wanted, largest = samples.values["position"].at(samples.judged_rows()), 0.0
    for part in _parts(samples.count, len(rows)):
        left = torch.tensordot(rows, values(part), dims=1) - wanted.part(part)
        largest = max(largest, float(left.norm(dim=-1).max()))
    return largest


class _Solver:
    """Least squares for one number of knots: the same matrices serve every Gaussian and track."""

    def __init__(self, samples: Samples, count: int, is_pinned: bool) -> None:
        self.samples = samples
        self.knots = torch.linspace(
            float(samples.seconds[0]), float(samples.seconds[-1]), count, dtype=torch.float64
        )
        rows = weights(samples.seconds, self.knots, "cubic")
        to_knots = _pinned(rows) if is_pinned else torch.linalg.pinv(rows)
        self.to_knots = to_knots.float()  # [K, S]
        self.judged = rows[samples.judged].float()  # [J, K]
        # errors left at the judged times, straight from the samples
        self.left = (rows[samples.judged] @ to_knots).float()

    def _errors(self, name: str, values: Tensor, which: Tensor | slice) -> Tensor:
        """[J, m] weighted errors of some Gaussians, whose samples are `values` [S, m, c]."""
        left = torch.tensordot(self.left, values, dims=1) - values[self.samples.judged]
        return left.norm(dim=-1) * self.samples.weights[name][which]

    def subset_within(self, subset: Tensor, values: dict[str, Tensor], share: float) -> bool:
        """Whether the Gaussians `subset` [m], whose samples are `values`, stay within the limits."""
        for name, limit in self.samples.limits.items():
            if name not in values:
                continue
            errors = self._errors(name, values[name], subset)
            left = float(errors.max()) if name == "position" else _quantile(errors)
            if left > share * limit:
                return False
        return True

    def worst_positions(self, share: float, most: int) -> Tensor | None:
        """The Gaussians furthest beyond the limit, at most `most`; None if all stay within it."""
        if "position" not in self.samples.values:
            return None
        series = self.samples.values["position"]
        errors = torch.cat(
            [
                self._errors("position", series.part(part), part).amax(0)
                for part in _parts(self.samples.count, len(series))
            ]
        )
        bad = (errors > share * self.samples.limits["position"]).nonzero()[:, 0]
        return None if len(bad) == 0 else bad[errors[bad].argsort(descending=True)[:most]]

    def solve(self, name: str) -> Tensor:
        """Values [K, M, c] of a track at the knots."""
        series = self.samples.values[name]
        result = torch.empty(len(self.knots), *series.shape[1:])
        for part in _parts(series.shape[1], len(series)):
            result[:, part] = torch.tensordot(self.to_knots, series.part(part), dims=1)
        return result


def _pinned(rows: Tensor) -> Tensor:
    """[K, S]: least squares for weights `rows` [S, K] whose first and last knot are the first and last sample."""
    count, times = rows.shape[1], len(rows)
    result = torch.zeros(count, times, dtype=rows.dtype)
    result[0, 0] = result[-1, -1] = 1
    # what the knots between them have to explain
    rest = torch.eye(times, dtype=rows.dtype)
    rest[:, 0] -= rows[:, 0]
    rest[:, -1] -= rows[:, -1]
    result[1:-1] = torch.linalg.pinv(rows[:, 1:-1]) @ rest
    return result


def _parts(count: int, times: int) -> list[slice]:
    size = max(1, AT_ONCE // (3 * max(times, 1)))
    return [slice(start, start + size) for start in range(0, count, size)]
