"""Head models in FLAME's format and Gaussians bound to meshes: mathematics only; files are read in `engine.io`."""

from .binding import TriangleFrames, to_local, to_world, triangle_frames
from .head import Head
from .model import HeadModel
from .motion import HeadMotion
from .teeth import with_teeth

__all__ = [
    "Head",
    "HeadModel",
    "HeadMotion",
    "TriangleFrames",
    "to_local",
    "to_world",
    "triangle_frames",
    "with_teeth",
]
