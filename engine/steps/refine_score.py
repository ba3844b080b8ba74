"""Refine an edited scene by score distillation: stage 2 of Instruct-4DGS (Kwon, Cho and Kim, CVPR 2025, section 3.4).

Each step renders a few random views at random moments, encodes them with a gradient, and asks the diffusion model, which
sees the unedited pictures of the same views and moments, in which direction they should change. The motion is frozen as
in stage 1; the number of diffusion calls is the number of steps, however long the clip. Changed: renders are made at the
model's own size; the loss is float32; random numbers come from one seeded generator, so that a resumed run ends with the
same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recomputed

from ..diffusion import Backbone
from ..diffusion.known_edits import BUNDLED_EDITS, FORCE_TEXT, check_prompt
from ..diffusion.sizes import size_for
from ..errors import InputError
from ..fields import choice, flag, number, text, validate
from ..guidance.classifier_free import Guidance
from ..guidance.score import WEIGHTINGS, Score, score_loss
from ..lru import LruCache
from ..messages import Stream
from ..render import Picture, render_gaussians
from ..scene import Gaussians, MultiViewVideo, Scene4D, Selection
from ..train.edit_config import EditConfig
from ..train.edits import CanonicalEdit
from ..train.originals import SOURCES, Originals, Pair, choose_pairs, choose_source
from ..train.threads import threads_for, threads_for_model
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

KEPT_BYTES = 64_000_000  # of encoded originals


@dataclass(frozen=True)
class Config(EditConfig):
    prompt: str = text(
        "", f"The instruction that the views were edited with. {BUNDLED_EDITS}", multiline=True
    )
    negative: str = text(
        "",
        "Negative prompt: what the images should not show; usually empty.",
        label="negative prompt",
        advanced=True,
    )
    iterations: int = number(
        800, 1, 1_000_000, "Refinement steps, each with one call of the diffusion model."
    )
    images_per_step: int = number(
        4,
        1,
        64,
        "Random views and frames per step. More is smoother and slower.",
        label="batch size",
        advanced=True,
    )
    guidance_scale: float = number(
        0.0,
        0.0,
        100.0,
        "Guidance scale for the text (s_T). Higher follows the prompt more; the paper uses 10.5; 0 uses the model's "
        "default.",
        0.1,
        label="guidance scale (0 = auto)",
    )
    image_guidance_scale: float = number(
        0.0,
        0.0,
        100.0,
        "Image guidance scale (s_I). Higher stays closer to the unedited images; the paper uses 1.2; 0 uses the model's "
        "default.",
        0.1,
        label="image guidance scale (0 = auto)",
    )
    weighting: str = choice(
        "reference code",
        WEIGHTINGS,
        "Weight of each timestep: reference code favors the middle, standard favors high noise, picture favors it most, "
        "uniform weights all alike.",
        advanced=True,
    )
    min_timestep: float = number(
        0.0,
        0.0,
        1.0,
        "Smallest timestep, as a fraction of the schedule. Smaller refines finer detail; 0 uses the model's default.",
        0.01,
        label="min timestep (0 = auto)",
        advanced=True,
    )
    max_timestep: float = number(
        0.0,
        0.0,
        1.0,
        "Largest timestep, as a fraction of the schedule. Larger changes shapes more; 0 uses the model's default.",
        0.01,
        label="max timestep (0 = auto)",
        advanced=True,
    )
    anneals: bool = flag(
        False,
        "Lowers the largest timestep over the run to a quarter of the range, so that detail comes last.",
        label="anneal timesteps",
        advanced=True,
    )
    condition: str = choice(
        "auto",
        SOURCES,
        "Conditioning image: captured images, or renders of the scene before the edit. auto uses captured images if the "
        "scene had not been edited before.",
        label="conditioning image",
        advanced=True,
    )
    resolution: int = number(
        0,
        0,
        4096,
        "Longer side of the rendered images in pixels. More is slower; 0 uses the model's default.",
        label="resolution (0 = auto)",
        advanced=True,
    )
    low_vram: bool = flag(
        False,
        "Processes one image at a time and recomputes intermediate results: slower, with less memory.",
        label="low VRAM",
        id="saves_memory",
        advanced=True,
    )
    preview_every: int = number(
        25, 0, 100_000, "Steps between two preview images. 0 shows none.", label="preview every (0 = never)"
    )
    force: bool = flag(False, FORCE_TEXT, label="force unknown prompt", since="0.2")

    def __post_init__(self) -> None:
        validate(self)
        if self.min_timestep and self.max_timestep and self.min_timestep > self.max_timestep:
            raise InputError(
                "STP-023",
                f"min_timestep is {self.min_timestep} and max_timestep {self.max_timestep}; the first must be smaller.",
            )


class RefineScore(CanonicalEdit):
    step_name = "refine_score"
    config: Config

    def __init__(
        self,
        scene: Scene4D,
        backbone: Backbone,
        config: Config,
        video: MultiViewVideo | None,
        selection: Selection | None,
        device: torch.device | str,
        original: Scene4D | None,
    ) -> None:
        if not config.prompt.strip():
            raise InputError("STP-024", "The prompt is empty; say what the edit is, such as 'make it night'.")
        self.prompt_note = check_prompt(
            backbone.known_edits, config.prompt, config.force, is_local=selection is not None
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
        source = _condition(config, scene, video, original)
        self.source, self.pairs = choose_source(source, original or scene, video, pairs, EDITS)
        unedited = (original or scene).to(self.device)
        captured = video if self.source == "captured" else None
        self.originals = Originals(unedited, self.rasterizer, self.size, captured)
        self._encoded: LruCache[Pair, Tensor] = LruCache(KEPT_BYTES, lambda t: t.nbytes, at_least=1)
        self._shown: tuple[Pair, Tensor] | None = None  # what the model last made of a picture: [C, h, w]

    def _timestep(self) -> int:
        """One level of noise for all pictures of a step: U{19, …, 979} for 0.02 to 0.98 of 1000."""
        best, total = self.backbone.defaults, len(self.backbone.noise_schedule)
        low = max(round((self.config.min_timestep or best.min_timestep) * total) - 1, 0)
        high = max(round((self.config.max_timestep or best.max_timestep) * total) - 1, low)
        if self.config.anneals:
            high = round(high - 0.75 * (high - low) * self.progress)
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def _condition_latents(self, pair: Pair) -> Tensor:
        """[C, h, w] of the unedited picture; the last ones are kept."""
        latents = self._encoded.get(pair)
        if latents is None:
            image, _ = self.originals.get(*pair)
            latents = self.backbone.encode_image_latents(image[None].to(self.device))[0]
            self._encoded.put(pair, latents)
        return latents

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
        """Latents [1, C, h, w] of an image [1, H, W, 3], the posterior's noise drawn anew from `seed`."""

        def encode(pixels: Tensor) -> Tensor:
            return self.backbone.encode(pixels, torch.Generator().manual_seed(seed))

        if not self.config.low_vram:
            return encode(image)
        made = recomputed(encode, image, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(made, Tensor)
        return made

    def step(self) -> dict[str, float]:
        index = torch.randint(len(self.pairs), (self.config.images_per_step,), generator=self.generator)
        pairs = [self.pairs[i] for i in index.tolist()]
        t = self._timestep()
        seeds = torch.randint(2**62, (len(pairs),), generator=self.generator).tolist()
        # a small scene is rendered with one thread, a large model works with all of them: so the gradient takes two
        # steps, from the loss to the pictures and from there to the Gaussians
        with threads_for(self.rasterizer, self.device, len(self)):
            pictures = self._render(pairs)
        images = torch.cat([p.rgb for p in pictures])
        leaf = images.detach().requires_grad_()
        with threads_for_model(self.backbone):
            score = self._score(leaf, pairs, t, seeds)
            score.loss.backward()
        with threads_for(self.rasterizer, self.device, len(self)):
            assert leaf.grad is not None
            loss = (images * leaf.grad).sum()  # whose gradient in the images is leaf.grad
            motion_loss = self.motion_loss()
            loss = loss if motion_loss is None else loss + motion_loss
            loss.backward()
            self.learn([])
        self._shown = pairs[0], score.clean[:1]
        return {"score": float(score.loss.detach()), "timestep": float(t)}

    def _score(self, images: Tensor, pairs: list[Pair], t: int, seeds: list[int]) -> Score:
        latents = torch.cat(
            [self._encode(image[None], seed) for image, seed in zip(images, seeds, strict=True)]
        )
        noise = torch.randn(latents.shape, generator=self.generator).to(latents)
        condition = None
        if self.backbone.has_image_conditioning:
            condition = torch.stack([self._condition_latents(pair) for pair in pairs])
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
        """[H, 3W, 3]: unedited, the scene now, and what the model would make of it."""
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
            "guidance_scale": self.guidance.scale,
            "image_guidance_scale": self.guidance.image_scale,
            "condition": self.source,
            "size": list(self.size),
            "diffusion_calls": self.iteration,
        }

    def inputs(self) -> list[Any]:
        return [*super().inputs(), *self.given]


