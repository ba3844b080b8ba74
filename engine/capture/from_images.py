"""A capture of images in memory: what another program generated or rendered, with the cameras that it was made for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..scene import Cameras, Frame, MultiViewVideo

ORDERS = ("view by view", "frame by frame", "one moving camera")


@dataclass(frozen=True, eq=False)
class ImageFrames:
    """Frames in memory, for FrameSource: images [T, H, W, 3] uint8 of each view, masks [T, H, W] uint8 or none at all."""

    images: Sequence[Tensor]
    masks: Sequence[Tensor] = ()

    def read(self, view: int, moment: int) -> Frame:
        """The frame of a view; see FrameSource."""
        # a moving camera has one frame in each view
        place = moment if len(self.images[view]) > 1 else 0
        return Frame(self.images[view][place], self.masks[view][place] if self.masks else None)

    def fingerprint(self) -> str:
        """Changes with the pixels."""
        found = hashlib.sha256()
        for group in (self.images, self.masks):
            for plane in group:
                found.update(plane.contiguous().numpy().tobytes())
        return found.hexdigest()


def capture_of_images(
    batches: Sequence[Tensor],
    count: int,
    cameras_at: Callable[[int, int], Cameras],
    fps: float,
    order: str = ORDERS[0],
    masks: Sequence[Tensor] = (),
) -> MultiViewVideo:
    """Images and cameras as a capture.

    Args:
        batches: One batch [T, H, W, 3 or 4] in 0..1 for each view, or a single one of all images in `order`. A fourth
            channel is the mask of the subject.
        count: Number of cameras, V.
        cameras_at: All cameras for images of a width and height.
        fps: Frames per second, above 0.
        order: One of ORDERS; several batches are one per view.
        masks: Masks [T, H, W] in 0..1, divided like `batches`; empty without.

    Returns:
        V views of T frames; with a moving camera, T views of one frame each.

    Raises:
        InputError: Images, masks and cameras do not belong together.
    """
    moving = order == "one moving camera"
    if moving and len(batches) > 1 and any(len(batch) != 1 for batch in batches):
        raise InputError(
            "CAP-269",
            f"{len(batches)} videos are connected, but the order 'one moving camera' takes a single one, with one camera per "
            "image; choose 'view by view' for one camera per video, or connect one video.",
        )
    views = _divided(batches, count, order, "images")
    if any(len(view) != len(views[0]) for view in views):
        raise InputError(
            "CAP-265",
            f"The videos have {', '.join(str(len(view)) for view in views)} images; every view needs the same number of "
            "frames, so shorten the longer ones.",
        )
    sizes = [(view.shape[2], view.shape[1]) for view in views]
    cameras = _placed(cameras_at, sizes)
    planes = [view[..., 3] for view in views if view.shape[-1] == 4]
    if planes and len(planes) < len(views) and not masks:
        opaque = ", ".join(str(i) for i, view in enumerate(views) if view.shape[-1] != 4)
        raise InputError(
            "CAP-270",
            f"{len(planes)} of {len(views)} views have alpha as their mask, but not view {opaque} (counted from 0); connect "
            "masks for all images, or remove the alpha from all views.",
        )
    if masks:
        planes = _divided(masks, count, order, "masks")
        if [tuple(plane.shape) for plane in planes] != [tuple(view.shape[:3]) for view in views]:
            found, expected = tuple(planes[0].shape), tuple(views[0].shape[:3])
            raise InputError(
                "CAP-266",
                f"The masks have shape {found}, but the images {expected} (frames, height, width); connect one mask of the "
                "same size for each image.",
            )
    frames = len(views) if moving else len(views[0])
    return MultiViewVideo(
        "the connected images",
        cameras,
        torch.arange(frames, dtype=torch.float64) / fps,
        torch.eye(frames, dtype=torch.bool) if moving else torch.ones(len(views), frames, dtype=torch.bool),
        ImageFrames([_bytes(view[..., :3]) for view in views], [_bytes(plane) for plane in planes]),
        has_masks=bool(planes),
        fps=fps,
        layout="images",
        notes=() if len(batches) > 1 or count == 1 else (f"{len(batches[0])} images were taken {order}",),
    )


def frame_rate(fps: float, rates: Sequence[float]) -> float:
    """Frames per second of a capture: `fps`, and where that is 0, the videos' own `rates`, which are none for images: then 24.

    Raises:
        InputError: The videos' own differ.
    """
    # 29.97 and 30000/1001 are the same
    if not fps and len({round(rate, 2) for rate in rates}) > 1:
        raise InputError(
            "CAP-271",
            f"The videos have {', '.join(f'{rate:g}' for rate in rates)} frames per second, so their frames are of different "
            "times; connect videos of one frame rate, or set frames per second if the n-th frames belong together.",
        )
    return fps or (rates[0] if rates else 0.0) or 24.0


def _divided(batches: Sequence[Tensor], count: int, order: str, noun: str) -> list[Tensor]:
    """One batch for each camera."""
    if len(batches) > 1:
        if len(batches) != count:
            raise InputError(
                "CAP-267",
                f"{len(batches)} videos are connected, but {count} cameras; connect one camera for each video, in their order.",
            )
        return list(batches)
    (batch,) = batches
    if not len(batch) or len(batch) % count or (order == "one moving camera" and len(batch) != count):
        wanted = (
            "one camera for each image"
            if order == "one moving camera"
            else "a multiple of the number of cameras"
        )
        raise InputError(
            "CAP-268", f"{len(batch)} {noun} for {count} cameras, taken {order}: {wanted} is needed."
        )
    if order == "frame by frame":
        return [batch[view::count] for view in range(count)]
    return list(batch.split(len(batch) // count))


def _placed(cameras_at: Callable[[int, int], Cameras], sizes: Sequence[tuple[int, int]]) -> Cameras:
    """The cameras, each for the size of its view."""
    by_size = {size: cameras_at(*size) for size in dict.fromkeys(sizes)}
    first = by_size[sizes[0]]
    K = torch.stack([by_size[size].K[view] for view, size in enumerate(sizes)])
    return replace(first, K=K, sizes=tuple(sizes))


def _bytes(values: Tensor) -> Tensor:
    """0..1 as uint8; NaN is 0."""
    return (torch.nan_to_num(values.detach().float().cpu()).clamp(0, 1) * 255).round().byte()
