"""Bakes a long scene segment by segment, with memory and temporary disk space that do not grow with its length.

The scene is evaluated twice: once to find what moves at all, which Gaussians are worth keeping and how fine each track
has to be, and then segment by segment. The first and the last knot of a segment are the scene itself at the frames of its
borders, rounded to a grid that all segments share: neighbors have the same numbers there.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import zlib
from bisect import bisect_left
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import IO

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..scene import Scene4D, rotations
from . import knot_fit
from .bake_config import BakeConfig
from .bake_parts import (
    STILL,
    Baked,
    Choice,
    content,
    errors_of,
    first_frame,
    header_of,
    motion_of,
    searches,
    turned,
)
from .player_content import Motion, PlayerFile
from .player_header import SEGMENTED, encode_header, played
from .samples import MotionSamples, interpolation_between, morton_order
from .segments import Place, SegmentedFile, encode_segment
from .series import Scratch
from .tracks import Track, vectors_of

# bytes of a file that are copied at once
COPIED = 1 << 20
# largest rounding of a position by the grid, and the splines' own error in turn, as fractions of the limit
ROUNDING, SHARES = 0.35, (0.75, 0.5, 0.25)
# finest and coarsest grid of tracks that have no unit of length
STEPS = {"rotation": (2**-11, 2**-6), "scale": (2**-7, 2**-3)}
FIXED_STEPS = {"opacity": 1 / 255, "color": 1 / 128}


def borders(times: Tensor, seconds: float) -> list[int]:
    """Indices of the frames at which segments of about `seconds` begin and end; none where one piece will do."""
    stamps = times.double().tolist()
    if seconds <= 0 or stamps[-1] - stamps[0] < 1.5 * seconds:
        return []
    count = max(2, round((stamps[-1] - stamps[0]) / seconds))
    found = [0]
    for i in range(1, count):
        wanted = stamps[0] + (stamps[-1] - stamps[0]) * i / count
        after = bisect_left(stamps, wanted)
        nearest = min(range(after - 1, after + 1), key=lambda k: abs(stamps[k] - wanted))
        if found[-1] < nearest < len(stamps) - 1:
            found.append(nearest)
    return [*found, len(stamps) - 1] if len(found) > 1 else []


def _pieces(scene: Scene4D, config: BakeConfig) -> list[Scene4D]:
    """The scene with the frames of each segment; neighbors share one."""
    found = borders(scene.times, config.segment_seconds)
    return [scene.with_(times=scene.times[a : b + 1]) for a, b in pairwise(found)]


def units(scene: Scene4D, config: BakeConfig) -> int:
    """Number of times that `bake` yields, about."""
    return len(scene.times) + sum(len(MotionSamples.moments(piece)) for piece in _pieces(scene, config)) + 1


@torch.no_grad()
def bake(scene: Scene4D, config: BakeConfig, title: str) -> Generator[int, None, Baked | None]:
    """As `engine.playback.bake.bake`, for a scene that `borders` divides; the result's bytes lie in a temporary file.

    None where nothing moves, so that there is nothing to divide.
    """
    choice, done = Choice(scene, config), 0
    with closing(Scratch()) as scratch:
        survey = MotionSamples(scratch, choice.kept, is_survey=True)
        for second in scene.times.double().tolist():
            survey.take(scene, second)
            done += 1
            yield done
        plan = _Plan(scene, config, choice, survey)
    if not plan.moving:
        return None
    head = content(scene, choice, title, plan.base, plan.moving)
    pieces = _pieces(scene, config)
    writer = _Writer(plan, head, len(pieces))
    for piece in pieces:
        with closing(Scratch()) as scratch:
            taken = MotionSamples(scratch, choice.kept)
            for second in MotionSamples.moments(piece):
                taken.take(piece, second)
                done += 1
                yield done
            yield from writer.add(piece, taken, done)
    baked = writer.finished()
    yield units(scene, config)
    return baked


class _Plan:
    """What all segments share: the Gaussians and their order, the first frame, the tracks and their grids."""

    def __init__(self, scene: Scene4D, config: BakeConfig, choice: Choice, survey: MotionSamples) -> None:
        self.config, self.choice = config, choice
        choice.note_shading(survey.shaded, config)
        beyond = survey.changed(STILL * choice.limit)
        seen, means = survey.visible(), survey.first.means
        moving = torch.stack(list(beyond.values())).any(0) & seen
        self.order = torch.cat([morton_order(means, moving), morton_order(means, ~moving & seen)])
        self.moving = int(moving.sum())
        self.base, self.spz = first_frame(survey.first.map(lambda t: t[self.order]), config, choice.radius)
        self.extent = survey.extent()
        chosen = self.order[: self.moving]
        self.beyond = {name: mask for name, mask in beyond.items() if bool(mask[chosen].any())}
        self.steps = {name: self._step(name) for name in self.beyond}
        identity = [scene.times.tolist(), config.max_error, config.segment_seconds, self.moving]
        self.scene_id = hashlib.sha256(json.dumps(identity).encode() + self.spz).hexdigest()[:32]

    def _step(self, name: str) -> float:
        """The grid of a track: as coarse as its limit allows."""
        if name in FIXED_STEPS:
            return FIXED_STEPS[name]
        limit = self.choice.limit
        if name == "position":
            return 2 / math.sqrt(3) * ROUNDING * limit
        extent = self.extent[self.order[: self.moving]]
        wide = float(extent.kthvalue(max(1, int(0.99 * len(extent)))).values)
        # the limits of `motion_of`: rounding moves the rim of a wide Gaussian by no more than twice `limit`, most rims by far
        # less. As much of the error in images comes from this as from positions: finer costs more than it shows
        step = 2 / math.sqrt(3) * limit / max(wide, 1e-30) * (1 if name == "rotation" else 2)
        finest, coarsest = STEPS[name]
        return min(max(step, finest), coarsest)

    def motion(self, piece: Scene4D, taken: MotionSamples) -> knot_fit.Samples:
        """The motion of a segment relative to the first frame."""
        chosen = self.order[: self.moving]
        samples = motion_of(piece, taken, chosen, self.base, self.beyond, self.choice.limit)
        extent = self.extent[chosen]
        weights = {**samples.weights, "rotation": 2 * extent, "scale": extent}
        return replace(samples, weights=weights)


class _Writer:
    """Fits and encodes segment after segment into a temporary file."""

    def __init__(self, plan: _Plan, head: PlayerFile, pieces: int) -> None:
        self.plan, self.head, self.pieces = plan, head, pieces
        self.file: IO[bytes] = tempfile.TemporaryFile()
        self.places: list[Place] = []
        self.largest = self.total = 0.0
        self._end = 0
        self._append(plan.spz)

    def add(self, piece: Scene4D, taken: MotionSamples, done: int) -> Generator[int, None, None]:
        """Fit and write one segment. Yields `done` at points at which the caller can cancel."""
        plan, index = self.plan, len(self.places)
        samples = plan.motion(piece, taken)
        interpolation = interpolation_between(piece, taken, plan.order[: plan.moving])
        knots: knot_fit.Knots | None = None
        position: Track | None = None
        for share in (0.0,) if interpolation == "hold" else SHARES:
            search = None
            for search in searches(
                samples, piece.times, interpolation, self.pieces, share=share, is_pinned=True
            ):
                while search.has_more():
                    yield done
                    search.try_next()
                if search.has_settled():
                    break
            knots = knot_fit.held(samples) if search is None else search.knots()
            position = (
                _on_grid(samples, knots, "position", plan.steps) if "position" in samples.values else None
            )
            # rounding may have used up what the splines left
            if position is None or _error(samples, knots, position) <= 0.998 * plan.choice.limit:
                break
        assert knots is not None
        tracks = [
            turned(
                position if position and name == "position" else _on_grid(samples, knots, name, plan.steps)
            )
            for name in samples.values
        ]
        start, end = float(piece.times[0]), float(piece.times[-1])
        data = encode_segment(plan.scene_id, index, knots.seconds.tolist(), knots.interpolation, tracks)
        offset = self._append(data)
        self.places.append(Place(start, end, offset, len(data), zlib.crc32(data)))
        # the stated error is that of centers
        seen = {track.name: played(track) for track in tracks if track.name == "position"}
        motion = Motion(knots.seconds, knots.interpolation, seen)
        # the border belongs to the segment before
        times = piece.times.double().tolist()[min(index, 1) :]
        largest, total = errors_of(replace(self.head, motion=motion), taken, plan.order, times)
        self.largest, self.total = max(self.largest, largest), self.total + total

    def _append(self, data: bytes) -> int:
        """Write a block at the next multiple of 16; returns its place."""
        offset = self._end + -self._end % 16
        try:
            self.file.seek(0, 2)
            self.file.write(bytes(offset - self._end) + data)
        except OSError as error:
            raise InputError(
                "PLB-029",
                f"The segments of this long scene cannot be written to the folder for temporary files, "
                f"{tempfile.gettempdir()}: {error.strerror or error}. Free some space there, or set TMPDIR to a folder of a "
                "larger disk.",
            ) from error
        self._end = offset + len(data)
        return offset

    def finished(self) -> Baked:
        """The whole file, whose blocks stay in the temporary one."""
        plan, file, end = self.plan, self.file, self._end
        plan.choice.note_error(self.largest, plan.config)
        head = replace(
            self.head,
            max_error=self.largest,
            mean_error=self.total / len(self.head.times),
            notes=tuple(plan.choice.notes),
        )
        splat = {"offset": 0, "length": len(plan.spz), "crc32": zlib.crc32(plan.spz)}
        segments = [place.entry() for place in self.places]
        header = header_of(
            head, SEGMENTED, scene=plan.scene_id, tracks=list(plan.steps), spz=splat, segments=segments
        )
        first = encode_header(header, SEGMENTED)

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        def parts() -> Iterator[bytes]:
            yield first
            for offset in range(0, end, COPIED):
                yield read(offset, min(COPIED, end - offset))

        player_file = SegmentedFile(
            **{name: getattr(head, name) for name in PlayerFile.__dataclass_fields__},
            name="the player file",
            scene=plan.scene_id,
            track_names=tuple(plan.steps),
            places=tuple(self.places),
            read_segment=lambda place: read(place.offset, place.length),
        )
        return Baked(parts, len(first) + end, player_file, plan.choice.indices(plan.order))


def _on_grid(samples: knot_fit.Samples, knots: knot_fit.Knots, name: str, steps: dict[str, float]) -> Track:
    """A track of whole steps, with as many bits as its values need.

    Where 16 bits do not hold them, because something goes very far, the steps are twice as large, or four times, ….
    """
    values, step = knots.of(name), steps[name]
    if name == "rotation":
        values = torch.stack([vectors_of(rotations.normalise(row)) for row in values])
    elif name == "opacity":
        values = values.clamp(0, 1)
    low, high = (edge.double() for edge in values.flatten(0, 1).aminmax(dim=0))
    while float((high / step).round().sub((low / step).round()).max()) >= 1 << 16:
        step *= 2
    bottom = (low / step).round()
    bits = max(int(((high / step).round() - bottom).max()).bit_length(), 1)
    whole = np.empty(tuple(values.shape), dtype=np.uint8 if bits <= 8 else np.uint16)
    # knot by knot, since all of them in double precision are large
    for counts, row in zip(whole, values, strict=True):
        counts[:] = ((row.double() / step).round() - bottom).numpy()
    return Track(name, bits, bottom * step, (bottom + (2**bits - 1)) * step, whole)


def _error(samples: knot_fit.Samples, knots: knot_fit.Knots, position: Track) -> float:
    return knot_fit.largest_error(samples, knots, position.values)
