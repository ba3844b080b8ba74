"""Bake a moving scene into a player file, which plays in the canvas, in a page and wherever an .spz opens.

Nothing of this is from a paper: knots and rounding are chosen so that what moves stays within a stated distance.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..files.mp4 import mp4_writer
from ..messages import Finished, Progress, Started, Stream, progress_of
from ..playback.bake import Baked, bake, units
from ..playback.bake_config import BakeConfig
from ..playback.player_content import PlayerFile
from ..playback.segments import SegmentedFile
from ..render import camera_paths, choose, render_gaussians
from ..scene import Cameras, Scene4D
from ..train.threads import on_one_thread

__all__ = ["Baked", "Config", "describe", "measures", "movie", "run"]

Config = BakeConfig
MOVIE_PIXELS, MOVIE_FRAMES = 320, 60  # the longer side; at most


@on_one_thread
def run(scene: Scene4D, config: Config = Config(), title: str = "4D scene") -> Stream:
    """Started, Progress after each moment, Finished(Baked). Raises InputError for a scene that has nothing to show."""
    total = units(scene, config)
    yield Started(total, f"{len(scene.canonical):,} Gaussians, {len(scene.times)} moments into a player file")
    made = yield from progress_of(bake(scene, config, title), count=len(scene.canonical))
    yield Finished(made)


def describe(baked: Baked) -> str:
    """One line: how many Gaussians, how many of them move, how many knots, how large, how far off."""
    player_file = baked.player_file
    knots = (
        "still" if not player_file.moves else f"{player_file.moving:,} moving, {player_file.knot_count} knots"
    )
    if isinstance(player_file, SegmentedFile):
        knots += f" in {len(player_file.places)} segments"
    return (
        f"{len(player_file.base):,} Gaussians, {knots}, {baked.size / 1e6:.2f} MB, "
        f"at most {player_file.max_error:.2%} off"
    )


def measures(baked: Baked) -> dict[str, Any]:
    """What `describe` says, and the notes, for scripts."""
    player_file = baked.player_file
    return {
        "gaussians": len(player_file.base),
        "moving": player_file.moving,
        "moments": len(player_file.times),
        "knots": player_file.knot_count,
        "segments": len(player_file.places) if isinstance(player_file, SegmentedFile) else 1,
        "megabytes": round(baked.size / 1e6, 3),
        "max_error": player_file.max_error,
        "mean_error": player_file.mean_error,
        "notes": list(player_file.notes),
    }


@on_one_thread
def movie(player_file: PlayerFile, target: Path) -> Stream:
    """The player file as a small mp4 for where nothing can play it: through the first captured camera, a still one in an orbit.

    Started, Progress after each frame, Finished(target). Raises InputError where no mp4 can be written.
    """
    frames = MOVIE_FRAMES if not player_file.moves else min(MOVIE_FRAMES, max(len(player_file.times), 2))
    first, last = float(player_file.times[0]), float(player_file.times[-1])
    seconds = torch.linspace(first, last, frames, dtype=torch.float64).tolist()
    cameras = _cameras(player_file, frames)
    fps = 24.0 if not player_file.moves else min(max((frames - 1) / max(last - first, 1e-6), 1.0), 60.0)
    yield Started(frames, f"{frames} small frames")
    rasterizer = choose("auto")
    with mp4_writer(fps, target, crf=26) as add:
        for i, second in enumerate(seconds):
            with torch.no_grad():
                now = player_file.at(second)
                picture = render_gaussians(now, cameras[i], rasterizer, player_file.background)
            add(picture.rgb[0].clamp(0, 1))
            yield Progress(i + 1)
    yield Finished(target)


def _cameras(player_file: PlayerFile, frames: int) -> Cameras:
    """One camera a frame, at most MOVIE_PIXELS wide and high."""
    rig = player_file.cameras
    rig = rig.scaled(min(1.0, MOVIE_PIXELS / max(rig.sizes[0])))
    if player_file.moves:
        return rig[[0] * frames]
    box = torch.stack([player_file.center - player_file.radius, player_file.center + player_file.radius])
    scene = Scene4D.still(player_file.base, player_file.times, rig, box, player_file.background)
    poses = camera_paths.orbit(scene.rig, camera_paths.scene_focus(scene), frames, 1.0, None, 1.0)
    return replace(rig[[0] * frames], world_to_camera=poses)
