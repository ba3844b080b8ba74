"""Places along a curve through space on which neighbors mostly follow each other (Morton 1966)."""

from __future__ import annotations

import torch
from torch import Tensor


def morton_codes(cells: Tensor, bits: int) -> Tensor:
    """Places of cells on the Z-order curve.

    Args:
        cells: [N, 3] long, from 0 to 2^bits - 1.
        bits: Bits of each coordinate that count, at most 21.

    Returns:
        [N] long: the bits of x, y and z in turn.
    """
    codes = torch.zeros(len(cells), dtype=torch.long)
    for bit in range(bits):
        for axis in range(3):
            codes |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return codes
