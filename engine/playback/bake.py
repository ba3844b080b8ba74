"""Bakes a moving scene to a player file. Only `scene.at` is used, so every deformation can be baked.

The scene at its first frame is written as an .spz. Visible changes after it become tracks of evenly spaced knots, as few
as keep every center within `max_error` of the subject's radius at the captured frames. For slow motion, the motion halfway
between frames is also fitted if that adds little. A scene that jumps instead of moving (Gaussians that appear and
disappear, frames that are held) keeps one knot per frame. Spherical harmonics above degree 0 stay those of the first frame.
Long scenes can be written in segments (`bake_segments.py`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace

import torch

from ..errors import InputError
from ..scene import Scene4D
from . import bake_segments, knot_fit
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
from .player_content import Motion
from .player_file import VERSION, encode_player_file
from .player_header import played
from .samples import MotionSamples, interpolation_between, morton_order
from .series import Scratch
from .tracks import Track

__all__ = ["Baked", "bake", "units"]

# track name → (fewest bits, most bits)
BITS = {"rotation": (7, 12), "scale": (6, 8), "opacity": (8, 8), "color": (8, 8)}


def units(scene: Scene4D, config: BakeConfig) -> int:
    """Number of times that `bake` yields."""
    if bake_segments.borders(scene.times, config.segment_seconds):
        return bake_segments.units(scene, config)
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
    if bake_segments.borders(scene.times, config.segment_seconds):
        divided = yield from bake_segments.bake(scene, config, title)
        if divided is not None:
            return divided
        config = replace(config, segment_seconds=0.0)
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
        self.choice = Choice(scene, config)
        self.limit = self.choice.limit
        self.taken = MotionSamples(scratch, self.choice.kept)

    def sort(self) -> None:
        """Sort the sampled Gaussians: moving ones first, neighbors in space next to each other."""
        self.choice.note_shading(self.taken.shaded, self.config)
        beyond = self.taken.changed(STILL * self.limit)
        seen, means = self.taken.visible(), self.taken.first.means
        moving = torch.stack(list(beyond.values())).any(0) & seen
        self.order = torch.cat([morton_order(means, moving), morton_order(means, ~moving & seen)])
        self.base, self.spz = first_frame(
            self.taken.first.map(lambda t: t[self.order]), self.config, self.choice.radius
        )
        self.moving = int(moving.sum())
        self.samples: knot_fit.Samples | None = None
        if self.moving:
            chosen = self.order[: self.moving]
            self.samples = motion_of(self.scene, self.taken, chosen, self.base, beyond, self.limit)
            self.interpolation = interpolation_between(self.scene, self.taken, chosen)

    def searches(self) -> Iterator[knot_fit.KnotSearch]:
        """Searches to run in turn until one has settled; none if nothing moves."""
        if self.samples is not None:
            yield from searches(self.samples, self.scene.times, self.interpolation)

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
        return knots, [turned(t) for t in tracks]

    def finished(self, title: str, knots: knot_fit.Knots | None, tracks: list[Track]) -> Baked:
        """The player file with its measured errors, and its bytes."""
        motion = None
        if knots is not None:
            motion = Motion(knots.seconds, knots.interpolation, {t.name: played(t) for t in tracks})
        player_file = content(self.scene, self.choice, title, self.base, self.moving)
        player_file = replace(player_file, motion=motion)
        times = player_file.times.tolist()
        largest, total = errors_of(player_file, self.taken, self.order, times)
        self.choice.note_error(largest, self.config)
        player_file = replace(
            player_file,
            max_error=largest,
            mean_error=total / len(times),
            notes=tuple(self.choice.notes),
        )
        entry = (
            None
            if motion is None
            else {"knots": motion.knots.tolist(), "interpolation": motion.interpolation}
        )
        header = header_of(player_file, VERSION, motion=entry)
        data = encode_player_file(header, self.spz, tracks)
        return Baked(lambda: iter((data,)), len(data), player_file, self.choice.indices(self.order))
