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
        return {"required": {"takes_image": ("BOOLEAN", {"default": True})}}

    def load(self, takes_image):
        return tiny_comfy.tiny_checkpoint(takes_image=takes_image)


NODE_CLASS_MAPPINGS = {"Test_TinyCheckpoint": TinyCheckpoint}
