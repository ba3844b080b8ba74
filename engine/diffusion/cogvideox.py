"""CogVideoX from diffusers' parts: a video from an image, a text and, with added weights, a camera path.

Source: CogVideoX (Yang et al., ICLR 2025): a transformer over latents of a causal 3D autoencoder (16 channels, 4 frames and
8×8 pixels per latent), 2B with sine-cosine positions, 5B with rotary ones, 1.5 with patches of two latent frames. An
image-to-video model has twice the latent's channels: behind the noise, the first frame's latents, zero after it. The camera
condition is that of camera_condition.py, for Diff4Splat (CVPR 2026).

Published weights predict v in a discrete schedule. Weights that were trained on with flow matching (their scheduler is a
FlowMatch one) predict velocities; `predict` gives v for them too, so that guidance needs no second kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..backends import explains_memory
from ..errors import InputError
from ..frame_counts import frames_of
from .backbone import MidBlock, ModelDefaults
from .camera_condition import RayGrid, WidenedProjection, load_camera, save_camera, saved_samples
from .cross_frame_attention import Attention
from .dpm_solver import Predict
from .faults import check_finite
from .frames import latent_frames
from .known_edits import KnownEdits
from .noise_schedule import DiscreteSchedule
from .rotary_positions import rotary_positions
from .sampling import as_v_prediction
from .t5_text import T5Text
from .video_autoencoder import GROUP, VideoAutoencoder

# the offset that CogVideoX 1.5 was trained with
OFFSET = 2.0


class CogVideoX:
    """CogVideoX 2B, 5B and 1.5, from text or from an image. See `VideoBackbone` for the methods.

    Args:
        transformer: CogVideoXTransformer3DModel.
        vae: AutoencoderKLCogVideoX.
        text_encoder: T5EncoderModel, or None; see `T5Text`.
        tokenizer: Its tokenizer, or None.
        noise_schedule: The schedule, with v-prediction.
        name: Shown to users.
        fingerprint: Changes with the weights.
        flow_shift: The time shift of weights that were trained with flow matching; None: they predict v.
        defaults: Recommended settings.
        device: Where it runs.
        dtype: Precision of transformer and autoencoder.
        in_tiles: Encode and decode large frames in tiles, which needs less memory.
    """

    known_edits: KnownEdits | None = None

    def __init__(
        self,
        transformer: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        noise_schedule: DiscreteSchedule,
        *,
        name: str,
        fingerprint: str,
        flow_shift: float | None = None,
        defaults: ModelDefaults = ModelDefaults(steps=50, guidance_scale=6.0, image_guidance_scale=1.0),
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        in_tiles: bool = True,
    ) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.transformer, vae = self._placed(transformer), self._placed(vae)
        self.noise_schedule = noise_schedule
        self.name, self.fingerprint, self.defaults = name, fingerprint, defaults
        self.flow_shift = flow_shift
        config = transformer.config
        self.latent_channels = int(config.out_channels)
        self.has_image_conditioning = int(config.in_channels) == 2 * self.latent_channels
        self.autoencoder = VideoAutoencoder(vae, in_tiles)
        self.vae_scale_factor = self.autoencoder.space_factor
        self.time_factor: int | None = self.autoencoder.time_factor
        self.size_multiple = self.vae_scale_factor * int(config.patch_size)
        # what the model was trained to make
        self.frames = int(config.sample_frames)
        self.camera: WidenedProjection | None = None
        length, width = int(config.max_text_seq_length), int(config.text_embed_dim)
        self.text = T5Text(text_encoder, tokenizer, length, width, name)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return self.text.encode(prompts, self.device)

    def cut_short(self, prompt: str) -> tuple[int, int] | None:
        return self.text.cut_short(prompt)

    # -- frames --------------------------------------------------------------------------------------------------------

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        self.latent_frames(images.shape[1])
        mean, deviation = self._posterior(images)
        if generator is not None:
            # drawn on the CPU, so that a seed gives the same video on every device
            mean = mean + deviation * torch.randn(mean.shape, generator=generator).to(mean)
        return mean * self.autoencoder.scale

    @torch.no_grad()
    def encode_image_latents(self, images: Tensor) -> Tensor:
        return self.first_frame(images[:, 0], images.shape[1])

    @torch.no_grad()
    def first_frame(self, image: Tensor, frames: int) -> Tensor:
        count = self.latent_frames(frames)
        first = self._posterior(image[:, None])[0] * self.autoencoder.condition_scale
        return torch.cat([first, torch.zeros_like(first).expand(-1, -1, count - 1, -1, -1)], dim=2)

    def scaled(self, condition: Tensor) -> Tensor:
        return condition * (self.autoencoder.scale / self.autoencoder.condition_scale)

    def decode(self, latents: Tensor) -> Tensor:
        with explains_memory(f"decoding {self._size(latents)}", self.device):
            frames = self.autoencoder.decode(latents.to(self.device, self.dtype))
        return check_finite(frames, "a frame", self.name, self.dtype)

    def latent_frames(self, frames: int) -> int:
        return latent_frames(frames, self.autoencoder.time_factor, self.name, GROUP)

    def sampled_frames(self, frames: int) -> int:
        return self._whole_patches(self.latent_frames(frames))

    def _whole_patches(self, count: int) -> int:
        return count + -count % int(self.transformer.config.patch_size_t or 1)

    def _posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [B, C, T', h, w] of the latents of [B, T, H, W, 3], not scaled."""
        height, width = int(images.shape[2]), int(images.shape[3])
        if height % self.size_multiple or width % self.size_multiple:
            raise InputError(
                "DIF-076",
                f"The frames are {width}×{height}, but {self.name} needs sides that are multiples of {self.size_multiple}; "
                "resize them.",
            )
        with explains_memory(f"encoding {images.shape[1]} frames of {width}×{height} pixels", self.device):
            mean, deviation = self.autoencoder.encode(images.to(self.device, self.dtype))
        return check_finite(mean, "latents", self.name, self.dtype), deviation

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

        def output(x: Tensor, time: float) -> Tensor:
            return self.network(x, time, text, condition, camera)

        predict: Predict = output
        if self.flow_shift is not None:
            predict = as_v_prediction(output, self.noise_schedule, len(self.noise_schedule))
        return check_finite(predict(noisy, t), "a prediction", self.name, self.dtype)

    def network(
        self,
        noisy: Tensor,
        time: float | Tensor,
        text: Tensor,
        condition: Tensor | None = None,
        camera: Tensor | None = None,
    ) -> Tensor:
        """Run the transformer once, with gradients of whatever requires them; for training.

        Args:
            noisy: [B, C, T', h, w], with or without the frames that `sampled_frames` adds before the video; of weights
                that predict velocities, straightened (see sampling.py).
            time: The network's own time, one for all or [B]: the timestep, or τ times the number of timesteps for
                velocities.
            text: Text states [B, S, D].
            condition: [B, C, T', h, w]; required if `has_image_conditioning`, ignored otherwise.
            camera: Plücker rays [B, T, H, W, 6], or None.

        Returns:
            v, or the velocity, [B, C, T', h, w].

        Raises:
            InputError: The camera path does not fit, or the model's positions do not allow this size.
        """
        config = self.transformer.config
        self._check_size(noisy)
        # patches of several latent frames: as in training, the first frame is repeated before them, and the conditioning
        # image stays at the very first place
        count = self._whole_patches(noisy.shape[2])
        parts = [_lengthened(noisy, count)]
        if self.has_image_conditioning:
            if condition is None:
                raise ValueError(f"{self.name} needs a conditioning image, but condition is None")
            still = torch.zeros_like(condition[:, :, : count - condition.shape[2]])
            parts.append(torch.cat([condition, still], dim=2).to(noisy))
        if camera is not None:
            parts.append(_lengthened(self._rays(camera, noisy), count).to(noisy))
        x = torch.cat(parts, dim=1).transpose(1, 2).to(self.device, self.dtype)
        when = torch.as_tensor(time, device=self.device).expand(len(noisy))
        offset = None if config.ofs_embed_dim is None else x.new_full((1,), OFFSET)
        with explains_memory(f"predicting {self._size(noisy)}", self.device):
            out = self.transformer(
                hidden_states=x,
                encoder_hidden_states=text.to(self.device, self.dtype),
                timestep=when,
                ofs=offset,
                image_rotary_emb=rotary_positions(
                    config, x.shape[1], noisy.shape[-2], noisy.shape[-1], self.device
                ),
                return_dict=False,
            )[0]
        return out.float().transpose(1, 2)[:, :, count - noisy.shape[2] :]

    def _check_size(self, noisy: Tensor) -> None:
        config, factor = self.transformer.config, self.vae_scale_factor
        made = (int(config.sample_frames), int(config.sample_height), int(config.sample_width))
        frames, (height, width) = frames_of(noisy.shape[2], self.autoencoder.time_factor), noisy.shape[-2:]
        if config.patch_size_t is not None and (height > made[1] or width > made[2]):
            raise InputError(
                "DIF-080",
                f"{self.name} has positions for {made[2] * factor}×{made[1] * factor} pixels, but the video has "
                f"{width * factor}×{height * factor}; make it smaller.",
            )
        if config.use_learned_positional_embeddings and (frames, height, width) != made:
            raise InputError(
                "DIF-077",
                f"{self.name} makes {made[0]} frames of {made[2] * factor}×{made[1] * factor} pixels only, not {frames} of "
                f"{width * factor}×{height * factor}, because its positions are learned; choose that length and size.",
            )

    # -- the camera ----------------------------------------------------------------------------------------------------

    def add_camera(self, samples: int = 1) -> WidenedProjection:
        """Widen the patch embedding for a camera path; the output stays the same until its weights are trained.

        Args:
            samples: Rays per latent along each side; see `RayGrid`.

        Returns:
            The widened projection; its `added` weights, frozen at first, are all that a camera adds to the model.
        """
        self.camera = self.transformer.patch_embed.proj = self._widened(samples)
        return self.camera

    def load_camera(self, path: Path | str) -> None:
        """Load a camera condition that `save_camera` wrote.

        Raises:
            InputError: The file is damaged, or belongs to another model.
        """
        widened = self._widened(saved_samples(path, self._widened(1), self.name))
        load_camera(widened, path, self.name)
        self.camera = self.transformer.patch_embed.proj = widened

    def save_camera(self, path: Path | str) -> Path:
        """Save the weights that the camera condition added, and nothing else."""
        if self.camera is None:
            raise ValueError(f"{self.name} has no camera condition to save")
        return save_camera(self.camera, path)

    def _widened(self, samples: int) -> WidenedProjection:
        config, projection = self.transformer.config, self.transformer.patch_embed.proj
        base = projection.base if isinstance(projection, WidenedProjection) else projection
        volume = int(config.patch_size) ** 2 * int(config.patch_size_t or 1)
        grid = RayGrid(self.autoencoder.time_factor, self.vae_scale_factor, samples)
        return WidenedProjection(base, grid, volume)

    def _rays(self, camera: Tensor, noisy: Tensor) -> Tensor:
        """[B, T, H, W, 6] as channels [B, E, T', h, w]."""
        if self.camera is None:
            raise InputError(
                "DIF-078",
                f"{self.name} has no camera condition, so it cannot follow a camera path. Load camera weights for it, or "
                "leave the path out.",
            )
        # the frames that fill a patch have no rays of their own
        count = self.latent_frames(camera.shape[1])
        height, width = (int(side) * self.vae_scale_factor for side in noisy.shape[-2:])
        fits = self._whole_patches(count) == self._whole_patches(noisy.shape[2])
        if not fits or tuple(camera.shape[2:4]) != (height, width):
            raise InputError(
                "DIF-079",
                f"The camera path has {camera.shape[1]} frames of {camera.shape[3]}×{camera.shape[2]} rays, but the video "
                f"has {frames_of(noisy.shape[2], self.autoencoder.time_factor)} of {width}×{height}; make the path for that "
                "length and size.",
            )
        return self.camera.grid.fold(camera).transpose(1, 2)

    # -- the rest ------------------------------------------------------------------------------------------------------

    def mid_block(self) -> MidBlock | None:
        return None

    @property
    def megabytes(self) -> int:
        """Memory of the weights, in MiB."""
        parts = [
            part for part in (self.transformer, self.autoencoder.vae, self.text.encoder) if part is not None
        ]
        return sum(p.numel() * p.element_size() for part in parts for p in part.parameters()) >> 20

    def move(self, device: torch.device | str) -> None:
        """Move the weights to another device, so that a host can free the GPU between two steps."""
        self.device = torch.device(device)
        self.transformer = self._placed(self.transformer)
        self.autoencoder.vae = self._placed(self.autoencoder.vae)
        self.text.clear()

    def _placed(self, model: Any) -> Any:
        # Module's own `to`, because diffusers' prints a warning for half precision on a CPU
        return torch.nn.Module.to(model, self.device, self.dtype).eval().requires_grad_(False)

    def _size(self, latents: Tensor) -> str:
        height, width = (int(side) * self.vae_scale_factor for side in latents.shape[-2:])
        frames = frames_of(latents.shape[2], self.autoencoder.time_factor)
        return f"{len(latents)} videos of {frames} frames of {width}×{height} pixels"


def _lengthened(latents: Tensor, count: int) -> Tensor:
    """[B, C, T', h, w] with its first frame repeated before it, so that there are `count`."""
    first = latents[:, :, :1].expand(-1, -1, count - latents.shape[2], -1, -1)
    return torch.cat([first, latents], dim=2)
