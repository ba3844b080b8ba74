"""How far motion is from rigid: neighborhoods of Gaussians should turn and move as one."""

from __future__ import annotations

import torch
from torch import Tensor

from ..scene import rotations


def rigidity(
    means: Tensor, quats: Tensor, moved_means: Tensor, moved_quats: Tensor, neighbors: Tensor
) -> Tensor:
    """As-rigid-as-possible energy of N moved Gaussians: how far neighbors are from where each one's rotation puts them.

    Weights of neighbors fall with their distance; the energy is relative to the mean squared distance, so that it does not
    depend on the scene's units. A rotation and translation of all Gaussians together costs nothing.

    Args:
        means: Canonical positions [N, 3]. No gradient flows into them.
        quats: Canonical quaternions [N, 4], wxyz, of any length. No gradient flows into them.
        moved_means: [N, 3].
        moved_quats: [N, 4], of any length.
        neighbors: Indices of K canonical neighbors of each, [N, K].

    Returns:
        Scalar, 0 for rigid motion.

    Source:
        Sorkine and Alexa 2007, eq. 3; with each Gaussian's own rotation as in Dynamic 3D Gaussians (Luiten et al., 3DV 2024),
        eq. 8.
    """
    means, quats = means.detach(), quats.detach()
    before = means[neighbors] - means[:, None]
    after = moved_means[neighbors] - moved_means[:, None]
    inverse = rotations.conjugate(rotations.normalise(quats))
    turn = rotations.multiply(rotations.normalise(moved_quats), inverse)
    squared = before.square().sum(-1)
    scale = squared.mean().clamp(min=1e-20)
    weights = torch.exp(-squared / scale)
    off = (rotations.rotate(turn[:, None].expand(*neighbors.shape, 4), before) - after).square().sum(-1)
    return (weights * off).sum() / (weights.sum().clamp(min=1e-20) * scale)
