"""Edit pictures of a scene with one sentence: InstructPix2Pix on views of one or more moments, made to agree.

First step of Instruct-4DGS (Kwon et al., CVPR 2025). Changed: the edit may be limited to selected Gaussians, be partial,
start from an already edited scene; and where the scene does not fill its pictures, what the model painted behind it is
exchanged for the scene's own background, which is all that a scene can hold.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..diffusion import MODES, Backbone
from ..diffusion.known_edits import BUNDLED_EDITS, FORCE_TEXT, check_prompt
from ..diffusion.sizes import size_for
from ..errors import InputError
from ..figures.color_maps import contact_sheet
from ..guidance.classifier_free import Guidance
from ..guidance.detail import carry_detail
from ..guidance.edit import STARTS, Edit, EditRequest
from ..masks.lift import render_selection
from ..masks.matte import over_background
from ..messages import Stream
from ..render import Rasterizer, choose
from ..scene import MultiViewVideo, Scene4D, Selection, ViewSet
from ..train import state as states
from ..train.loop import optimize, resume
from ..train.originals import SOURCES, Originals, choose_pairs, choose_source, collect
from ..train.threads import threads_for_model
from .step import choice, flag, number, validate, words

__all__ = ["Config", "run"]

BACKGROUNDS = ("auto", "scene", "as edited")
DETAILS = ("auto", "as painted", "from originals")


@dataclass(frozen=True)
class Config:
    prompt: str = words(
        "",
        f"What to change, as an instruction: 'make it night', 'turn it into a gold statue'. {BUNDLED_EDITS}",
    )
    negative: str = words("", "What the pictures should not become.")
    views: str = words("", "Numbers of the views to edit, such as 0 2 5-8; empty = all that are trained on.")
    moments: str = words("0", "Numbers of the moments to edit, such as 0 or 0 10 20; all = every one.")
    steps: int = number(
        0, 0, 200, "Diffusion steps; 0 = what suits the model. More is slower, often cleaner."
    )
    guidance_scale: float = number(
        0.0, 0.0, 50.0, "How strongly the sentence acts; 0 = what suits the model. More changes more.", 0.1
    )
    image_guidance_scale: float = number(
        0.0,
        0.0,
        10.0,
        "How strongly pictures stay themselves; 0 = what suits the model. More keeps more.",
        0.1,
    )
    strength: float = number(
        1.0,
        0.0,
        1.0,
        "Share of the noise that is put on the pictures; less keeps more of their layout.",
        0.01,
    )
    start: str = choice(
        "noised originals",
        STARTS,
        "Starts from the originals under noise (keeps large shapes and colours better) or from noise alone.",
    )
    attention: str = choice(
        "keyframe",
        MODES,
        "What each view sees of the others while it is edited: the key view, also the view before, also itself, all of "
        "them; vanilla edits each alone.",
    )
    key_view: int = number(-1, -1, 9999, "View that the others follow; -1 = the first of those edited.")
    resolution: int = number(
        0, 0, 4096, "Long side of the edited pictures in pixels; 0 = what suits the model. More is slower."
    )
    originals: str = choice(
        "auto",
        SOURCES,
        "What is edited: captured pictures or renders; auto takes captured ones of a scene that was not edited yet.",
    )
    background: str = choice(
        "auto",
        BACKGROUNDS,
        "Behind the subject: the scene's own background, or what the model painted there; auto takes the scene's where "
        "the scene does not fill its pictures.",
    )
    frames_at_once: int = number(
        0,
        0,
        1000,
        "Pictures edited together; 0 = all. Less needs less memory; all of them follow one key view.",
    )
    seed: int = number(0, 0, 2**32 - 1, "Another number gives another edit.")
    rasterizer: str = choice(
        "auto", ("auto", "gsplat", "numba", "torch"), "What draws the scene; auto takes the fastest here."
    )
    preview_every: int = number(1, 0, 1000, "Steps between two previews; 0 = none.")
    checkpoint_seconds: float = number(60.0, 1.0, 3600.0, "Seconds between two saves of unfinished work.")
    detail: str = choice(
        "auto",
        DETAILS,
        "Fine detail: as painted by the model, or the originals' own under the colours of the edit, which keeps faces "
        "and seams and holds back new shapes; auto takes what suits the model.",
    )
    force: bool = flag(False, FORCE_TEXT)

    def __post_init__(self) -> None:
        validate(self)


def run(
    scene: Scene4D,
    backbone: Backbone,
    config: Config,
    video: MultiViewVideo | None = None,
    selection: Selection | None = None,
    checkpoint: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Stream:
    """Started, Progress, Preview (originals above, edits below), Saved …, Finished(ViewSet on the CPU).

    Diffusion runs on the backbone's device, rendering on the scene's. Closing the generator writes `checkpoint`, and the
    same call goes on from it with the same bits; the file is removed when the generator goes on after Finished. Raises
    InputError for an empty prompt or one that the model does not know, views or moments that are not there, a model
    that takes no picture, a selection of another scene.
    """
    edit = ViewsEdit(scene, backbone, config, video, selection)
    resumed = resume(edit, checkpoint)
    note = f"{len(edit.views)} {edit.source} pictures of {edit.views.size[0]}×{edit.views.size[1]} with {backbone.name} "
    note += f"on {backbone.device}"
    pace = Steps(edit.edit.total, config.preview_every, config.checkpoint_seconds)
    note = f"resumed at step {edit.iteration}; {note}" if resumed else note
    note = "\n".join(filter(None, (note, edit.prompt_note)))
    yield from optimize(edit, pace, note, checkpoint, clock)


@dataclass(frozen=True)
class Steps:
    """The pace of `optimize`."""

    iterations: int
    preview_every: int
    checkpoint_seconds: float
    max_seconds: float = 0.0


class ViewsEdit:
    """Originals, request and masks put together; an `Optimization` whose steps are denoising steps."""

    def __init__(
        self,
        scene: Scene4D,
        backbone: Backbone,
        config: Config,
        video: MultiViewVideo | None = None,
        selection: Selection | None = None,
    ) -> None:
        self.scene, self.backbone, self.config = scene, backbone, config
        self.prompt_note = check_prompt(
            backbone.known_edits, config.prompt, config.force, is_local=selection is not None
        )
        if selection is not None:
            selection.check(len(scene.canonical))
        request, size, pairs, self.source = _plan(scene, backbone, config, video)
        rasterizer = choose(config.rasterizer, scene.device)
        captured = video if self.source == "captured" else None
        self.views = collect(Originals(scene, rasterizer, size, captured), pairs)
        masks = None if selection is None else _share(scene, selection, self.views, rasterizer)
        self.edit = Edit(backbone, self.views.originals, request, masks)

    def __len__(self) -> int:
        return len(self.scene.canonical)

    @property
    def iteration(self) -> int:
        return self.edit.done

    def step(self) -> dict[str, float]:
        with threads_for_model(self.backbone):
            self.edit.step()
        return {}

    def preview(self) -> Tensor:
        with threads_for_model(self.backbone):
            return contact_sheet(*self.edit.preview(4))

    def trained(self) -> dict[str, Tensor]:
        """The latents of the chunk under way; what the model gives is checked where it gives it."""
        return {} if self.edit.latents is None else {"latents": self.edit.latents}

    def result(self) -> ViewSet:
        """The views with what was edited so far."""
        edit, config, backbone = self.edit, self.config, self.backbone
        request, images, alphas = edit.request, edit.painted, self.views.alphas
        wanted = config.detail == "from originals" or (
            config.detail == "auto" and backbone.defaults.keeps_detail
        )
        if wanted and edit.calls:
            with threads_for_model(backbone):
                images = carry_detail(images, edit.originals, alphas, edit.as_seen())
        exchanged = alphas is not None and config.background != "as edited"
        if exchanged and alphas is not None and edit.calls:
            # before the mask limits it: at the mask's soft edge, too, the painted background must go
            images = over_background(images, alphas, self.scene.background.cpu(), edit.region)
        about: dict[str, Any] = {
            "prompt": request.guidance.prompt,
            "negative": request.guidance.negative,
            "model": backbone.name,
            "fingerprint": backbone.fingerprint,
            "steps": request.steps,
            "guidance_scale": request.guidance.scale,
            "image_guidance_scale": request.guidance.image_scale,
            "strength": request.strength,
            "start": request.start,
            "attention": request.attention,
            "key_view": self.views.views[request.key],
            "frames_at_once": request.frames_at_once,
            "seed": request.seed,
            "originals": self.source,
            "background": "scene" if exchanged else "as edited",
            "detail": "from originals" if wanted else "as painted",
            "is_local": edit.masks is not None,
            "diffusion_calls": edit.calls,
            "engine": __version__,
        }
        if self.prompt_note:
            about["note"] = self.prompt_note
        return replace(self.views, images=edit.limited(images), edit=about)

    @cached_property
    def key(self) -> str:
        """What a checkpoint belongs to: these pictures, this request, this model."""
        pictures = hashlib.sha256()
        for tensor in (self.views.originals, self.edit.masks):
            if tensor is not None:
                pictures.update(tensor.contiguous().numpy().data)
        request = asdict(self.edit.request)
        return states.key_of(
            "edit_views", pictures.hexdigest(), request, self.backbone.fingerprint, __version__
        )

    def save(self, path: Path) -> None:
        states.save_state(path, *self.edit.state(), self.key)

    def resume(self, path: Path) -> bool:
        found = states.load_state(path, self.key)
        if found is not None:
            self.edit.load_state(*found)
        return found is not None


def _plan(
    scene: Scene4D, backbone: Backbone, config: Config, video: MultiViewVideo | None
) -> tuple[EditRequest, tuple[int, int], list[tuple[int, int]], str]:
    """The request with nothing left open, the pictures' size, which pictures, and where they come from."""
    advised = backbone.defaults
    request = EditRequest(
        Guidance(
            config.prompt,
            config.guidance_scale or advised.guidance_scale,
            config.image_guidance_scale or advised.image_guidance_scale,
            config.negative,
        ),
        steps=config.steps or advised.steps,
        strength=config.strength,
        start=config.start,
        attention=config.attention,
        frames_at_once=config.frames_at_once,
        seed=config.seed,
    )
    pairs = choose_pairs(scene, config.views, config.moments, video)
    source, pairs = choose_source(config.originals, scene, video, pairs)
    size = size_for(backbone, *scene.rig.sizes[pairs[0][0]], config.resolution)
    return replace(request, key=_key_index(config.key_view, pairs)), size, pairs, source


def _key_index(key_view: int, pairs: list[tuple[int, int]]) -> int:
    if key_view < 0:
        return 0
    for i, (view, _) in enumerate(pairs):
        if view == key_view:
            return i
    edited = " ".join(str(view) for view in sorted({view for view, _ in pairs}))
    raise InputError(
        f"The key view {key_view} is not among the edited views ({edited}); choose one of them, or -1."
    )


def _share(scene: Scene4D, selection: Selection, before: ViewSet, rasterizer: Rasterizer) -> Tensor:
    """[F, h, w]: how much of what is seen of the scene at each pixel belongs to the selection."""
    part = render_selection(scene, selection, before.cameras, before.seconds, rasterizer)
    every = Selection(torch.ones(len(scene.canonical)))
    whole = render_selection(scene, every, before.cameras, before.seconds, rasterizer)
    # hardly covered pixels show the background: haze of a selected part must not select it
    return (part / whole.clamp(min=1e-3) * (whole * 10).clamp(0, 1)).clamp(0, 1).cpu()
