"""The loop of Edit3DGS: edit renders of a head at several frames, fit the Gaussians to them, and repeat with less noise.

Source: Edit3DGS (arXiv 2606.17432), with the view editing and the noise levels of DGE (ECCV 2024). Changed: the keep mask
comes from the head's mesh instead of a segmentation model; the fit optimizes colors and positions by default, since the
paper's rate of 1e-2 on all parameters destroys geometry (preset "paper literal").
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..deform.head_scenes import bound_mesh_of
from ..diffusion import Backbone
from ..guidance.edit_request import kept_steps
from ..heads import Head
from ..masks.head_regions import PARTS, draw_part, has_part, part_faces
from ..scene import Scene4D, Selection, ViewSet
from . import state as states
from .edit_rounds import EditRounds
from .head_edit_config import HeadEditConfig
from .originals import choose_pairs
from .view_edit import ViewEditing
from .view_edit_config import ViewEditConfig
from .view_fit import Pins, ViewFit, ViewFitConfig

# parts that a preset may freeze
MOUTH = ("teeth", "mouth interior")


class HeadEditing(EditRounds):
    """Rounds of editing images of a head and fitting its Gaussians to them.

    Args:
        scene: A scene whose Gaussians are bound to a head.
        head: Its head model.
        backbone: A diffusion model with image conditioning.
        config: Prompt, rounds and preset.
        selection: Gaussians that may change; None: all.

    Raises:
        InputError: As for editing views, and where the scene has no head or another one.
    """

    # said by the step: the classes that edit and fit in its name
    editing_of: type[ViewEditing]
    fit_of: type[ViewFit]

    def __init__(
        self,
        scene: Scene4D,
        head: Head,
        backbone: Backbone,
        config: HeadEditConfig,
        selection: Selection | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.head, self.backbone, self.config = head, backbone, config
        self.given = selection
        self.selection = self._selection(scene, selection)
        self.rounds = config.rounds(len(scene.times))
        super().__init__(scene, device, len(self.rounds))

    def _selection(self, scene: Scene4D, given: Selection | None) -> Selection | None:
        """What may change: what was selected, without teeth and mouth interior where the config freezes them."""
        regions = self.head.model.regions
        known = [p for p in MOUTH if self.config.freezes and any(n in regions for n in PARTS[p])]
        if not known:
            return given
        binding = bound_mesh_of(scene, self.head.model).binding.cpu()
        frozen = torch.stack([part_faces(self.head.model, p) for p in known]).any(0)[binding]
        weights = torch.ones(len(binding)) if given is None else given.weights.cpu()
        return Selection(torch.where(frozen, 0.0, weights))

    @property
    def fit_iterations(self) -> int:
        return self.config.iterations_of_preset * len(self.rounds[0].frames)

    def _edit_steps(self, round_index: int) -> int:
        """All rounds edit equally many images. One whose edit shows nowhere takes none."""
        edit = self.editing.edit
        every = len(self.backbone.noise_schedule.timesteps(edit.request.steps))
        return kept_steps(every, self.rounds[round_index].strength) * len(edit.split())

    def _editing(self) -> ViewEditing:
        c, now = self.config, self.rounds[self.round]
        frames = " ".join(str(frame) for frame in now.frames)
        config = ViewEditConfig(
            prompt=c.prompt,
            guidance_scale=c.guidance_scale,
            image_guidance_scale=c.image_guidance_scale,
            steps=c.steps,
            strength=now.strength,
            views=c.views,
            moments=frames,
            seed=now.seed,
            resolution=c.resolution,
            attention=c.attention_of_preset,
            originals="rendered",
            rasterizer=c.rasterizer,
            force=c.force,
            keep_feather=c.keep_feather,
        )
        return self.editing_of(
            self.scene,
            self.backbone,
            config,
            selection=self.given,
            keep=self._keep(frames),
            current=None if self.round == 0 else self.current,
        )

    def _keep(self, frames: str) -> Tensor | None:
        """Masks [F, H, W] of the part that is kept, one per edited image."""
        c = self.config
        if c.keep == "nothing":
            return None
        pairs = choose_pairs(self.scene, c.views, frames)
        cameras = self.scene.rig[[view for view, _ in pairs]]
        seconds = [float(self.scene.times[frame]) for _, frame in pairs]
        return draw_part(self.scene, self.head.model, c.keep, cameras, seconds, c.keep_grow)

    def _fit(self, views: ViewSet) -> ViewFit:
        c = self.config
        config = ViewFitConfig(
            iterations=self.fit_iterations,
            preset=c.parameters_of_preset,
            seed=self.rounds[self.round].seed,
            rasterizer=c.rasterizer,
            preview_every=0,
        )
        config = replace(config, **c.rates_of_preset)
        return self.fit_of(self.current, views, config, self.selection, self.device, self._pins(views))

    def _pins(self, views: ViewSet) -> Pins | None:
        """The mouth in the edited images, where it is pinned to what the unedited head shows."""
        if not self.pin_weight:
            return None
        masks = draw_part(self.scene, self.head.model, "mouth", views.cameras, views.seconds)
        return Pins(masks, self.pin_weight)

    @property
    def pin_weight(self) -> float:
        """Weight of the mouth's pixels; 0 where a preset asks for it and the head has no mouth."""
        weight = self.config.pin_weight_of_preset
        is_possible = self.config.pin_weight > 0 or has_part(self.head.model, "mouth")
        return weight if weight and is_possible else 0.0

    def result(self) -> Scene4D:
        """The head as edited so far; bindings and head parameters are the input's own."""
        request = self.editing.edit.request
        entry = {
            "config": self.config.record(),
            "prompt": self.config.prompt,
            "model": self.backbone.name,
            "size": list(self.editing.views.size),
            "steps": request.steps,
            "guidance_scale": request.guidance.scale,
            "image_guidance_scale": request.guidance.image_scale,
            "iterations_per_frame": self.config.iterations_of_preset,
            "pin_weight": self.pin_weight,
            "edit": self.about,
            "rounds": min(self.round + 1, len(self.rounds)),
            "diffusion_calls": self.calls,
            "engine": __version__,
        }
        if self.editing.note:
            entry["note"] = self.editing.note
        canonical = self.canonical.map(lambda t: t.to(self.before.device))
        return self.before.with_(canonical=canonical).with_history(self.step_name, **entry)

    def identity(self) -> list[Any]:
        parts = states.identity(self.config, self.given, self.before, self.head, self.backbone)
        return [self.step_name, *parts, __version__]
