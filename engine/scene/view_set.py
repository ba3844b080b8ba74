"""Images of a scene with the camera and the time of each: the input and the result of an edit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .cameras import Cameras
from .framing import edge_shift, fitting_sizes, is_whole, listed
from .view_sheets import SheetLayout


@dataclass(frozen=True, eq=False)
class ViewSet:
    """F images of one size. `images` may be replaced by other images of the same views."""

    images: Tensor  # [F, H, W, 3] in 0..1: the edited images
    originals: Tensor  # [F, H, W, 3]: what was edited
    cameras: Cameras  # F cameras of size (W, H)
    views: tuple[int, ...]  # F indices into the scene's rig
    moments: tuple[int, ...]  # F indices into the scene's times
    seconds: tuple[float, ...]  # F times in seconds
    alphas: Tensor | None = None  # [F, H, W]: the scene's own coverage; None where the scene fills the image
    edit: dict[str, Any] | None = None  # how they were edited: prompt, model, parameters (plain JSON)
    sheet: SheetLayout | None = None  # where they stand on sheets; None: on none

    def __post_init__(self) -> None:
        f = len(self.images)
        if (
            not f
            == len(self.originals)
            == len(self.cameras)
            == len(self.views)
            == len(self.moments)
            == len(self.seconds)
        ):
            raise InputError(
                "SCN-006",
                f"{f} edited images, {len(self.originals)} originals and {len(self.cameras)} cameras were given; every view "
                "needs one of each.",
            )
        if f == 0:
            raise InputError("SCN-007", "No view is selected; choose at least one view and one frame.")
        if self.images.shape != self.originals.shape:
            raise InputError(
                "SCN-008",
                f"Edited images are {_size(self.images)}, originals {_size(self.originals)}; they must have the same size.",
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[1])

    def caption(self, i: int) -> str:
        """View and time of one image, as text."""
        return f"{self.cameras.names[i]} · {self.seconds[i]:.2f} s"

    def with_images(self, images: Tensor) -> ViewSet:
        """The same views with other images [F, H', W', 3], resized where their size differs.

        Raises InputError where the number differs, or where resizing would move the edges by more than half a pixel.
        """
        w, h = self.size
        got_h, got_w = int(images.shape[1]), int(images.shape[2])
        if len(images) != len(self):
            raise InputError(
                "SCN-009",
                f"{len(images)} images of {got_w}×{got_h} were given for {len(self)} views of {w}×{h}; give one image per "
                "view, in the same order.",
            )
        if not is_whole((got_w, got_h), (w, h)):
            raise InputError(
                "SCN-010",
                f"The given images are {got_w}×{got_h} and the views {w}×{h}, which is another aspect ratio: at the edges they "
                f"are {edge_shift((got_w, got_h), (w, h)):.1f} pixels apart. Give images of "
                f"{listed(fitting_sizes((got_w, got_h), (w, h)))}, or choose the editor in 'size for' of Scene Views.",
            )
        images = images[..., :3].float()
        if (got_w, got_h) != (w, h):
            moved = torch.nn.functional.interpolate(
                images.permute(0, 3, 1, 2), (h, w), mode="bilinear", antialias=True, align_corners=False
            )
            images = moved.permute(0, 2, 3, 1).clamp(0, 1)
        return replace(self, images=images.contiguous())


def one_batch(parts: Sequence[Tensor], what: str, channels: int | None = None) -> Tensor:
    """A list of batches as one batch, in the order of the list.

    Args:
        parts: Batches [B, H, W, …].
        what: What they are, in errors, such as "images".
        channels: How many of the last axis to keep; None keeps every value.

    Returns:
        [sum of B, H, W, …].

    Raises:
        InputError: An empty list, or images of different sizes.
    """
    if not parts:
        raise InputError("SCN-018", f"The list of {what} is empty; connect at least one.")
    sizes = Counter(_size(part) for part in parts for _ in range(len(part)))
    if len(sizes) > 1:
        counts = ", ".join(f"{count} of {size}" for size, count in sizes.most_common())
        raise InputError(
            "SCN-019",
            f"The list of {what} has {sizes.total()} of different sizes: {counts}. Bring them to one size, in the order of "
            "the views.",
        )
    kept = [part if channels is None else part[..., :channels] for part in parts]
    return kept[0] if len(kept) == 1 else torch.cat(kept)


@dataclass(frozen=True, eq=False)
class Selection:
    """The weight of each Gaussian in an edit: 1 takes the full edit, 0 keeps its values bit for bit."""

    weights: Tensor  # [N] float32 in 0..1

    def check(self, count: int) -> None:
        """Raises InputError where it was made for a scene with another number of Gaussians."""
        if len(self.weights) != count:
            raise InputError(
                "SCN-011",
                f"The mask was lifted to {len(self.weights)} Gaussians, but this scene has {count}; lift it again to "
                "this scene.",
            )


def _size(images: Tensor) -> str:
    return f"{images.shape[2]}×{images.shape[1]}"
