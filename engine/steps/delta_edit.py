"""Edit a latent field by delta denoising: ED-NeRF's editing (Park et al., ICLR 2024, section 3.3), for moving scenes.

Each step draws a few views of a random moment and asks the diffusion model what two prompts disagree about: one for the
field as edited so far, one for the field as it was. No picture is decoded or encoded on the way, so a step costs one call
of the model. A lifted mask keeps the edit to chosen Gaussians and, drawn from each view, to their latents; what lies
outside is pulled back to the original. Plain score distillation stands beside it as the baseline. Changed: an appearance
edit moves the features alone and leaves the refinement layer as it is (it may learn as well); a shape edit also moves
the Gaussians, whose motion stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..diffusion import Backbone
from ..diffusion.known_edits import BUNDLED_EDITS, FORCE_TEXT, check_prompt, check_source_prompt
from ..errors import InputError
from ..fields import choice, flag, number, text, validate
from ..guidance.classifier_free import Guidance
from ..guidance.delta import check_prompts, delta_loss, masked_reconstruction
from ..guidance.score import Score, score_loss
from ..latent import LatentField
from ..masks.lift import render_selection
from ..messages import Stream
from ..scene import MultiViewVideo, Selection
from ..train.latent_config import LatentConfig
from ..train.latents import GEOMETRY, LatentOptimization, tensor_cache, views_by_moment
from ..train.originals import SOURCES, Originals, Pair, choose_pairs, choose_source
from ..train.parameter_groups import OPTIMIZERS
from ..train.schedule import log_linear
from ..train.threads import threads_for, threads_for_model
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

METHODS = ("dds", "sds")
FREED = ("appearance", "shape")
LOOKS = ("auto", "nothing", "originals")
WEIGHTINGS = ("uniform", "picture")


@dataclass(frozen=True)
class Config(LatentConfig):
    prompt: str = text(
        "",
        "Target: what the edited scene shows, such as 'a gold statue of a person', or an instruction for an instruction "
        f"model. {BUNDLED_EDITS}",
        multiline=True,
    )
    source_prompt: str = text(
        "",
        "Source: what the scene shows now, such as 'a person walking'; for an instruction model 'leave it as it is'.",
        multiline=True,
    )
    method: str = choice(
        "dds",
        METHODS,
        "dds follows the difference between the two prompts; sds follows the target prompt alone (oversaturates; for "
        "comparison).",
    )
    iterations: int = number(200, 1, 1_000_000, "Editing steps, each with one call of the diffusion model.")
    images_per_step: int = number(
        2, 1, 64, "Views per step, all of one random frame. More is smoother and slower.", label="batch size",
        advanced=True,
    )  # fmt: skip
    guidance_scale: float = number(
        0.0,
        0.0,
        100.0,
        "Guidance scale for the text. Higher follows the prompts more; the DDS notebook uses 7.5; 0 uses the model's "
        "default.",
        0.1,
        label="guidance scale (0 = auto)",
    )
    final_guidance_scale: float = number(
        0.0,
        0.0,
        100.0,
        "Guidance scale at the last step, reached linearly. 0 keeps it constant.",
        0.1,
        label="final guidance scale (0 = constant)",
        advanced=True,
    )
    frees: str = choice(
        "appearance",
        FREED,
        "appearance optimizes the latents alone; shape also optimizes positions, scales, rotations and opacities.",
        label="optimized parameters",
    )
    inside_weight: float = number(
        0.0,
        0.0,
        100.0,
        "Weight that keeps the original inside the mask. Higher keeps more of it.",
        0.01,
        label="inside-mask weight",
        advanced=True,
    )
    outside_weight: float = number(
        1.0,
        0.0,
        100.0,
        "Weight that keeps the original outside the mask. Higher keeps the rest closer to the original.",
        0.01,
        label="outside-mask weight",
        advanced=True,
    )
    looks_at: str = choice(
        "auto",
        LOOKS,
        "Conditioning image of an instruction model: the originals (prompts are instructions) or none (prompts are "
        "captions). auto uses the originals.",
        label="conditioning image",
        advanced=True,
    )
    negative: str = text(
        "",
        "Negative prompt: what the images should not show; usually empty.",
        label="negative prompt",
        advanced=True,
    )
    image_guidance_scale: float = number(
        0.0,
        0.0,
        100.0,
        "Image guidance scale, for models with a conditioning image. Higher stays closer to the originals; 0 uses the "
        "model's default.",
        0.1,
        label="image guidance scale (0 = auto)",
    )
    min_timestep: float = number(
        0.05,
        0.0,
        1.0,
        "Smallest timestep, as a fraction of the schedule. Smaller edits finer detail.",
        0.01,
        advanced=True,
    )
    max_timestep: float = number(
        0.95,
        0.0,
        1.0,
        "Largest timestep, as a fraction of the schedule. Larger changes more.",
        0.01,
        advanced=True,
    )
    anneals: bool = flag(
        False,
        "Lowers the largest timestep over the run to a quarter of the range, so that detail comes last.",
        label="anneal timesteps",
        advanced=True,
    )
    optimizer: str = choice(
        "adam",
        OPTIMIZERS,
        "adam: step size independent of gradient magnitude; sgd: proportional to it.",
        advanced=True,
    )
    trains_refiner: bool = flag(
        False,
        "Also trains the refinement layer, as in the paper. A mask does not restrict it.",
        label="train refinement layer",
        advanced=True,
    )
    mask_threshold: float = number(
        0.5,
        0.0,
        1.0,
        "Fraction of a latent that the selected Gaussians must cover for it to be edited.",
        0.01,
        advanced=True,
    )
    dilation: int = number(
        1,
        0,
        16,
        "Mask dilation in latents, because an autoencoder mixes neighbors. More reaches further.",
        label="mask dilation",
        advanced=True,
    )
    position_lr: float = number(
        1.6e-5,
        0.0,
        1.0,
        "Learning rate of positions, relative to the scene's extent (shape).",
        1e-6,
        id="position_rate",
        advanced=True,
    )
    scale_lr: float = number(
        2e-3, 0.0, 1.0, "Learning rate of log scales (shape).", 1e-4, id="scale_rate", advanced=True
    )
    rotation_lr: float = number(
        1e-3, 0.0, 1.0, "Learning rate of quaternions (shape).", 1e-4, id="rotation_rate", advanced=True
    )
    opacity_lr: float = number(
        1e-2, 0.0, 1.0, "Learning rate of opacity logits (shape).", 1e-3, id="opacity_rate", advanced=True
    )
    views: str = text(
        "", "Indices of the views to edit, such as '0 2 5-8'. Empty uses all training views.", advanced=True
    )
    moments: str = text(
        "all",
        "Indices of the frames to edit, such as '0 5-9'; 'all' edits every frame.",
        label="frames",
        advanced=True,
    )
    originals: str = choice(
        "rendered",
        SOURCES,
        "Source of the conditioning images: captured images, or renders of the scene as it was trained.",
        label="original source",
        advanced=True,
    )
    low_vram: bool = flag(
        False,
        "Evaluates one guidance branch at a time: slower, with less memory.",
        label="low VRAM",
        id="saves_memory",
        advanced=True,
    )
    weighting: str = choice(
        "uniform",
        WEIGHTINGS,
        "Weight of each timestep: uniform weights all alike (paper); picture favors high noise, where small models know "
        "most.",
        advanced=True,
    )
    force: bool = flag(False, FORCE_TEXT, label="force unknown prompt", since="0.2")

    def __post_init__(self) -> None:
        validate(self)
        if self.min_timestep > self.max_timestep:
            raise InputError(
                "STP-003",
                f"min_timestep is {self.min_timestep} and max_timestep {self.max_timestep}; the first must be smaller.",
            )


class DeltaEdit(LatentOptimization):
    step_name = "delta_edit"
    config: Config

    def __init__(
        self,
        field: LatentField,
        backbone: Backbone,
        config: Config,
        selection: Selection | None,
        video: MultiViewVideo | None,
        device: torch.device | str,
    ) -> None:
        if not config.prompt.strip():
            raise InputError(
                "STP-004", "The prompt is empty; say what the edit is, such as 'a gold statue of a person'."
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
        source, self.pairs = choose_source(config.originals, field.scene, video, pairs, EDITS)
        self.moments = views_by_moment(self.pairs)
        self.unedited = tensor_cache(lambda pair: self.renderer.latents([pair[0]], self.times[pair[1]])[0][0])
        self.masks = tensor_cache(self._mask)
        self.originals: Originals | None = None
        if looks:
            captured = video if source == "captured" else None
            self.originals = Originals(self.field.scene, self.rasterizer, field.size, captured)
        elif config.looks_at == "originals":
            raise InputError(
                "STP-005",
                f"{backbone.name} takes no picture beside the prompt; set looks_at to auto, or connect an InstructPix2Pix.",
            )
        self.conditions = tensor_cache(self._condition)
        self.looks_at = source if looks else "nothing"
        bounds = field.scene.bounds
        self.extent = float((bounds[1] - bounds[0]).norm() / 2)
        self._shown: tuple[Pair, Tensor] | None = None

    def _mask(self, pair: Pair) -> Tensor:
        """[h, w] of zeros and ones: latents that the chosen Gaussians cover, grown by `dilation`."""
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

    def _condition(self, pair: Pair) -> Tensor:
        assert self.originals is not None
        image, _ = self.originals.get(*pair)
        return self.backbone.encode_image_latents(image[None].to(self.backbone.device))[0]

    def _guidance(self) -> Guidance:
        c, best = self.config, self.backbone.defaults
        first = c.guidance_scale or best.guidance_scale
        last = c.final_guidance_scale or first
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
        """All fall to a tenth in the second half, so that they settle."""
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

    def step(self) -> dict[str, float]:
        moment, views = self.draw_pairs(self.pairs, self.moments)
        pairs = [(view, moment) for view in views]
        t = self._timestep()
        with threads_for(self.rasterizer, self.device, len(self)):
            latents = self.refined(self.drawn(views, self.times[moment])[0])
            source = torch.stack([self.unedited[pair] for pair in pairs])
            mask = torch.stack([self.masks[pair] for pair in pairs]) if self.selection is not None else None
        leaf = latents.detach().to(self.backbone.device).requires_grad_()
        with threads_for_model(self.backbone):
            score = self._score(leaf, source.to(leaf), t, pairs, None if mask is None else mask.to(leaf))
            score.loss.backward()
        with threads_for(self.rasterizer, self.device, len(self)):
            assert leaf.grad is not None
            loss = (latents * leaf.grad.to(latents)).sum()  # whose gradient in the latents is leaf.grad
            everywhere = torch.ones_like(latents[:, 0]) if mask is None else mask
            kept = masked_reconstruction(
                latents, source, everywhere, self.config.inside_weight, self.config.outside_weight
            )
            (loss + kept).backward()
            self.learn()
        self._shown = pairs[0], score.clean[:1]
        return {"score": float(score.loss.detach()), "kept": float(kept.detach()), "timestep": float(t)}

    def _score(
        self, latents: Tensor, source: Tensor, t: int, pairs: list[Pair], mask: Tensor | None
    ) -> Score:
        noise = torch.randn(latents.shape, generator=self.generator).to(latents)
        condition = None
        if self.originals is not None:
            condition = torch.stack([self.conditions[pair] for pair in pairs])
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
        """The edited field, which remembers the one it is an edit of."""
        first = self.before if self.before.before is None else self.before.before
        return super().result().with_(before=first)

    def metadata(self) -> dict[str, Any]:
        guidance = self._guidance()
        return {
            "prompt": self.config.prompt,
            "source_prompt": self.config.source_prompt,
            "model": self.backbone.name,
            "guidance_scale": guidance.scale,
            "looks_at": self.looks_at,
            "diffusion_calls": self.iteration,
        }

    def inputs(self) -> list[Any]:
        return [*super().inputs(), self.backbone, self.video]


def run(
    field: LatentField,
    backbone: Backbone,
    config: Config,
    selection: Selection | None = None,
    video: MultiViewVideo | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
) -> Stream:
    """Started, Progress, Preview, Saved …, Finished(LatentField) where the input field is. Closing it writes
    `checkpoint`; the same call resumes.

    Raises InputError where a prompt is missing or not known to the model, the field was trained with another
    autoencoder, the mask is of another scene, or the model's answer is not finite.
    """
    work = DeltaEdit(field, backbone, config, selection, video, device)
    note = (
        f"{config.method} on {config.images_per_step} of {len(work.pairs)} views a step, {backbone.name} on "
    )
    note += f"{backbone.device} looking at {work.looks_at}"
    if selection is not None:
        chosen = int((selection.weights > 0).sum())
        note += f"; the mask chooses {chosen} of {len(selection.weights)} Gaussians"
        if chosen == len(selection.weights):
            note += ", which is all of them: nothing is kept"
    yield from work.stream(note, checkpoint)


def _check_known(backbone: Backbone, config: Config, is_local: bool, sees_originals: bool) -> str:
    """A note on the prompts. Raises InputError for one that the model does not know."""
    known, force = backbone.known_edits, config.force
    notes = [check_prompt(known, config.prompt, force, is_local, is_caption=not sees_originals)]
    if config.method == "dds":
        notes.append(check_source_prompt(known, config.source_prompt, force, sees_originals))
    return "\n".join(filter(None, notes))


def summary(field: LatentField) -> str:
    """Two lines about the field, and what its edit noted of the prompts."""
    note = field.scene.history[-1].get("note") if field.scene.history else None
    return "\n".join([field.summary(), note] if note else [field.summary()])


STEP = Step(
    name="delta_edit",
    node="DeltaEdit",
    label="Delta Edit in Latent Space",
    category="4dgs/edit",
    description="Edits a latent field along the difference between two prompts (delta denoising); what both prompts describe "
    "is preserved.",
    search=("ed-nerf", "dds", "delta denoising score", "sds", "prompt", "text edit"),
    config=Config,
    run=run,
    inputs=(
        Input("field", Kind.LATENTS, "From Train Latent Field.", "latent field"),
        Input(
            "backbone",
            Kind.GUIDANCE,
            "The model whose autoencoder the latent field was trained with.",
            id="guidance",
        ),
        Input(
            "selection",
            Kind.SELECTION,
            "Restricts the edit to these Gaussians. From Lift Mask to Gaussians; without it everything may change.",
            optional=True,
        ),
        Input(
            "video",
            Kind.CAPTURE,
            "The capture that the scene was trained on, for captured conditioning images.",
            optional=True,
        ),
    ),
    outputs=(
        Output(
            "field_out",
            Kind.LATENTS,
            "The edited field, for Latent Field to Scene or Decode Latent Views.",
            "latent field",
        ),
    ),
    order="source_prompt prompt iterations guidance_scale image_guidance_scale frees method max_seconds "
    "preview_every seed negative looks_at originals images_per_step inside_weight outside_weight "
    "mask_threshold dilation final_guidance_scale min_timestep max_timestep anneals weighting optimizer "
    "feature_rate trains_refiner refiner_rate position_rate scale_rate rotation_rate opacity_rate views "
    "moments saves_memory rasterizer checkpoint_seconds",
    verb="delta-edit",
    resumes="editing",
    megabytes=lambda config: 1500,
    figure=Figure.CURVES,
    note=summary,
)
