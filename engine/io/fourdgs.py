"""A moving scene as one `.4dgs` file, through the optional package `fourdgs`.

The format's Gaussians exist in a time window and move at constant velocity in it. Between two frames, each moving
Gaussian becomes one of those, with the scale, rotation, opacity and color of the first frame: positions are exact at the
frames and linear between them, everything else holds until the next frame. Static Gaussians are stored once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from .. import backends
from ..errors import InputError
from ..files.atomic import write_atomically
from ..finite import is_finite
from ..messages import returned
from ..scene import Gaussians, Scene4D, harmonics
from ..scene.cameras import AT_ZERO
from .fourdgs_chunks import ChunkWriter, Contents, MedianScale

# Gaussians × frames
MOST = 100_000_000
# the format's bytes span −4..4
SH_RANGE = 4.0


def write_fourdgs(scene: Scene4D, seconds: list[float], path: Path | str) -> Path:
    """Write a scene as one .4dgs file, atomically.

    Colors outside 0..1 and harmonics outside −4..4 are clipped, because the format cannot store them.

    Args:
        scene: The scene.
        seconds: Times to sample, ascending, in seconds; the file's own time starts at 0.
        path: The .4dgs file; it is replaced if it exists.

    Returns:
        The path.

    Raises:
        InputError: The package is missing, the times do not ascend, or the scene is empty or too large.
    """
    return returned(writing_fourdgs(scene, seconds, path))


def writing_fourdgs(scene: Scene4D, seconds: list[float], path: Path | str) -> Generator[int, None, Path]:
    """As `write_fourdgs`, frame by frame: memory does not grow with the frames. Yields after each of 2 · frames parts.

    If it is closed before its end, nothing is written.
    """
    backends.require("fourdgs")
    import fourdgs  # pyright: ignore[reportMissingTypeStubs]

    path = Path(path)
    times = np.asarray(seconds, dtype=np.float64)
    if len(times) == 0 or not np.isfinite(times).all() or bool((np.diff(times) <= 0).any()):
        raise InputError(
            "IO-001", f"{path.name} was not written: its {len(times)} times must be in ascending order."
        )
    if len(scene.canonical) == 0:
        raise InputError(
            "IO-002",
            f"{path.name} was not written: the scene has no Gaussians. Check the step that created it.",
        )
    if len(scene.canonical) * len(times) > MOST:
        raise InputError(
            "IO-003",
            f"{path.name} was not written: {len(scene.canonical):,} Gaussians in {len(times)} frames exceed the limit of "
            f"{MOST:,}. Export fewer frames.",
        )
    survey = _Survey()
    for done, moment in enumerate(_moments(scene, times, path.name), 1):
        survey.add(moment)
        yield done
    with write_atomically(path) as partial, open(partial, "wb") as file:
        try:
            yield from _chunks(file, scene, times, survey, path.name)
        except (fourdgs.FourdgsError, ValueError) as error:
            raise InputError(
                "IO-004", f"{path.name} was not written: {' '.join(str(error).split())[:200]}."
            ) from error
    return path


def _chunks(
    file: BinaryIO, scene: Scene4D, times: Any, survey: _Survey, name: str
) -> Generator[int, None, None]:
    """Write the file's contents. Yields after each frame, counted from those of the survey."""
    windows = _windows(times)
    # the first frame's chunk comes before that of the static ones
    written = ChunkWriter(file, survey.contents(scene, windows))
    still, moves = survey.still, bool((~survey.still).any())
    before: Gaussians | None = None
    for i, moment in enumerate(_moments(scene, times, name)):
        if before is not None and moves:
            velocity = (moment.means - before.means) / (windows[i - 1][1] - windows[i - 1][0])
            written.add(windows[i - 1], _piece(before, ~still, velocity, windows[i - 1][0]))
        if i == min(1, len(times) - 1) and bool(still.any()):
            rest = torch.zeros(len(still), 3)
            written.add((0.0, windows[-1][1]), _piece(survey.first, still, rest, 0.0))
        before = moment
        yield len(times) + i + 1
    if before is not None and moves:
        rest = torch.zeros(len(still), 3)
        written.add(windows[-1], _piece(before, ~still, rest, windows[-1][0]))
    written.finish()