def run(
    scene: Scene4D,
    backbone: Backbone,
    config: Config,
    video: MultiViewVideo | None = None,
    selection: Selection | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    original: Scene4D | None = None,
) -> Stream:
    """Started, Progress, Preview, Saved …, Finished(Scene4D) where the input scene is. Closing it writes `checkpoint`;
    the same call resumes.

    `video` is the capture, `original` the scene before this edit: the model looks at one of them. Raises InputError where
    the prompt is empty or one that the model does not know, the mask is of another scene, nothing shows what the scene
    looked like before it was edited, or the model's answer is not finite.
    """
    work = RefineScore(scene, backbone, config, video, selection, device, original)
    width, height = work.size
    note = f"{config.images_per_step} of {len(work.pairs)} pictures of {width}×{height} a step, {backbone.name} on "
    note += f"{backbone.device} beside {work.source} originals"
    yield from work.stream(note, checkpoint)


def earlier_edits(scene: Scene4D, prompt: str) -> list[dict[str, Any]]:
    """History entries of edits before the present one, which is the last fit and its refinements with this prompt."""
    entries = [entry for entry in scene.history if entry.get("step") in EDITS]
    while (
        entries and entries[-1].get("step") == RefineScore.step_name and entries[-1].get("prompt") == prompt
    ):
        entries.pop()
    if entries and entries[-1].get("step") in ("fit_edits", "latents_to_scene"):
        entries.pop()
    return entries


