"""Files of heads: models in FLAME's format and the parameters that move them. Nothing in them is executed."""

from .loading import bundled_head, load_head
from .model_file import read_head_model
from .motion_file import read_head_motion, read_timed_motion

__all__ = ["bundled_head", "load_head", "read_head_model", "read_head_motion", "read_timed_motion"]
