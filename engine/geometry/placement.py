"""Gaussians from elsewhere in the frame of canonical Gaussians: z up, in a box from −0.5 to 0.5, without floaters.

Source: the frame of TRELLIS (Xiang et al., CVPR 2025) and GVFDiffusion (Zhang et al., ICCV 2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..scene import Gaussians, harmonics, rotations
from .boxes import percentile_box

# Gaussians that a canonical splat may have: the generators make at most about one million
MOST = 2_000_000
# opacity below which a Gaussian does not count for the box
VISIBLE = 0.02

# turns that bring an up axis to z, with their words; x stays in place
TURNS = {"z up": 0.0, "y up": 90.0, "y down": -90.0}


@dataclass(frozen=True)
class BoxSides:
    """Which sizes of a canonical splat are left as they are, and the size that others get.

    Args:
        least: Shortest longest side of the splat, in world units.
        most: Side of the box about the origin that contains the splat.
        wanted: Longest side of a splat that is resized.
    """

    least: float = 0.4
    most: float = 1.02
    wanted: float = 1.0


class Placed(NamedTuple):
    """Canonical Gaussians, and what was done to get them."""

    gaussians: Gaussians
    floaters: int  # removed
    scale: float  # factor on sizes
    shift: Tensor  # [3] added after scaling, in world units
    side: float = 1.0  # of the box that it was made to fit

    @property
    def is_resized(self) -> bool:
        """Whether scale or shift changed anything."""
        return self.scale != 1 or bool(self.shift.any())

    @property
    def note(self) -> str:
        """What was changed; empty where nothing was."""
        words = [f"{self.floaters} floaters removed"] if self.floaters else []
        if self.is_resized:
            words.append(f"scaled by {self.scale:.3g} and centered to fit a box of side {self.side:g}")
        return "; ".join(words)


def turned(gaussians: Gaussians, matrix: Tensor) -> Gaussians:
    """Gaussians turned about the origin, view-dependent colors included; quaternions keep their lengths.

    Args:
        gaussians: N Gaussians.
        matrix: Rotation [3, 3].
    """
    quat = rotations.matrices_to_quats(matrix.double()).to(gaussians.quats)
    return gaussians.with_(
        means=(gaussians.means.double() @ matrix.to(gaussians.means.device).double().T).to(gaussians.means),
        quats=rotations.multiply(quat.expand(len(gaussians), 4), gaussians.quats),
        sh=harmonics.turned(gaussians.sh, matrix),
    )


def about_z(degrees: float) -> Tensor:
    """Rotation [3, 3] (float64) about z, counterclockwise seen from above."""
    return rotations.axis_angles_to_matrices(
        torch.tensor([0.0, 0.0, math.radians(degrees)], dtype=torch.float64)
    ).double()


def upright(gaussians: Gaussians, up: str) -> Gaussians:
    """Gaussians with z up.

    Args:
        gaussians: N Gaussians.
        up: Their up axis, one of TURNS. "y up" is turned by 90° about x, "y down" by −90°; "z up" is returned as it is.
    """
    if up == "z up":
        return gaussians
    return turned(gaussians, to_z_up(up))


def to_z_up(up: str) -> Tensor:
    """Rotation [3, 3] (float64) about x from an up axis, one of TURNS, to z up."""
    angle = torch.tensor([math.radians(TURNS[up]), 0.0, 0.0], dtype=torch.float64)
    return rotations.axis_angles_to_matrices(angle).double()


def moved(gaussians: Gaussians, scale: float, shift: Tensor) -> Gaussians:
    """Gaussians scaled about the origin, then shifted by [3] in world units."""
    return gaussians.with_(
        means=gaussians.means * scale + shift.to(gaussians.means),
        log_scales=gaussians.log_scales + math.log(scale),
    )


def checked(gaussians: Gaussians) -> Gaussians:
    """The Gaussians themselves.

    Raises:
        InputError: There are none or too many, or values are NaN or infinite.
    """
    count = len(gaussians)
    if count == 0:
        raise InputError("GEO-001", "The splat does not contain Gaussians; connect one that does.")
    if count > MOST:
        raise InputError(
            "GEO-002",
            f"The splat has {count:,} Gaussians, more than the {MOST:,} that are taken for one object; export it with fewer, "
            "or crop it to the object.",
        )
    for name, tensor in gaussians.tensors().items():
        bad = int((~torch.isfinite(tensor)).reshape(count, -1).any(1).sum())
        if bad:
            raise InputError(
                "GEO-003",
                f"The {name.replace('_', ' ')} of {bad:,} of {count:,} Gaussians are NaN or infinite; clean the splat in the "
                "program that made it.",
            )
    return gaussians


def canonical(
    gaussians: Gaussians,
    up: str = "z up",
    removes_floaters: bool = True,
    resizes: bool = True,
    sides: BoxSides = BoxSides(),
) -> Placed:
    """Canonical Gaussians of any splat of one object.

    A splat that is already upright and of the right size keeps its values bit for bit, except for floaters that are left
    out. Quaternions get w ≥ 0: networks take them relative to the identity.

    Args:
        gaussians: N Gaussians.
        up: Their up axis, one of TURNS.
        removes_floaters: Leave out Gaussians far outside of the others, or larger than half of the object.
        resizes: Scale and center a splat that does not fill the box, or not only the box.
        sides: Which box.

    Raises:
        InputError: No Gaussians, too many, NaN or infinite values, or all in one point.
    """
    gaussians = upright(checked(gaussians), up)
    gaussians = gaussians.with_(
        quats=torch.where(gaussians.quats[:, :1] < 0, -gaussians.quats, gaussians.quats)
    )
    keep = ~floaters(gaussians)
    removed = int((~keep).sum()) if removes_floaters else 0
    if removed:
        gaussians = gaussians.map(lambda t: t[keep])
    body = gaussians.means if removed or not removes_floaters else gaussians.means[keep]
    low, high = body.double().amin(0), body.double().amax(0)
    side = float((high - low).max())
    if not side > 1e-9:
        raise InputError(
            "GEO-004", "All Gaussians of the splat lie in one point; export it again with its positions."
        )
    is_in_place = 2 * float(torch.maximum(-low, high).max()) <= sides.most and side >= sides.least
    if is_in_place or not resizes:
        return Placed(gaussians, removed, 1.0, torch.zeros(3))
    scale = sides.wanted / side
    shift = -scale * (low + high).float() / 2
    return Placed(moved(gaussians, scale, shift), removed, scale, shift, sides.wanted)


def floaters(gaussians: Gaussians) -> Tensor:
    """Which Gaussians [N] (bool) lie far outside of the others or are far too large.

    The body is the box of 98 % of the visible Gaussians on each axis; what is farther from it than half of its longest
    side, or has a standard deviation of more than that, is a floater.
    """
    a = gaussians.activated()
    visible = a.opacities > VISIBLE
    means = a.means[visible] if bool(visible.any()) else a.means
    low, high = percentile_box(means, interpolate=True).to(a.means)
    reach = (high - low).max() / 2
    outside = ((a.means < low - reach) | (a.means > high + reach)).any(1)
    return (outside | (a.scales.max(1).values > reach)) & (reach > 0)
