"""Measures of a capture that say whether it will train well: exposure, spread of the cameras, masks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..geometry.carving import in_picture
from ..scene.video import Frame, MultiViewVideo
from .bounds import gaze_center

SHEET_VIEWS = 48
# views of which all pairs are looked at, and pairs of views with the same pose that are listed
MOST_COMPARED, MOST_TWINS = 10_000, 100
# pairs at once: 32 MB a matrix
PAIRS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Exposure:
    """How one view's brightness compares, in photographic stops (+1 = twice the light)."""

    stops: tuple[float, ...]  # [V] against the median view; NaN where nothing could be compared
    cast: tuple[float, ...]  # [V] the largest difference of a color channel against the others, in stops
    flicker: tuple[float, ...]  # [V] largest change of brightness between the sampled frames, in stops
    blank: tuple[tuple[int, int], ...]  # (view, moment) without any structure: black, white, lens cap
    at_points: bool  # compared at the same points of the scene; else whole images were, which differ anyway


@dataclass(frozen=True)
class Spread:
    """How the cameras stand around what they look at."""

    widest: float  # degrees between the two views furthest apart, seen from the common point
    neighbour: float  # degrees to the nearest other view, median
    loneliest: float  # degrees to the nearest other view, of the view that is most alone
    loneliest_view: int
    miss: float  # median distance of the viewing axes from the common point, as a share of the camera's distance
    behind: tuple[int, ...]  # views that have the common point behind them
    distance: float  # median distance to the common point, world units
    twins: tuple[tuple[int, int], ...]  # pairs of views with the same pose
    places: int  # distinct camera positions


def linear(values: Tensor) -> Tensor:
    """sRGB 0..1 → linear light (IEC 61966-2-1)."""
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