def _condition(config: Config, scene: Scene4D, video: MultiViewVideo | None, original: Scene4D | None) -> str:
    """ "captured" or "rendered": where the unedited pictures come from. Raises InputError where there are none."""
    if config.condition != "auto":
        return config.condition
    if original is not None:
        edited = original.last_entry(*EDITS) is not None
        return "rendered" if video is None or edited else "captured"
    if earlier_edits(scene, config.prompt):
        raise InputError(
            "STP-025",
            "This scene was edited before the present edit, so the capture no longer shows what it looked like: connect "
            "the scene before this edit as 'original'.",
        )
    if video is None and scene.last_entry(*EDITS) is not None:
        raise InputError(
            "STP-026",
            "The model needs to see what this scene looked like before the edit: connect the video that it was trained "
            "on, or the scene before the edit as 'original'.",
        )
    return "rendered" if video is None else "captured"


def summary(scene: Scene4D) -> str:
    """One line about the scene, and what its edit noted of the prompt."""
    note = scene.history[-1].get("note") if scene.history else None
    return "\n".join([scene.summary(), note] if note else [scene.summary()])


STEP = Step(
    name="refine_score",
    node="RefineScore",
    label="Refine with Score Distillation",
    category="4dgs/edit",
    description="Refines an edited scene from random views and frames with the diffusion model's gradients (SDS).",
    search=("instruct-4dgs", "stage 2", "sds", "score distillation"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The edited scene, from Fit Scene to Edited Views."),
        Input("backbone", Kind.GUIDANCE, "The model that the views were edited with.", id="guidance"),
        Input(
            "video",
            Kind.CAPTURE,
            "The capture that the scene was trained on: its images condition the model instead of renders.",
            optional=True,
        ),
        Input(
            "selection",
            Kind.SELECTION,
            "Restricts the edit to these Gaussians. From Lift Mask to Gaussians; without it everything may change.",
            optional=True,
        ),
        Input(
            "original",
            Kind.SCENE,
            "The scene before this edit: its renders condition the model if there is no video, or if the scene had been "
            "edited before.",
            optional=True,
        ),
    ),
    outputs=(Output("scene_out", Kind.SCENE, label="scene"),),
    order="prompt iterations guidance_scale image_guidance_scale preset mutes_appearance max_seconds "
    "preview_every seed negative images_per_step weighting min_timestep max_timestep anneals condition "
    "resolution saves_memory position_rate color_rate opacity_rate scale_rate rotation_rate "
    "trains_deformation rasterizer checkpoint_seconds",
    verb="refine",
    resumes="refining",
    megabytes=lambda config: 1500,
    figure=Figure.CURVES,
    note=summary,
)
