"""A map of colors that gives images the color statistics of other images of the same views.

Per-channel means and deviations (Reinhard et al. 2001), or the covariance alone, fix the size of an ellipsoid of colors, but not
which color goes where: a red that became orange stays orange. Where both images show the same pixels, the covariance between
them is known too, and the affine map follows from it by least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# color variance below which the map tends to change nothing but the mean
SMOOTHING = 1e-4


@dataclass(frozen=True, eq=False)
class ColorMap:
    """An affine map of colors: x ↦ x · matrix + offset.

    Args:
        matrix: [3, 3] in float64.
        offset: [3] in float64.
    """

    matrix: Tensor
    offset: Tensor

    def __call__(self, colors: Tensor) -> Tensor:
        """Colors [..., 3], not clamped."""
        matrix, offset = (t.to(colors.device) for t in (self.matrix, self.offset))
        return (colors.double() @ matrix + offset).to(colors.dtype)


def color_map(images: Tensor, reference: Tensor, weights: Tensor) -> ColorMap:
    """The map that gives images the color statistics of a reference that shows the same pixels.

    After it, both have the same weighted mean. The map is the one of least squares, pulled toward changing nothing where the
    images have too few colors to tell. Gray images with a gray reference stay gray.

    Args:
        images: [F, H, W, 3].
        reference: [F, H, W, 3].
        weights: [F, H, W] ≥ 0, how much each pixel counts.

    Returns:
        The map; the identity where no pixel counts.
    """
    w = weights.reshape(-1, 1).double()
    total = w.sum()
    eye = torch.eye(3, dtype=torch.float64, device=images.device)
    if not bool(total > 0):
        return ColorMap(eye, torch.zeros_like(eye[0]))
    colors, wanted = (t.reshape(-1, 3).double() for t in (images, reference))
    mean, wanted_mean = ((w * t).sum(dim=0) / total for t in (colors, wanted))
    away = w * (colors - mean)
    covariance, crossed = away.T @ (colors - mean) / total, away.T @ (wanted - wanted_mean) / total
    matrix = torch.linalg.solve(covariance + SMOOTHING * eye, crossed + SMOOTHING * eye)
    return ColorMap(matrix, wanted_mean - mean @ matrix)
