"""A node for tests alone: MODEL, CLIP and VAE of random weights, as Load Checkpoint would give them.

Tests link this folder into custom_nodes of the server that they start; it is no part of the pack.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "nodes"))
import tiny_comfy


class TinyCheckpoint:
    CATEGORY, FUNCTION, RETURN_TYPES = "tests", "load", ("MODEL", "CLIP", "VAE")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"has_image_conditioning": ("BOOLEAN", {"default": True})}}

    def load(self, has_image_conditioning):
        return tiny_comfy.tiny_checkpoint(has_image_conditioning=has_image_conditioning)


NODE_CLASS_MAPPINGS = {"Test_TinyCheckpoint": TinyCheckpoint}
