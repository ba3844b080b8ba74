"""The small video model as a backbone: a video from an image and a camera path, whose latents are rearranged pixels.

It takes the place of camera-conditioned CogVideoX where Diff4Splat (CVPR 2026) has to run without large weights; see
engine/models/camera_video.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..backends import explains_memory
from ..errors import InputError
from ..files.weights import fingerprint
from ..frame_counts import frames_of
from ..models.camera_video import CameraVideo, load_camera_video
from ..models.reconstruction import latents_to_pixels, pixels_to_latents
from .backbone import MidBlock, ModelDefaults
from .cross_frame_attention import Attention
from .faults import check_finite
from .folder import choose_device
from .frames import latent_frames
from .known_edits import KnownEdits
from .noise_schedule import DiscreteSchedule
from .sampling import as_v_prediction, straight_alphas


class CameraVideoBackbone:
    """See `VideoBackbone` for the methods. It takes no prompt, and `predict` needs a camera path.

    Args:
        model: The network.
        name: Shown to users.
        fingerprint: Changes with the weights.
        device: Where it runs.
    """

    known_edits: KnownEdits | None = None
    has_image_conditioning = True
    flow_shift: float | None = 1.0

    def __init__(
        self, model: CameraVideo, *, name: str, fingerprint: str, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.name, self.fingerprint = name, fingerprint
        config = model.config
        self.latent_channels = config.latent.channels
        self.vae_scale_factor = self.size_multiple = config.latent.space_factor
        self.time_factor: int | None = config.latent.time_factor
        self.noise_schedule = DiscreteSchedule(straight_alphas(), "v_prediction", "trailing")
        self.defaults = ModelDefaults(
            steps=config.steps, guidance_scale=1.0, image_guidance_scale=1.0, resolution=config.pixels
        )
        self.frames = config.frames

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        if any(prompt.strip() for prompt in prompts):
            raise InputError(
                "DIF-100",
                f"{self.name} has no text encoder, so it cannot follow a prompt. Leave the prompt empty, or choose another "
                "video model.",
            )
        return torch.zeros(len(prompts), 1, 1, device=self.device)

    def cut_short(self, prompt: str) -> tuple[int, int] | None:
        return None

    # -- frames --------------------------------------------------------------------------------------------------------

    def latent_frames(self, frames: int) -> int:
        return latent_frames(frames, self.model.config.latent.time_factor, self.name)

    def sampled_frames(self, frames: int) -> int:
        return self.latent_frames(frames)

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        self.latent_frames(images.shape[1])
        self._check_size(images)
        return pixels_to_latents(images.to(self.device), self.model.config.latent)

    @torch.no_grad()
    def encode_image_latents(self, images: Tensor) -> Tensor:
        return self.first_frame(images[:, 0], images.shape[1])

    @torch.no_grad()
    def first_frame(self, image: Tensor, frames: int) -> Tensor:
        count = self.latent_frames(frames)
        self._check_size(image)
        first = pixels_to_latents(image[:, None].to(self.device), self.model.config.latent)
        return torch.cat([first, torch.zeros_like(first).expand(-1, -1, count - 1, -1, -1)], dim=2)

    def scaled(self, condition: Tensor) -> Tensor:
        return condition

    def decode(self, latents: Tensor) -> Tensor:
        return latents_to_pixels(latents.to(self.device), self.model.config.latent)

    def _check_size(self, images: Tensor) -> None:
        height, width, multiple = int(images.shape[-3]), int(images.shape[-2]), self.vae_scale_factor
        if height % multiple or width % multiple:
            raise InputError(
                "DIF-101",
                f"The frames are {width}×{height}, but {self.name} needs sides that are multiples of {multiple}; "
                "resize them.",
            )

    # -- the network ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(
        self,
        noisy: Tensor,
        t: int,
        text: Tensor,
        condition: Tensor | None = None,
        sharing: Attention | None = None,
        camera: Tensor | None = None,
    ) -> Tensor:
        if sharing is not None:
            raise ValueError(f"{self.name} attends to all frames itself; sharing is for image models")
        if condition is None:
            raise ValueError(f"{self.name} needs a conditioning image, but condition is None")
        frames = frames_of(noisy.shape[2], self.model.config.latent.time_factor)
        height, width = (int(side) * self.vae_scale_factor for side in noisy.shape[-2:])
        if camera is None or tuple(camera.shape[1:4]) != (frames, height, width):
            found = "none" if camera is None else " × ".join(map(str, camera.shape[1:4]))
            raise InputError(
                "DIF-102",
                f"{self.name} needs a camera path of {frames} × {height} × {width} rays (frames × height × width), but got "
                f"{found}; make the path for that length and size.",
            )
        image = self.decode(condition[:, :, :1])[:, 0]
        with explains_memory(f"predicting {frames} frames of {width}×{height} pixels", self.device):
            rays = camera.to(self.device)
            guess = self.model.guess(image, rays)

            def velocity(x: Tensor, time: float) -> Tensor:
                times = torch.full((len(x),), time / len(self.noise_schedule), device=x.device)
                return self.model.velocity(x, times, guess, rays)

            predict = as_v_prediction(velocity, self.noise_schedule, len(self.noise_schedule))
            found = predict(noisy.to(self.device), t)
        return check_finite(found, "a prediction", self.name, torch.float32)

    def mid_block(self) -> MidBlock | None:
        return None

    # -- the rest ------------------------------------------------------------------------------------------------------

    @property
    def megabytes(self) -> int:
        """Memory of the weights, in MiB."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters()) >> 20

    def move(self, device: torch.device | str) -> None:
        """Move the weights to another device, so that a host can free the GPU between two steps."""
        self.device = torch.device(device)
        self.model.to(self.device)


def load_camera_video_backbone(path: Path, device: torch.device | str = "cpu") -> CameraVideoBackbone:
    """Load the small video model from its file.

    Args:
        path: The .safetensors file.
        device: A torch device, or "auto" for CUDA where available.

    Raises:
        InputError: The file is damaged or of another model.

    Example:
        model = load_camera_video_backbone(Path("assets/models/tiny-diff4splat/video.safetensors"))
    """
    path = Path(path)
    return CameraVideoBackbone(
        load_camera_video(path),
        name=path.parent.name,
        fingerprint=fingerprint([path]),
        device=choose_device(device),
    )
