"""Animate a splat with a video: a diffusion model samples how every Gaussian changes in every frame.

GVFDiffusion (Zhang et al., ICCV 2025), section 3.2, with the published weights or smaller ones of the same kind. What
differs: the splat may come from anywhere and keeps its place, videos may be longer than the model's (overlapping windows),
and a canceled run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import __version__
from ..deform import PerFrame, Static
from ..deform.moments import mending_note, scene_of_moments
from ..diffusion.dpm_solver import Sample
from ..fields import as_record
from ..figures.color_maps import spread
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..generation.animation_config import AnimationConfig as Config
from ..generation.model_space import ModelSpace
from ..generation.variation import VariationModels, VariationRun
from ..generation.variation_sampling import Sampling, units
from ..geometry.boxes import gaussian_bounds
from ..masks.video_frames import Frames, coverage, cropped_frames, frames_over_splat
from ..messages import Finished, Message, Preview, Progress, Saved, Started, Stream
from ..models.variation_field import canonical_changes
from ..render import choose, render_gaussians
from ..scene import Gaussians, Scene4D
from ..scene.rigs import UPS
from ..train.loop import shaping
from ..train.sample_checkpoint import SampleCheckpoint, unfinished_sample
from ..train.state import input_identity, key_of
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

# frames of the preview and their size in pixels
SHOWN, PREVIEW_PIXELS = 4, 192
# frame numbers in a note
MOST_LISTED = 12


class Animated(NamedTuple):
    """The moving scene, the frames as the model saw them [T, S, S, 3], and what to know about it."""

    scene: Scene4D
    frames: Tensor
    note: str


def run(
    models: VariationModels,
    splat: Scene4D | Sequence[Gaussians],
    images: Tensor,
    masks: Tensor | None = None,
    config: Config = Config(),
    checkpoint: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Stream:
    """Animate a splat with a video.

    Args:
        models: The variation-field networks.
        splat: The object as the first frame shows it from the front: a scene, of which the first frame is used, or splats.
        images: Frames of the video [T, H, W, 3], or with alpha [T, H, W, 4], in 0..1.
        masks: 1 on the object, [T, H, W] or [1, H, W]; None: the images' alpha, or what differs from a plain background.
        config: Sampler, guidance, windows and seed; 0 and "auto" are the model's defaults.
        checkpoint: File for unfinished work: written at intervals and when the generator is closed. The same call resumes from
            it, on the CPU with the same bits. None keeps none.
        clock: Seconds; the interval of `config` counts on it.

    Yields:
        Started, Progress per frame and sampling step, Previews of frames and scene, Saved, and Finished with an `Animated`.

    Raises:
        InputError: The video or the splat cannot be used, a network returns NaN, or memory runs out.

    Example:
        made = result(variation_diffusion.run(models, scene, frames, masks))

    Source:
        GVFDiffusion, Zhang et al., ICCV 2025.
    """
    base = _first(splat, config)
    images = images.detach().cpu().float()
    alphas = coverage(images, None if masks is None else masks.detach().cpu().float())
    space = ModelSpace.of(base.canonical, config.up, models.config.canonical_sides)
    frames = _frames(models, images, alphas, space)
    sampling = config.sampling(models.config, len(images))
    key = key_of(
        "variation_diffusion",
        *input_identity(models, str(models.device), base.canonical, frames.images),
        shaping(config),
        __version__,
    )
    begun = None if checkpoint is None else unfinished_sample(checkpoint, key)
    work = VariationRun(models, space, frames.images, sampling, begun)
    yield Started(units(len(images), sampling), _about(models, work, begun))
    stages = _followed(work, config, SampleCheckpoint(checkpoint, key, config.checkpoint_seconds, clock))
    changes = yield from stages
    made = _scene(base, changes, config)
    scene = made.with_history(
        "variation_diffusion",
        config=as_record(config),
        sampling=sampling.as_record(),
        weights=models.fingerprint(),
        models=models.name,
        gaussians=len(made.canonical),
        frames=len(images),
        windows=len(work.windows),
        engine=__version__,
    )
    yield Preview(_preview(work, changes=changes), units(len(images), sampling))
    yield Finished(Animated(scene, frames.images, _note(scene, work, frames, splat)))
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


def _first(splat: Scene4D | Sequence[Gaussians], config: Config) -> Scene4D:
    """The splat as a still scene."""
    if not isinstance(splat, Scene4D):
        up = torch.tensor(UPS[config.up], dtype=torch.float64)
        return scene_of_moments([splat[0]], config.fps, up, blends=False)
    with torch.no_grad():
        first = splat.at(float(splat.times[0])).map(lambda t: t.detach().cpu())
    return splat.with_(canonical=first, deformation=Static())


def _frames(models: VariationModels, images: Tensor, alphas: Tensor, space: ModelSpace) -> Frames:
    if models.config.image_encoder is None:
        return cropped_frames(images, alphas)
    return frames_over_splat(images, alphas, space.raw.to_gaussians(), models.config.camera.cameras())


def _about(models: VariationModels, work: VariationRun, begun: Sample | None) -> str:
    count, sampling = len(work.windows), work.sampling
    words = [f"{models.name} on {models.device}", _how(sampling)]
    if count > 1:
        words.append(f"{count} windows of {sampling.window} frames")
    if begun is not None:
        words.append("resumed")
    return "; ".join(words)


def _how(sampling: Sampling) -> str:
    how = "steps of its own" if sampling.sampler == "adaptive" else f"{sampling.steps} steps"
    return f"{sampling.sampler}, {how}"


def _followed(
    work: VariationRun, config: Config, saves: SampleCheckpoint
) -> Generator[Message, None, dict[str, Tensor]]:
    """The run's messages; its state is saved at intervals and where it is closed."""
    stages, steps = work.stages(), 0
    # closing frees the networks at once
    with closing(stages), saves.kept():
        while True:
            try:
                update = next(stages)
            except StopIteration as end:
                return end.value
            if update.sample is not None:
                saves.newest, steps = update.sample, steps + 1
            yield Progress(update.done, count=len(work.space.raw))
            if update.sample is None:
                continue
            if config.preview_every and steps % config.preview_every == 0:
                yield Preview(_preview(work, clean=update.sample.clean), update.done)
            if saves.due():
                saves.save()
                yield Saved(str(saves.path), update.done)


