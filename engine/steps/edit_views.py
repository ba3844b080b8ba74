"""Edit pictures of a scene with one sentence: InstructPix2Pix on views of one or more moments, made to agree.

First step of Instruct-4DGS (Kwon et al., CVPR 2025). Changed: the edit may be limited to selected Gaussians, be partial,
start from an already edited scene; and where the scene does not fill its pictures, what the model painted behind it is
exchanged for the scene's own background, which is all that a scene can hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..diffusion import MODES, Backbone
from ..diffusion.known_edits import BUNDLED_EDITS, FORCE_TEXT, check_prompt
from ..diffusion.sizes import size_for
from ..errors import InputError
from ..fields import choice, flag, number, text, validate
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..guidance.classifier_free import Guidance
from ..guidance.detail import carry_detail
from ..guidance.edit import STARTS, Edit, EditRequest
from ..masks.lift import render_selection
from ..masks.matte import over_background
from ..messages import Stream
from ..render import Rasterizer, choose, rasterizer_field
from ..scene import MultiViewVideo, Scene4D, Selection, ViewSet
from ..train import state as states
from ..train.loop import optimize, resume
from ..train.originals import SOURCES, Originals, choose_pairs, choose_source, collect
from ..train.threads import threads_for_model
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

BACKGROUNDS = ("auto", "scene", "as edited")
DETAILS = ("auto", "as painted", "from originals")


@dataclass(frozen=True)
class Config:
    prompt: str = text(
        "",
        f"The edit as an instruction, such as 'make it night' or 'turn it into a gold statue'. {BUNDLED_EDITS}",
        multiline=True,
    )
    guidance_scale: float = number(
        0.0,
        0.0,
        50.0,
        "Guidance scale for the text (s_T). Higher follows the prompt more; typical 7–12; 0 uses the model's default.",
        0.1,
        label="guidance scale (0 = auto)",
    )
    image_guidance_scale: float = number(
        0.0,
        0.0,
        10.0,
        "Image guidance scale (s_I). Higher stays closer to the original image; typical 1.2–1.8; 0 uses the model's "
        "default.",
        0.1,
        label="image guidance scale (0 = auto)",
    )
    steps: int = number(
        0,
        0,
        200,
        "Denoising steps. More is slower and often cleaner; typical 20; 0 uses the model's default.",
        label="steps (0 = auto)",
    )
    strength: float = number(
        1.0,
        0.0,
        1.0,
        "Fraction of the noise schedule that is used. Lower keeps more of the original layout; typical 0.6–1.",
        0.01,
        label="denoise",
    )
    views: str = text("", "Indices of the views to edit, such as '0 2 5-8'. Empty edits all training views.")
    moments: str = text(
        "0",
        "Indices of the frames to edit, such as '0' or '0 10 20'; 'all' edits every frame.",
        label="frames",
    )
    seed: int = number(0, 0, 2**32 - 1, "Random seed.")
    negative: str = text(
        "", "Negative prompt: what the images should not show.", label="negative prompt", advanced=True
    )
    resolution: int = number(
        0,
        0,
        4096,
        "Longer side of the edited images in pixels. More is slower; 0 uses the model's default.",
        label="resolution (0 = auto)",
        advanced=True,
    )
    attention: str = choice(
        "keyframe",
        MODES,
        "Cross-frame attention: which other views each view attends to during denoising. vanilla edits each view on its "
        "own.",
        label="cross-frame attention",
        advanced=True,
    )
    key_view: int = number(
        -1,
        -1,
        9999,
        "View that the others attend to. -1 uses the first edited view.",
        label="key view (-1 = first)",
        advanced=True,
    )
    start: str = choice(
        "noised originals",
        STARTS,
        "Starts from the noised originals (preserves large shapes and colors better) or from pure noise.",
        advanced=True,
    )
    originals: str = choice(
        "auto",
        SOURCES,
        "Source of the images to edit: captured or rendered. auto uses captured images if the scene has not been edited.",
        label="original source",
        advanced=True,
    )
    background: str = choice(
        "auto",
        BACKGROUNDS,
        "Background of the edited images: the scene's own or the one that the model painted. auto uses the scene's own if "
        "the scene does not fill the images.",
        advanced=True,
    )
    frames_at_once: int = number(
        0,
        0,
        1000,
        "Images per batch. Fewer need less memory; all batches share one key view. 0 puts all images in one batch.",
        label="batch size (0 = all)",
        advanced=True,
    )
    rasterizer: str = rasterizer_field()
    preview_every: int = number(
        1,
        0,
        1000,
        "Steps between two preview images. 0 shows none.",
        label="preview every (0 = never)",
        advanced=True,
    )
    checkpoint_seconds: float = number(
        60.0,
        1.0,
        3600.0,
        "Seconds between two checkpoints.",
        label="checkpoint every (seconds)",
        advanced=True,
    )
    detail: str = choice(
        "auto",
        DETAILS,
        "Fine detail: as painted by the model, or transferred from the originals, which keeps faces and seams and limits "
        "new shapes. auto uses the model's default.",
        since="0.1",
    )
    force: bool = flag(False, FORCE_TEXT, label="force unknown prompt", since="0.2")

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
    device: torch.device | str | None = None,
) -> Stream:
    """Started, Progress, Preview (originals above, edits below), Saved …, Finished(ViewSet on the CPU).

    Diffusion runs on the backbone's device, rendering on `device` (default: the scene's). Closing the generator writes
    `checkpoint`, and the same call resumes with the same bits; the file is removed when the generator goes on after
    Finished. Raises InputError for an empty prompt or one that the model does not know, views or frames that do not
    exist, a model without a conditioning image, a selection of another scene.
    """
    scene = scene if device is None else scene.to(device)
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
        self.checkpointed = states.Checkpointed(self.edit, self.identity)

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
            before, after = self.edit.preview(4)
            return as_tensor(sheet([*zip(before, after, strict=True)]))

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

    def identity(self) -> list[Any]:
        """What a checkpoint belongs to: these pictures, this request, this model, this engine."""
        pictures = (self.views.originals, self.edit.masks)
        return ["edit_views", *states.identity(self.edit.request, *pictures, self.backbone), __version__]

    def save(self, path: Path) -> None:
        self.checkpointed.save(path)

    def resume(self, path: Path) -> bool:
        return self.checkpointed.resume(path)


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
    source, pairs = choose_source(config.originals, scene, video, pairs, EDITS)
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
        "STP-006",
        f"The key view {key_view} is not among the edited views ({edited}); choose one of them, or -1.",
    )


def _share(scene: Scene4D, selection: Selection, before: ViewSet, rasterizer: Rasterizer) -> Tensor:
    """[F, h, w]: how much of what is seen of the scene at each pixel belongs to the selection."""
    part = render_selection(scene, selection, before.cameras, before.seconds, rasterizer)
    every = Selection(torch.ones(len(scene.canonical)))
    whole = render_selection(scene, every, before.cameras, before.seconds, rasterizer)
    # hardly covered pixels show the background: haze of a selected part must not select it
    return (part / whole.clamp(min=1e-3) * (whole * 10).clamp(0, 1)).clamp(0, 1).cpu()


def summary(views: ViewSet) -> str:
    """One or two lines about an edit."""
    width, height = views.size
    edit = views.edit or {}
    lines = [f"{len(views)} images, {width}×{height}, {edit.get('originals', '')} originals"]
    if edit:
        lines.append(
            f"{edit.get('steps')} steps, guidance scale {edit.get('guidance_scale'):g}, image guidance scale "
            f"{edit.get('image_guidance_scale'):g}"
        )
    if edit.get("note"):
        lines.append(str(edit["note"]))
    return "\n".join(lines)


STEP = Step(
    name="edit_views",
    node="EditViews",
    label="Edit Views with Prompt",
    category="4dgs/edit",
    description="Edits images of the scene with a prompt so that they agree with each other (InstructPix2Pix with "
    "cross-frame attention). Check them, then fit the scene to them.",
    search=("instruct-4dgs", "instruct pix2pix", "ip2p", "prompt", "text edit"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The scene to edit; it is not changed."),
        Input(
            "backbone",
            Kind.GUIDANCE,
            "An InstructPix2Pix model, from Load Diffusion Guidance.",
            id="guidance",
        ),
        Input(
            "video",
            Kind.CAPTURE,
            "The capture that the scene was trained on: its images are edited instead of renders.",
            optional=True,
        ),
        Input(
            "selection",
            Kind.SELECTION,
            "Restricts the edit to these Gaussians. From Lift Mask to Gaussians; without it everything may change.",
            optional=True,
        ),
    ),
    outputs=(
        Output("views_out", Kind.VIEWS, "Edited views for Fit Scene to Edited Views.", "views"),
        Output("edited", Kind.IMAGES, "The edited images, as a batch.", of=lambda views: views.images),
        Output(
            "originals_out",
            Kind.IMAGES,
            "The images before the edit.",
            "originals",
            of=lambda views: views.originals,
        ),
    ),
    resumes="editing",
    figure=Figure.BEFORE_AFTER,
    note=summary,
)
