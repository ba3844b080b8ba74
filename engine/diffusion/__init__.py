"""Diffusion models behind one protocol, `Backbone`, and the loaders that implement it."""

from .backbone import Backbone, MidBlock, ModelDefaults
from .cross_frame_attention import MODES, Attention, CrossFrameAttention
from .noise_schedule import NoiseSchedule

__all__ = [
    "MODES",
    "Attention",
    "Backbone",
    "CrossFrameAttention",
    "MidBlock",
    "ModelDefaults",
    "NoiseSchedule",
]
