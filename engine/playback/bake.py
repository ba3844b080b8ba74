"""Bakes a moving scene to a player file. Only `scene.at` is used, so every deformation can be baked.

The scene at its first frame is written as an .spz. Visible changes after it become tracks of evenly spaced knots, as few
as keep every center within `max_error` of the subject's radius at the captured frames. For slow motion, the motion halfway
between frames is also fitted if that adds little. A scene that jumps instead of moving (Gaussians that appear and
disappear, frames that are held) keeps one knot per frame. Spherical harmonics above degree 0 stay those of the first frame.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..io.spz import decode_spz, encode_spz
from ..scene import Gaussians, Scene4D, harmonics
from ..scene.cameras import AT_ZERO
from ..scene.origins import origin_note
from ..scene.rigs import rig_up
from . import knot_fit
from .bake_config import BakeConfig
from .player_content import Motion, PlayerFile
from .player_file import (
    FLIP,
    VERSION,
    camera_entries,
    encode_player_file,
    in_file_axes,
    played,
    write_player_file,
)
from .samples import (
    MotionSamples,
    interpolation_between,
    morton_order,
    most_visible,
    offsets,
    within_reach,
)
from .series import Scratch
from .tracks import Track

# track name → (fewest bits, most bits)
BITS = {"rotation": (7, 12), "scale": (6, 8), "opacity": (8, 8), "color": (8, 8)}
# as Niantic's own tools write
SH_BITS = 5
# fraction of max_error below which a Gaussian counts as static
STILL = 0.5
# knots of all Gaussians (about 5 bytes each) up to which there may be more knots than frames
BETWEEN = 1 << 20
# fraction of the Gaussians with changing harmonics above which a note is given
SHADED = 0.01
# steps that an .spz counts to either side of the origin
REACH = 2**23 - 1
# smallest step of an .spz, in world units
FINEST = 2.0**-20
# relative change of a coordinate by another order of summation in single precision
ROUNDING = 2e-7


@dataclass(frozen=True, eq=False)
class Baked:
    """A player file that is ready to be written.

    Attributes:
        data: The file's bytes.
        player_file: The content as a player decodes it.
        indices: [N] index in the scene of each Gaussian in the file.
    """

    data: bytes
    player_file: PlayerFile
    indices: Tensor

    def save(self, path: Path | str) -> Path:
        """Write the file atomically and return its path. Raises InputError."""
        return write_player_file(self.data, path)


def units(scene: Scene4D, config: BakeConfig) -> int:
    """Number of times that `bake` yields."""
    return len(MotionSamples.moments(scene)) + 3


@torch.no_grad()
def bake(scene: Scene4D, config: BakeConfig, title: str) -> Generator[int, None, Baked]:
    """Bake a scene to a player file.

    Args:
        scene: The scene.
        config: Accuracy and size of the file.
        title: Title that the player shows.

    Yields:
        Units of work done so far, of `units(scene, config)`.

    Returns:
        The file's bytes and its decoded content.

    Raises:
        InputError: The scene has no Gaussians, times that do not ascend, or NaN.

    Example:
        >>> from engine.messages import result
        >>> from engine.steps import bake_clip
        >>> result(bake_clip.run(scene)).save("scene.gs4dclip")
    """
    if len(scene.canonical) == 0:
        raise InputError(
            "PLB-001",
            "The scene has no Gaussians, so there is nothing to play; check the step that created it.",
        )
    if bool((scene.times.diff() <= 0).any()):
        raise InputError(
            "PLB-002",
            f"The scene's {len(scene.times)} times are not in ascending order; load or train it again.",
        )
    with closing(Scratch()) as scratch:
        return (yield from _bake(_Baking(scene, config, scratch), title))


def _bake(baking: _Baking, title: str) -> Generator[int, None, Baked]:
    """The stages in turn."""
    scene = baking.scene
    total = units(scene, baking.config)
    yield 1
    for i, second in enumerate(MotionSamples.moments(scene), 2):
        baking.taken.take(scene, second)
        yield i
    baking.sort()
    search = None
    for search in baking.searches():
        while search.has_more():
            # no progress, but a point at which the caller can cancel
            yield total - 2
            search.try_next()
        if search.has_settled():
            break
    knots, tracks = baking.tracks(search)
    yield total - 1
    baked = baking.finished(title, knots, tracks)
    yield total
    return baked


class _Baking:
    """The stages of baking: sample, sort, fit, finish."""

    def __init__(self, scene: Scene4D, config: BakeConfig, scratch: Scratch) -> None:
        self.scene, self.config = scene, config
        self.center, self.radius = subject(scene)
        self.limit = config.max_error * self.radius
        note = origin_note(scene.rig.origin)
        self.notes: list[str] = [note] if note else []
        near = within_reach(scene, _reach(scene, self.limit))
        count = int(near.sum())
        if count < len(near):
            self.notes.append(
                f"{len(near) - count:,} of {len(near):,} Gaussians are too far from the subject for a player file "
                "and were dropped."
            )
        self.kept = most_visible(scene, config.most, near)
        if self.kept is not None and len(self.kept) < count:
            self.notes.append(
                f"Thinned from {count:,} to {len(self.kept):,} Gaussians; the least visible ones were dropped."
            )
        self.taken = MotionSamples(scratch, self.kept)

    def sort(self) -> None:
        """Sort the sampled Gaussians: moving ones first, neighbors in space next to each other."""
        if self.config.sh_degree and self.taken.shaded > SHADED:
            self.notes.append(
                "View-dependent color changes over time; the player shows that of the first frame throughout."
            )
        beyond = self.taken.changed(STILL * self.limit)
        seen, means = self.taken.visible(), self.taken.first.means
        moving = torch.stack(list(beyond.values())).any(0) & seen
        self.order = torch.cat([morton_order(means, moving), morton_order(means, ~moving & seen)])
        self.base, self.spz = _base(self.taken.first.map(lambda t: t[self.order]), self.config, self.radius)
        self.moving = int(moving.sum())
        self.samples: knot_fit.Samples | None = None
        if self.moving:
            chosen = self.order[: self.moving]
            self.samples = _samples(self.scene, self.taken, chosen, self.base, beyond, self.limit)
            self.interpolation = interpolation_between(self.scene, self.taken, chosen)

    def searches(self) -> Iterator[knot_fit.KnotSearch]:
        """Searches to run in turn until one has settled; none if nothing moves or the motion consists of jumps.

        For slow motion, knots also follow the scene between its frames if that adds little.
        """
        samples = self.samples
        if samples is None or self.interpolation == "hold":
            return
        moments, between = int(samples.judged.sum()), len(samples.seconds)
        if not MotionSamples.is_even(self.scene.times):
            yield knot_fit.KnotSearch(samples, 2 * moments)
            return
        if between > moments:
            is_cheap = between * samples.count <= BETWEEN and self.interpolation == "cubic"
            if is_cheap:
                yield knot_fit.KnotSearch(samples, between)
            else:
                yield knot_fit.KnotSearch(samples, moments, settles_below=moments)
        yield knot_fit.KnotSearch(samples.at_moments(), moments, is_linear=self.interpolation == "linear")

    def tracks(self, search: knot_fit.KnotSearch | None) -> tuple[knot_fit.Knots | None, list[Track]]:
        """Knots, and tracks with vectors in the file's axes; None and no tracks if nothing moves."""
        samples = self.samples
        if samples is None:
            return None, []
        knots = knot_fit.held(samples) if search is None else search.knots()
        tracks: list[Track] = []
        for name in samples.values:
            if name == "position":
                tracks.append(knot_fit.quantize_positions(samples, knots, 0.998 * self.limit))
                continue
            values = knots.of(name)
            if name == "opacity":
                values = values.clamp(0, 1)
            tracks.append(knot_fit.quantize_others(samples, values, name, *BITS[name]))
        return knots, [_turned(t) for t in tracks]

    def finished(self, title: str, knots: knot_fit.Knots | None, tracks: list[Track]) -> Baked:
        """The player file with its measured errors, and its bytes."""
        motion = None
        if knots is not None:
            motion = Motion(knots.seconds, knots.interpolation, {t.name: played(t) for t in tracks})
        scene = self.scene
        player_file = PlayerFile(
            title=title,
            times=scene.times.double(),
            fps=(len(scene.times) - 1) / scene.duration if scene.duration > 0 else 24.0,
            up=rig_up(scene.rig),
            center=self.center,
            radius=self.radius,
            background=scene.background.detach().float().cpu(),
            cameras=scene.rig,
            base=self.base,
            moving=self.moving,
            motion=motion,
            max_error=0.0,
            mean_error=0.0,
            notes=(),
        )
        largest, mean = _errors(player_file, self.taken, self.order)
        wanted = self.config.max_error
        if largest > wanted:
            self.notes.append(
                f"The largest position error is {largest:.2%} of the subject's radius, more than the requested {wanted:.2%}."
            )
        player_file = replace(player_file, max_error=largest, mean_error=mean, notes=tuple(self.notes))
        try:
            data = encode_player_file(_header(player_file), self.spz, tracks)
        except ValueError as error:
            raise InputError(
                "PLB-003",
                "The scene's cameras, times or bounds contain NaN or infinite values; load or train it again.",
            ) from error
        return Baked(data, player_file, self.order if self.kept is None else self.kept[self.order])


