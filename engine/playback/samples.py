"""Samples of a scene over time, through `scene.at` only: what changes, what is visible, and in which order."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..errors import InputError
from ..finite import is_finite
from ..geometry.morton import morton_codes
from ..io import spz
from ..scene import Gaussians, Scene4D, harmonics, rotations
from .series import Scratch, Series

# opacity below which renderers draw nothing
VISIBLE = 1 / 255
# frames at which visibility is measured if Gaussians have to be dropped
LOOKS_AT = 12
# times between frames at which a scene is tested for jumps
PROBES = 6
# Gaussians that this test looks at
ASKED = 4096
# smallest visible changes: rotation in radians (about one degree), log scale, opacity or color, SH coefficient
MIN_ROTATION = 0.0175
GROWTH = 0.02
SHADE = 1 / 128
TINGE = 1 / 32
# Gaussians × times up to which a scene is also sampled between its frames: this bounds disk space (a gigabyte) and time
MANY = 1 << 24


class MotionSamples:
    """The Gaussians `kept` (None: all) at each sampled time, in `scratch`, and what was largest over time.

    `is_survey`: only the values at the first time stay.
    """

    def __init__(self, scratch: Scratch, kept: Tensor | None = None, is_survey: bool = False) -> None:
        self.scratch, self.kept, self.is_survey = scratch, kept, is_survey
        self.seconds: list[float] = []
        # name → [S, N, c]
        self.values: dict[str, Series] = {}
        # at the first time
        self.first: Gaussians
        # largest fraction of the Gaussians whose harmonics above degree 0 differ from those at the first time
        self.shaded = 0.0
        # [N]: largest opacity, largest log scale, and by name the largest change since the first time
        self._opacity, self._size = torch.empty(0), torch.empty(0)
        self._change: dict[str, Tensor] = {}

    @staticmethod
    def is_even(times: Tensor) -> bool:
        """Whether the times are evenly spaced, up to rounding."""
        gaps = times.double().diff()
        return len(gaps) == 0 or float((gaps - gaps.mean()).abs().max()) <= 0.02 * float(gaps.mean())

    @staticmethod
    def moments(scene: Scene4D) -> list[float]:
        """The captured times, and times between them; evenly spaced ones get their midpoints, up to MANY samples."""
        times = scene.times.double()
        if MotionSamples.is_even(times):
            few = 2 * len(times) * len(scene.canonical) <= MANY
            between = (times[1:] + times[:-1]) / 2 if few else times[:0]
        else:
            between = torch.linspace(float(times[0]), float(times[-1]), 2 * len(times), dtype=torch.float64)
        return torch.cat([times, between]).unique().tolist()

    def take(self, scene: Scene4D, seconds: float) -> None:
        """Sample one more time, in seconds. Raises InputError if the scene contains NaN."""
        now = part(scene.at(seconds), self.kept)
        for name, tensor in now.tensors().items():
            if not is_finite(tensor):
                raise InputError(
                    "PLB-023",
                    f"At {seconds:.3f} s, the scene's {name} contain NaN or infinite values. Run the step that "
                    "created it again with a lower learning rate.",
                )
        if not self.seconds:
            self.first = now
        self.seconds.append(seconds)
        a = now.activated()
        values = {
            "position": now.means,
            "rotation": a.quats,
            "scale": now.log_scales.clamp(*spz.LOG_SCALES),
            "opacity": a.opacities[:, None],
            "color": harmonics.dc_to_rgb(now.sh[:, 0]),
        }
        opacity, size = a.opacities, values["scale"].amax(-1)
        is_first = len(self.seconds) == 1
        self._opacity = opacity if is_first else torch.maximum(self._opacity, opacity)
        self._size = size if is_first else torch.maximum(self._size, size)
        for name, value in values.items():
            series = self.values.setdefault(name, Series(self.scratch))
            if is_first or not self.is_survey:
                series.append(value)
            if is_first:
                self._change[name] = torch.zeros(len(value))
            elif self.is_survey or not series.is_first(len(series) - 1):
                change = _difference(name, value, series.row(0))
                self._change[name] = torch.maximum(self._change[name], change)
        if now.sh.shape[1] > 1:
            change = (now.sh[:, 1:] - self.first.sh[:, 1:]).abs().amax(dim=(1, 2))
            self.shaded = max(self.shaded, float((change > TINGE).float().mean()))

    def at(self, name: str, seconds: float) -> Tensor:
        return self.values[name].row(self.seconds.index(seconds))

    def means_at(self, seconds: float) -> Tensor:
        """Centers [N, 3] at a sampled time."""
        return self.at("position", seconds)

    def visible(self) -> Tensor:
        """[N] bool: Gaussians that ever reach the opacity that renderers draw; all if none does."""
        seen = self._opacity >= VISIBLE
        return seen if bool(seen.any()) else torch.ones_like(seen)

    def extent(self) -> Tensor:
        """[N] world units: largest distance of a Gaussian's rim from its center."""
        return 2 * self._size.exp()

    def changed(self, reach: float) -> dict[str, Tensor]:
        """Track name → [N] bool: Gaussians that change visibly. `reach`: movement in world units that is not visible."""
        extent = self.extent()
        result: dict[str, Tensor] = {}
        for name, change in self._change.items():
            if name == "position":
                result[name] = change > reach
            elif name == "rotation":
                result[name] = (change > MIN_ROTATION) & (change * extent > reach)
            elif name == "scale":
                result[name] = (change > GROWTH) & (change * extent > reach)
            else:
                result[name] = change > SHADE
        return result


