"""A few of many files stand for all, so that opening a capture takes no longer the more images it has."""

from __future__ import annotations

import numpy as np

# files that are looked at in any case
LOOKED_AT = 24


def spread_first(count: int, looked_at: int = LOOKED_AT) -> list[int]:
    """Indices of `count` things: `looked_at` of them spread over all, then the rest."""
    some = np.linspace(0, count - 1, min(count, looked_at)).round().astype(int).tolist()
    chosen = set(some)
    return some + [i for i in range(count) if i not in chosen]
