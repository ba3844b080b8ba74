"""The parts of baking that player files in one piece and in segments share."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..io.spz import decode_spz, encode_spz
from ..scene import Gaussians, Scene4D, harmonics
from ..scene.cameras import AT_ZERO
from ..scene.origins import origin_note
from ..scene.rigs import rig_up
from . import knot_fit
from .bake_config import BakeConfig
from .player_content import PlayerFile
from .player_file import write_player_file
from .player_header import FLIP, camera_entries, in_file_axes
from .samples import MotionSamples, most_visible, offsets, within_reach
from .tracks import Track

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
        parts: Gives the file's bytes, part by part.
        size: Number of bytes.
        player_file: The content as a player decodes it.
        indices: [N] index in the scene of each Gaussian in the file.
    """

    parts: Callable[[], Iterator[bytes]]
    size: int
    player_file: PlayerFile
    indices: Tensor

    @property
    def data(self) -> bytes:
        """The file's bytes, all at once."""
        return b"".join(self.parts())

    def sha256(self) -> str:
        """Hash of the bytes."""
        digest = hashlib.sha256()
        for each in self.parts():
            digest.update(each)
        return digest.hexdigest()

    def save(self, path: Path | str) -> Path:
        """Write the file atomically and return its path. Raises InputError."""
        return write_player_file(self.parts(), path)


class Choice:
    """Which Gaussians of a scene a player file has, and why not the others."""

    def __init__(self, scene: Scene4D, config: BakeConfig) -> None:
        self.center, self.radius = subject(scene)
        self.limit = config.max_error * self.radius
        note = origin_note(scene.rig.origin)
        self.notes: list[str] = [note] if note else []
        near = within_reach(scene, reach(scene, self.limit))
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

    def note_shading(self, shaded: float, config: BakeConfig) -> None:
        """Say so if harmonics of many Gaussians change."""
        if config.sh_degree and shaded > SHADED:
            self.notes.append(
                "View-dependent color changes over time; the player shows that of the first frame throughout."
            )

    def note_error(self, largest: float, config: BakeConfig) -> None:
        """Say so if the error is larger than wanted."""
        if largest > config.max_error:
            self.notes.append(
                f"The largest position error is {largest:.2%} of the subject's radius, more than the requested "
                f"{config.max_error:.2%}."
            )

    def indices(self, order: Tensor) -> Tensor:
        """[N] index in the scene of each Gaussian in the file, whose order among the kept ones this is."""
        return order if self.kept is None else self.kept[order]


def searches(
    samples: knot_fit.Samples, times: Tensor, interpolation: str, pieces: int = 1, **options: Any
) -> Iterator[knot_fit.KnotSearch]:
    """Searches to run in turn until one has settled; none if the motion consists of jumps.

    For slow motion, knots also follow the scene between its frames `times` if that adds little to the whole file, which has
    `pieces` of this one's size. `options`: of KnotSearch.
    """
    if interpolation == "hold":
        return
    moments, between = int(samples.judged.sum()), len(samples.seconds)
    if not MotionSamples.is_even(times):
        yield knot_fit.KnotSearch(samples, 2 * moments, **options)
        return
    if between > moments:
        is_cheap = between * samples.count * pieces <= BETWEEN and interpolation == "cubic"
        if is_cheap:
            yield knot_fit.KnotSearch(samples, between, **options)
        else:
            yield knot_fit.KnotSearch(samples, moments, settles_below=moments, **options)
    yield knot_fit.KnotSearch(samples.at_moments(), moments, is_linear=interpolation == "linear", **options)


def content(scene: Scene4D, choice: Choice, title: str, base: Gaussians, moving: int) -> PlayerFile:
    """The player file of a scene without its motion, errors and notes."""
    return PlayerFile(
        title=title,
        times=scene.times.double(),
        fps=(len(scene.times) - 1) / scene.duration if scene.duration > 0 else 24.0,
        up=rig_up(scene.rig),
        center=choice.center,
        radius=choice.radius,
        background=scene.background.detach().float().cpu(),
        cameras=scene.rig,
        base=base,
        moving=moving,
        motion=None,
        max_error=0.0,
        mean_error=0.0,
        notes=(),
    )


def subject(scene: Scene4D) -> tuple[Tensor, float]:
    """(center [3] float64, radius in world units): half the longest side of the scene's bounds."""
    low, high = scene.bounds.double()
    radius = float((high - low).max()) / 2
    if not radius > 0:
        spread = scene.canonical.means.detach().double().cpu()
        radius = max(float((spread - spread.mean(0)).norm(dim=-1).max()), 1e-6)
    return (low + high) / 2, radius


def reach(scene: Scene4D, limit: float) -> float:
    """Largest coordinate for which an .spz rounds all coordinates by less than half of `limit`.

    It always includes the subject's surroundings.
    """
    step = max(2.0 ** math.floor(math.log2(limit / 2)), FINEST)
    return min(max(step * REACH, 2 * float(scene.bounds.abs().max())), float(REACH))


def first_frame(first: Gaussians, config: BakeConfig, radius: float) -> tuple[Gaussians, bytes]:
    """(decoded .spz, its bytes). Centers are rounded to well below the allowed error, because zeros compress well."""
    bases = min(first.sh.shape[1], harmonics.bases(config.sh_degree))
    step = 2.0 ** torch.tensor(config.max_error * radius / 8).log2().floor().item()
    first = first.with_(means=(first.means.double() / step).round() * step, sh=first.sh[:, :bases])
    data = encode_spz(first, "The player file", sh_bits=SH_BITS)
    return decode_spz(data, "The player file"), data


def motion_of(
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


def turned(track: Track) -> Track:
    """The track in the file's axes. A channel that changes sign keeps low below high."""
    if in_file_axes(track.name, torch.ones(3)).min() > 0:
        return track
    top = 2**track.bits - 1
    whole, low, high = track.whole.copy(), track.low.clone(), track.high.clone()
    for c in (1, 2):
        whole[..., c] = top - whole[..., c]
        low[c], high[c] = -track.high[c], -track.low[c]
    return Track(track.name, track.bits, low, high, whole)


def errors_of(
    player_file: PlayerFile, taken: MotionSamples, order: Tensor, times: list[float]
) -> tuple[float, float]:
    """(largest, sum of means) of the distances of centers from the true ones at captured frames ÷ radius, as decoded."""
    largest = total = 0.0
    for second in times:
        truth = taken.means_at(second)[order]
        distance = (player_file.means_at(second).double() - truth.double()).norm(dim=-1)
        total += float(distance.mean())
        # slightly more than measured: a player may sum in another order; static Gaussians are not summed
        distance[: player_file.moving] += ROUNDING * truth[: player_file.moving].double().norm(dim=-1)
        largest = max(largest, float(distance.max()))
    return largest / player_file.radius * (1 + 1e-4), total / player_file.radius


def header_of(player_file: PlayerFile, version: int, **motion: Any) -> dict[str, Any]:
    """The header's entries but for the places of blocks; `motion`: those that depend on the version."""
    cameras = player_file.cameras
    # in this pack's axes, the only value that is: players do not read it
    origin = {} if cameras.origin == AT_ZERO else {"origin": list(cameras.origin)}
    return {
        "format": "gs4d-clip",
        "version": version,
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
        **motion,
        "error": {"max": player_file.max_error, "mean": player_file.mean_error},
        "notes": list(player_file.notes),
    }
