"""Editing a latent field along the difference between two prompts (ED-NeRF, Park et al., ICLR 2024, section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..diffusion import Backbone
from ..diffusion.backbone import check_makes_images
from ..diffusion.known_edits import check_prompt, check_source_prompt
from ..errors import InputError
from ..guidance.classifier_free import Guidance
from ..guidance.delta import check_prompts, delta_loss, masked_reconstruction
from ..guidance.score import Score, score_loss
from ..latent import LatentField
from ..masks.lift import render_selection
from ..models.text_length import length_note
from ..scene import MultiViewVideo, Selection
from .delta_config import DeltaConfig
from .feeding import Feed
from .latents import GEOMETRY, LatentOptimization, tensor_cache, views_by_moment
from .loop import Losses
from .originals import Originals, Pair, choose_pairs, choose_source, latents_of
from .schedule import log_linear
from .threads import threads_for, threads_for_model


class DeltaOptimization(LatentOptimization):
    """An optimization (see `loop`) of a latent field toward a prompt; a step names it."""

    # steps after which the captured images no longer show the scene
    edits: tuple[str, ...]
    config: DeltaConfig

    def __init__(
        self,
        field: LatentField,
        backbone: Backbone,
        config: DeltaConfig,
        selection: Selection | None,
        video: MultiViewVideo | None,
        device: torch.device | str,
    ) -> None:
        check_makes_images(backbone, "delta editing")
        if not config.prompt.strip():
            raise InputError(
                "STP-004", "The prompt is empty; describe the edit, such as 'a gold statue of a person'."
            )
        if config.method == "dds":
            check_prompts(config.source_prompt)
        looks = backbone.has_image_conditioning and config.looks_at != "nothing"
        self.prompt_note = _check_known(backbone, config, selection is not None, looks)
        field.vae.check(backbone)
        super().__init__(
            field,
            config,
            selection,
            device,
            trains_background=selection is None,
            trains_refiner=config.trains_refiner,
            trains_geometry=config.frees == "shape",
            optimizer=config.optimizer,
        )
        self.backbone, self.video = backbone, video
        self.times = [float(t) for t in field.scene.times]
        pairs = choose_pairs(field.scene, config.views or "all", config.moments)
        source, self.pairs = choose_source(config.originals, field.scene, video, pairs, self.edits)
        self.moments = views_by_moment(self.pairs)
        self.unedited = tensor_cache(lambda pair: self.renderer.latents([pair[0]], self.times[pair[1]])[0][0])
        self.masks = tensor_cache(self._mask)
        self.originals: Originals | None = None
        if looks:
            self.feed = Feed(video if source == "captured" else None)
            self.originals = Originals(self.field.scene, self.rasterizer, field.size, self.feed.video)
        elif config.looks_at == "originals":
            raise InputError(
                "STP-005",
                f"{backbone.name} does not use a conditioning image; set looks_at to auto, or connect an InstructPix2Pix model.",
            )
        self.conditions = tensor_cache()
        self.looks_at = source if looks else "nothing"
        bounds = field.scene.bounds
        self.extent = float((bounds[1] - bounds[0]).norm() / 2)
        self._shown: tuple[Pair, Tensor] | None = None

    def _mask(self, pair: Pair) -> Tensor:
        """[h, w] of zeros and ones: latents that the selected Gaussians cover, dilated by `dilation`."""
        assert self.selection is not None
        samples = self.field.how.samples
        camera = self.renderer.cameras[pair[0]]
        width, height = camera.sizes[0]
        fine = camera.resized(((width * samples, height * samples),))
        covered = render_selection(
            self.field.scene, self.selection, fine, [self.times[pair[1]]], self.rasterizer
        )
        mask = (F.avg_pool2d(covered, samples) >= max(self.config.mask_threshold, 1e-3)).float()
        grown = 2 * self.config.dilation + 1
        return F.max_pool2d(mask, grown, stride=1, padding=self.config.dilation)[0]

    def _condition(self, image: Tensor) -> Tensor:
        return self.backbone.encode_image_latents(image[None].to(self.backbone.device, non_blocking=True))[0]

    def _scales(self) -> tuple[float, float]:
        """The guidance scale at the start and at the end."""
        first = self.config.guidance_scale or self.backbone.defaults.guidance_scale
        return first, self.config.final_guidance_scale or first

    def _guidance(self) -> Guidance:
        c, best = self.config, self.backbone.defaults
        first, last = self._scales()
        keeps = (c.image_guidance_scale or best.image_guidance_scale) if self.originals is not None else 1.0
        return Guidance(c.prompt, first + (last - first) * self.progress, keeps, c.negative)

    def _timestep(self) -> int:
        total = len(self.backbone.noise_schedule)
        low = max(round(self.config.min_timestep * total) - 1, 0)
        high = max(round(self.config.max_timestep * total) - 1, low)
        if self.config.anneals:
            high = round(high - 0.75 * (high - low) * self.progress)
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def rates(self) -> dict[str, float]:
        """All fall to a tenth in the second half."""
        c = self.config
        late = log_linear(1.0, 0.1, 2 * self.progress - 1)
        position = c.position_lr * self.extent
        geometry = dict(zip(GEOMETRY, (position, c.scale_lr, c.rotation_lr, c.opacity_lr), strict=True))
        rates = {
            "features": c.feature_lr,
            "background": c.feature_lr,
            "refiner": c.refiner_lr,
            **geometry,
        }
        return {name: rate * late for name, rate in rates.items()}

    def captured(self) -> list[Pair]:
        return self.pairs

    def wanted(self, step: int) -> list[Pair]:
        moment, views = self.draw_pairs(self.pairs, self.moments, step)
        return [(view, moment) for view in views if (view, moment) not in self.conditions]

    def step(self) -> Losses:
        self.read_ahead()
        moment, views = self.draw_pairs(self.pairs, self.moments, self.iteration)
        pairs = [(view, moment) for view in views]
        t = self._timestep()
        with threads_for(self.rasterizer, self.device):
            latents = self.refined(self.drawn(views, self.times[moment])[0])
            source = torch.stack([self.unedited[pair] for pair in pairs])
            mask = torch.stack([self.masks[pair] for pair in pairs]) if self.selection is not None else None
        leaf = latents.detach().to(self.backbone.device).requires_grad_()
        with threads_for_model(self.backbone):
            score = self._score(leaf, source.to(leaf), t, pairs, None if mask is None else mask.to(leaf))
            score.loss.backward()
        with threads_for(self.rasterizer, self.device):
            assert leaf.grad is not None
            # its gradient with respect to the latents is leaf.grad
            loss = (latents * leaf.grad.to(latents)).sum()
            everywhere = torch.ones_like(latents[:, 0]) if mask is None else mask
            kept = masked_reconstruction(
                latents, source, everywhere, self.config.inside_weight, self.config.outside_weight
            )
            (loss + kept).backward()
            self.learn()
        self._shown = pairs[0], score.clean[:1]
        return {"score": score.loss.detach(), "kept": kept.detach(), "timestep": float(t)}

    def _score(
        self, latents: Tensor, source: Tensor, t: int, pairs: list[Pair], mask: Tensor | None
    ) -> Score:
        noise = torch.randn(latents.shape, generator=self.generator).to(latents, non_blocking=True)
        condition = None
        if self.originals is not None:
            condition = latents_of(self.conditions, pairs, self.originals, self._condition, self.backbone)
        target, at_once = self._guidance(), not self.config.low_vram
        if self.config.method == "sds":
            return score_loss(
                self.backbone,
                latents,
                t,
                noise,
                target,
                condition,
                self.config.weighting,
                branches_at_once=at_once,
                mask=mask,
            )
        original = Guidance(self.config.source_prompt, target.scale, target.image_scale, target.negative)
        return delta_loss(
            self.backbone,
            latents,
            source,
            t,
            noise,
            target,
            original,
            condition,
            mask,
            at_once,
            self.config.weighting,
        )

    @torch.no_grad()
    def preview(self) -> Tensor:
        """[H, 2W, 3]: the original field and the edited one, decoded."""
        pair = self._shown[0] if self._shown else self.pairs[0]
        now = self.refined(self.drawn([pair[0]], self.times[pair[1]])[0])
        both = torch.cat([self.unedited[pair][None], now]).to(self.backbone.device)
        with threads_for_model(self.backbone):
            pictures = self.backbone.decode(both).clamp(0, 1).float().cpu()
        return torch.cat(list(pictures), dim=1)

    def result(self) -> LatentField:
        """The edited field; its `before` is the unedited one."""
        first = self.before if self.before.before is None else self.before.before
        return super().result().with_(before=first)

    def metadata(self) -> dict[str, Any]:
        guidance = self._guidance()
        return {
            "prompt": self.config.prompt,
            "source_prompt": self.config.source_prompt,
            "model": self.backbone.name,
            "guidance_scale": guidance.scale,
            "guidance_scales": list(self._scales()),
            **({"image_guidance_scale": guidance.image_scale} if self.originals is not None else {}),
            "looks_at": self.looks_at,
            "diffusion_calls": self.iteration,
        }

    def inputs(self) -> list[Any]:
        return [*super().inputs(), self.backbone, self.video]


def _check_known(backbone: Backbone, config: DeltaConfig, is_local: bool, sees_originals: bool) -> str:
    """A note on the prompts. Raises InputError for one that the model does not know."""
    known, force = backbone.known_edits, config.force
    notes = [check_prompt(known, config.prompt, force, is_local, is_caption=not sees_originals)]
    read = {"prompt": config.prompt, "negative prompt": config.negative}
    if config.method == "dds":
        read["source prompt"] = config.source_prompt
        notes.append(check_source_prompt(known, config.source_prompt, force, sees_originals))
    notes += [length_note(backbone.name, backbone.cut_short(text), what) for what, text in read.items()]
    return "\n".join(filter(None, notes))
