"""Diffusion models behind one protocol, `Backbone`, the loaders that implement it, noise schedules and samplers."""

from .backbone import Backbone, MidBlock, ModelDefaults, VideoBackbone
from .cosine_schedule import CosineSchedule
from .cross_frame_attention import MODES, Attention, CrossFrameAttention
from .flow import StraightSchedule
from .noise_schedule import ContinuousSchedule, DiscreteSchedule, NoiseSchedule, VariancePreserving

__all__ = [
    "MODES",
    "Attention",
    "Backbone",
    "ContinuousSchedule",
    "CosineSchedule",
    "CrossFrameAttention",
    "DiscreteSchedule",
    "MidBlock",
    "ModelDefaults",
    "NoiseSchedule",
    "StraightSchedule",
    "VariancePreserving",
    "VideoBackbone",
]
