"""The full-size reconstruction model: its step on the meta device.

Source: Diff4Splat (2025); width and heads, which it does not give, are ours (`LdrmConfig`). Its last stages train with videos of
512 × 512 pixels; 49 frames are CogVideoX's.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from engine.models.reconstruction import Ldrm, LdrmConfig
from training.common.full_size import Cost, cost

# every fourth frame and pixel gives Gaussians: tracks of all would take 3.8 GB per sample
CONFIG = replace(LdrmConfig(), time_stride=4, space_stride=4)
FRAMES, SIZE = 49, 512
# AdamW's rate, steps and samples of all processes: 32 GPUs with one each; the paper gives no batch size
LR, STEPS, BATCH = 1e-5, 100_000, 32


def meta_step(
    batch: int = 1, config: LdrmConfig = CONFIG, frames: int = FRAMES, size: int = SIZE, queries: int = 2
) -> Cost:
    """A step of one process with videos of `frames` frames, and motion at `queries` times; without rendering."""

    def loss(model: nn.Module) -> Tensor:
        assert isinstance(model, Ldrm)
        latent = model.config.latent
        cells = size // latent.space_factor
        latents = torch.empty(batch, latent.channels, latent.latents(frames), cells, cells)
        found = model(latents, torch.empty(batch, frames, size, size, 6))
        motion = model.motion(found, torch.empty(queries))
        maps = found.gaussians
        read = (maps.means, maps.quats, maps.scales, maps.opacities, maps.rgb)
        return torch.stack([x.sum() for x in (*read, motion.shifts, motion.turns, motion.growth)]).sum()

    return cost(lambda: Ldrm(config), loss)
