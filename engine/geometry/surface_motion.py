"""How much each nearby surface point moves a place.

Source: GVFDiffusion (Zhang et al., ICCV 2025), section 3.1, "mesh-guided interpolation", and released code.
"""

from __future__ import annotations

import torch
from torch import Tensor

# nearest surface points that move a place, and how fast their weights fall
NEIGHBORS, SHARPNESS = 8, 7.0


def motion_weights(squared: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """Weights of the K nearest points: w_k ∝ exp(−β d_k² / r²) with r² the mean of d_k², and 0 where d_k > r.

    The cut-off is the released code's; the published formula lacks it. Weights sum to 1 up to 1.1e-5.

    Args:
        squared: Squared distances [..., K].
        sharpness: β.

    Source:
        GVFDiffusion, section 3.1, equation 3.
    """
    radius = squared.mean(dim=-1, keepdim=True).sqrt() + 1e-6
    weights = torch.exp(-sharpness * squared / radius.square())
    weights = torch.where(squared > radius.square(), 0.0, weights)
    return weights / (weights.sum(dim=-1, keepdim=True) + 1e-8)
