"""Samples of a scene over time, through `scene.at` only: what changes, what is visible, and in which order."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from .. import backends
from ..errors import InputError
from ..io import spz
from ..scene import Gaussians, Scene4D, harmonics, rotations
from .tracks import aligned

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
# sampled numbers per Gaussian and frame
NUMBERS = 14
# Gaussians × times up to which a scene is also sampled between its frames: this bounds memory (a gigabyte) and time
MANY = 1 << 24
# samples, their offsets and temporaries are three times the samples; they may use half of the memory
SHARE = 6


class MotionSamples:
    """The Gaussians `kept` (None: all) at each sampled time. Values that never change are stored once."""

    def __init__(self, kept: Tensor | None = None) -> None:
        self.kept = kept
        self.seconds: list[float] = []
        # name → S × [N, c] float32 on the CPU
        self.values: dict[str, list[Tensor]] = {}
        # at the first time
        self.first: Gaussians
        # largest fraction of the Gaussians whose harmonics above degree 0 differ from those at the first time
        self.shaded = 0.0

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
            if not bool(torch.isfinite(tensor).all()):
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
        for name, value in values.items():
            rows = self.values.setdefault(name, [])
            rows.append(rows[0] if rows and torch.equal(rows[0], value) else value)
        if now.sh.shape[1] > 1:
            change = (now.sh[:, 1:] - self.first.sh[:, 1:]).abs().amax(dim=(1, 2))
            self.shaded = max(self.shaded, float((change > TINGE).float().mean()))

    def at(self, name: str, seconds: float) -> Tensor:
        return self.values[name][self.seconds.index(seconds)]

    def means_at(self, seconds: float) -> Tensor:
        """Centers [N, 3] at a sampled time."""
        return self.at("position", seconds)

    def visible(self) -> Tensor:
        """[N] bool: Gaussians that ever reach the opacity that renderers draw; all if none does."""
        seen = torch.stack([o[:, 0] for o in _distinct(self.values["opacity"])]).amax(0) >= VISIBLE
        return seen if bool(seen.any()) else torch.ones_like(seen)

    def extent(self) -> Tensor:
        """[N] world units: largest distance of a Gaussian's rim from its center."""
        return 2 * torch.stack([s.amax(-1) for s in _distinct(self.values["scale"])]).amax(0).exp()


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

    At most `most` are kept, and no more than can be baked in half of this machine's memory.
    """
    times, count = MotionSamples.moments(scene), int(near.sum())
    most = max(1, min(most, int(backends.memory() / SHARE / (len(times) * NUMBERS * 4))))
    if count <= most:
        return None if count == len(near) else near.nonzero()[:, 0]
    shown = torch.zeros(len(near))
    for i in torch.linspace(0, len(times) - 1, min(LOOKS_AT, len(times))).round().long().tolist():
        now = part(scene.at(times[i]), None)
        sizes = now.log_scales.sort(dim=-1).values
        shown += (now.logit_opacities.sigmoid() * (sizes[:, 1] + sizes[:, 2]).exp()).nan_to_num()
    shown[~near] = -1
    return shown.topk(most).indices.sort().values


def changed(taken: MotionSamples, reach: float) -> dict[str, Tensor]:
    """Track name → [N] bool: Gaussians that change visibly. `reach`: movement in world units that is not visible."""
    extent = taken.extent()
    result: dict[str, Tensor] = {}
    for name, rows in taken.values.items():
        beyond = torch.zeros(len(extent), dtype=torch.bool)
        for now in _distinct(rows)[1:]:
            if name == "rotation":
                cosine = (now * rows[0]).sum(-1).abs().clamp(max=1)
                turn = 2 * cosine.acos()
                beyond |= (turn > MIN_ROTATION) & (turn * extent > reach)
                continue
            change = (now - rows[0]).norm(dim=-1)
            if name == "position":
                beyond |= change > reach
            elif name == "scale":
                beyond |= (change > GROWTH) & (change * extent > reach)
            else:
                beyond |= change > SHADE
        result[name] = beyond
    return result


def offsets(
    taken: MotionSamples, moving: Tensor, base: Gaussians, needed: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Track name → [S, M, c] of the Gaussians `moving` [M], relative to `base` (opacity: absolute; rotation: quaternions).

    `needed`: track name → [M] bool: Gaussians that need the track; the others get a constant, which compresses to almost
    nothing.
    """
    result: dict[str, Tensor] = {}
    for name, mask in needed.items():
        values = torch.stack([row[moving] for row in taken.values[name]])
        if name == "position":
            values -= base.means
        elif name == "rotation":
            values = _turns(values, base.quats)
        elif name == "scale":
            values -= base.log_scales
        elif name == "color":
            values -= harmonics.dc_to_rgb(base.sh[:, 0])
        if name == "opacity":
            values[:, ~mask] = base.logit_opacities.sigmoid()[~mask, None]
        else:
            values[:, ~mask] = torch.tensor([1.0, 0, 0, 0]) if name == "rotation" else 0.0
        result[name] = values
    return result


