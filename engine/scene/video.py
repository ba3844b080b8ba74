"""Multi-view video: cameras × frames, frames read on demand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InputError
from .cameras import Cameras


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of one view."""

    image: Tensor  # [H, W, 3] uint8, display-referred; where there is a mask, not yet composited
    mask: Tensor | None = None  # [H, W] uint8, 255 = subject: an alpha channel or a mask file
    # [H, W] float32 along the viewing axis, in world units or in others of any scale and shift; 0 where it is unknown
    depth: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Tracks:
    """P points that were followed through a video of T frames; at each frame, one view is named for each point.

    Raises:
        InputError: The tensors do not belong together.
    """

    pixels: Tensor  # [P, T, 2] at the size of the view's images; any value where the point is hidden
    visible: Tensor  # [P, T] bool
    views: Tensor  # [P, T] long: which view sees the point

    def __post_init__(self) -> None:
        shape = tuple(self.visible.shape)
        fits = (
            len(shape) == 2 and tuple(self.pixels.shape) == (*shape, 2) and tuple(self.views.shape) == shape
        )
        if not fits or self.visible.dtype != torch.bool:
            raise InputError(
                "SCN-014",
                f"Tracks: pixels {tuple(self.pixels.shape)}, visible {shape} ({self.visible.dtype}) and views "
                f"{tuple(self.views.shape)} do not belong together; expected [P, T, 2], [P, T] bool and [P, T].",
            )


class FrameSource(Protocol):
    """Reads frames on demand. Thread-safe; keeps a bounded number of decoded frames, however long the video."""

    def read(self, view: int, moment: int) -> Frame:
        """The frame at its stored size. Raises InputError naming the file if it cannot be decoded."""
        ...

    def fingerprint(self) -> str:
        """Changes when any file behind the frames does (names, sizes, modification times)."""
        ...


@dataclass(frozen=True, eq=False)
class MultiViewVideo:
    """V views × T frames. A monocular capture has one view per image and one frame per view.

    `source.read(v, m)` may be called wherever `available[v, m]`. Images have exactly `cameras.sizes[v]` pixels.
    """

    name: str
    cameras: Cameras  # [V]
    times: Tensor  # [T] float64 seconds, strictly ascending, first is usually 0
    available: Tensor  # [V, T] bool
    source: FrameSource
    # [3] in 0..1, behind masked subjects; None keeps the images' own background
    background: Tensor | None = None
    points: Tensor | None = None  # [P, 3] initial points (COLMAP …), world units
    point_colors: Tensor | None = None  # [P, 3] in 0..1
    near: float | None = None  # world units, along the viewing axis
    far: float | None = None
    train_views: tuple[int, ...] = ()  # empty = all that are not test views
    test_views: tuple[int, ...] = ()  # held out by the data set's own convention
    has_masks: bool = False
    fps: float | None = None  # frames per second, if the layout stores it
    layout: str = ""  # which reader made it: "dynerf", "nerfstudio", …
    warnings: tuple[str, ...] = field(default=())  # sentences about unusual but usable findings
    # indices of frames held out in every view by the data set's own convention
    test_moments: tuple[int, ...] = ()
    # whether frames have depth; some of them may lack it
    has_depths: bool = False
    tracks: Tracks | None = None
    # sentences about how the files were read
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.cameras) == 0 or len(self.times) == 0:
            raise InputError(
                "SCN-004",
                f"{self.name}: {len(self.cameras)} views and {len(self.times)} frames; at least one of each is needed.",
            )
        if tuple(self.available.shape) != (len(self.cameras), len(self.times)):
            expected = (len(self.cameras), len(self.times))
            raise InputError(
                "SCN-005",
                f"{self.name}: available has shape {tuple(self.available.shape)}, expected {expected} (views, frames).",
            )
        if self.tracks is not None and self.tracks.visible.shape[1] != len(self.times):
            raise InputError(
                "SCN-015",
                f"{self.name}: the tracks have {self.tracks.visible.shape[1]} frames, and the video has "
                f"{len(self.times)}; give one position of every point for each frame.",
            )

    @property
    def views(self) -> int:
        return len(self.cameras)

    @property
    def moments(self) -> int:
        return len(self.times)

    def summary(self) -> str:
        """One line about the capture."""
        sizes = sorted({f"{w}×{h}" for w, h in self.cameras.sizes})
        seconds = float(self.times[-1] - self.times[0])
        return f"{self.views} views, {self.moments} frames, {seconds:.2f} s, {', '.join(sizes[:3])} pixels ({self.layout})"

    def samples(self, views: tuple[int, ...] | None = None) -> list[tuple[int, int]]:
        """All (view, frame) pairs that can be read, views in order, for `views` or all."""
        chosen = range(self.views) if views is None else views
        return [(v, m) for v in chosen for m in self.available[v].nonzero().flatten().tolist()]

    def views_to_train(self) -> tuple[int, ...]:
        return self.train_views or tuple(v for v in range(self.views) if v not in self.test_views)
