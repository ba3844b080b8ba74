"""What a step draws at random: a function of the seed and the step's number, so that it is known before the step comes.

Frames can then be read ahead in the order in which training asks for them, and a resumed run draws what an uninterrupted one
does, whatever was read ahead.
"""

from __future__ import annotations

import hashlib

import torch


def generator_at(seed: int, step: int, *more: int) -> torch.Generator:
    """The generator of one step, on the CPU. Neighboring seeds and steps have nothing in common; `more` tells draws apart."""
    text = " ".join(map(str, (seed, step, *more)))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
