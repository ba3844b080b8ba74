"""All frames of one video file as a batch of images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .video_file import SUFFIXES, VideoFile, probe
from .video_pixels import to_pixels
from .video_remarks import video_remarks

# numbers of a batch: 4 GB
MOST_NUMBERS = 1_000_000_000


def is_video(path: Path | str) -> bool:
    """Whether the path names a video file, by its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


class Clip(NamedTuple):
    """A video, decoded."""

    frames: Tensor  # [F, H, W, 3] in 0..1, or [F, H, W, 4] where the video has alpha
    fps: float
    notes: tuple[str, ...] = ()  # how it was read, and what was left out


def load_clip(path: Path | str) -> Clip:
    """Read a video.

    Args:
        path: The file.

    Raises:
        InputError: It is missing or damaged, or has too many frames to read at once.
    """
    path = Path(path)
    facts = probe(path, path.name)
    width, height = facts.size
    if 4 * width * height * facts.frames > MOST_NUMBERS:
        raise InputError(
            "CAP-165",
            f"{path.name} holds {facts.frames:,} frames of {width}×{height}, too many to read at once; cut it or make it "
            "smaller.",
        )
    frames = np.empty((facts.frames, height, width, 4 if facts.has_alpha else 3), np.uint8)
    video = VideoFile(path, path.name, facts)
    try:
        for i in range(facts.frames):
            frames[i] = to_pixels(video.read(i), facts, alpha=facts.has_alpha)
    finally:
        video.close()
    return Clip(torch.from_numpy(frames).float() / 255, facts.fps, video_remarks({path.name: facts}))


def depth_beside(path: Path | str) -> Path | None:
    """The folder of a video's depth images, which has its name and ends in _depth; None where there is none."""
    path = Path(path)
    folder = path.with_name(f"{path.stem}_depth")
    return folder if folder.is_dir() else None
