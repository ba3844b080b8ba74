"""How smooth the motion of points is: jerk, and how much of it lies at joints.

Jerk is the third derivative of position, here the third difference over equally spaced frames; it is zero where a point moves
with constant acceleration, and large where motion was joined from pieces.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def jerk(positions: Tensor) -> Tensor:
    """Mean length of the third difference of positions over time.

    Args:
        positions: [T, N, 3] at equally spaced frames.

    Returns:
        [T − 3]; entry i is from frames i … i + 3, in the positions' unit per frame³.
    """
    third = positions[3:] - 3 * positions[2:-1] + 3 * positions[1:-2] - positions[:-3]
    return third.norm(dim=-1).mean(dim=-1)


def seam_ratio(values: Tensor, joints: Iterable[int]) -> float:
    """Mean jerk at joints, relative to that elsewhere.

    Args:
        values: From `jerk`, [T − 3].
        joints: Frames at which something new begins.

    Returns:
        1 where joints do not show; NaN without joints or without frames between them.
    """
    at = torch.zeros(len(values), dtype=torch.bool)
    for frame in joints:
        # every third difference that a jump between `frame` − 1 and `frame` enters
        at[max(frame - 3, 0) : frame] = True
    if not bool(at.any()) or bool(at.all()):
        return float("nan")
    return float(values[at].mean() / values[~at].mean().clamp(min=1e-30))