def _turns(quats: Tensor, base: Tensor) -> Tensor:
    """[S, M, 4]: unit quaternions of the rotations from `base` [M, 4] to `quats` [S, M, 4], without sign jumps."""
    back = rotations.conjugate(rotations.normalise(base))
    return aligned(rotations.multiply(quats, back.expand_as(quats)))


def interpolation_between(scene: Scene4D, taken: MotionSamples, moving: Tensor) -> str:
    """The interpolation that fits best: "hold" if the scene keeps each frame until the next, else "linear" or "cubic".

    Tested at a few times halfway between the captured frames that differ most.
    """
    moving = moving[:: max(1, len(moving) // ASKED)]
    times = scene.times.double().tolist()
    rows = [torch.cat([taken.at(name, t)[moving] for name in taken.values], dim=-1) for t in times]
    steps = torch.tensor([float((b - a).abs().sum()) for a, b in pairwise(rows)])
    jumps, straight, curved = True, 0.0, 0.0
    for i in steps.argsort(descending=True)[:PROBES].tolist():
        if float(steps[i]) == 0:
            continue
        probe = MotionSamples(taken.kept)
        probe.take(scene, (times[i] + times[i + 1]) / 2)
        middle = torch.cat([probe.values[name][0][moving] for name in taken.values], dim=-1)
        a, b = rows[i], rows[i + 1]
        differs = (b - a).abs() > 1e-6
        if not bool(differs.any()):
            continue
        stays = (middle - a).abs() <= 1e-3 * (b - a).abs()
        jumps = jumps and float(stays[differs].float().mean()) > 0.99
        before = rows[i - 1] if i else 2 * a - b
        after = rows[i + 2] if i + 2 < len(rows) else 2 * b - a
        straight += float((middle - (a + b) / 2).square().sum())
        curved += float((middle - (9 * (a + b) - before - after) / 16).square().sum())
    if jumps:
        return "hold"
    return "linear" if straight < curved else "cubic"


def morton_order(points: Tensor, chosen: Tensor) -> Tensor:
    """Indices of the `chosen` [N] (bool) of `points` [N, 3], neighbors in space next to each other (Morton 1966)."""
    indices = chosen.nonzero()[:, 0]
    if len(indices) < 2:
        return indices
    inside = points[indices].double()
    low, high = inside.amin(0), inside.amax(0)
    cells = ((inside - low) / (high - low).clamp(min=1e-12) * 1023).long()
    code = torch.zeros(len(indices), dtype=torch.long)
    for bit in range(10):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return indices[code.argsort(stable=True)]


def _distinct(rows: list[Tensor]) -> list[Tensor]:
    """Each tensor once: values equal to the first frame's are the first frame's tensor."""
    return [rows[0], *(row for row in rows[1:] if row is not rows[0])]
