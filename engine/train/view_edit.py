"""Editing images of a scene so that they agree: the first step of Instruct-4DGS (Kwon, Cho and Kim, CVPR 2025)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..diffusion import Backbone
from ..diffusion.backbone import check_makes_images
from ..diffusion.prompts import checked_prompt
from ..diffusion.sizes import nearest_size, size_for
from ..errors import InputError
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..guidance.classifier_free import Guidance
from ..guidance.detail import carry_detail
from ..guidance.edit import Edit, EditRequest, Placement
from ..guidance.inpaint import fitted
from ..masks.lift import render_selection
from ..masks.matte import over_background
from ..render import Rasterizer, choose
from ..scene import MultiViewVideo, Scene4D, Selection, ViewSet
from . import state as states
from .image_choice import images_to_edit
from .originals import Originals, Pair, choose_source, collect
from .threads import threads_for_model
from .view_crops import Crops, Window, longest_side, windows_of
from .view_edit_config import ViewEditConfig

# part of every checkpoint's identity: half-finished edits of another loop order start over
LOOP_ORDER = "timesteps, then chunks"


@dataclass(frozen=True)
class Steps:
    """The loop settings for `optimize`."""

    iterations: int
    preview_every: int
    checkpoint_seconds: float
    max_seconds: float = 0.0


class ViewEditing:
    """Originals, request and masks put together; an `Optimization` whose steps are denoising steps. A step names it."""

    # the step as in STEPS, for checkpoints
    step_name: str
    # steps after which the captured images no longer show the scene
    edits: tuple[str, ...]

    # `current`, an edited state of `scene`, is what denoising starts from; the model sees `scene` itself. `pairs` are edited
    # instead of the views and frames of `config`.

    def __init__(
        self,
        scene: Scene4D,
        backbone: Backbone,
        config: ViewEditConfig,
        video: MultiViewVideo | None = None,
        selection: Selection | None = None,
        keep: Tensor | None = None,
        current: Scene4D | None = None,
        pairs: list[Pair] | None = None,
    ) -> None:
        check_makes_images(backbone, "editing views")
        self.scene, self.backbone, self.config = scene, backbone, config
        self.prompt_note = checked_prompt(
            backbone, config.prompt, config.negative, config.force, is_local=selection is not None
        )
        if selection is not None:
            selection.check(len(scene.canonical))
        rasterizer = choose(config.rasterizer, scene.device)
        # masks that are one for each image were made for images that are known beforehand
        is_fixed = keep is not None and len(keep) > 1
        chosen, self.choice_note = (
            (pairs, "")
            if pairs
            else images_to_edit(scene, config.views, config.moments, video, rasterizer, is_fixed)
        )
        request, size, pairs, self.source = _plan(scene, backbone, config, video, self.edits, chosen)
        captured = video if self.source == "captured" else None
        first = scene.rig.sizes[pairs[0][0]]
        windows, side = None, 0
        if config.crop != "none":
            size, windows, side = self._windows(keep, selection, size, pairs)
        self.views = collect(Originals(scene, rasterizer, size, captured), pairs)
        if keep is not None:
            keep = fitted(keep, len(self.views), size[1], size[0], first)
        noised = None
        if current is not None:
            noised = collect(Originals(current, rasterizer, size), pairs).originals
        self.crops = None
        if windows is not None:
            self.crops = Crops(self.views, windows, side)
            keep, noised = (None if images is None else self.crops.cut(images) for images in (keep, noised))
            key = pairs[request.key]
            self.views = self.crops.views
            kept = list(zip(self.views.views, self.views.moments, strict=True))
            request = replace(request, key=kept.index(key) if key in kept else 0)
        masks = None if selection is None else selected_share(scene, selection, self.views, rasterizer)
        placement = Placement(self.views.cameras, tuple(self.views.moments))
        self.edit = Edit(backbone, self.views.originals, request, masks, placement, keep, noised)
        self.checkpointed = states.Checkpointed(self.edit, self.identity)

    def _windows(
        self,
        keep: Tensor | None,
        selection: Selection | None,
        size: tuple[int, int],
        pairs: list[tuple[int, int]],
    ) -> tuple[tuple[int, int], list[Window | None], int]:
        """The size of the whole images, where they are cropped, and the size of the edited crops."""
        first, config = self.scene.rig.sizes[pairs[0][0]], self.config
        around = self._cropped_mask(keep, selection, size, pairs)
        share, short = longest_side(around, config.crop_margin), min(first)
        side, _ = size_for(self.backbone, short, short, config.resolution)
        # as large as captured, unless a crop then had more pixels than the model edits
        size = nearest_size(*first, round(max(first) * min(1.0, side / (share * short))), 1)
        views, moments = [view for view, _ in pairs], [moment for _, moment in pairs]
        return size, windows_of(around, views, moments, config.crop_margin, size), side

    def _cropped_mask(
        self,
        keep: Tensor | None,
        selection: Selection | None,
        size: tuple[int, int],
        pairs: list[tuple[int, int]],
    ) -> Tensor:
        """[F, h, w]: what the crops lie around. Raises InputError where it is not connected."""
        scene, crop = self.scene, self.config.crop
        if (keep if crop == "keep mask" else selection) is None:
            raise InputError(
                "TRN-023",
                f"crop is '{crop}', but the input for it is not connected; connect it, or set crop to none.",
            )
        if crop == "keep mask":
            assert keep is not None
            # at their own size, where their boxes are exact
            height, width = keep.shape[-2:]
            return fitted(keep, len(pairs), height, width)
        assert selection is not None
        rasterizer = choose(self.config.rasterizer, scene.device)
        views = collect(Originals(scene, rasterizer, size), pairs)
        return selected_share(scene, selection, views, rasterizer)

    def __len__(self) -> int:
        return len(self.scene.canonical)

    @property
    def uncropped(self) -> ViewSet:
        """The unedited views as they are in the result."""
        return self.views if self.crops is None else self.crops.whole

    @property
    def note(self) -> str:
        """What the artist should know about this edit, one sentence per line."""
        return "\n".join(
            filter(None, (self.choice_note, self.prompt_note, self._crop_note, *self.edit.notes))
        )

    @property
    def _crop_note(self) -> str:
        """What the crops are."""
        if self.crops is None:
            return ""
        sides = sorted({window.side for window in self.crops.windows.values()})
        left = len(self.crops.whole) - len(self.views)
        said = f"cropped to {sides[0]}" + (f" to {sides[-1]}" if len(sides) > 1 else "")
        said += f" pixels around the {self.config.crop}, edited at {self.crops.side}"
        return said + (f"; {left} images without it stay as they are" if left else "")

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
        """The latents of all images; the model's output is checked where it is made."""
        return {} if self.edit.latents is None else {"latents": self.edit.latents}

    def result(self) -> ViewSet:
        """The views with the edit so far."""
        edit, config, backbone = self.edit, self.config, self.backbone
        request, images, alphas = edit.request, edit.painted, self.views.alphas
        wanted = config.detail == "from originals" or (
            config.detail == "auto" and backbone.defaults.keeps_detail
        )
        if wanted and edit.calls:
            with threads_for_model(backbone):
                images = self._with_detail(images)
        exchanged = alphas is not None and config.background != "as edited"
        if exchanged and alphas is not None and edit.calls:
            # before the mask is applied: the painted background must also go at the mask's soft edge
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
            "keeps": edit.keep is not None,
            "diffusion_calls": edit.calls,
            "engine": __version__,
        }
        if self.note:
            about["note"] = self.note
        images = edit.limited(images)
        if self.crops is not None:
            about |= {"crop": config.crop, "crop_margin": config.crop_margin, "crops": self.crops.record()}
            images = self.crops.pasted(images)
        return replace(self.uncropped, images=images, edit=about)

    def _with_detail(self, images: Tensor) -> Tensor:
        """Images with the originals' detail; what the edit keeps is the original itself."""
        edit, weights = self.edit, self.views.alphas
        if edit.keep is None:
            return carry_detail(images, edit.originals, weights, edit.as_seen())
        # the map of colors around what is kept must not be drawn toward the original's colors
        left = edit.keep.left
        weights = 1 - left if weights is None else weights.cpu() * (1 - left)
        carried = carry_detail(images, edit.originals, weights, edit.as_seen())
        return torch.lerp(carried, edit.originals.to(carried), left[..., None].to(carried))

    def identity(self) -> list[Any]:
        """What a checkpoint belongs to: these images, this request, this model, this engine."""
        keep = None if self.edit.keep is None else self.edit.keep.masks
        pictures = (self.views.originals, self.edit.masks, keep)
        parts = states.identity(self.edit.request, *pictures, self.backbone)
        return [self.step_name, LOOP_ORDER, *parts, __version__]

    def save(self, path: Path) -> None:
        self.checkpointed.save(path)

    def resume(self, path: Path) -> bool:
        return self.checkpointed.resume(path)


def _plan(
    scene: Scene4D,
    backbone: Backbone,
    config: ViewEditConfig,
    video: MultiViewVideo | None,
    edits: tuple[str, ...],
    chosen: list[Pair],
) -> tuple[EditRequest, tuple[int, int], list[Pair], str]:
    """The request with all defaults resolved, the image size, the (view, frame) pairs, and the source of the images."""
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
        keep=config.keep,
    )
    source, pairs = choose_source(config.originals, scene, video, chosen, edits)
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


def selected_share(scene: Scene4D, selection: Selection, before: ViewSet, rasterizer: Rasterizer) -> Tensor:
    """[F, h, w]: the selection's fraction of the visible scene at each pixel."""
    part = render_selection(scene, selection, before.cameras, before.seconds, rasterizer)
    every = Selection(torch.ones(len(scene.canonical)))
    whole = render_selection(scene, every, before.cameras, before.seconds, rasterizer)
    # sparsely covered pixels show the background: haze of a selected part must not select it
    return (part / whole.clamp(min=1e-3) * (whole * 10).clamp(0, 1)).clamp(0, 1).cpu()
