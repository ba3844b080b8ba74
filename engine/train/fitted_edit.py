"""What a scene's history says of the fit to edited views that made it, for a refinement that goes on from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ..scene import Scene4D
from .originals import Pair
from .refine_config import RefineConfig


@dataclass(frozen=True)
class FittedEdit:
    """What a scene's history says of the fit to edited views that made it.

    Args:
        pairs: (view, frame) of all images that it was fitted to, the key view first.
        count: How many of them the first fit had.
        edit: How the images were edited, as `ViewSet.edit`.
        config: The fit's config as a record.
    """

    pairs: list[Pair]
    count: int
    edit: dict[str, Any]
    config: dict[str, Any]

    @property
    def is_foreign(self) -> bool:
        """Whether its images were replaced by those of another editor."""
        return "images" in self.edit


class StepNames(NamedTuple):
    """Names of steps in histories: the fit to edited views, its refinement, and all steps that edit."""

    fit: str
    refinement: str
    edits: tuple[str, ...]


def fitted_edit(scene: Scene4D, names: StepNames) -> FittedEdit | None:
    """The fit that made a scene, with refinements by own edits after it; None if the last edit was another one."""
    pairs: list[Pair] = []
    for entry in reversed(scene.history):
        step = entry.get("step")
        if step not in names.edits:
            continue
        if step not in (names.fit, names.refinement):
            return None
        here = _pairs(entry, scene)
        if step == names.refinement:
            pairs = here + pairs
            continue
        edit, config = (
            value if isinstance(value, dict) else {} for value in (entry.get("edit"), entry.get("config"))
        )
        key = edit.get("key_view")
        here.sort(key=lambda pair: pair[0] != key)
        return FittedEdit(here + pairs, len(here), edit, config) if here else None
    return None


def _pairs(entry: dict[str, Any], scene: Scene4D) -> list[Pair]:
    """(view, frame) of a history entry, where they exist in the scene."""
    views, frames = (entry.get(name) for name in ("views", "moments"))
    if not isinstance(views, list) or not isinstance(frames, list) or len(views) != len(frames):
        return []
    return [
        (view, frame)
        for view, frame in zip(views, frames, strict=True)
        if isinstance(view, int) and isinstance(frame, int)
        if 0 <= view < len(scene.rig) and 0 <= frame < len(scene.times)
    ]


def obstacle(scene: Scene4D, config: RefineConfig, names: StepNames) -> str:
    """Why a scene cannot be refined by own edits, as a main clause; "" if it can."""
    found = fitted_edit(scene, names)
    if found is None:
        return "the last edit of this scene is not from Fit Scene to Edited Views"
    if found.edit.get("keeps"):
        return "its views were edited with a keep mask, which other frames do not have"
    if config.trains_deformation:
        return "train deformation is on, and own edits change colors and positions only"
    return ""
