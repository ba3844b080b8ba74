"""What a clip is lifted from: the chosen frames of a video, with their depth, cameras and masks, without letterbox bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import InputError
from ...finite import is_finite
from ...render.camera_paths import CameraPath
from ...scene.cameras import Cameras, have_one_shape
from .clip_checks import picture_box
from .depth_maps import DepthMaps, cropped, depth_maps

# tracks are followed through at least 3 frames
LEAST_FRAMES, MOST_FRAMES = 3, 121


class ClipInput(NamedTuple):
    """T frames of one shot, and what is known of them."""

    images: Tensor  # [T, H, W, 3] in 0..1
    depth: DepthMaps
    cameras: Cameras | None  # [T]
    masks: Tensor | None  # [T, H, W] bool: what moves
    notes: list[str]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.images.shape[2], self.images.shape[1]

    def cropped(self, box: tuple[int, int, int, int]) -> ClipInput:
        """A part (left, top, width, height) of all frames."""
        left, top, width, height = box
        rows, columns = slice(top, top + height), slice(left, left + width)
        return ClipInput(
            self.images[:, rows, columns],
            cropped(self.depth, box),
            None if self.cameras is None else self.cameras.cropped([box] * len(self.cameras)),
            None if self.masks is None else self.masks[:, rows, columns],
            self.notes,
        )


def chosen_frames(available: int, first: int, count: int, step: int) -> range:
    """Numbers of the frames to use.

    Args:
        available: Frames of the video.
        first: First frame to use.
        count: Number of frames; 0: all to the end.
        step: Every n-th frame; 0: every one, or as many as stay within `MOST_FRAMES`.

    Raises:
        InputError: Too few frames or too many.
    """
    rest = available - first
    if rest < LEAST_FRAMES:
        raise InputError(
            "STP-082",
            f"The video has {available:,} frames and 'first frame' is {first}; at least {LEAST_FRAMES} frames are needed.",
        )
    step = step or (1 if count else -(-rest // MOST_FRAMES))
    chosen = range(first, available, step)[: count or None]
    if not LEAST_FRAMES <= len(chosen) <= MOST_FRAMES:
        raise InputError(
            "STP-083",
            f"A frame step of {step} leaves {len(chosen):,} frames; {LEAST_FRAMES} to {MOST_FRAMES} are possible. Change "
            "'frame count' or 'frame step'; a frame step of 0 spreads the frames over the whole video.",
        )
    return chosen


def clip_input(
    images: Tensor,
    depth: Any,
    cameras: CameraPath | None,
    masks: Tensor | None,
    chosen: range,
    is_depth: bool,
) -> ClipInput:
    """The chosen frames of a video, without letterbox bars.

    Args:
        images: Frames [F, H, W, 3] in 0..1.
        depth: Depth of all frames or of the chosen ones: see `depth_maps`.
        cameras: A camera for each of them; None: unknown.
        masks: 1 on what moves, [F, H, W] or [1, H, W]; None: unknown.
        chosen: From `chosen_frames`.
        is_depth: Whether depth images are known to grow with the distance.

    Raises:
        InputError: Frames, depth, cameras or masks do not fit together.
    """
    available, index = len(images), list(chosen)
    if not is_finite(images[index]):
        raise InputError("STP-081", "The video contains NaN or infinite values; load or make it again.")
    frames = images[index].detach().cpu().float()[..., :3].clamp(0, 1)
    size = (frames.shape[2], frames.shape[1])
    maps = depth_maps(_depth_at(depth, index, available), len(index), size, is_depth)
    about = f"{len(index)} of {available:,} frames"
    if chosen.step > 1:
        about += f", frame step {chosen.step}"
    made = ClipInput(
        frames,
        maps,
        _cameras_at(cameras, index, available, size),
        _masks_at(masks, index, available, size),
        [about, maps.note],
    )
    box = picture_box(frames)
    if box[2:] == size:
        return made
    made.notes.append(f"letterbox bars cropped: {box[2]}×{box[3]} of {size[0]}×{size[1]} pixels are used")
    return made.cropped(box)


def _depth_at(given: Any, chosen: list[int], available: int) -> Any:
    """The depth of the chosen frames; another number or form is left for the check of depth maps to report."""
    if not isinstance(given, Mapping):
        return given[chosen] if isinstance(given, Tensor) and len(given) == available else given
    picked = {
        name: value[chosen]
        for name, value in given.items()
        if isinstance(value, Tensor) and value.ndim >= 3 and len(value) == available
    }
    # Depth Anything 3 puts all frames of a video into one batch of views
    for name in ("extrinsics", "intrinsics"):
        value = given.get(name)
        if isinstance(value, Tensor) and value.ndim == 4 and value.shape[1] == available:
            picked[name] = value[0, chosen]
    return {**given, **picked}


def _cameras_at(
    cameras: CameraPath | None, chosen: list[int], available: int, size: tuple[int, int]
) -> Cameras | None:
    if cameras is None:
        return None
    if len(cameras) not in (available, len(chosen)):
        raise InputError(
            "STP-084",
            f"There are {len(cameras)} cameras for {available} frames. Connect a path with one camera per frame.",
        )
    rig = cameras.cameras[chosen] if len(cameras) == available else cameras.cameras
    for wide, tall in rig.sizes:
        if not have_one_shape((wide, tall), size):
            raise InputError(
                "STP-088",
                f"The cameras have images of {wide}×{tall}, but the video is {size[0]}×{size[1]}, which is another aspect ratio. "
                f"Set width and height of Camera Path to {size[0]} and {size[1]}.",
            )
    return rig.resized((size,) * len(rig))


def _masks_at(
    masks: Tensor | None, chosen: list[int], available: int, size: tuple[int, int]
) -> Tensor | None:
    if masks is None:
        return None
    if len(masks) not in (1, available):
        raise InputError(
            "STP-085",
            f"There are {len(masks)} masks for {available} frames. Make the mask from the same frames, or connect a single one.",
        )
    picked = masks.expand(len(chosen), -1, -1) if len(masks) == 1 else masks[chosen]
    sized = torch.nn.functional.interpolate(picked.detach().cpu().float()[:, None], (size[1], size[0]))
    return sized[:, 0] > 0.5
