"""Gaussians of any scene as a variation field takes them, and decoded changes brought back to the scene.

The frame is that of GVFDiffusion (Zhang et al., ICCV 2025): z up, in a box from −0.5 to 0.5, quaternions near the identity's
half. The scene's own Gaussians stay as they are, bit for bit; only the changes are converted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..geometry.placement import BoxSides, canonical, moved, to_z_up, upright
from ..models.trellis import RawGaussians
from ..models.variation_field import canonical_changes
from ..scene import Gaussians, rotations

# lengths of quaternions that are left as they are, since TRELLIS' own vary around 1; others become 1
LENGTHS = (0.5, 2.0)


@dataclass(frozen=True, eq=False)
class ModelSpace:
    """A scene's Gaussians in the model's frame, and the way back.

    Args:
        raw: The N Gaussians in the model's frame.
        bases: SH bases of the scene's Gaussians.
        quat_factors: Factor [N, 1] from the scene's quaternions to the model's.
        up: Up axis of the scene.
        scale: Factor from the scene's units to the model's.
        note: What was changed; empty where nothing was.
    """

    raw: RawGaussians
    bases: int
    quat_factors: Tensor
    up: str
    scale: float
    note: str

    @staticmethod
    def of(gaussians: Gaussians, up: str = "z up", sides: BoxSides = BoxSides()) -> ModelSpace:
        """Bring Gaussians to the model's frame.

        Args:
            gaussians: N Gaussians of one object.
            up: Their up axis, one of `placement.TURNS`.
            sides: Sizes that the model knows.

        Raises:
            InputError: No Gaussians, too many, NaN or infinite values, or all in one point.
        """
        # floaters do not count for the box, but stay in the scene
        placed = canonical(gaussians, up, sides=sides)
        body = upright(gaussians, up)
        if placed.is_resized:
            body = moved(body, placed.scale, placed.shift)
        lengths = body.quats.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        is_usual = (lengths >= LENGTHS[0]) & (lengths <= LENGTHS[1])
        factors = torch.where(body.quats[:, :1] < 0, -1.0, 1.0) * torch.where(is_usual, 1.0, 1 / lengths)
        raw = RawGaussians.from_gaussians(body.with_(quats=body.quats * factors))
        words = [f"up axis {up}"] if up != "z up" else []
        if placed.is_resized:
            words.append(f"scaled by {placed.scale:.3g} and centered to fit a box of side {placed.side:g}")
        note = (
            f"for the model, the splat was changed ({', '.join(words)}); the scene keeps its place"
            if words
            else ""
        )
        return ModelSpace(raw, gaussians.sh.shape[1], factors, up, placed.scale, note)

    def changes(self, deltas: Tensor) -> dict[str, Tensor]:
        """Decoded deltas as changes of the scene's own Gaussians, for a `PerFrame` deformation.

        Args:
            deltas: [T, N, 14]; see `canonical_changes`.

        Returns:
            means [T, N, 3], log_scales [T, N, 3], quats [T, N, 4], logit_opacities [T, N], sh [T, N, K, 3].
        """
        made = canonical_changes(self.raw, deltas)
        means, quats = self._turned(made["means"] / self.scale, made["quats"] / self.quat_factors, -1.0)
        return {**made, "means": means, "quats": quats, "sh": F.pad(made["sh"], (0, 0, 0, self.bases - 1))}

    def to_model(self, changes: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `changes` as far as the model's frame: changes of `raw.to_gaussians()`."""
        means, quats = self._turned(changes["means"], changes["quats"], 1.0)
        sh = changes["sh"][..., :1, :]
        return {**changes, "means": means * self.scale, "quats": quats * self.quat_factors, "sh": sh}

    def _turned(self, means: Tensor, quats: Tensor, sign: float) -> tuple[Tensor, Tensor]:
        """Changes of positions and quaternions, turned as `upright` turns (sign 1) or back (−1)."""
        if self.up == "z up":
            return means, quats
        matrix = to_z_up(self.up) if sign > 0 else to_z_up(self.up).T
        quat = rotations.matrices_to_quats(matrix).to(quats)
        return means @ matrix.to(means).T, rotations.multiply(quat.expand_as(quats), quats)
