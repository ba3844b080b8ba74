"""Bake a moving scene into a clip: a small file that plays in the canvas, in a page and wherever an .spz opens.

Nothing of this is from a paper: knots and rounding are chosen so that what moves stays within a stated distance.
"""

from __future__ import annotations

from ..io.clip_bake import Baked, ClipConfig, bake, units
from ..scene import Scene4D
from ..train.messages import Finished, Progress, Started, Stream

__all__ = ["Baked", "Config", "describe", "run"]

Config = ClipConfig


def run(scene: Scene4D, config: Config = Config(), title: str = "4D scene") -> Stream:
    """Started, Progress after each moment, Finished(Baked). Raises InputError for a scene that has nothing to show."""
    total = units(scene, config)
    yield Started(total, f"{len(scene.canonical):,} Gaussians, {len(scene.times)} moments into a clip")
    work = bake(scene, config, title)
    while True:
        try:
            done = next(work)
        except StopIteration as end:
            yield Finished(end.value)
            return
        yield Progress(done, count=len(scene.canonical))


def describe(baked: Baked) -> str:
    """One line: how many Gaussians, how many of them move, how many knots, how large, how far off."""
    clip = baked.clip
    knots = "still" if clip.motion is None else f"{clip.moving:,} moving, {len(clip.motion.knots)} knots"
    return (
        f"{len(clip.base):,} Gaussians, {knots}, {len(baked.data) / 1e6:.2f} MB, "
        f"off by at most {clip.max_error:.3%} of the radius"
    )