def subject(scene: Scene4D) -> tuple[Tensor, float]:
    """(center [3] float64, radius in world units): half the longest side of the scene's bounds."""
    low, high = scene.bounds.double()
    radius = float((high - low).max()) / 2
    if not radius > 0:
        spread = scene.canonical.means.detach().double().cpu()
        radius = max(float((spread - spread.mean(0)).norm(dim=-1).max()), 1e-6)
    return (low + high) / 2, radius


def _reach(scene: Scene4D, limit: float) -> float:
    """Largest coordinate for which an .spz rounds all coordinates by less than half of `limit`.

    It always includes the subject's surroundings.
    """
    step = max(2.0 ** math.floor(math.log2(limit / 2)), FINEST)
    return min(max(step * REACH, 2 * float(scene.bounds.abs().max())), float(REACH))


def _base(first: Gaussians, config: BakeConfig, radius: float) -> tuple[Gaussians, bytes]:
    """(decoded .spz, its bytes). Centers are rounded to well below the allowed error, because zeros compress well."""
    bases = min(first.sh.shape[1], harmonics.bases(config.sh_degree))
    step = 2.0 ** torch.tensor(config.max_error * radius / 8).log2().floor().item()
    first = first.with_(means=(first.means.double() / step).round() * step, sh=first.sh[:, :bases])
    data = encode_spz(first, "The player file", sh_bits=SH_BITS)
    return decode_spz(data, "The player file"), data


