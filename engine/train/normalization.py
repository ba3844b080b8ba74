"""The subject's box, and the normalized world in which its radius is one, so that learning rates do not depend on units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..capture.readers import scene_bounds
from ..errors import InputError
from ..scene import Cameras, Gaussians, MultiViewVideo
from ..scene.cameras import AT_ZERO, in_words
from ..scene.origins import is_near
from .initialization import carved_cells

# half the diagonal of the subject's box, in world units: its square must neither vanish nor overflow in float32
SMALLEST, LARGEST = 1e-12, 1e12


@dataclass(frozen=True)
class Normalization:
    """world = scale × normalized + center."""

    scale: float
    center: tuple[float, float, float]

    @staticmethod
    def of(bounds: Tensor) -> Normalization:
        """The box `bounds` [2, 3] gets its center at the origin and half its diagonal as length one.

        Raises InputError where float32 could not tell its places apart, or would overflow.
        """
        low, high = bounds.double()
        center, scale = (low + high) / 2, float((high - low).norm() / 2)
        if not SMALLEST <= scale <= LARGEST or bool(
            ((center - scale).float() == (center + scale).float()).any()
        ):
            corners = " ".join(f"{number:g}" for number in bounds.flatten().tolist())
            raise InputError(
                "TRN-010",
                f"The subject's box '{corners}' is too small, too large or too far from the origin to train in. Set bounds to "
                "the box around the subject, or scale and center the capture.",
            )
        x, y, z = center.tolist()
        return Normalization(scale, (x, y, z))

    def shrink(self, gaussians: Gaussians) -> Gaussians:
        """World → normalized."""
        center = torch.tensor(self.center).to(gaussians.means)
        log_scale = torch.tensor(self.scale, dtype=torch.float64).log().to(gaussians.means)
        return gaussians.with_(
            means=(gaussians.means - center) / self.scale, log_scales=gaussians.log_scales - log_scale
        )

    def grow(self, gaussians: Gaussians) -> Gaussians:
        """Normalized → world."""
        center = torch.tensor(self.center).to(gaussians.means)
        log_scale = torch.tensor(self.scale, dtype=torch.float64).log().to(gaussians.means)
        return gaussians.with_(
            means=gaussians.means * self.scale + center, log_scales=gaussians.log_scales + log_scale
        )

    def shrink_cameras(self, cameras: Cameras) -> Cameras:
        """The same images of the normalized world: rotations stay, translations move with it."""
        w2c = cameras.world_to_camera.double().clone()
        center = torch.tensor(self.center, dtype=torch.float64)
        w2c[:, :3, 3] = (w2c[:, :3, :3] @ center + w2c[:, :3, 3]) / self.scale
        return replace(cameras, world_to_camera=w2c, origin=AT_ZERO)


def subject_bounds(
    video: MultiViewVideo, views: tuple[int, ...], moments: Sequence[int], words: str = ""
) -> Tensor:
    """The box [2, 3] (float64, world units) that holds the subject at every frame of `moments`.

    Six numbers in `words` are a box in the coordinates of the capture's files. With masks in several views, silhouettes of up
    to five of these frames are carved; otherwise the capture's points or the cameras' common field of view decide.

    Raises InputError where `words` is not such a box.
    """
    if words.strip():
        return _placed(_parse(words), video)
    bounds = scene_bounds(video).double()
    if not video.has_masks:
        return bounds
    corners: list[Tensor] = []
    together = video.available[list(views)].sum(dim=0)
    busy = [moment for moment in moments if int(together[moment]) > 2]
    for index in torch.linspace(0, max(len(busy) - 1, 0), min(5, len(busy))).round().long().tolist():
        inside = carved_cells(video, views, busy[index], bounds, resolution=48)
        if len(inside) >= 8:
            corners += [inside.amin(0), inside.amax(0)]
    if not corners:
        return bounds
    stack = torch.stack(corners).double()
    low, high = stack.amin(0), stack.amax(0)
    margin = 0.05 * float((high - low).max()) + (bounds[1] - bounds[0]) / 47
    return torch.stack([low - margin, high + margin])


def _placed(box: Tensor, video: MultiViewVideo) -> Tensor:
    """A box of the files' coordinates in those of the cameras. InputError where it is none of theirs."""
    origin = video.cameras.origin
    if origin == AT_ZERO:
        return box
    if not is_near(box.mean(dim=0), origin):
        raise InputError(
            "TRN-038",
            f"bounds lies around ({', '.join(f'{c:.6g}' for c in box.mean(dim=0).tolist())}), but {video.name} around "
            f"{in_words(origin)}. Enter the box in the coordinates of the capture, with all their digits.",
        )
    return box - torch.tensor(origin, dtype=torch.float64)


def _parse(words: str) -> Tensor:
    try:
        numbers = [float(word) for word in words.replace(",", " ").split()]
    except ValueError:
        numbers = []
    box = torch.tensor(numbers, dtype=torch.float64)
    if len(numbers) != 6 or not bool(torch.isfinite(box).all()) or not bool((box[:3] < box[3:]).all()):
        raise InputError(
            "TRN-011",
            f"bounds is '{words}'; enter six numbers 'x0 y0 z0 x1 y1 z1', the minimum corner first.",
        )
    return box.reshape(2, 3)
