"""The view of canonical Gaussians that a video's frame shows: azimuth, elevation, scale and shift.

Source: GVFDiffusion (Zhang et al., ICCV 2025), released code: renders at every degree of azimuth, rescaled by the ratio of
the silhouettes, are compared with the first frame. What differs: the sweep goes from coarse to fine, elevation is searched
too, silhouettes are compared by area and centroid, and structural similarity takes the place of CLIP where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..losses.photometric import ssim
from ..render import Rasterizer, RasterSettings, render_gaussians
from ..scene import Cameras, Gaussians
from ..scene.rigs import ORBIT_FIELD_OF_VIEW, ORBIT_RADIUS, orbit_pose

# degrees between the views of the first sweep, and steps of the search from there; the last ones for the best view alone
COARSE_AZIMUTH, COARSE_ELEVATION = 12.0, 15.0
STEPS, LAST_STEPS = (6.0, 3.0, 1.0), (1.0, 0.5, 0.25)
# candidates are at least this many degrees apart
APART = 20.0
CANDIDATES = 6
# weight of 1 − SSIM and of 1 − CLIP similarity beside L1
SIMILARITY = 0.2
# a runner-up whose score is at most this much worse is as good
TIE, TIE_MARGIN = 1.05, 5e-4
# views rendered at once
BATCH = 12
# corrections of scale and shift before a view is scored: at first sight, and next to a view that is known
FIRST_ROUNDS, NEXT_ROUNDS = 2, 1
# and of the best view, at the target's own size: at small sizes, the rasterizer's blur widens silhouettes
LAST_ROUNDS = 4
# size of the images of the last steps, in pixels
LAST_PIXELS = 256
WHITE = torch.ones(3)
# the variance of a pixel: more would widen silhouettes, above all of small images
SETTINGS = RasterSettings(eps2d=1 / 12)


@dataclass(frozen=True)
class ObjectView:
    """How a camera sees an object in the middle of its orbit.

    Scale and shift are those of the image, as of a crop: they move no camera, so perspective stays what it is.

    Args:
        azimuth: Degrees by which the camera goes around the object, counterclockwise from above.
        elevation: Degrees above the horizon.
        scale: Factor on the image, about its middle.
        right: Shift of the image, in world units at the orbit's radius.
        up: The same upward.
    """

    azimuth: float
    elevation: float = 0.0
    scale: float = 1.0
    right: float = 0.0
    up: float = 0.0

    def intrinsics(self, pixels: int) -> Tensor:
        """K [3, 3] (float64) of the camera, for square images."""
        focal = focal_length(pixels)
        x, y = (pixels / 2 + focal / ORBIT_RADIUS * shift for shift in (self.right, -self.up))
        wide = self.scale * focal
        return torch.tensor([[wide, 0, x], [0, wide, y], [0, 0, 1]], dtype=torch.float64)


def focal_length(pixels: int) -> float:
    """Focal length in pixels of the orbit's cameras, for square images."""
    return pixels / 2 / math.tan(math.radians(ORBIT_FIELD_OF_VIEW) / 2)


@dataclass(frozen=True, eq=False)
class Target:
    """A square image of the object that is looked for: [P, P, 3] over white, and coverage [P, P]."""

    image: Tensor
    alpha: Tensor

    def at(self, pixels: int) -> Target:
        """The same at another size."""
        both = torch.cat([self.image, self.alpha[..., None]], dim=-1).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(
            both, (pixels, pixels), mode="bilinear", antialias=True, align_corners=False
        )[0].permute(1, 2, 0)
        return Target(small[..., :3].clamp(0, 1), small[..., 3].clamp(0, 1))


@dataclass(frozen=True, eq=False)
class Candidate:
    """A view and how well it fits: L1 + 0.2 (1 − SSIM), lower is better; and its render [P, P, 3]."""

    view: ObjectView
    score: float
    image: Tensor


@dataclass(frozen=True, eq=False)
class Alignment:
    """Candidates, best first, and the best score of the first sweep at each azimuth [A]."""

    candidates: tuple[Candidate, ...]
    sweep: Tensor

    @property
    def ties(self) -> tuple[int, ...]:
        """Indices of the runners-up that fit as well as the best."""
        limit = TIE * self.candidates[0].score + TIE_MARGIN
        return tuple(i for i, c in enumerate(self.candidates) if i and c.score <= limit)

    @property
    def is_symmetric(self) -> bool:
        """Whether the object looks alike from all sides."""
        low, high = float(self.sweep.min()), float(self.sweep.max())
        return len(self.sweep) > 1 and high <= 1.15 * low + TIE_MARGIN


