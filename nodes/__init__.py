"""The nodes, in menu order. Ids are for ever; inputs are only appended."""

from __future__ import annotations

from typing import Any

from ..engine.steps import all_steps
from . import folders
from .compat import ComfyExtension
from .guidance import GuidanceFromModel, LoadGuidance
from .load import Load4DScene, LoadMultiViewVideo, Save4DScene
from .preview import Preview4DScene
from .step_node import node_of, settings_node_of

HAND_WRITTEN: list[type[Any]] = [
    LoadMultiViewVideo,
    Load4DScene,
    Save4DScene,
    LoadGuidance,
    GuidanceFromModel,
    Preview4DScene,
]


def nodes() -> list[type[Any]]:
    """Every node of the pack: those written by hand, and one (or two) for each step that declares itself."""
    steps = all_steps()
    return [
        *HAND_WRITTEN,
        *(node_of(step) for step in steps),
        *(settings_node_of(s) for s in steps if s.settings),
    ]


class Extension(ComfyExtension):
    async def get_node_list(self) -> list[type[Any]]:
        return nodes()


def extension() -> Any:
    """What ComfyUI asks the pack for; also makes the folder models/gs4d known to it."""
    folders.register()
    return Extension()
