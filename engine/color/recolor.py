"""Spherical harmonics of graded colors.

A grade is not linear, so no factor on the coefficients gives its result in all directions. The colors that a Gaussian shows in
evenly spread directions are graded, and their changes are fitted with the same bases by least squares. A color that is
the same in all directions becomes exactly the graded color.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..scene import harmonics

# values at once: the directions of many Gaussians would take gigabytes
AT_ONCE = 1 << 21
Recoloring = Callable[[Tensor], Tensor]


def graded_sh(sh: Tensor, grade: Recoloring, weights: Tensor | None = None) -> Tensor:
    """The coefficients [N, K, 3] after a grade of the colors that they show. Differentiable.

    Args:
        sh: Coefficients [N, K, 3].
        grade: Colors [M, 3] ≥ 0 to colors [M, 3].
        weights: [N] in 0..1, how much of the change each Gaussian takes; None: all of it.

    Returns:
        Coefficients [N, K, 3]; those of a Gaussian whose colors do not change are the same bits.
    """
    degree = harmonics.degree_of(sh.shape[1])
    directions = harmonics.spread(_directions(degree))
    basis = harmonics.basis(directions, degree)
    inverse = torch.linalg.pinv(basis).to(sh)
    basis = basis.to(sh)
    rows = max(1, AT_ONCE // (3 * len(basis)))
    parts = [
        _graded(part, grade, basis, inverse, None if weights is None else weights[i * rows : (i + 1) * rows])
        for i, part in enumerate(sh.split(rows))
    ]
    return torch.cat(parts) if parts else sh


def _graded(sh: Tensor, grade: Recoloring, basis: Tensor, inverse: Tensor, weights: Tensor | None) -> Tensor:
    seen = torch.einsum("sk,nkc->nsc", basis, sh) + 0.5
    # renderers clamp colors below
    shown = seen.clamp(min=0)
    made = grade(shown.reshape(-1, 3)).view_as(shown)
    change = torch.where(made == shown, 0, made - seen)
    if weights is not None:
        change = change * weights.to(change)[:, None, None]
    is_changed = (change != 0).flatten(1).any(dim=1)
    return torch.where(is_changed[:, None, None], sh + torch.einsum("ks,nsc->nkc", inverse, change), sh)


def _directions(degree: int) -> int:
    """How many directions determine the bases of a degree, with some to spare."""
    return 1 if degree == 0 else harmonics.bases(degree) + 4