def _difference(name: str, now: Tensor, first: Tensor) -> Tensor:
    """How much values [N, c] of a track differ [N]; rotations by an angle in radians."""
    if name != "rotation":
        return (now - first).norm(dim=-1)
    cosine = (now * first).sum(-1).abs().clamp(max=1)
    return 2 * cosine.acos()


def part(gaussians: Gaussians, kept: Tensor | None) -> Gaussians:
    """The Gaussians `kept`, as float32 on the CPU."""
    if kept is not None:
        gaussians = gaussians.map(lambda t: t[kept.to(t.device)])
    return gaussians.map(lambda t: t.detach().float().cpu())


@torch.no_grad()
def within_reach(scene: Scene4D, reach: float) -> Tensor:
    """[N] bool: Gaussians without a coordinate beyond `reach` at the first frame; all if none qualifies."""
    coordinates = scene.at(float(scene.times[0])).means.detach().float().cpu().abs().amax(-1)
    # values that are not finite are reported later
    near = ~((coordinates > reach) & coordinates.isfinite())
    return near if bool(near.any()) else torch.ones_like(near)


@torch.no_grad()
def most_visible(scene: Scene4D, most: int, near: Tensor) -> Tensor | None:
    """Indices of the most visible Gaussians among `near` [N] (bool), by opacity × area over time; None: all N.

    At most `most` are kept.
    """
    times, count = MotionSamples.moments(scene), int(near.sum())
    if count <= most:
        return None if count == len(near) else near.nonzero()[:, 0]
    shown = torch.zeros(len(near))
    for i in torch.linspace(0, len(times) - 1, min(LOOKS_AT, len(times))).round().long().tolist():
        now = part(scene.at(times[i]), None)
        sizes = now.log_scales.sort(dim=-1).values
        shown += (now.logit_opacities.sigmoid() * (sizes[:, 1] + sizes[:, 2]).exp()).nan_to_num()
    shown[~near] = -1
    return shown.topk(most).indices.sort().values