class ViewSearch:
    """Finds how a target image sees Gaussians.

    Args:
        gaussians: N canonical Gaussians, z up, in a box from −0.5 to 0.5.
        target: The image.
        rasterizer: From `choose`.
        pixels: Side of the images that are compared.
    """

    def __init__(
        self, gaussians: Gaussians, target: Target, rasterizer: Rasterizer, pixels: int = 128
    ) -> None:
        self.gaussians, self.target, self.rasterizer, self.pixels = gaussians, target, rasterizer, pixels
        small = target.at(pixels)
        self.image, self.alpha = small.image.to(gaussians.means), small.alpha.to(gaussians.means)
        self._area, self._center = (x[0] for x in moments(self.alpha[None]))

    @torch.no_grad()
    def render(self, views: Sequence[ObjectView]) -> tuple[Tensor, Tensor]:
        """Images [B, P, P, 3] over white and coverage [B, P, P]."""
        images: list[Tensor] = []
        alphas: list[Tensor] = []
        for first in range(0, len(views), BATCH):
            part = views[first : first + BATCH]
            cameras = Cameras(
                torch.stack([orbit_pose(view.azimuth, view.elevation) for view in part]),
                torch.stack([view.intrinsics(self.pixels) for view in part]),
                ((self.pixels, self.pixels),) * len(part),
                tuple(str(i) for i in range(len(part))),
            )
            drawn = render_gaussians(self.gaussians, cameras, self.rasterizer, WHITE, settings=SETTINGS)
            images.append(drawn.rgb.clamp(0, 1))
            alphas.append(drawn.alpha)
        return torch.cat(images), torch.cat(alphas)

    def scored(self, views: Sequence[ObjectView], rounds: int) -> list[Candidate]:
        """Fit scale and shift of each view, and compare it with the target.

        Args:
            views: Views to start from.
            rounds: Corrections of scale and shift.
        """
        views = list(views)
        for _ in range(rounds):
            views = self._corrected(views)
        images, _ = self.render(views)
        wanted = self.image.permute(2, 0, 1)[None].expand(len(views), -1, -1, -1)
        shown = images.permute(0, 3, 1, 2)
        scores = (shown - wanted).abs().flatten(1).mean(1) + SIMILARITY * (1 - ssim(shown, wanted))
        return [Candidate(*each) for each in zip(views, scores.tolist(), images.cpu(), strict=True)]

    def fitted(self, view: ObjectView, rounds: int) -> ObjectView:
        """The view with scale and shift so that silhouettes agree in area and centroid."""
        for _ in range(rounds):
            [view] = self._corrected([view])
        return view

    def _corrected(self, views: Sequence[ObjectView]) -> list[ObjectView]:
        """Views whose silhouettes have the target's area and centroid, apart from what the rasterizer blurs."""
        areas, centers = moments(self.render(views)[1])
        world = ORBIT_RADIUS / focal_length(self.pixels)
        fitted: list[ObjectView] = []
        for view, area, center in zip(views, areas.tolist(), centers.tolist(), strict=True):
            if area < 1:
                # out of sight: start again in the middle
                fitted.append(ObjectView(view.azimuth, view.elevation))
                continue
            factor = min(max(math.sqrt(float(self._area) / area), 0.4), 2.5)
            # relative to the principal point, which is what scaling leaves in place
            x = (center[0] - self.pixels / 2) * world - view.right
            y = (self.pixels / 2 - center[1]) * world - view.up
            right = (float(self._center[0]) - self.pixels / 2) * world - factor * x
            up = (self.pixels / 2 - float(self._center[1])) * world - factor * y
            fitted.append(replace(view, scale=view.scale * factor, right=right, up=up))
        return fitted

    def sweep(self, azimuths: Sequence[float], elevations: Sequence[float]) -> list[Candidate]:
        """Every azimuth at every elevation, in this order."""
        views = [ObjectView(azimuth, elevation) for azimuth in azimuths for elevation in elevations]
        return self.scored(views, FIRST_ROUNDS)

    def refined(
        self,
        start: Candidate,
        steps: Sequence[float],
        max_elevation: float,
        reach: float = 360.0,
        rounds: int = NEXT_ROUNDS,
    ) -> Candidate:
        """The best view near another one: neighbors at each of the `steps` in degrees, as long as one is better.

        Args:
            start: Where the search starts.
            steps: Distances of the neighbors, in degrees, large to small.
            max_elevation: Largest elevation above and below the horizon.
            reach: Largest distance from `start`, in degrees.
            rounds: Corrections of scale and shift of each neighbor.
        """
        best = self.scored([start.view], rounds)[0]
        for step in steps:
            for _ in range(8):
                moves = [(a, e) for a in (-step, 0, step) for e in (-step, 0, step) if (a, e) != (0, 0)]
                near = [
                    replace(best.view, azimuth=best.view.azimuth + a, elevation=best.view.elevation + e)
                    for a, e in moves
                    if (max_elevation or not e) and abs(best.view.elevation + e) <= max_elevation + 1e-6
                ]
                near = [view for view in near if _distance(view, start.view) <= reach]
                found = min(self.scored(near, rounds), key=lambda c: c.score) if near else best
                if found.score >= best.score:
                    break
                best = found
        return best