class Light:
    """Collects brightness image by image, so that no more than one frame is held.

    With initial points, colors are compared at the same points of the scene in every view; without, whole images
    (or what the masks keep) are, which also differ by what each view sees.
    """

    def __init__(self, video: MultiViewVideo) -> None:
        self.video = video
        self._means: dict[tuple[int, int], Tensor] = {}  # linear RGB [3]
        # view → linear RGB at points [P, 3], NaN where unseen
        self._at_points: dict[int, Tensor] = {}
        self._blank: list[tuple[int, int]] = []
        self._first: int | None = None
        points = video.points
        self._points = None if points is None or len(points) < 30 else points[:: max(1, len(points) // 2000)]

    def add(self, view: int, moment: int, frame: Frame) -> None:
        """Take note of one frame."""
        image = linear(frame.image.float() / 255)
        kept = image.reshape(-1, 3)
        if frame.mask is not None and bool((frame.mask > 127).any()):
            kept = image[frame.mask > 127]
        self._means[view, moment] = kept.mean(0)
        if float(frame.image.float().std()) < 1.0:
            self._blank.append((view, moment))
        # Initial points belong to the first frame: later the subject has moved away from them.
        if self._points is not None and moment == 0:
            self._at_points[view] = self._sample(view, image)

    def _sample(self, view: int, image: Tensor) -> Tensor:
        assert self._points is not None
        column, row, seen = in_picture(self.video.cameras, self._points.double(), view)
        values = torch.full((len(seen), 3), math.nan)
        values[seen] = image[row[seen], column[seen]]
        return values

    def result(self) -> Exposure:
        """Everything noted, compared."""
        views = range(self.video.views)
        by_view = [[m for (v, _), m in self._means.items() if v == view] for view in views]
        mean = torch.stack([torch.stack(ms).mean(0) if ms else torch.full((3,), math.nan) for ms in by_view])
        at_points = 2 * len(self._at_points) > self.video.views
        compared = self._relative_at_points() if at_points else _relative(mean)
        stops = compared.mean(1)
        cast = (compared - stops[:, None]).abs().amax(1)
        flicker = [
            float(_log(torch.stack(ms).mean(1)).max() - _log(torch.stack(ms).mean(1)).min())
            if len(ms) > 1
            else 0.0
            for ms in by_view
        ]
        return Exposure(
            tuple(stops.tolist()), tuple(cast.tolist()), tuple(flicker), tuple(self._blank), at_points
        )

    def _relative_at_points(self) -> Tensor:
        """Stops [V, 3] against the median color that all views see at each point: its median over the points."""
        result = torch.full((self.video.views, 3), math.nan)
        views = sorted(self._at_points)
        colours = _log(torch.stack([self._at_points[v] for v in views]))  # [V', P, 3]
        reference = colours.nanmedian(dim=0, keepdim=True).values
        for i, view in enumerate(views):
            difference = (colours[i] - reference[0])[colours[i].isfinite().all(dim=1)]
            if len(difference) >= 20:
                result[view] = difference.median(dim=0).values
        return result


def _log(values: Tensor) -> Tensor:
    return values.clamp(min=1e-4).log2()


def _relative(mean: Tensor) -> Tensor:
    stops = _log(mean)
    return stops - stops.nanmedian(dim=0, keepdim=True).values


def camera_spread(video: MultiViewVideo) -> Spread:
    """Angles between views as seen from the point they look at, and how well their axes meet there."""
    cameras = video.cameras
    point, along = gaze_center(video)
    centers = cameras.centers.double()
    offset = centers - point
    distance = offset.norm(dim=-1).clamp(min=1e-12)
    directions = offset / distance[:, None]
    foot = centers + along[:, None] * cameras.forward.double()
    miss = (foot - point).norm(dim=-1) / distance
    scale = float(distance.median())
    chosen = torch.arange(len(cameras))
    if len(chosen) > MOST_COMPARED:
        chosen = torch.linspace(0, len(cameras) - 1, MOST_COMPARED).round().long()
    pairs = _pairs(directions[chosen], centers[chosen], cameras.forward.double()[chosen], 1e-5 * scale)
    places = len(np.unique(np.round((centers / max(scale, 1e-12)).numpy(), 5), axis=0))
    alone = int(pairs.nearest.argmax()) if len(cameras) > 1 else 0
    return Spread(
        widest=pairs.widest,
        neighbour=float(pairs.nearest.median()) if len(cameras) > 1 else 0.0,
        loneliest=float(pairs.nearest[alone]) if len(cameras) > 1 else 0.0,
        loneliest_view=int(chosen[alone]),
        miss=float(miss.median()),
        behind=tuple((along <= 0).nonzero().flatten().tolist()),
        distance=scale,
        twins=tuple((int(chosen[a]), int(chosen[b])) for a, b in pairs.twins[:MOST_TWINS]),
        places=places,
    )


class _Pairs(NamedTuple):
    nearest: Tensor  # [V] degrees to the nearest other view
    widest: float  # degrees
    twins: list[tuple[int, int]]


def _pairs(directions: Tensor, centers: Tensor, forward: Tensor, near: float) -> _Pairs:
    """All pairs of views [V, 3], some rows at a time: all at once are gigabytes for thousands of views."""
    nearest, widest, twins = list[Tensor](), 0.0, list[tuple[int, int]]()
    for rows in torch.arange(len(centers)).split(max(1, PAIRS_AT_ONCE // len(centers))):
        degrees = torch.rad2deg((directions[rows] @ directions.T).clamp(-1, 1).acos())
        degrees[torch.arange(len(rows)), rows] = math.inf
        nearest.append(degrees.amin(dim=1))
        widest = max(widest, float(degrees[degrees.isfinite()].max()) if degrees.isfinite().any() else 0.0)
        if len(twins) < MOST_TWINS:
            same = (torch.cdist(centers[rows], centers) < near) & (forward[rows] @ forward.T > 1 - 1e-9)
            found = same.triu(int(rows[0]) + 1).nonzero()
            twins += [(int(rows[a]), b) for a, b in found.tolist()]
    return _Pairs(torch.cat(nearest), widest, twins)


def thumbnail(frame: Frame, width: int, background: Tensor | None) -> Tensor:
    """One view at most `width` pixels wide: [h, w, 3] float in 0..1; masked parts over the background."""
    image = frame.image.numpy()
    if frame.mask is not None and background is not None:
        alpha = frame.mask.numpy()[..., None] / 255.0
        image = (image * alpha + 255 * background.numpy() * (1 - alpha)).round().astype(np.uint8)
    small = Image.fromarray(np.ascontiguousarray(image))
    small.thumbnail((width, image.shape[0]), Image.Resampling.BOX)
    return torch.tensor(np.asarray(small)).float() / 255
