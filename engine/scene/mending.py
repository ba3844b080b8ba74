"""Gaussians of other programs whose numbers are infinite or NaN, brought to what they mean."""

from __future__ import annotations

import torch
from torch import Tensor

from ..finite import is_finite
from .gaussians import Gaussians

# logit of an opacity of 1 - 1e-6, and log of a scale of 1e-12: the limits of `Gaussians.from_activated`
OPAQUE, FLAT = 13.8, -27.6


def mended(moments: list[Gaussians]) -> tuple[list[Gaussians], str]:
    """Replace infinite opacities and scales, and drop Gaussians that contain NaN or lie at infinity.

    An opacity logit of +inf means opaque, of -inf transparent; a log scale of -inf means flat.

    Args:
        moments: T frames. Of frames with equal counts a Gaussian is dropped in all of them, so that indices still agree.

    Returns:
        The frames, and a sentence about dropped Gaussians ("" if there are none).
    """
    clamped = [_clamped(g) for g in moments]
    keep = [_are_finite(g) for g in clamped]
    if all(bool(rows.all()) for rows in keep):
        return clamped, ""
    count = sum(int((~rows).sum()) for rows in keep)
    if len({len(rows) for rows in keep}) == 1:
        everywhere = torch.stack(keep).all(dim=0)
        keep, count = [everywhere] * len(keep), int((~everywhere).sum())
    made = [g.map(lambda t, rows=rows: t[rows]) for g, rows in zip(clamped, keep, strict=True)]
    noun = "Gaussian was" if count == 1 else "Gaussians were"
    return made, f"{count:,} {noun} left out: NaN or infinite values."


def _clamped(g: Gaussians) -> Gaussians:
    opacities, scales = g.logit_opacities, g.log_scales
    if not bool(torch.isinf(opacities).any() | torch.isneginf(scales).any()):
        return g
    nan = float("nan")
    return g.with_(
        logit_opacities=opacities.nan_to_num(nan=nan, posinf=OPAQUE, neginf=-OPAQUE),
        log_scales=scales.nan_to_num(nan=nan, posinf=float("inf"), neginf=FLAT),
    )


def _are_finite(g: Gaussians) -> Tensor:
    """[N], whether all numbers of a Gaussian are finite."""
    # nearly always, and asked so without a copy of anything
    if all(is_finite(tensor) for tensor in g.tensors().values()):
        return torch.ones(len(g), dtype=torch.bool, device=g.device)
    flat = [torch.isfinite(t[:, None]).flatten(1).all(dim=1) for t in g.tensors().values()]
    return torch.stack(flat).all(dim=0)
