"""Which images of a scene an edit changes: those that were asked for, or the few that together show the most of it.

An edit of one frame leaves Gaussians that this frame does not show with colors that nothing constrains. As many images, spread
over views and frames, show most of them (docs/benchmarks.md has the gain).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..masks.coverage import contributions, covering
from ..render import Rasterizer
from ..scene import MultiViewVideo, Scene4D
from .originals import Pair, check_same, choose_pairs

# in place of frame numbers
AUTO = "auto"
# frames among which images are chosen
CANDIDATES = 6
# fraction of what all images show that an added one must newly show
LEAST = 0.005


def images_to_edit(
    scene: Scene4D,
    views: str,
    frames: str,
    video: MultiViewVideo | None,
    rasterizer: Rasterizer,
    first_frame_only: bool = False,
) -> tuple[list[Pair], str]:
    """The (view, frame) pairs to edit, frame by frame, and a note on the choice; "" if there was none.

    Args:
        scene: The scene.
        views: Indices of views, or "" for all that are trained on.
        frames: Indices of frames, or AUTO: as many images as there are views, those that show the most of the scene.
        video: The capture, whose held-out images are left out; None if there is none.
        rasterizer: Any rasterizer.
        first_frame_only: What AUTO means where something fixes the images: all views of the first frame that is not held out.

    Raises:
        InputError: Numbers that do not exist, images that differ in shape, or a capture of another scene.
    """
    if frames.strip().lower() != AUTO:
        return choose_pairs(scene, views, frames, video), ""
    if video is not None:
        check_same(scene, video)
    usable = _usable(scene, video) or [0]
    first = choose_pairs(scene, views, str(usable[0]), video)
    if len(scene.times) == 1:
        return first, ""
    if first_frame_only:
        return (
            first,
            "all views of the first frame, which the masks were made for; frame numbers choose others",
        )
    chosen = [view for view, _ in first]
    pairs = _candidates(chosen, usable, video)
    if not pairs:
        return first, ""
    shown = _shown(scene, pairs, rasterizer)
    index, share = covering(shown, len(chosen))
    found = [pairs[i] for i in index]
    count = len({frame for _, frame in found})
    return found, (
        f"{len(found)} images of {count} frames, which show {100 * share:.0f} % of what every image shows"
    )


def images_to_add(
    scene: Scene4D, done: list[Pair], count: int, video: MultiViewVideo | None, rasterizer: Rasterizer
) -> tuple[list[Pair], str]:
    """The (view, frame) pairs of other frames that show the most of what the pairs `done` do not, and a note on the choice.

    Args:
        scene: The scene.
        done: Images that were edited, at least one.
        count: Images to choose at most; fewer where further ones show hardly anything new.
        video: The capture, whose held-out images are left out; None if there is none.
        rasterizer: Any rasterizer.
    """
    frames = {frame for _, frame in done}
    usable = [frame for frame in _usable(scene, video) if frame not in frames]
    width, height = scene.rig.sizes[done[0][0]]
    trained = range(len(scene.rig)) if video is None else video.views_to_train()
    views = [
        v
        for v in trained
        if abs(scene.rig.sizes[v][0] / scene.rig.sizes[v][1] / (width / height) - 1) <= 0.05
    ]
    pairs = _candidates(views, usable, video)
    if not pairs:
        return [], "there are no other frames to edit"
    shown, seen = (_shown(scene, each, rasterizer) for each in (pairs, done))
    before = covering(shown, 0, seen)[1]
    index, share = covering(shown, count, seen, LEAST)
    if not index:
        return [], f"the fitted images already show {100 * before:.0f} % of what every image shows"
    found = [pairs[i] for i in index]
    return found, (
        f"{len(found)} more images of {len({frame for _, frame in found})} frames, so that {100 * share:.0f} % instead of "
        f"{100 * before:.0f} % of what every image shows is fitted"
    )


def _usable(scene: Scene4D, video: MultiViewVideo | None) -> list[int]:
    """Frames that are not held out."""
    held = set() if video is None else set(video.test_moments)
    return [frame for frame in range(len(scene.times)) if frame not in held]


def _candidates(views: list[int], frames: list[int], video: MultiViewVideo | None) -> list[Pair]:
    """(view, frame) of the images that there are, frame by frame, of some of the frames."""
    if not frames:
        return []
    spread = torch.linspace(0, len(frames) - 1, min(CANDIDATES, len(frames))).round().long().tolist()
    return [
        (view, frames[i])
        for i in spread
        for view in views
        if video is None or bool(video.available[view, frames[i]])
    ]


def _shown(scene: Scene4D, pairs: list[Pair], rasterizer: Rasterizer) -> Tensor:
    """Contributions [F, N] of images; see `contributions`."""
    seconds = [float(scene.times[frame]) for _, frame in pairs]
    return contributions(scene, scene.rig[[view for view, _ in pairs]], seconds, rasterizer)
