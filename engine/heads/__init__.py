"""Head models in FLAME's format and Gaussians bound to meshes: mathematics only; files are read in `engine.io`."""

from .binding import TriangleFrames, to_local, to_world, triangle_frames
from .model import HeadModel
from .motion import Head, HeadMotion
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
