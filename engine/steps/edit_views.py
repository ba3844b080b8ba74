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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..diffusion import MODES, Backbone
from ..diffusion.sizes import size_for
from ..errors import InputError
from ..guidance.classifier_free import Guidance
from ..guidance.edit import STARTS, Edit, EditRequest
from ..masks.lift import shown
from ..masks.matte import over_background
from ..render import Rasterizer, choose
from ..render.pictures import contact_sheet
from ..scene import MultiViewVideo, Scene4D, Selection, ViewSet
from ..train import state as states
from ..train.messages import Finished, Preview, Progress, Saved, Started, Stream
from ..train.originals import SOURCES, Originals, choose_pairs, choose_source, collect
from .step import choice, number, validate, words

__all__ = ["Config", "run"]

BACKGROUNDS = ("auto", "scene", "as edited")


@dataclass(frozen=True)
class Config:
    prompt: str = words(
        "", "What to change, as an instruction: 'make it night', 'turn it into a gold statue'."
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
    preview_every: int = number(5, 0, 1000, "Steps between two previews; 0 = none.")
    checkpoint_seconds: float = number(60.0, 1.0, 3600.0, "Seconds between two saves of unfinished work.")

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
    InputError for an empty prompt, views or moments that are not there, a model that takes no picture, a selection of
    another scene.
    """
    request, size, pairs, source = _plan(scene, backbone, config, video)
    if selection is not None:
        selection.check(len(scene.canonical))
    rasterizer = choose(config.rasterizer, scene.device)
    before = collect(Originals(scene, rasterizer, size, video if source == "captured" else None), pairs)
    masks = None if selection is None else _share(scene, selection, before, rasterizer)
    edit = Edit(backbone, before.originals, request, masks)
    key = _key(backbone, request, before, masks)
    resumed = checkpoint is not None and _resume(edit, checkpoint, key)
    note = f"{len(pairs)} {source} pictures of {size[0]}×{size[1]} with {backbone.name} on {backbone.device}"
    yield Started(edit.total, f"resumed at step {edit.done}; {note}" if resumed else note)
    saved_at, saved, whole = clock(), edit.done, True
    try:
        while not edit.is_finished:
            whole, chunk = False, edit.chunk
            edit.step()
            whole = True
            yield Progress(edit.done)
            ends = edit.chunk != chunk
            if config.preview_every and (ends or edit.done % config.preview_every == 0):
                yield Preview(contact_sheet(*edit.preview(4)), edit.done)
            if checkpoint is not None and (clock() - saved_at > config.checkpoint_seconds):
                _save(edit, checkpoint, key)
                saved_at, saved = clock(), edit.done
                yield Saved(str(checkpoint), edit.done)
    except BaseException:
        # closed, interrupted or failed between two steps; half a step is never kept
        if checkpoint is not None and whole and edit.done > saved:
            _save(edit, checkpoint, key)
        raise
    if checkpoint is not None and edit.done > saved:
        _save(edit, checkpoint, key)
    yield Finished(_finished(scene, backbone, config, before, edit, source))
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


def _plan(
    scene: Scene4D, backbone: Backbone, config: Config, video: MultiViewVideo | None
) -> tuple[EditRequest, tuple[int, int], list[tuple[int, int]], str]:
    """The request with nothing left open, the pictures' size, which pictures, and where they come from."""
    advised = backbone.recommended
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
    part = shown(scene, selection, before.cameras, before.seconds, rasterizer)
    every = Selection(torch.ones(len(scene.canonical)))
    whole = shown(scene, every, before.cameras, before.seconds, rasterizer)
    # hardly covered pixels show the background: haze of a selected part must not select it
    return (part / whole.clamp(min=1e-3) * (whole * 10).clamp(0, 1)).clamp(0, 1)


def _finished(
    scene: Scene4D, backbone: Backbone, config: Config, before: ViewSet, edit: Edit, source: str
) -> ViewSet:
    request, images = edit.request, edit.images
    exchanged = before.alphas is not None and config.background != "as edited"
    if exchanged and before.alphas is not None and edit.calls:
        images = over_background(images, before.alphas, scene.background.cpu())
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
        "key_view": before.views[request.key],
        "frames_at_once": request.frames_at_once,
        "seed": request.seed,
        "originals": source,
        "background": "scene" if exchanged else "as edited",
        "is_local": edit.masks is not None,
        "diffusion_calls": edit.calls,
        "engine": __version__,
    }
    return replace(before, images=images, edit=about)


def _key(backbone: Backbone, request: EditRequest, before: ViewSet, masks: Tensor | None) -> str:
    """What a checkpoint belongs to: these pictures, this request, this model."""
    pictures = hashlib.sha256()
    for tensor in (before.originals, masks):
        if tensor is not None:
            pictures.update(tensor.contiguous().numpy().data)
    return states.key_of(
        "edit_views", pictures.hexdigest(), asdict(request), backbone.fingerprint, __version__
    )


def _save(edit: Edit, path: Path, key: str) -> None:
    states.save_state(path, *edit.state(), key)


def _resume(edit: Edit, path: Path, key: str) -> bool:
    found = states.load_state(path, key)
    if found is None:
        return False
    edit.load_state(*found)
    return True
