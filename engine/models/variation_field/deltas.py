"""What the channels of a variation field are, and how they change canonical Gaussians.

Source: GVFDiffusion (Zhang et al., ICCV 2025), section 3.2 and released code. The canonical vector (`RawGaussians.vector`)
and the deltas have different channel orders.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene import rotations
from ..trellis.raw_gaussians import RawGaussians

# channels of a delta: positions, scales, quaternions, colors, opacities
PARTS = (3, 3, 4, 3, 1)
CHANNELS = sum(PARTS)


def canonical_changes(canonical: RawGaussians, deltas: Tensor) -> dict[str, Tensor]:
    """Decoded deltas as changes of the canonical Gaussians, by field of `Gaussians`, for a `PerFrame` deformation.

    All deltas are added before activation, quaternions before they are normalized. Positions, quaternions, colors and
    opacities are stored like this in scenes too; of sizes, which the scene stores as logarithms, the change of the
    logarithm is taken.

    Args:
        canonical: N Gaussians.
        deltas: [T, N, 14]: Δposition (3), Δscale (3), Δquaternion (4), Δcolor (3), Δopacity (1).

    Returns:
        means [T, N, 3], log_scales [T, N, 3], quats [T, N, 4], logit_opacities [T, N], sh [T, N, 1, 3]: what is added to
        the fields of `canonical.to_gaussians()`.

    Example:
        changes = canonical_changes(raw, deltas)
        deformation = PerFrame(seconds, changes)
    """
    means, scales, quats, colors, opacities = deltas.split(PARTS, dim=-1)
    log_scales = canonical.sizes(scales).log() - canonical.sizes().log()
    return {
        "means": means.contiguous(),
        # exactly nothing where the decoder changes nothing
        "log_scales": torch.where(scales == 0, 0.0, log_scales),
        "quats": quats.contiguous(),
        "logit_opacities": opacities[..., 0].contiguous(),
        "sh": colors[..., None, :].contiguous(),
    }


def rotated(canonical: RawGaussians, quat: Tensor) -> RawGaussians:
    """The Gaussians turned about the origin, so that deltas fit them: the raw rotation is taken anew from unit quaternions.

    Args:
        canonical: N Gaussians.
        quat: Unit quaternion [4], wxyz.
    """
    turned = rotations.multiply(quat.expand(len(canonical), 4), canonical.activated().quats)
    identity = turned.new_tensor([1, 0, 0, 0])
    matrix = rotations.quats_to_matrices(quat)
    return RawGaussians(
        means=canonical.means @ matrix.T,
        colors=canonical.colors,
        scales=canonical.scales,
        rotations=turned - identity,
        opacities=canonical.opacities,
        format=canonical.format,
    )
