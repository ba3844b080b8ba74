"""Stage 2 for models whose own edit is better than their score: edit images of more frames, and fit the Gaussians to them.

Score distillation (Instruct-4DGS, Kwon, Cho and Kim, CVPR 2025, section 3.4) averages many noisy predictions. A model of one or a
few steps makes one good prediction, and its score is far from it. So this edits a few images of frames that the fit before did
not have, those that show the most of what its images did not show, together with a key view of that fit, which the others
attend to. Gaussians are then fitted to them and to anchors: renders of the fitted images, which hold what was right.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..deform import freeze_appearance
from ..diffusion import Backbone
from ..errors import InputError
from ..fields import as_record, restored
from ..messages import Finished, Started, Stream
from ..render import choose
from ..scene import Gaussians, MultiViewVideo, Scene4D, Selection, ViewSet
from ..wording import brief
from . import state as states
from .edit_rounds import EditRounds
from .fitted_edit import StepNames, fitted_edit, obstacle
from .image_choice import images_to_add
from .originals import Originals, Pair, collect
from .refine_config import RefineConfig
from .view_edit import ViewEditing
from .view_edit_config import ViewEditConfig
from .view_fit import ViewFit, ViewFitConfig

# fraction of fitting steps that render an anchor: fewer let the fitted images drift, more leave less for the new ones
ANCHOR_SHARE = 0.25
# fitting steps, in parts of those of the fit before, so that stage 2 costs no more than stage 1
FIT_SHARE = 0.75
# steps of a model up to which "auto" takes its edits rather than its score
FEW_STEPS = 4


class AnchoredFit(ViewFit):
    """A fit to edited images and, after them in `views`, to `anchors` renders of the scene as it was."""

    def __init__(
        self,
        scene: Scene4D,
        views: ViewSet,
        config: ViewFitConfig,
        selection: Selection | None,
        device: torch.device | str,
        anchors: int,
        unedited: Gaussians,
    ) -> None:
        super().__init__(scene, views, config, selection, device)
        self.added = len(views) - anchors
        self.unedited = unedited

    def _first(self) -> int:
        is_anchor = float(torch.rand((), generator=self.generator)) < ANCHOR_SHARE
        start, end = (self.added, len(self.views)) if is_anchor else (0, self.added)
        return int(torch.randint(start, end, (), generator=self.generator))


class OwnEdits(EditRounds):
    """One round (see `EditRounds`) of editing images of more frames and fitting the scene to them; a step names it.

    Args:
        scene: The scene, whose last edit is a fit to edited views.
        backbone: A diffusion model with image conditioning.
        config: Prompt and settings; what it does not set is as in the fit before.
        source: "captured" or "rendered", where unedited images come from.
        video: The capture; needed for "captured".
        original: The scene before the edit; None: the scene itself, for "captured".
        selection: Gaussians that may change; None: all.

    Raises:
        InputError: As for editing views, and for a scene that `obstacle` names a reason for.
    """

    # said by the step: the classes that edit and fit in its name, and the names of steps in histories
    editing_of: type[ViewEditing]
    fit_of: type[AnchoredFit]
    names: StepNames

    def __init__(
        self,
        scene: Scene4D,
        backbone: Backbone,
        config: RefineConfig,
        source: str,
        video: MultiViewVideo | None = None,
        original: Scene4D | None = None,
        selection: Selection | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        fitted, reason = fitted_edit(scene, self.names), obstacle(scene, config, self.names)
        if fitted is None or reason:
            raise InputError(
                "TRN-047",
                f"The objective 'own edits' is not possible: {reason}. Fit the scene to edited views first, or set objective "
                "to score.",
            )
        self.backbone, self.config, self.source = backbone, config, source
        self.fitted, self.selection, self.given = fitted, selection, [video, original]
        self.video = video if source == "captured" else None
        self.unedited = (original or scene).to(device)
        self.rasterizer = choose(config.rasterizer, torch.device(device))
        self.added, self.choice_note = images_to_add(
            scene.to(device), fitted.pairs, max(fitted.count - 1, 1), video, self.rasterizer
        )
        super().__init__(scene, device, 1)

    @property
    def key(self) -> Pair:
        """The image that the new ones attend to: the fit's key view, or the first one that there is."""
        there = [p for p in self.fitted.pairs if self.video is None or bool(self.video.available[p])]
        return (there or self.fitted.pairs)[0]

    @property
    def note(self) -> str:
        """What the artist should know, one sentence per line."""
        about = self.fitted.edit
        before, prompt = str(about.get("prompt", "")), self.config.prompt
        other = (
            f'the scene was fitted to the edit "{brief(before)}", this one is "{brief(prompt)}"'
            if before != prompt
            else ""
        )
        by_hand = (
            "the scene was fitted to images of another editor; the model's own may differ"
            if self.fitted.is_foreign
            else ""
        )
        steps = (
            f"{self.fit_iterations} fitting steps, three quarters of the fit's; iterations is for the objective score alone"
            if self.added
            else ""
        )
        return "\n".join(filter(None, (self.choice_note, steps, other, by_hand)))

    @property
    def fit_iterations(self) -> int:
        return max(1, round(FIT_SHARE * restored(ViewFitConfig, self.fitted.config).iterations))

    def _edit_steps(self, round_index: int) -> int:
        return self.editing.edit.total

    def _editing(self) -> ViewEditing:
        c, was = self.config, restored(ViewEditConfig, self.fitted.edit)
        config = replace(
            was,
            prompt=c.prompt,
            negative=c.negative or was.negative,
            guidance_scale=c.guidance_scale or was.guidance_scale,
            image_guidance_scale=c.image_guidance_scale or was.image_guidance_scale,
            resolution=c.resolution,
            # the epipolar way is for many views of one frame
            attention="keyframe" if was.attention == "epipolar" else was.attention,
            key_view=-1,
            originals=self.source,
            rasterizer=c.rasterizer,
            force=c.force,
        )
        pairs = [self.key, *self.added]
        return self.editing_of(self.unedited, self.backbone, config, self.video, self.selection, pairs=pairs)

    def _fit(self, views: ViewSet) -> ViewFit:
        c = self.config
        config = replace(
            restored(ViewFitConfig, self.fitted.config),
            iterations=self.fit_iterations,
            preset=c.preset,
            mutes_appearance=c.mutes_appearance,
            rasterizer=c.rasterizer,
            seed=c.seed,
            densifies=False,
            trains_deformation=False,
            preview_every=c.preview_every,
        )
        anchors = collect(Originals(self.scene, self.rasterizer, views.size), self.fitted.pairs)
        unedited, now = self.unedited.canonical, self.scene.canonical
        return self.fit_of(
            self.scene,
            _joined(self.scene, views, anchors),
            config,
            self.selection,
            self.device,
            len(anchors),
            # densification may have added Gaussians
            unedited if len(unedited) == len(now) else now,
        )

    def stream(self, *given: Any, **named: Any) -> Stream:
        if self.added:
            yield from super().stream(*given, **named)
            return
        yield Started(1, f"{self.choice_note}: nothing to do")
        yield Finished(self.result())

    def result(self) -> Scene4D:
        scene = self.before
        changed: dict[str, Any] = {"canonical": self.canonical.map(lambda t: t.to(scene.device))}
        if self.config.mutes_appearance:
            changed["deformation"] = freeze_appearance(scene.deformation)
        is_fitted = self.is_finished or self.fit is not None
        entry = {
            "config": as_record(self.config),
            "objective": "own edits",
            "prompt": self.config.prompt,
            "model": self.backbone.name,
            "edit": self.about,
            "condition": self.source,
            "views": [view for view, _ in self.added] if is_fitted else [],
            "moments": [frame for _, frame in self.added] if is_fitted else [],
            "diffusion_calls": self.calls,
            "iterations": self.iteration if self.added else 0,
            "engine": __version__,
            "note": "\n".join(filter(None, (self.note, self.editing.note))),
        }
        return scene.with_(**changed).with_history(self.step_name, **entry)

    def identity(self) -> list[Any]:
        parts = states.identity(self.config, self.selection, self.before, self.backbone, *self.given)
        return [self.step_name, "own edits", *parts, self.rasterizer.name, __version__]


def _joined(scene: Scene4D, edited: ViewSet, anchors: ViewSet) -> ViewSet:
    """Edited images without their first one, the key, and after them the anchors."""
    views, moments = ((*getattr(edited, n)[1:], *getattr(anchors, n)) for n in ("views", "moments"))

    def both(name: str) -> Tensor:
        return torch.cat([getattr(edited, name)[1:], getattr(anchors, name)])

    return ViewSet(
        images=both("images"),
        originals=both("originals"),
        cameras=scene.rig.resized((edited.size,) * len(scene.rig))[list(views)],
        views=views,
        moments=moments,
        seconds=(*edited.seconds[1:], *anchors.seconds),
        edit=edited.edit,
    )