def _preview(
    work: VariationRun, clean: Tensor | None = None, changes: dict[str, Tensor] | None = None
) -> Tensor:
    """Some frames of the video, and the splat in them: from clean latents, or from the scene's changes."""
    space, chosen = work.space, spread(len(work.frames), SHOWN)
    raw = space.raw.to_gaussians()
    if clean is not None:
        found = canonical_changes(space.raw, work.deltas(clean, torch.tensor(chosen)).float().cpu())
        changed = [{name: t[i] for name, t in found.items()} for i in range(len(chosen))]
    else:
        assert changes is not None
        changed = [space.to_model({name: t[i] for name, t in changes.items()}) for i in chosen]
    camera = work.models.config.camera.cameras()
    camera = camera.scaled(PREVIEW_PIXELS / camera.sizes[0][0])
    stacks: list[list[Tensor]] = []
    for i, change in zip(chosen, changed, strict=True):
        moved = raw.with_(**{name: t + change[name] for name, t in raw.tensors().items()})
        drawn = render_gaussians(moved, camera, choose("auto"), torch.ones(3)).rgb[0].detach().clamp(0, 1)
        stacks.append([_sized(work.frames[i]), drawn])
    return as_tensor(sheet(stacks, [f"frame {i}" for i in chosen], columns=len(chosen)))


def _sized(image: Tensor) -> Tensor:
    planes = image.permute(2, 0, 1)[None]
    size = (PREVIEW_PIXELS, PREVIEW_PIXELS)
    return torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def _scene(base: Scene4D, changes: dict[str, Tensor], config: Config) -> Scene4D:
    count = len(changes["means"])
    seconds = torch.arange(count, dtype=torch.float64) / config.fps
    places = [base.canonical.means + changes["means"][i] for i in spread(count, 8)]
    return replace(
        base,
        deformation=PerFrame(seconds, changes),
        times=seconds,
        bounds=gaussian_bounds(torch.cat(places)),
    )


def _note(scene: Scene4D, work: VariationRun, frames: Frames, splat: Any) -> str:
    used, count = work.sampling, len(work.windows)
    lines = [
        scene.summary(),
        f"{_how(used)}, image guidance scale {used.image_scale:g}, splat guidance scale {used.canonical_scale:g}, "
        f"{'standardized' if used.standardized_anchors else 'raw'} anchor positions",
        f"{count} windows of {used.window} frames, {used.overlap} shared"
        if count > 1
        else f"one window of {used.window} frames",
    ]
    if frames.empty:
        listed = ", ".join(str(i) for i in frames.empty[:MOST_LISTED])
        listed += ", …" if len(frames.empty) > MOST_LISTED else ""
        lines.append(
            f"the subject is not visible in {len(frames.empty)} frames ({listed}); the motion there is a guess"
        )
    if isinstance(splat, Scene4D) and not isinstance(splat.deformation, Static):
        lines.append("the splat's own motion was left out: its first frame is animated")
    return "\n".join(filter(None, [*lines, mending_note(scene), work.space.note, frames.note]))


STEP = Step(
    name="variation_diffusion",
    node="VariationDiffusion",
    label="Variation Diffusion",
    category="4dgs/generate",
    description="Animates a splat with a video (GVFDiffusion): position, size, rotation, color and opacity of every Gaussian in "
    "every frame.",
    search=("gvfdiffusion", "video to 4d", "animate", "variation field"),
    config=Config,
    run=run,
    inputs=(
        Input("models", Kind.VARIATION, "The variation-field networks, from Load Variation Models."),
        Input(
            "splat",
            Kind.CANONICAL,
            "The object as the first frame shows it: from Align Splat to Video or Canonical Gaussians from Image, or a SPLAT of "
            "ComfyUI's own nodes.",
        ),
        Input("images", Kind.FRAMES, "The frames of the video, all of one still camera."),
        Input(
            "masks",
            Kind.MASKS,
            "1 on the object, one per frame. Without it, the frames need alpha or a plain background.",
            id="mask",
            optional=True,
        ),
    ),
    outputs=(
        Output(
            "scene",
            Kind.SCENE,
            "The moving scene, with changes stored per frame.",
            of=lambda made: made.scene,
        ),
        Output(
            "frames",
            Kind.IMAGES,
            "The frames of the video as the model saw them.",
            of=lambda made: made.frames,
        ),
    ),
    verb="animate",
    has_device=False,
    resumes="generation",
    figure=Figure.PREVIEW,
    note=lambda made: made.note,
    lowers=("window", "chunk", "saves_memory"),
)
