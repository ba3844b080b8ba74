"""Which images of a scene an edit changes: those that were asked for, or the few that together show the most of it.

An edit of one frame leaves Gaussians that this frame does not show with colors that nothing constrains. As many images, spread
over views and frames, show most of them (docs/benchmarks.md has the gain).
"""

from __future__ import annotations

import torch

from ..masks.coverage import contributions, covering
from ..render import Rasterizer
from ..scene import MultiViewVideo, Scene4D
from .originals import Pair, check_same, choose_pairs

# in place of frame numbers
AUTO = "auto"
# frames among which images are chosen
CANDIDATES = 6


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
    held = set() if video is None else set(video.test_moments)
    usable = [frame for frame in range(len(scene.times)) if frame not in held] or [0]
    first = choose_pairs(scene, views, str(usable[0]), video)
    if len(scene.times) == 1:
        return first, ""
    if first_frame_only:
        return (
            first,
            "all views of the first frame, which the masks were made for; frame numbers choose others",
        )
    chosen = [view for view, _ in first]
    spread = torch.linspace(0, len(usable) - 1, min(CANDIDATES, len(usable))).round().long().tolist()
    pairs = [
        (view, usable[i])
        for i in spread
        for view in chosen
        if video is None or bool(video.available[view, usable[i]])
    ]
    if not pairs:
        return first, ""
    seconds = [float(scene.times[frame]) for _, frame in pairs]
    shown = contributions(scene, scene.rig[[view for view, _ in pairs]], seconds, rasterizer)
    index, share = covering(shown, len(chosen))
    found = [pairs[i] for i in index]
    count = len({frame for _, frame in found})
    return found, (
        f"{len(found)} images of {count} frames, which show {100 * share:.0f} % of what every image shows"
    )