def moments(alphas: Tensor) -> tuple[Tensor, Tensor]:
    """Areas [B] in pixels and centroids [B, 2] (x, y) of silhouettes [B, H, W]."""
    alphas = alphas.double()
    area = alphas.flatten(1).sum(1)
    rows, columns = (torch.arange(n, device=alphas.device) + 0.5 for n in alphas.shape[1:])
    x, y = (alphas.sum(1) * columns).sum(1), (alphas.sum(2) * rows).sum(1)
    return area, torch.stack([x, y], dim=-1) / area.clamp(min=1e-9)[:, None]


def align(
    search: ViewSearch, max_elevation: float, similarity: Callable[[Tensor], Tensor] | None = None
) -> Generator[int, None, Alignment]:
    """Find the view of the target.

    Args:
        search: The Gaussians and the target.
        max_elevation: Elevations that are searched, in degrees above and below the horizon; 0: the horizon alone, as in the
            paper.
        similarity: CLIP similarity [B] of images [B, P, P, 3] to the target; None: without CLIP.

    Yields:
        Finished units, of `units`.

    Returns:
        Candidates at least 20° apart, best first, with azimuths from −180 to 180.
    """
    sharp, sharpest = (
        ViewSearch(search.gaussians, search.target, search.rasterizer, max(search.pixels, pixels))
        for pixels in (LAST_PIXELS, len(search.target.image))
    )
    count = round(360 / COARSE_AZIMUTH)
    rings = math.floor(max_elevation / COARSE_ELEVATION)
    elevations = [COARSE_ELEVATION * ring for ring in range(-rings, rings + 1)]
    found: list[Candidate] = []
    for i in range(count):
        found += search.sweep([COARSE_AZIMUTH * i], elevations)
        yield i + 1
    scores = torch.tensor([c.score for c in found]).view(count, len(elevations))
    candidates: list[Candidate] = []
    for number, start in enumerate(_apart(found, CANDIDATES)):
        # not as far as the next candidate: runners-up stay what they are
        candidates.append(search.refined(start, STEPS, max_elevation, APART / 2))
        yield count + number + 1
    if similarity is not None:
        alike = similarity(torch.stack([c.image for c in candidates])).tolist()
        candidates = [
            replace(c, score=c.score + SIMILARITY * (1 - s)) for c, s in zip(candidates, alike, strict=True)
        ]
    candidates.sort(key=lambda c: c.score)
    first = candidates[0]
    view = sharp.refined(search.refined(first, STEPS, max_elevation), LAST_STEPS, max_elevation).view
    # the gain at the size at which runners-up were scored; where CLIP has a part in the score, it keeps it
    before, after = (c.score for c in search.scored([first.view, view], NEXT_ROUNDS))
    best = replace(
        first, view=sharpest.fitted(view, LAST_ROUNDS), score=first.score + min(after - before, 0.0)
    )
    others = [c for c in candidates[1:] if _distance(c.view, best.view) >= APART]
    yield units()
    wrapped = (replace(c, view=replace(c.view, azimuth=wrap(c.view.azimuth))) for c in (best, *others))
    return Alignment(tuple(wrapped), scores.min(1).values)


def units() -> int:
    """Units of progress of `align`."""
    return round(360 / COARSE_AZIMUTH) + CANDIDATES + 1


def wrap(degrees: float) -> float:
    """An angle from −180 (included) to 180."""
    return (degrees + 180) % 360 - 180


def _apart(candidates: Sequence[Candidate], most: int) -> list[Candidate]:
    """The best candidates that are far enough from each better one."""
    chosen: list[Candidate] = []
    for each in sorted(candidates, key=lambda c: c.score):
        if len(chosen) == most:
            break
        if all(_distance(each.view, other.view) >= APART for other in chosen):
            chosen.append(each)
    return chosen


def _distance(a: ObjectView, b: ObjectView) -> float:
    return max(abs(wrap(a.azimuth - b.azimuth)), abs(a.elevation - b.elevation))
