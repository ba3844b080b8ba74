"""Sample a video from an image, a text and a camera path with a video diffusion model.

Source: CogVideoX (Yang et al., ICLR 2025), whose text guidance keeps the image in both branches; the flow after Diff4Splat
(CVPR 2026). The samplers are those of diffusion/sampling.py and diffusion/flow.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion import VideoBackbone
from ..diffusion.dpm_solver import Predict, Sample
from ..diffusion.flow import FlowSample, euler
from ..diffusion.sampling import Straightened, ddim
from ..errors import InputError
from .classifier_free import Guidance, predict

SAMPLERS = ("auto", "ddim", "flow")


@dataclass(frozen=True)
class VideoRequest:
    """What to sample.

    Args:
        guidance: Prompt and scales; an image guidance scale of 1 keeps the image in both branches.
        frames: T; see `VideoBackbone.latent_frames`.
        width: In pixels.
        height: In pixels.
        steps: Sampling steps.
        sampler: "ddim" takes the model's own timesteps, "flow" spaces them evenly along straight lines; "auto" is the one
            that the weights were trained for.
        shift: Time shift of the flow. Higher spends more steps on noisy latents; 0 is the model's own.
        seed: Random seed of the noise.
        branches_at_once: One backbone call for all branches; False: one call per branch, which needs less memory.

    Raises:
        InputError: Unknown sampler.
    """

    guidance: Guidance
    frames: int
    width: int
    height: int
    steps: int
    sampler: str = "auto"
    shift: float = 0.0
    seed: int = 0
    branches_at_once: bool = True

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InputError("GUI-018", f"sampler is '{self.sampler}'; choose one of {', '.join(SAMPLERS)}.")


@dataclass(frozen=True, eq=False)
class VideoSample(FlowSample):
    """The state of a video's sampling after a step.

    Args:
        state: The latents that sampling goes on from: with those that fill a patch before the video.
        done: Steps that were made.
    """

    state: Tensor
    done: int

    def to_save(self) -> Sample:
        """What the run needs to go on from here."""
        return Sample(self.state, self.t, self.clean, numbers={"done": self.done})


def sample_video(
    backbone: VideoBackbone,
    request: VideoRequest,
    image: Tensor | None = None,
    camera: Tensor | None = None,
    begun: Sample | None = None,
) -> Iterator[VideoSample]:
    """Sample the latents of a video; `backbone.decode` makes frames of them.

    Args:
        backbone: The video model.
        request: What to sample.
        image: The first frame [H, W, 3] in 0..1, for an image-to-video model; None for one from text.
        camera: Plücker rays [T, H, W, 6] of the path, for a model with a camera condition; None: no path.
        begun: Where the same run was stopped; None: it starts from noise.

    Yields:
        The state after each further step, with latents [1, C, T', h, w]; the last one is the result.

    Raises:
        InputError: The model makes images, or image, path, length or size do not fit it.

    Example:
        for sample in sample_video(model, request, image, rays):
            frames = model.decode(sample.clean)
    """
    if backbone.time_factor is None:
        raise InputError(
            "DIF-094",
            f"{backbone.name} makes single images, but a video is asked for. Load a video model, such as CogVideoX.",
        )
    count, sampled = backbone.latent_frames(request.frames), backbone.sampled_frames(request.frames)
    multiple = backbone.size_multiple
    if request.width % multiple or request.height % multiple:
        width, height = (
            max(round(side / multiple), 1) * multiple for side in (request.width, request.height)
        )
        raise InputError(
            "GUI-022",
            f"The video is {request.width}×{request.height}, but {backbone.name} needs sides that are multiples of {multiple}; "
            f"choose {width}×{height}.",
        )
    condition = _condition(backbone, request, image)
    rays = None if camera is None else camera[None].to(backbone.device)
    factor = backbone.vae_scale_factor
    shape = (1, backbone.latent_channels, sampled, request.height // factor, request.width // factor)
    # drawn on the CPU, so that a seed gives the same video on every device
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed)).to(backbone.device)

    def output(x: Tensor, t: float) -> Tensor:
        together = request.branches_at_once
        return predict(backbone, x, int(t), request.guidance, condition, None, together, rays)

    before = 0 if begun is None else int(begun.numbers["done"])
    start = noise if begun is None else begun.latents.to(noise)
    for done, sample in enumerate(_sampled(backbone, request, output, start, before), start=before + 1):
        # what fills a patch before the video is not a part of it
        latents, clean = (x[:, :, -count:] for x in (sample.latents, sample.clean))
        yield VideoSample(latents, sample.t, clean, sample.latents, done)


def _sampled(
    backbone: VideoBackbone, request: VideoRequest, output: Predict, start: Tensor, done: int
) -> Iterator[FlowSample]:
    own = backbone.flow_shift
    if request.sampler == "flow" or (request.sampler == "auto" and own is not None):
        flow = Straightened(discrete=backbone.noise_schedule, shift=request.shift or own or 1.0)
        return euler(flow.velocity(output), start, flow, request.steps, done)
    return ddim(output, start, backbone.noise_schedule, request.steps, done)


def _condition(backbone: VideoBackbone, request: VideoRequest, image: Tensor | None) -> Tensor | None:
    """Latents of the first frame; None for a model from text."""
    if not backbone.has_image_conditioning:
        if image is not None:
            raise InputError(
                "GUI-019",
                f"{backbone.name} makes videos from text and takes no image; disconnect the image, or use an "
                "image-to-video model.",
            )
        return None
    if image is None:
        raise InputError("GUI-020", f"{backbone.name} makes videos from an image; connect one.")
    if tuple(image.shape[:2]) != (request.height, request.width):
        raise InputError(
            "GUI-021",
            f"The image is {image.shape[1]}×{image.shape[0]}, but the video is {request.width}×{request.height}; resize "
            "the image.",
        )
    return backbone.first_frame(image[None].to(backbone.device), request.frames)
