"""Videos of generated and reference scenes, side by side, from values and from folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..render import Rasterizer
from .measures import ClipSet, fitted_to
from .video_sources import VideoSource, source_of, videos_in


class VideoPair(NamedTuple):
    """A video of the generated scene and what it is compared with; an empty title: nothing to compare."""

    ours: Tensor
    reference: Tensor
    title: str


def each_view(own: VideoSource, other: VideoSource) -> Iterator[VideoPair]:
    """Each view of a scene beside the same view of its reference. Raises InputError where they differ in length."""
    for view, name in enumerate(own.views):
        ours = own.video(view)
        yield VideoPair(ours, fitted_to(ours, other.video(view), (own.name, other.name)), name)


def pairs_of_folders(
    generated: Path | None,
    references: Path | None,
    rasterizer: Rasterizer,
    device: torch.device | str,
    ours: ClipSet,
    reference: ClipSet,
) -> Iterator[VideoPair]:
    """Videos of both folders with the same name side by side; the clips of others go to their sets, with an empty pair each."""
    nothing = VideoPair(torch.zeros(0, 1, 1, 3), torch.zeros(0, 1, 1, 3), "")
    known = {} if references is None else videos_in(references)
    for name, path in ({} if generated is None else videos_in(generated)).items():
        source = source_of(name, path, rasterizer, device)
        other = source_of(name, known.pop(name), rasterizer, device) if name in known else None
        if other is not None and len(other.views) == len(source.views):
            for pair in each_view(source, other):
                yield pair._replace(title=f"{name}, {pair.title}")
            continue
        _take(source, ours)
        if other is not None:
            _take(other, reference)
        yield nothing
    for name, path in known.items():
        _take(source_of(name, path, rasterizer, device), reference)
        yield nothing


def _take(source: VideoSource, clips: ClipSet) -> None:
    for view in range(len(source.views)):
        clips.add(source.video(view))
