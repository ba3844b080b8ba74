"""Bake a moving scene into a clip: a small file that plays in the canvas, in a page and wherever an .spz opens.

Nothing of this is from a paper: knots and rounding are chosen so that what moves stays within a stated distance.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..files.mp4 import write_mp4
from ..messages import Finished, Progress, Started, Stream, progress_of
from ..playback.bake import Baked, ClipConfig, bake, units
from ..playback.player_file import Clip
from ..render import camera_paths, choose, render_gaussians
from ..scene import Cameras, Scene4D

__all__ = ["Baked", "Config", "describe", "movie", "run"]

Config = ClipConfig
MOVIE_PIXELS, MOVIE_FRAMES = 320, 60  # the longer side; at most


def run(scene: Scene4D, config: Config = Config(), title: str = "4D scene") -> Stream:
    """Started, Progress after each moment, Finished(Baked). Raises InputError for a scene that has nothing to show."""
    total = units(scene, config)
    yield Started(total, f"{len(scene.canonical):,} Gaussians, {len(scene.times)} moments into a clip")
    made = yield from progress_of(bake(scene, config, title), count=len(scene.canonical))
    yield Finished(made)


def describe(baked: Baked) -> str:
    """One line: how many Gaussians, how many of them move, how many knots, how large, how far off."""
    clip = baked.clip
    knots = "still" if clip.motion is None else f"{clip.moving:,} moving, {len(clip.motion.knots)} knots"
    return (
        f"{len(clip.base):,} Gaussians, {knots}, {len(baked.data) / 1e6:.2f} MB, "
        f"at most {clip.max_error:.2%} off"
    )


def movie(clip: Clip, target: Path) -> Stream:
    """The clip as a small mp4 for where nothing can play it: through the first captured camera, a still one in an orbit.

    Started, Progress after each frame, Finished(target). Raises InputError where no mp4 can be written.
    """
    frames = MOVIE_FRAMES if clip.motion is None else min(MOVIE_FRAMES, max(len(clip.times), 2))
    first, last = float(clip.times[0]), float(clip.times[-1])
    seconds = torch.linspace(first, last, frames, dtype=torch.float64).tolist()
    cameras = _cameras(clip, frames)
    fps = 24.0 if clip.motion is None else min(max((frames - 1) / max(last - first, 1e-6), 1.0), 60.0)
    yield Started(frames, f"{frames} small frames of {clip.title}")
    drawn: list[Tensor] = []
    rasterizer = choose("auto")
    for i, second in enumerate(seconds):
        with torch.no_grad():
            picture = render_gaussians(clip.at(second), cameras[i], rasterizer, clip.background)
        drawn.append(picture.rgb[0].clamp(0, 1))
        yield Progress(i + 1)
    yield Finished(write_mp4(drawn, fps, target, crf=26))


def _cameras(clip: Clip, frames: int) -> Cameras:
    """One camera a frame, at most MOVIE_PIXELS wide and high."""
    rig = clip.cameras
    rig = rig.scaled(min(1.0, MOVIE_PIXELS / max(rig.sizes[0])))
    if clip.motion is not None:
        return rig[[0] * frames]
    box = torch.stack([clip.center - clip.radius, clip.center + clip.radius])
    scene = Scene4D.still(clip.base, clip.times, rig, box, clip.background)
    poses = camera_paths.orbit(scene, frames, 1.0, None, 1.0)
    return Cameras(poses, rig.K[:1].expand(frames, 3, 3), rig.sizes[:1] * frames, rig.names[:1] * frames)
