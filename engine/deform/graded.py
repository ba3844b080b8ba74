"""A color grade of a deformation that changes colors over time."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..color import ColorTable, graded_sh
from ..color.recolor import Recoloring
from ..errors import InputError
from ..finite import is_finite
from ..scene.gaussians import Gaussians
from ..scene.scene4d import Deformation, Static
from .frozen_appearance import FrozenAppearance
from .per_frame import PerFrame

# entries along a side of the stored grade; each side of a file's larger lattice counts up to MOST
FEWEST, MOST = 33, 65
# entries for colors above 1, whose inverses are evenly spaced; the last is at BRIGHTEST
ABOVE, BRIGHTEST = 16, 256.0
DEEPEST = 8


class Graded:
    """The inner deformation, whose color changes become those of the graded colors.

    The canonical Gaussians are graded already. `before` are their coefficients as they were: what the inner deformation makes of
    them is graded at each time, and its difference from the graded canonical colors is added.

    Args:
        inner: The deformation of the ungraded scene.
        table: The grade as a lattice [S, S, S, 3], whose inputs are `lattice_inputs(S, above)`.
        before: [N, K, 3] ungraded canonical coefficients.
        weights: [N] in 0..1, how much of the grade each Gaussian takes.
        above: Entries along each side for colors above 1; 0 takes those for 1, as older files do.
    """

    kind: ClassVar[str] = "graded"

    def __init__(
        self, inner: Deformation, table: ColorTable, before: Tensor, weights: Tensor, above: int = 0
    ) -> None:
        self.inner, self.table, self.before, self.weights = inner, table, before, weights
        self.above = above

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        """The Gaussians at a time. Raises InputError where their number has changed."""
        if len(gaussians) != len(self.before):
            raise InputError(
                "GRD-009",
                f"This scene's color grade is stored for {len(self.before)} Gaussians, but there are {len(gaussians)}. Another "
                "program changed their number, or the file is damaged; load the scene as it was saved here.",
            )
        moved = self.inner.deform(gaussians.with_(sh=self.before), seconds)
        change = graded_sh(moved.sh, self.recolored, self.weights) - self._after
        # bases that the canonical Gaussians gained or lost since
        change = torch.nn.functional.pad(change, (0, 0, 0, gaussians.sh.shape[1] - change.shape[1]))
        return moved.with_(sh=gaussians.sh + change)

    @cached_property
    def _after(self) -> Tensor:
        return graded_sh(self.before, self.recolored, self.weights)

    def recolored(self, colors: Tensor) -> Tensor:
        """Colors [M, 3] ≥ 0 through the lattice."""
        if not self.above:
            return self.table.apply(colors)
        inputs = lattice_inputs(self.table.size, self.above).to(colors)
        last = len(inputs) - 1
        first = (torch.bucketize(colors.detach().contiguous(), inputs, right=True) - 1).clamp(0, last - 1)
        place = first + (colors - inputs[first]) / (inputs[first + 1] - inputs[first])
        return self.table.apply(place / last)

    def config(self) -> dict[str, Any]:
        return {"inner": {"kind": self.inner.kind, "config": self.inner.config()}, "above": self.above}

    def tensors(self) -> dict[str, Tensor]:
        inner = {f"inner.{name}": t for name, t in self.inner.tensors().items()}
        return {"table": self.table.values, "before": self.before, "weights": self.weights, **inner}

    def to(self, device: torch.device | str) -> Graded:
        table = ColorTable.lattice(self.table.values.to(device))
        return Graded(
            self.inner.to(device), table, self.before.to(device), self.weights.to(device), self.above
        )

    def take(self, index: Tensor) -> Graded:
        """The same grade of Gaussians `index` [M]."""
        at = index.to(self.before.device)
        return Graded(self.inner.take(index), self.table, self.before[at], self.weights[at], self.above)

    def trainable(self) -> Deformation | None:
        return self.inner.trainable()

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Graded:
        """Raises InputError where a part is missing or does not fit the others."""
        # imported here because KINDS lists this class
        from . import KINDS

        inner = config.get("inner")
        kind = str(inner.get("kind")) if isinstance(inner, dict) else ""
        table, before, weights = (tensors.get(name) for name in ("table", "before", "weights"))
        if inner is None or kind not in KINDS or table is None or before is None or weights is None:
            raise InputError(
                "GRD-010",
                "The scene's color grade lacks a part; the file is damaged or from a newer version.",
            )
        side = table.shape[0] if table.ndim else 0
        above = config.get("above", 0)
        fits = type(above) is int and 0 <= above <= ABOVE and 2 <= side - above <= MOST
        fits = fits and table.shape == (side, side, side, 3) and before.ndim == 3
        fits = (
            fits
            and before.shape[1] in (1, 4, 9, 16)
            and before.shape[2] == 3
            and weights.shape == before.shape[:1]
        )
        if not fits or not all(t.is_floating_point() and is_finite(t) for t in (table, before, weights)):
            raise InputError(
                "GRD-013",
                f"The parts of the scene's color grade do not belong together ({tuple(table.shape)}, {tuple(before.shape)}, "
                f"{tuple(weights.shape)}); the file is damaged.",
            )
        parts = {name.removeprefix("inner."): t for name, t in tensors.items() if name.startswith("inner.")}
        made = KINDS[kind].from_parts(dict(inner.get("config", {})), parts)
        return cls(made, ColorTable.lattice(table), before, weights, above)


def graded_deformation(
    deformation: Deformation,
    canonical: Gaussians,
    seconds: float,
    grade: Recoloring,
    size: int,
    weights: Tensor,
) -> Deformation:
    """The deformation of a scene whose canonical colors are graded, so that every time is graded.

    Args:
        deformation: The ungraded scene's.
        canonical: Its N Gaussians.
        seconds: Any time of the scene.
        grade: Colors [M, 3] to graded colors.
        size: Entries along each side of the stored lattice for colors in 0..1, where one is needed; see `FEWEST` and `MOST`.
        weights: [N] in 0..1, how much of the grade each Gaussian takes.

    Returns:
        Itself where it leaves colors alone. Changes that are stored per frame are graded frame by frame.

    Raises:
        InputError: The scene was graded too often.
    """
    if isinstance(deformation, Static | FrozenAppearance):
        return deformation
    if isinstance(deformation, PerFrame):
        return _frames_graded(deformation, canonical.sh, grade, weights)
    # a deformation that leaves colors alone passes the tensor on
    if deformation.deform(canonical, seconds).sh is canonical.sh:
        return deformation
    depth, inner = 1, deformation
    while isinstance(inner, Graded):
        depth, inner = depth + 1, inner.inner
    if depth > DEEPEST:
        raise InputError(
            "GRD-011",
            f"The colors of this scene change over time and were graded {DEEPEST} times already; grade the scene as it was "
            "before, with all changes in one Grade Scene.",
        )
    inputs = lattice_inputs(min(max(size, FEWEST), MOST) + ABOVE, ABOVE).to(canonical.sh)
    plain = torch.stack(torch.meshgrid([inputs] * 3, indexing="ij"), dim=-1)
    lattice = ColorTable.lattice(grade(plain.reshape(-1, 3)).view_as(plain))
    return Graded(deformation, lattice, canonical.sh, weights, ABOVE)


def lattice_inputs(side: int, above: int) -> Tensor:
    """The colors [side] of the entries along a side of a stored lattice: evenly over 0..1, and `above` more up to BRIGHTEST."""
    brighter = 1 / (1 - torch.arange(1, above + 1) / max(above, 1)).clamp(min=1 / BRIGHTEST)
    return torch.cat([torch.linspace(0, 1, side - above), brighter])


def _frames_graded(motion: PerFrame, sh: Tensor, grade: Recoloring, weights: Tensor) -> PerFrame:
    """The same motion with changes of the graded colors, in the precision that they are stored in."""
    changes = motion.changes.get("sh")
    if changes is None:
        return motion
    after = graded_sh(sh, grade, weights)
    is_kept = (weights == 0)[:, None, None]
    made = torch.empty_like(changes)
    for frame, change in enumerate(changes):
        graded = graded_sh(sh + change.to(sh), grade, weights) - after
        made[frame] = torch.where(is_kept, change, graded.to(change))
    return PerFrame(motion.seconds, {**motion.changes, "sh": made}, motion.blends)
