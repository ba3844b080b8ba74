"""Diffusion models behind one protocol: what guidance needs of a model, and the ways to fill it."""

from .backbone import Backbone, MidBlock, ModelDefaults
from .cross_frame_attention import MODES, CrossFrameAttention
from .noise_schedule import NoiseSchedule

__all__ = ["MODES", "Backbone", "CrossFrameAttention", "MidBlock", "ModelDefaults", "NoiseSchedule"]
