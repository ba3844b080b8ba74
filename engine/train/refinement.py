"""Score distillation on renders of an edited scene (Instruct-4DGS, Kwon, Cho and Kim, CVPR 2025, section 3.4)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from ..diffusion import Backbone
from ..diffusion.backbone import check_makes_images
from ..diffusion.in_parallel import each
from ..diffusion.prompts import checked_prompt
from ..diffusion.sizes import size_for
from ..guidance.classifier_free import Guidance
from ..guidance.score import Score, score_loss
from ..lru import LruCache
from ..render import Picture, render_gaussians
from ..scene import Gaussians, MultiViewVideo, Scene4D, Selection
from .draws import generator_at
from .edits import CanonicalEdit
from .feeding import Feed
from .loop import Losses
from .originals import Originals, Pair, choose_pairs, choose_source, latents_of
from .refine_config import RefineConfig
from .threads import threads_for, threads_for_model

# of encoded originals
KEPT_BYTES = 64_000_000


class ScoreRefinement(CanonicalEdit):
    """An optimization (see `loop`) of canonical Gaussians by score distillation; a step names it."""

    # steps after which the captured images no longer show the scene
    edits: tuple[str, ...]
    config: RefineConfig

    def __init__(
        self,
        scene: Scene4D,
        backbone: Backbone,
        config: RefineConfig,
        video: MultiViewVideo | None,
        selection: Selection | None,
        device: torch.device | str,
        original: Scene4D | None,
    ) -> None:
        check_makes_images(backbone, "score distillation")
        self.prompt_note = checked_prompt(
            backbone, config.prompt, config.negative, config.force, is_local=selection is not None
        )
        super().__init__(scene, config, selection, device)
        self.backbone, self.given = backbone, [backbone, video, original]
        best = backbone.defaults
        self.guidance = Guidance(
            config.prompt,
            config.guidance_scale or best.guidance_scale,
            config.image_guidance_scale or best.image_guidance_scale,
            config.negative,
        )
        pairs = choose_pairs(scene, "", "all", video)
        width, height = scene.rig.sizes[pairs[0][0]]
        self.size = size_for(backbone, width, height, config.resolution)
        self.rig = scene.rig.resized((self.size,) * len(scene.rig))
        source = self.image_source(scene, video, original)
        self.source, self.pairs = choose_source(source, original or scene, video, pairs, self.edits)
        unedited = (original or scene).to(self.device)
        self.feed = Feed(video if self.source == "captured" else None)
        self.originals = Originals(unedited, self.rasterizer, self.size, self.feed.video)
        self._encoded: LruCache[Pair, Tensor] = LruCache(KEPT_BYTES, lambda t: t.nbytes, at_least=1)
        # the model's last prediction for an image: latents [1, C, h, w]
        self._shown: tuple[Pair, Tensor] | None = None

    @abstractmethod
    def image_source(self, scene: Scene4D, video: MultiViewVideo | None, original: Scene4D | None) -> str:
        """Where the unedited images come from, one of `SOURCES`. Raises InputError where nothing shows them."""

    def _timestep(self) -> int:
        """One level of noise for all images of a step: U{19, …, 979} for 0.02 to 0.98 of 1000."""
        best, total = self.backbone.defaults, len(self.backbone.noise_schedule)
        low = max(round((self.config.min_timestep or best.min_timestep) * total) - 1, 0)
        high = max(round((self.config.max_timestep or best.max_timestep) * total) - 1, low)
        if self.config.anneals:
            high = round(high - 0.75 * (high - low) * self.progress)
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def _condition(self, image: Tensor) -> Tensor:
        """[C, h, w] of an unedited image [H, W, 3]."""
        return self.backbone.encode_image_latents(image[None].to(self.device, non_blocking=True))[0]

    def _render(self, pairs: list[Pair]) -> list[Picture]:
        then: dict[int, Gaussians] = {}
        for _, moment in pairs:
            if moment not in then:
                then[moment] = self.gaussians_at(float(self.before.times[moment]))
        return [
            render_gaussians(then[moment], self.rig[view], self.rasterizer, self.background)
            for view, moment in pairs
        ]

    def _encode(self, image: Tensor, seed: int) -> Tensor:
        """Latents [1, C, h, w] of an image [1, H, W, 3], with the posterior's noise from `seed`."""
        return self.backbone.encode(image, torch.Generator().manual_seed(seed))

    def _pairs_at(self, step: int) -> list[Pair]:
        """The views and frames that a step renders."""
        generator = generator_at(self.config.seed, step)
        index = torch.randint(len(self.pairs), (self.config.images_per_step,), generator=generator)
        return [self.pairs[i] for i in index.tolist()]

    def captured(self) -> list[Pair]:
        return self.pairs if self.backbone.has_image_conditioning else []

    def wanted(self, step: int) -> list[Pair]:
        if not self.backbone.has_image_conditioning:
            return []
        return [pair for pair in self._pairs_at(step) if pair not in self._encoded]

    def step(self) -> Losses:
        self.read_ahead()
        pairs = self._pairs_at(self.iteration)
        t = self._timestep()
        seeds = torch.randint(2**62, (len(pairs),), generator=self.generator).tolist()
        # A small scene is rendered with one thread, but a large model needs all of them. So the gradient is computed in two
        # steps: from the loss to the images, and from there to the Gaussians.
        with threads_for(self.rasterizer, self.device):
            pictures = self._render(pairs)
        images = torch.cat([p.rgb for p in pictures])
        leaf = images.detach().requires_grad_()
        with threads_for_model(self.backbone):
            # The encoder's intermediate results take more memory than anything else. Where the model is on a GPU, latents are
            # therefore made without them for the model, and then once more, an image at a time.
            views = list(zip(leaf.split(1), seeds, strict=True))
            with torch.set_grad_enabled(self.backbone.device.type == "cpu" and not self.config.low_vram):
                encoded = each(self.backbone, lambda view: self._encode(*view), views)
            score = self._score(torch.cat(encoded).detach(), pairs, t)
            # of the loss with respect to the latents
            gradients = score.gradient / len(pairs)

            def backward(given: tuple[tuple[Tensor, int], Tensor, Tensor]) -> None:
                view, latents, gradient = given
                known = latents if latents.requires_grad else self._encode(*view)
                (known * gradient[None]).sum().backward()

            each(self.backbone, backward, list(zip(views, encoded, gradients, strict=True)))
        with threads_for(self.rasterizer, self.device):
            assert leaf.grad is not None
            # its gradient with respect to the images is leaf.grad
            loss = (images * leaf.grad).sum()
            motion_loss = self.motion_loss()
            loss = loss if motion_loss is None else loss + motion_loss
            loss.backward()
            self.learn([])
        self._shown = pairs[0], score.clean[:1]
        return {"score": score.loss.detach(), "timestep": float(t)}

    @torch.no_grad()
    def _score(self, latents: Tensor, pairs: list[Pair], t: int) -> Score:
        noise = torch.randn(latents.shape, generator=self.generator).to(latents, non_blocking=True)
        condition = None
        if self.backbone.has_image_conditioning:
            condition = latents_of(self._encoded, pairs, self.originals, self._condition, self.backbone)
        return score_loss(
            self.backbone,
            latents,
            t,
            noise,
            self.guidance,
            condition,
            self.config.weighting,
            branches_at_once=not self.config.low_vram,
        )

    @torch.no_grad()
    def preview(self) -> Tensor:
        """[H, 3W, 3]: unedited image, current render, and the model's prediction."""
        pair, clean = self._shown or (self.pairs[0], None)
        before = self.originals.get(*pair)[0]
        now = self._render([pair])[0].rgb[0].clamp(0, 1).cpu()
        with threads_for_model(self.backbone):
            wish = now if clean is None else self.backbone.decode(clean)[0].clamp(0, 1).float().cpu()
        return torch.cat([before, now, wish], dim=1)

    def metadata(self) -> dict[str, Any]:
        return {
            "prompt": self.config.prompt,
            "model": self.backbone.name,
            "objective": "score",
            "guidance_scale": self.guidance.scale,
            "image_guidance_scale": self.guidance.image_scale,
            "condition": self.source,
            "size": list(self.size),
            "diffusion_calls": self.iteration,
        }

    def inputs(self) -> list[Any]:
        return [*super().inputs(), *self.given]