def _moments(scene: Scene4D, times: Any, name: str) -> Iterator[Gaussians]:
    """The Gaussians at each time, on the CPU. Raises InputError for NaN."""
    for t in times.tolist():
        with torch.no_grad():
            moment = scene.at(t).map(lambda x: x.detach().cpu().float())
        for field, tensor in {**moment.tensors(), "scales": moment.log_scales.exp()}.items():
            if not is_finite(tensor):
                raise InputError(
                    "IO-093",
                    f"{name} was not written: at {t:.3f} s, {field} contain NaN or infinite values. Check the step that created "
                    "the scene.",
                )
        yield moment


def _windows(times: Any) -> list[tuple[float, float]]:
    """(start, stop) in seconds of each frame from the first one; the last one lasts as long as the one before."""
    starts = (times - times[0]).tolist()
    last = float(times[-1] - times[-2]) if len(times) > 1 else 1.0
    return list(zip(starts, [*starts[1:], starts[-1] + last], strict=True))


class _Survey:
    """What the head of the file says, from all frames one after the other."""

    def __init__(self) -> None:
        self.first: Gaussians
        self.frames = 0
        # [N]: equal at all frames
        self.still: Tensor
        self.low, self.high = torch.empty(0), torch.empty(0)
        self._scales = MedianScale()

    def add(self, moment: Gaussians) -> None:
        """Look at the next frame."""
        low, high = moment.means.amin(0), moment.means.amax(0)
        if not self.frames:
            self.first, self.low, self.high = moment, low, high
            self.still = torch.ones(len(moment), dtype=torch.bool)
        for a, b in zip(self.first.tensors().values(), moment.tensors().values(), strict=True):
            self.still &= (a == b).flatten(1).all(dim=1) if a.ndim > 1 else a == b
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        self._scales.add(moment.log_scales.exp())
        self.frames += 1

    def contents(self, scene: Scene4D, windows: list[tuple[float, float]]) -> Contents:
        """With the static Gaussians once, and the others once a frame."""
        static = int(self.still.sum())
        moving = len(self.still) - static
        # they were counted at every frame
        self._scales.add(self.first.log_scales[self.still].exp(), 1 - self.frames)
        used = {(0.0, windows[-1][1])} if static else set[tuple[float, float]]()
        # the format's metadata is text
        place = scene.rig.origin
        return Contents(
            count=static + moving * self.frames,
            low=self.low.numpy(),
            high=self.high.numpy(),
            median_scale=self._scales.value(),
            sh_degree=self.first.sh_degree,
            windows=sorted(used.union(windows if moving else ())),
            duration=windows[-1][1],
            attributes={} if place == AT_ZERO else {"origin": " ".join(repr(c) for c in place)},
        )


def _piece(g: Gaussians, chosen: Tensor, velocity: Tensor, start: float) -> dict[str, Any]:
    a = g.map(lambda t: t[chosen]).activated()
    count = len(a.means)
    color = torch.cat([harmonics.dc_to_rgb(a.sh[:, 0]).clamp(0, 1), a.opacities[:, None]], dim=1)
    # channel by channel
    rest = a.sh[:, 1:].transpose(1, 2).reshape(count, 3 * (a.sh.shape[1] - 1))
    byte = ((rest + SH_RANGE) * (255 / (2 * SH_RANGE))).round().clamp(0, 255).to(torch.uint8)
    return {
        "positions": a.means.numpy(),
        "scales": a.scales.numpy(),
        "rotations": a.quats[:, [1, 2, 3, 0]].numpy(),
        "colors": color.numpy(),
        "motions": velocity[chosen].numpy(),
        "mu_t": np.full(count, start, dtype=np.float32),
        "sh": byte.numpy(),
    }