def offsets(
    taken: MotionSamples, moving: Tensor, base: Gaussians, needed: dict[str, Tensor]
) -> dict[str, Series]:
    """Track name → [S, M, c] of the Gaussians `moving` [M], relative to `base` (opacity: absolute; rotation: quaternions).

    `needed`: track name → [M] bool: Gaussians that need the track; the others get a constant, which compresses to almost
    nothing.
    """
    constant = {"rotation": torch.tensor([1.0, 0, 0, 0])}
    relative_to = {
        "position": base.means,
        "scale": base.log_scales,
        "color": harmonics.dc_to_rgb(base.sh[:, 0]),
    }
    result: dict[str, Series] = {}
    for name, mask in needed.items():
        series, turns = Series(taken.scratch), _Turns(base.quats)
        for i in range(len(taken.seconds)):
            values = taken.values[name].row(i)[moving]
            if name == "rotation":
                values = turns.to(values)
            elif name != "opacity":
                values = values - relative_to[name]
            others = (
                base.logit_opacities.sigmoid()[:, None]
                if name == "opacity"
                else constant.get(name, values.new_zeros(1))
            )
            series.append(torch.where(mask[:, None], values, others))
        result[name] = series
    return result


class _Turns:
    """Unit quaternions of the rotations from `base` [M, 4], one time after the other, without sign jumps (see `aligned`)."""

    def __init__(self, base: Tensor) -> None:
        self._back = rotations.conjugate(rotations.normalise(base))
        self._before: Tensor | None = None
        self._sign = torch.empty(0)

    def to(self, quats: Tensor) -> Tensor:
        """The rotations to `quats` [M, 4], which are those at the next time."""
        turned = rotations.multiply(quats, self._back)
        if self._before is None:
            self._sign = torch.where(turned[:, :1] < 0, -1.0, 1.0)
        else:
            self._sign = self._sign * torch.where(
                (turned * self._before).sum(-1, keepdim=True) < 0, -1.0, 1.0
            )
        self._before = turned
        return turned * self._sign


def interpolation_between(scene: Scene4D, taken: MotionSamples, moving: Tensor) -> str:
    """The interpolation that fits best: "hold" if the scene keeps each frame until the next, else "linear" or "cubic".

    Tested at a few times halfway between the captured frames that differ most.
    """
    moving = moving[:: max(1, len(moving) // ASKED)]
    times = scene.times.double().tolist()

    def row(i: int) -> Tensor:
        return torch.cat([taken.at(name, times[i])[moving] for name in taken.values], dim=-1)

    steps = torch.tensor([float((b - a).abs().sum()) for a, b in pairwise(map(row, range(len(times))))])
    jumps, straight, curved = True, 0.0, 0.0
    for i in steps.argsort(descending=True)[:PROBES].tolist():
        if float(steps[i]) == 0:
            continue
        probe = MotionSamples(taken.scratch, taken.kept)
        probe.take(scene, (times[i] + times[i + 1]) / 2)
        middle = torch.cat([probe.values[name].row(0)[moving] for name in taken.values], dim=-1)
        a, b = row(i), row(i + 1)
        differs = (b - a).abs() > 1e-6
        if not bool(differs.any()):
            continue
        stays = (middle - a).abs() <= 1e-3 * (b - a).abs()
        jumps = jumps and float(stays[differs].float().mean()) > 0.99
        before = row(i - 1) if i else 2 * a - b
        after = row(i + 2) if i + 2 < len(times) else 2 * b - a
        straight += float((middle - (a + b) / 2).square().sum())
        curved += float((middle - (9 * (a + b) - before - after) / 16).square().sum())
    if jumps:
        return "hold"
    return "linear" if straight < curved else "cubic"


def morton_order(points: Tensor, chosen: Tensor) -> Tensor:
    """Indices of the `chosen` [N] (bool) of `points` [N, 3], neighbors in space next to each other."""
    indices = chosen.nonzero()[:, 0]
    if len(indices) < 2:
        return indices
    inside = points[indices].double()
    low, high = inside.amin(0), inside.amax(0)
    cells = ((inside - low) / (high - low).clamp(min=1e-12) * 1023).long()
    return indices[morton_codes(cells, 10).argsort(stable=True)]
