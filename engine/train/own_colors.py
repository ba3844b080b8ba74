"""Colors of a decoded latent field, corrected by the model's own edit of a few of the same images.

Delta denoising moves latents of an eighth of the image size step by step. Parts that few views show lag behind, a guidance scale
that makes up for it overshoots elsewhere, and what the latent field itself blurs stays: hues drift (docs/benchmarks.md has the
figures). A model of one or a few steps has the right hues in its own edit, at the cost of a few images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ..color import color_map
from ..diffusion import Backbone
from ..errors import InputError
from ..messages import Message, Progress
from ..scene import Selection, ViewSet
from .latent_views import Decoding
from .originals import resize
from .own_edits import FEW_STEPS
from .view_edit import ViewEditing, selected_share
from .view_edit_config import ViewEditConfig

MATCHINGS = ("auto", "own edits", "none")
# images that are edited: three of a subject fit the map as well as nine
IMAGES = 3
# coverage from which a pixel shows the scene rather than its background
COVERED = 0.5


class OwnEdit(ViewEditing):
    """Edits a few of the decoded images as the latents were edited. A step names it."""

    # the step as in STEPS that edited the latents
    after: str


class OwnColors:
    """The model's own edit of a few images of `decoding` (`stream`), then the decoded images with its colors (`matched`).

    Args:
        decoding: The decoded views.
        selection: Gaussians that may change; None: all.
        editing_of: The class that edits in the step's name.
    """

    def __init__(self, decoding: Decoding, selection: Selection | None, editing_of: type[OwnEdit]) -> None:
        field, pairs = decoding.field, decoding.pairs
        entry = field.scene.last_entry(editing_of.after)
        assert entry is not None and field.before is not None
        self.scene, self.selection, self.pairs = field.before.scene, selection, pairs
        self.rasterizer = decoding.rasterizer
        few = torch.linspace(0, len(pairs) - 1, min(IMAGES, len(pairs))).round().long().tolist()
        config = ViewEditConfig(
            prompt=str(entry["prompt"]),
            negative=str((entry.get("config") or {}).get("negative", "")),
            originals="rendered",
            rasterizer=decoding.config.rasterizer,
            # the delta edit has checked it
            force=True,
        )
        self.editing = editing_of(
            self.scene, decoding.backbone, config, None, selection, pairs=[pairs[i] for i in few]
        )
        # what was done, in one line
        self.note = ""

    @property
    def total(self) -> int:
        return self.editing.edit.total

    def stream(self, before: int = 0) -> Iterator[Message]:
        """Edits the images; `before` units of work were done already."""
        while not self.editing.edit.is_finished:
            self.editing.step()
            yield Progress(before + self.editing.iteration, count=len(self.scene.canonical))

    @torch.no_grad()
    def matched(self, views: ViewSet) -> ViewSet:
        """The decoded views with the colors of the model's own edit; the background stays."""
        own = self.editing.result()
        if not self.editing.edit.calls:
            self.note = "colors are not matched: the edited images do not show the selection"
            return views
        order = [self.pairs.index(pair) for pair in zip(own.views, own.moments, strict=True)]
        reference = torch.stack([resize(image, views.size) for image in own.images])
        covered = self._covered(views)
        counted = (covered > COVERED).to(reference)
        match = color_map(views.images[order], reference, counted[order])
        images = torch.lerp(views.images, match(views.images), covered[..., None]).clamp(0, 1)
        change = (counted[..., None] * (images - views.images).abs()).sum() / (3 * counted.sum().clamp(min=1))
        self.note = f"colors matched to the model's own edit of {len(own)} images: {255 * float(change):.0f} of 255 apart"
        return replace(views, images=images, edit={**(views.edit or {}), "colors": "own edits"})

    def _covered(self, views: ViewSet) -> Tensor:
        """[F, h, w] in 0..1: how much of each pixel the edit may change."""
        covered = torch.ones_like(views.images[..., 0]) if views.alphas is None else views.alphas
        if self.selection is None:
            return covered
        return covered * selected_share(self.scene, self.selection, views, self.rasterizer)


def own_colors(
    decoding: Decoding,
    matching: str,
    selection: Selection | None,
    editing_of: type[OwnEdit],
) -> tuple[OwnColors | None, str]:
    """What matches the colors of decoded views, and a note where "auto" cannot. Raises InputError where it was asked for and is
    not possible."""
    is_asked, backbone = matching == "own edits", decoding.backbone
    is_edited = decoding.field.before is not None
    if not matches_colors(matching, backbone) or not (is_asked or is_edited):
        return None, ""
    reason = obstacle(decoding, selection, editing_of.after)
    if not reason:
        return OwnColors(decoding, selection, editing_of), ""
    if is_asked:
        raise InputError(
            "TRN-048",
            f"Colors cannot be matched to the model's own edit: {reason}. Set match colors to auto or none.",
        )
    return None, f"colors are not matched: {reason}"


def matches_colors(matching: str, backbone: Backbone) -> bool:
    """Whether the setting asks for own edits of this model."""
    return matching == "own edits" or (matching == "auto" and backbone.defaults.steps <= FEW_STEPS)


def obstacle(decoding: Decoding, selection: Selection | None, after: str) -> str:
    """Why a field that the step `after` edited cannot get the colors of the model's own edit, as a main clause; "" if it can."""
    field = decoding.field
    entries = [entry for entry in field.scene.history if entry.get("step") == after]
    first = field.before
    if first is None or not entries:
        return "the latent field was not edited"
    before = [entry for entry in first.scene.history if entry.get("step") == after]
    if len(entries) - len(before) != 1:
        return "the latent field was edited more than once"
    entry = entries[-1]
    if not decoding.backbone.has_image_conditioning or entry.get("looks_at") == "nothing":
        return "the delta edit did not show the model the original images"
    if entry.get("selected") is not None and selection is None:
        return "the delta edit was limited to a selection, which is not connected here"
    if decoding.moved is not None:
        return "the delta edit moved Gaussians"
    return ""
