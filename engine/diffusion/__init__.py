"""Diffusion models behind one protocol: what guidance needs of a model, and the ways to fill it."""

from .backbone import Backbone, MiddleBlock, Recommended
from .noise_schedule import Noising
from .shared_attention import MODES, Sharing

__all__ = ["MODES", "Backbone", "MiddleBlock", "Noising", "Recommended", "Sharing"]
