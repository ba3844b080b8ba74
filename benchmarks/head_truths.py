"""True edits of parts of a head, from an image and its region ids: "make the skin green", "paint the lips red" and others.

    true_edit("green_skin", image, region_ids, alpha)

The functions are those that the bundled model was trained on (`training/tiny_editor/regions.py`); INSTRUCTIONS has the
sentence of each.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from training.tiny_editor.regions import PART_EDITS, PART_IDS, true_edit

__all__ = ["DEMO_PART_IDS", "INSTRUCTIONS", "PART_EDITS", "PART_IDS", "true_edit"]

INSTRUCTIONS = {
    "green_skin": "make the skin green",
    "red_lips": "paint the lips red",
    "blue_hair": "dye the hair blue",
}
DEMO_PART_IDS = {"skin": (1,), "hair": (2,), "brow": (3,), "lips": (4,)}
"""The ids that `training/head/make_demo.py --regions` writes."""
