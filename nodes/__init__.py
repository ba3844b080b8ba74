"""The nodes, in menu order. Ids are for ever; inputs are only appended."""

from __future__ import annotations

from typing import Any

from . import folders
from .compat import ComfyExtension
from .convert import SceneToSplat, SplatToScene
from .edit import EditViews, LiftMask, SceneViews
from .edit_fit import FitEdits
from .export import Export4DScene
from .guidance import GuidanceFromModel, LoadGuidance
from .latents import DecodeLatents, DeltaEdit, LatentsToScene, TrainLatentField
from .load import Import4DScene, Load4DScene, LoadMultiViewVideo, Save4DScene
from .metrics import EvaluateEdit, EvaluateScene, PreflightCheck
from .preview import Preview4DScene
from .refine import RefineScore
from .render import CameraPathNode, Render4DScene
from .train import Train4DScene, TrainingSettings

NODES: list[type[Any]] = [
    LoadMultiViewVideo,
    PreflightCheck,
    Train4DScene,
    TrainingSettings,
    Load4DScene,
    Save4DScene,
    Import4DScene,
    CameraPathNode,
    Render4DScene,
    EvaluateScene,
    SceneToSplat,
    SplatToScene,
    Export4DScene,
    LoadGuidance,
    GuidanceFromModel,
    SceneViews,
    EditViews,
    LiftMask,
    FitEdits,
    RefineScore,
    TrainLatentField,
    DeltaEdit,
    DecodeLatents,
    LatentsToScene,
    EvaluateEdit,
    Preview4DScene,
]


class Extension(ComfyExtension):
    async def get_node_list(self) -> list[type[Any]]:
        return NODES


def extension() -> Any:
    """What ComfyUI asks the pack for; also makes the folder models/gs4d known to it."""
    folders.register()
    return Extension()
