"""The nodes, in menu order. Ids never change; inputs are only appended."""

from __future__ import annotations

from typing import Any

from ..engine.steps import all_steps
from . import folders
from .capture_images import CaptureFromVideos
from .compat import ComfyExtension
from .guidance import GuidanceFromModel, LoadGuidance
from .heads import HeadFromLandmarks, LoadHead
from .image_to_4d import LoadImageTo4D
from .load import Load4DScene, LoadMultiViewVideo, Save4DScene
from .preview import Preview4DScene
from .segmentation import LoadSegmentation
from .step_node import node_of, settings_node_of
from .trellis import LoadTrellis
from .variation import LoadVariation
from .video_clip import LoadVideoClip

HAND_WRITTEN: list[type[Any]] = [
    LoadMultiViewVideo,
    Load4DScene,
    # before the others that take a scene: what a wire dropped on the canvas offers is in this order
    Preview4DScene,
    Save4DScene,
    LoadHead,
    HeadFromLandmarks,
    LoadGuidance,
    GuidanceFromModel,
    LoadSegmentation,
    LoadTrellis,
    LoadVariation,
    LoadImageTo4D,
    LoadVideoClip,
    CaptureFromVideos,
]


def nodes() -> list[type[Any]]:
    """Every node of the pack: the handwritten ones, and one or two for each declared step."""
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
    """The extension that ComfyUI loads; also registers the folder models/gs4d."""
    folders.register()
    return Extension()