def _samples(
    scene: Scene4D,
    taken: MotionSamples,
    moving: Tensor,
    base: Gaussians,
    beyond: dict[str, Tensor],
    limit: float,
) -> knot_fit.Samples:
    """Motion of the Gaussians `moving` [M] (indices into `taken`) relative to `base`."""
    base = base.map(lambda t: t[: len(moving)])
    needed = {name: mask[moving] for name, mask in beyond.items() if bool(mask[moving].any())}
    extent = taken.extent()[moving]
    one = torch.ones_like(extent)
    seconds = torch.tensor(taken.seconds, dtype=torch.float64)
    return knot_fit.Samples(
        seconds=seconds,
        judged=torch.isin(seconds, scene.times.double()),
        values=offsets(taken, moving, base, needed),
        # a quaternion changes by half the angle; rotation by an angle, or scaling by a factor, moves a Gaussian's
        # rim by its extent times that
        weights={"position": one, "rotation": 2 * extent, "scale": extent, "opacity": one, "color": one},
        limits={"position": limit, "rotation": 2 * limit, "scale": 2 * limit, "opacity": 0.04, "color": 0.04},
    )


def _turned(track: Track) -> Track:
    """The track in the file's axes. A channel that changes sign keeps low below high."""
    if in_file_axes(track.name, torch.ones(3)).min() > 0:
        return track
    top = 2**track.bits - 1
    whole, low, high = track.whole.copy(), track.low.clone(), track.high.clone()
    for c in (1, 2):
        whole[..., c] = top - whole[..., c]
        low[c], high[c] = -track.high[c], -track.low[c]
    return Track(track.name, track.bits, low, high, whole)


def _errors(player_file: PlayerFile, taken: MotionSamples, order: Tensor) -> tuple[float, float]:
    """(largest, mean) distance of a center from the true one over the captured moments ÷ radius, as decoded."""
    largest = total = 0.0
    for second in player_file.times.tolist():
        truth = taken.means_at(second)[order]
        distance = (player_file.means_at(second).double() - truth.double()).norm(dim=-1)
        total += float(distance.mean())
        # slightly more than measured: a player may sum in another order; static Gaussians are not summed
        distance[: player_file.moving] += ROUNDING * truth[: player_file.moving].double().norm(dim=-1)
        largest = max(largest, float(distance.max()))
    return largest / player_file.radius * (1 + 1e-4), total / len(player_file.times) / player_file.radius


def _header(player_file: PlayerFile) -> dict[str, Any]:
    motion, cameras = player_file.motion, player_file.cameras
    # in this pack's axes, the only value that is: players do not read it
    origin = {} if cameras.origin == AT_ZERO else {"origin": list(cameras.origin)}
    return {
        "format": "gs4d-clip",
        "version": VERSION,
        "title": player_file.title,
        "gaussians": len(player_file.base),
        "moving": player_file.moving,
        "times": player_file.times.tolist(),
        "fps": player_file.fps,
        "up": (player_file.up * FLIP).tolist(),
        "center": (player_file.center * FLIP).tolist(),
        "radius": player_file.radius,
        "background": [round(v, 6) for v in player_file.background.tolist()],
        "cameras": camera_entries(cameras),
        **origin,
        "motion": None
        if motion is None
        else {"knots": motion.knots.tolist(), "interpolation": motion.interpolation},
        "error": {"max": player_file.max_error, "mean": player_file.mean_error},
        "notes": list(player_file.notes),
    }
