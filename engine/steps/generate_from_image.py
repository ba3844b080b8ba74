"""Generate 4D from Image: a video diffusion model follows a camera path, and one pass of a network makes a scene of it.

Source: Diff4Splat (CVPR 2026). No weights of the paper were published: what the models may be, and what differs, is said in
engine/models/reconstruction and engine/models/camera_video.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .. import __version__
from ..backends import explains_memory
from ..diffusion.dpm_solver import Sample
from ..errors import InputError
from ..fields import as_record, number, text, validate
from ..figures.color_maps import spread
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..finite import is_finite
from ..generation.image_models import ImageTo4DModels
from ..generation.reconstruction import Pass, reconstruct
from ..generation.video_frame import VideoFrame, check_path, framed
from ..guidance.classifier_free import Guidance
from ..guidance.video import VideoRequest, sample_video
from ..messages import Finished, Message, Preview, Progress, Saved, Started, Stream
from ..models.text_length import length_note
from ..render import choose, render_gaussians
from ..render.camera_paths import CameraPath
from ..scene import Scene4D, plucker_rays, relative_to_first
from ..train.identity import input_identity
from ..train.loop import shaping
from ..train.sample_checkpoint import SampleCheckpoint, unfinished_sample
from ..train.state import key_of
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

# frames of the preview and their height in pixels
SHOWN, PREVIEW_PIXELS = 4, 160
# units of progress besides the sampling steps: decoding and reconstruction
EXTRA = 2


class Generated(NamedTuple):
    """The scene, the video that it was made of [T, H, W, 3], its frame rate, and what to know about them."""

    scene: Scene4D
    frames: Tensor
    fps: float
    note: str


@dataclass(frozen=True)
class Config:
    prompt: str = text(
        "",
        "What happens in the video. Empty for models without a text encoder, such as the small one.",
        multiline=True,
    )
    steps: int = number(
        0,
        0,
        1000,
        "Sampling steps of the video. More is slower and often sharper; typical 20 to 50 for CogVideoX. 0 uses the model's "
        "default.",
        step=1,
        words={0: "auto"},
    )
    guidance: float = number(
        0.0,
        0.0,
        30.0,
        "Text guidance scale. Higher follows the prompt more strictly; typical 4 to 8. 0 uses the model's default.",
        label="guidance scale",
        words={0: "auto"},
    )
    seed: int = number(0, 0, 2**64 - 1, "Random seed. The same seed and inputs give the same scene.")
    resolution: int = number(
        0,
        0,
        4096,
        "Longer side of the video in pixels, rounded to what the model makes. 0 uses the size that it was trained with.",
        step=1,
        words={0: "auto"},
    )
    unit: float = number(
        0.0,
        0.0,
        1e6,
        "World distance that is one unit of the models. Higher weakens the camera's movement. 0 places the subject of the path "
        "where the models expect it.",
        label="unit length",
        words={0: "from the path"},
    )
    frame_stride: int = number(
        0,
        0,
        64,
        "Every n-th frame gives Gaussians, in multiples of the model's own stride. Higher gives fewer Gaussians. 0 is as "
        "trained.",
        step=1,
        words={0: "auto"},
    )
    pixel_stride: int = number(
        0,
        0,
        64,
        "Every n-th pixel of a row and column gives a Gaussian, in multiples of the model's own stride. Higher gives fewer and "
        "larger Gaussians. 0 is as trained.",
        step=1,
        words={0: "auto"},
    )
    preview_every: int = number(
        10,
        0,
        1000,
        "Sampling steps between two preview images. 0 shows none until the end.",
        step=1,
        words={0: "never"},
        advanced=True,
    )
    checkpoint_seconds: float = number(
        60.0,
        1.0,
        1e6,
        "Seconds between two checkpoints.",
        label="checkpoint every (seconds)",
        advanced=True,
        since="0.2",
    )

    def __post_init__(self) -> None:
        validate(self)


def run(
    models: ImageTo4DModels,
    image: Tensor,
    path: CameraPath,
    config: Config = Config(),
    checkpoint: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Stream:
    """Generate a moving scene from one image.

    Args:
        models: A video model and its reconstruction model.
        image: The first frame [1, H, W, 3] in 0..1; of several images the first is used.
        path: A camera for each frame; the first one sees the image. Frames are 1 / fps seconds apart.
        config: Prompt, sampling, size and number of Gaussians.
        checkpoint: File for unfinished sampling: written at intervals and when the generator is closed. The same call resumes
            from it, on the CPU with the same bits. None keeps none.
        clock: Seconds; the interval of `config` counts on it.

    Yields:
        Started, Progress per sampling step, Previews of the video and the scene, Saved, and Finished with a `Generated`.

    Raises:
        InputError: Image, path or prompt do not fit the models, a network returns NaN, or memory runs out.

    Example:
        made = result(generate_from_image.run(models, image, path))
    """
    if not is_finite(image[:1]):
        raise InputError("STP-100", "The image contains NaN or infinite values; load or make it again.")
    video = models.video
    # another number of frames is refused here, with those that fit
    video.latent_frames(len(path))
    notes = check_path(path)
    cut = length_note(models.name, video.cut_short(config.prompt))
    notes += [cut] if cut else []
    frame = framed(image[0], path, config.resolution or video.defaults.resolution, models.multiple)
    if frame.note:
        notes.append(frame.note)
    if len(path) != video.frames:
        notes.append(f"{models.name} was trained on {video.frames} frames; {len(path)} may be worse")
    width, height = frame.cameras.sizes[0]
    steps = config.steps or video.defaults.steps
    unit = config.unit or models.unit(path)
    cameras = [frame.cameras.world_to_camera, frame.cameras.K]
    key = key_of(
        "generate_from_image",
        *input_identity(models, str(models.device), frame.image, *cameras, unit, path.fps),
        shaping(config),
        __version__,
    )
    begun = None if checkpoint is None else unfinished_sample(checkpoint, key)
    saves = SampleCheckpoint(checkpoint, key, config.checkpoint_seconds, clock)
    resumed = "" if begun is None else f"; resumed after {begun.numbers['done']:.0f}"
    yield Started(
        steps + EXTRA,
        f"{models.name} on {models.device}; {len(path)} frames of {width}×{height}, {steps} steps{resumed}",
    )
    with explains_memory(f"a video of {len(path)} frames of {width}×{height} pixels", models.device):
        latents, frames = yield from _sampled(models, frame, config, steps, unit, begun, saves)
    yield Progress(steps + 1)
    seconds = torch.arange(len(path), dtype=torch.float64) / path.fps
    settings = Pass(unit, config.frame_stride or None, config.pixel_stride or None)
    with explains_memory("the reconstruction", models.device), models.ldrm_in_use() as ldrm:
        made = reconstruct(ldrm, latents, frame.cameras, seconds, settings, frames)
    scene = made.with_history(
        "generate_from_image",
        config=as_record(config),
        weights=models.fingerprint(),
        models=models.name,
        steps=steps,
        unit=unit,
        frames=len(path),
        engine=__version__,
    )
    yield Preview(_preview(frames, scene), steps + EXTRA)
    notes.insert(0, f"{scene.summary()}\nvideo of {width}×{height}, {steps} steps")
    yield Finished(Generated(scene, frames, path.fps, "\n".join(notes)))
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


def _sampled(
    models: ImageTo4DModels,
    frame: VideoFrame,
    config: Config,
    steps: int,
    unit: float,
    begun: Sample | None,
    saves: SampleCheckpoint,
) -> Generator[Message, None, tuple[Tensor, Tensor]]:
    """Latents [C, n, h, w] and frames [T, H, W, 3], both on the CPU. The state is saved at intervals and where it is closed."""
    cameras = frame.cameras
    width, height = cameras.sizes[0]
    rays = plucker_rays(relative_to_first(cameras, unit)).float()
    advised = models.video.defaults
    guidance = Guidance(
        config.prompt, config.guidance or advised.guidance_scale, advised.image_guidance_scale
    )
    request = VideoRequest(guidance, len(cameras), width, height, steps, seed=config.seed)
    with models.video_in_use() as video:
        latents = torch.empty(0)
        if begun is not None:
            latents = begun.latents[:, :, -video.latent_frames(len(cameras)) :].to(video.device)
        with saves.kept():
            for sample in sample_video(video, request, frame.image, rays, begun):
                latents, done = sample.latents, sample.done
                saves.newest = sample.to_save()
                yield Progress(done)
                if config.preview_every and done % config.preview_every == 0 and done < steps:
                    with torch.no_grad():
                        frames = video.decode(sample.clean)[0].float().cpu().clamp(0, 1)
                    yield Preview(_preview(frames), done)
                if saves.due():
                    saves.save()
                    yield Saved(str(saves.path), done)
            with torch.no_grad():
                frames = video.decode(latents)[0].float().cpu().clamp(0, 1)
    return latents[0].float().cpu(), frames


def _preview(frames: Tensor, scene: Scene4D | None = None) -> Tensor:
    """Some frames of the video, and below them the scene from the same cameras."""
    chosen = spread(len(frames), SHOWN)
    stacks: list[list[Tensor]] = []
    for i in chosen:
        stack = [_sized(frames[i])]
        if scene is not None:
            camera = scene.rig[i]
            camera = camera.scaled(PREVIEW_PIXELS / camera.sizes[0][1])
            with torch.no_grad():
                now = scene.at(float(scene.times[i]))
                drawn = render_gaussians(now, camera, choose("auto"), scene.background).rgb[0].clamp(0, 1)
            stack.append(_sized(drawn))
        stacks.append(stack)
    about = "" if scene is None else "above: the video; below: the scene from the same cameras"
    return as_tensor(sheet(stacks, [f"frame {i}" for i in chosen], len(chosen), about))


def _sized(image: Tensor) -> Tensor:
    planes = image.permute(2, 0, 1)[None]
    width = max(round(PREVIEW_PIXELS * image.shape[1] / image.shape[0]), 1)
    sized = torch.nn.functional.interpolate(planes, (PREVIEW_PIXELS, width), mode="bilinear", antialias=True)
    return sized[0].permute(1, 2, 0)


STEP = Step(
    name="generate_from_image",
    node="GenerateFromImage",
    label="Generate 4D from Image",
    category="4dgs/generate",
    description="Makes a moving scene of one image and a camera path (Diff4Splat): a video model films along the path, and one "
    "pass of a reconstruction model turns the video into Gaussians that move.",
    search=("diff4splat", "image to 4d", "single image", "camera control", "video diffusion", "cogvideox"),
    config=Config,
    run=run,
    inputs=(
        Input(
            "models", Kind.IMAGE_TO_4D, "The video and reconstruction model, from Load Image-to-4D Models."
        ),
        Input("image", Kind.FRAMES, "The first frame. It is cropped to the shape of the path's images."),
        Input(
            "path",
            Kind.CAMERA_PATH,
            "From Camera Path: one camera per frame, 4n + 1 of them (8n + 1 for CogVideoX). The first one sees the image.",
        ),
    ),
    outputs=(
        Output(
            "scene",
            Kind.SCENE,
            "The moving scene, with motion stored per frame and the path's cameras.",
            of=lambda made: made.scene,
        ),
        Output(
            "video",
            Kind.VIDEO,
            "The video that the scene was made of.",
            of=lambda made: (made.frames, made.fps),
        ),
    ),
    verb="generate",
    has_device=False,
    resumes="generation",
    figure=Figure.PREVIEW,
    note=lambda made: made.note,
    lowers=("resolution",),
)
