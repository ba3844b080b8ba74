"""A capture as a reader describes it, before anything is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..scene.video import Tracks
from .depth_maps import DepthFile
from .undistort import Distortion
from .video_file import VideoFacts
from .view_images import ImageFile

Array = NDArray[Any]


@dataclass(frozen=True)
class ViewVideo:
    """The video of a view, with the video of its mask where there is one."""

    path: Path
    name: str
    facts: VideoFacts
    mask: Path | None = None
    mask_name: str = ""
    mask_facts: VideoFacts | None = None
    # frame index → frame number in the file, and in that of the mask; None where they are the same
    numbers: dict[int, int] | None = None
    mask_numbers: dict[int, int] | None = None


@dataclass(frozen=True, eq=False)
class View:
    """One camera as a reader found it."""

    name: str
    where: str  # for messages: the file and the entry that describe this camera
    K: Array  # [3, 3] of images of `size`
    world_to_camera: Array  # [4, 4] OpenCV axes
    size: tuple[int, int]  # (width, height) that the description claims
    images: ViewVideo | dict[int, ImageFile]  # dict: frame index (see Capture.time_unit) → file
    distortion: Distortion = field(default_factory=Distortion)
    depths: dict[int, DepthFile] = field(default_factory=dict[int, DepthFile])  # frame index → file


@dataclass(eq=False)
class Capture:
    """A whole dataset as a reader found it."""

    folder: Path
    layout: str
    views: list[View]
    times: Array | None = None  # [T] ascending; None = frame number / fps
    times_are_fractions: bool = False  # times run from 0 to 1 over a video of unknown length
    # how times in image names were read; frame indices of views are then nanoseconds, not yet paired
    time_unit: str = ""
    fps: float | None = None
    background: tuple[float, float, float] | None = None
    behind_alpha: tuple[float, float, float] | None = (
        None  # the background where alpha in the images is their mask
    )
    points: Array | None = None  # [P, 3]
    point_colors: Array | None = None  # [P, 3] in 0..1
    # whether camera positions are stored as such, so that rounded rotations do not move them
    stores_positions: bool = True
    near: float | None = None
    far: float | None = None
    near_far_from: str = ""  # the file that says near and far
    test_views: list[str] = field(default_factory=list[str])
    train_views: list[str] = field(default_factory=list[str])
    test_moments: list[int] = field(default_factory=list[int])  # frames held out in every view
    warnings: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])  # how the files were read, for Pre-flight Check
    files: list[Path] = field(default_factory=list[Path])  # descriptions, for the fingerprint
    tracks: Tracks | None = None  # of all views and frames, at the sizes that the description claims
    is_paired: bool = False  # frames were paired by time, and what is missing was said
    scale_done: float = 1.0  # the stored images are already this fraction of the capture's size

    def videos(self) -> dict[str, VideoFacts]:
        """The videos of the views, by their names."""
        return {v.images.name: v.images.facts for v in self.views if isinstance(v.images, ViewVideo)}
