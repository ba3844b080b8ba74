"""The loop of Edit3DGS: edit renders of a head at several frames, fit the Gaussians to them, and repeat with less noise.

Source: Edit3DGS (arXiv 2606.17432), with the view editing and the noise levels of DGE (ECCV 2024). Changed: the keep mask
comes from the head's mesh instead of a segmentation model; the fit optimizes colors and positions by default, since the
paper's rate of 1e-2 on all parameters destroys geometry (preset "paper literal").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
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
from .head_edit_config import HeadEditConfig, Round
from .loop import Losses
from .originals import choose_pairs
from .view_edit import ViewEditing
from .view_edit_config import ViewEditConfig
from .view_fit import Pins, ViewFit, ViewFitConfig

# parts that a preset may freeze
MOUTH = ("teeth", "mouth interior")


class HeadEditing:
    """Rounds of editing and fitting as one `Optimization` (see `loop`): a step is a denoising or a fitting step.

    Args:
        scene: A scene whose Gaussians are bound to a head.
        head: Its head model.
        backbone: A diffusion model with image conditioning.
        config: Prompt, rounds and preset.
        selection: Gaussians that may change; None: all.

    Raises:
        InputError: As for editing views, and where the scene has no head or another one.
    """

    # said by the step: its name, and the classes that edit and fit in its name
    step_name: str
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
        self.before, self.scene = scene, scene.to(device)
        self.head, self.backbone, self.config = head, backbone, config
        self.device, self.given = device, selection
        self.selection = self._selection(selection)
        self.rounds = config.rounds(len(scene.times))
        self.round, self.calls = 0, 0
        self.current = self.scene
        # images of the round that is fitted, and what its edit says of itself
        self.views: ViewSet | None = None
        self.about: dict[str, Any] | None = None
        self.fit: ViewFit | None = None
        self.editing: ViewEditing = self._editing()
        self._fit_if_edited()
        self.checkpointed = states.Checkpointed(self, self.identity)

    def _selection(self, given: Selection | None) -> Selection | None:
        """What may change: what was selected, without teeth and mouth interior where the config freezes them."""
        regions = self.head.model.regions
        known = [p for p in MOUTH if self.config.freezes and any(n in regions for n in PARTS[p])]
        if not known:
            return given
        binding = bound_mesh_of(self.scene, self.head.model).binding.cpu()
        frozen = torch.stack([part_faces(self.head.model, p) for p in known]).any(0)[binding]
        weights = torch.ones(len(binding)) if given is None else given.weights.cpu()
        return Selection(torch.where(frozen, 0.0, weights))

    @property
    def fit_iterations(self) -> int:
        """Fitting steps of one round."""
        return self.config.iterations_of_preset * len(self.rounds[0].frames)

    @property
    def total(self) -> int:
        return sum(self._edit_steps(r) + self.fit_iterations for r in self.rounds)

    def _edit_steps(self, which: Round) -> int:
        """Denoising steps of a round; all rounds edit equally many images. One whose edit shows nowhere takes none."""
        edit = self.editing.edit
        every = len(self.backbone.noise_schedule.timesteps(edit.request.steps))
        return kept_steps(every, which.strength) * len(edit.split())

    def _editing(self) -> ViewEditing:
        """The edit of the round under way."""
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
        weight, model = self.config.pin_weight_of_preset, self.head.model
        is_asked = self.config.pin_weight > 0
        if not weight or not (is_asked or has_part(model, "mouth")):
            return None
        masks = draw_part(self.scene, model, "mouth", views.cameras, views.seconds)
        return Pins(masks, weight)

    def __len__(self) -> int:
        return len(self.current.canonical)

    @property
    def is_finished(self) -> bool:
        return self.round >= len(self.rounds)

    @property
    def iteration(self) -> int:
        done = sum(self._edit_steps(r) + self.fit_iterations for r in self.rounds[: self.round])
        if self.is_finished:
            return done
        if self.fit is None:
            return done + self.editing.iteration
        return done + self._edit_steps(self.rounds[self.round]) + self.fit.iteration

    def step(self) -> Losses:
        if self.fit is not None:
            losses = self.fit.step()
            if self.fit.iteration >= self.fit_iterations:
                self._leave_round()
            return losses
        losses = self.editing.step()
        self._fit_if_edited()
        return losses

    def _fit_if_edited(self) -> None:
        """Go on to the fit where the edit of the round is done: at once, if nothing of the selection is visible."""
        if self.editing.edit.is_finished:
            self.views = self.editing.result()
            self.about = self.views.edit
            self.calls += self.editing.edit.calls
            self.fit = self._fit(self.views)

    def _leave_round(self) -> None:
        assert self.fit is not None
        self.current = self.current.with_(canonical=self.fit.result().canonical)
        self.round, self.fit = self.round + 1, None
        if not self.is_finished:
            self.editing = self._editing()
            self._fit_if_edited()

    def preview(self) -> Tensor:
        """The images under way: originals over edits, or an edited image beside the head as it is."""
        return self.editing.preview() if self.fit is None else self.fit.preview()

    def trained(self) -> Mapping[str, Tensor]:
        if self.fit is not None:
            return self.fit.trained()
        # what the last step of a fit left is looked at in the next round
        fitted = {f"fitted.{name}": tensor for name, tensor in self.current.canonical.tensors().items()}
        return {**self.editing.trained(), **fitted}

    def result(self) -> Scene4D:
        """The head as edited so far; bindings and head parameters are the input's own."""
        canonical = self.current.canonical if self.fit is None else self.fit.result().canonical
        entry = {
            "config": self.config.record(),
            "prompt": self.config.prompt,
            "model": self.backbone.name,
            "edit": self.about,
            "rounds": min(self.round + 1, len(self.rounds)),
            "diffusion_calls": self.calls,
            "engine": __version__,
        }
        canonical = canonical.map(lambda t: t.to(self.before.device))
        return self.before.with_(canonical=canonical).with_history(self.step_name, **entry)

    # -- the checkpoint -----------------------------------------------------------------------------------------------

    def identity(self) -> list[Any]:
        parts = states.identity(self.config, self.given, self.before, self.head, self.backbone)
        return [self.step_name, *parts, __version__]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        inner = self.editing.edit if self.fit is None else self.fit
        tensors, numbers = inner.state()
        named = {f"inner.{name}": t for name, t in tensors.items()}
        named |= {f"canonical.{name}": t for name, t in self.current.canonical.tensors().items()}
        if self.fit is not None and self.views is not None:
            named["images"] = self.views.images
        about = {"round": self.round, "fits": self.fit is not None, "calls": self.calls, "edit": self.about}
        return named, {**about, "inner": numbers}

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        canonical = {n: tensors[f"canonical.{n}"] for n in self.scene.canonical.tensors()}
        self.current = self.scene.with_(canonical=self.scene.canonical.with_(**canonical))
        self.round, self.calls = int(numbers["round"]), int(numbers["calls"])
        self.fit, self.about = None, numbers["edit"]
        if self.is_finished:
            return
        self.editing = self._editing()
        inner = states.part(tensors, "inner", self.device)
        if not numbers["fits"]:
            self.editing.edit.load_state(inner, numbers["inner"])
            return
        self.views = replace(self.editing.views, images=tensors["images"], edit=self.about)
        self.fit = self._fit(self.views)
        self.fit.load_state(inner, numbers["inner"])

    def save(self, path: Path) -> None:
        self.checkpointed.save(path)

    def resume(self, path: Path) -> bool:
        return self.checkpointed.resume(path)
