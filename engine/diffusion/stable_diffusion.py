"""A backbone from diffusers' parts: UNet2DConditionModel, AutoencoderKL, CLIP text encoder and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..backends import explains_memory
from ..errors import InputError
from ..models.text_length import cut_short
from .backbone import MidBlock, ModelDefaults
from .cross_frame_attention import Attention, shared
from .faults import check_finite
from .in_parallel import each, is_split
from .known_edits import KnownEdits
from .noise_schedule import DiscreteSchedule

# images that one thread predicts at once: single ones cost a third more
AT_ONCE = 2


class StableDiffusion:
    """SD 1.x, 2.x and InstructPix2Pix (a UNet with twice the latent's channels). See `Backbone` for the methods."""

    time_factor: int | None = None
    # see `in_parallel`
    allows_threads = True

    def __init__(
        self,
        unet: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        noise_schedule: DiscreteSchedule,
        *,
        name: str,
        fingerprint: str,
        defaults: ModelDefaults = ModelDefaults(),
        known_edits: KnownEdits | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.unet = self._placed(unet)
        self.vae = self._placed(vae)
        self.text_encoder = self._placed(text_encoder)
        self.tokenizer, self.noise_schedule = tokenizer, noise_schedule
        self.name, self.fingerprint, self.defaults = name, fingerprint, defaults
        self.known_edits = known_edits
        # memory of the weights, in MiB
        self.megabytes = _bytes(self.unet, self.vae, self.text_encoder) >> 20
        self.latent_channels = int(vae.config.latent_channels)
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.has_image_conditioning = int(unet.config.in_channels) == 2 * self.latent_channels
        self._texts: dict[str, Tensor] = {}

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        for prompt in prompts:
            if prompt not in self._texts:
                tokens = self.tokenizer(
                    prompt,
                    padding="max_length",
                    max_length=self._text_length,
                    truncation=True,
                    return_tensors="pt",
                )
                states = self.text_encoder(tokens.input_ids.to(self.device))[0]
                self._texts[prompt] = check_finite(states[0].float(), "text states", self.name, self.dtype)
        return torch.stack([self._texts[prompt] for prompt in prompts])

    def cut_short(self, prompt: str) -> tuple[int, int] | None:
        return cut_short(self.tokenizer, prompt, self._text_length)

    @property
    def _text_length(self) -> int:
        """Tokens of a prompt that are read."""
        return min(
            int(self.tokenizer.model_max_length), int(self.text_encoder.config.max_position_embeddings)
        )

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        posterior = self._posterior(images)
        if generator is None or isinstance(posterior, Tensor):
            latents = _mode(posterior)
        else:
            # drawn on the CPU, so that a seed gives the same image on every device
            noise = torch.randn(posterior.mean.shape, generator=generator)
            latents = posterior.mean + posterior.std * noise.to(posterior.mean, non_blocking=True)
        return self.scaled(latents.float())

    @torch.no_grad()
    def encode_image_latents(self, images: Tensor) -> Tensor:
        return _mode(self._posterior(images)).float()

    def scaled(self, condition: Tensor) -> Tensor:
        shift = float(getattr(self.vae.config, "shift_factor", None) or 0.0)
        return (condition - shift) * float(self.vae.config.scaling_factor)

    def decode(self, latents: Tensor) -> Tensor:
        shift = float(getattr(self.vae.config, "shift_factor", None) or 0.0)
        raw = latents / float(self.vae.config.scaling_factor) + shift
        with explains_memory(f"decoding {self._size(latents)}", self.device):
            images = self.vae.decode(raw.to(self.device, self.dtype)).sample.float()
        check_finite(images, "an image", self.name, self.dtype)
        return (images / 2 + 0.5).permute(0, 2, 3, 1)

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
        if camera is not None:
            raise ValueError(f"{self.name} makes images and takes no camera path, but camera is given")
        if self.has_image_conditioning:
            if condition is None:
                raise ValueError(f"{self.name} needs a conditioning image, but condition is None")
            noisy = torch.cat([noisy, condition], dim=1)
        with shared(self.unet, sharing), explains_memory(f"predicting {self._size(noisy)}", self.device):
            if sharing is None and is_split(self):
                parts = list(zip(noisy.split(AT_ONCE), text.split(AT_ONCE), strict=True))
                out = torch.cat(each(self, lambda part: self._predicted(part[0], t, part[1]), parts))
            else:
                out = self._predicted(noisy, t, text)
        return check_finite(out, "a prediction", self.name, self.dtype)

    def _predicted(self, noisy: Tensor, t: int, text: Tensor) -> Tensor:
        when = torch.full((len(noisy),), t, device=self.device, dtype=torch.long)
        states = text.to(self.device, self.dtype)
        return self.unet(noisy.to(self.device, self.dtype), when, encoder_hidden_states=states).sample.float()

    def mid_block(self) -> MidBlock | None:
        decoder: Any = getattr(self.vae, "decoder", None)
        middle = getattr(decoder, "mid_block", None)
        if (
            middle is None
            or len(middle.resnets) != 2
            or not middle.attentions
            or middle.attentions[0] is None
        ):
            return None
        attention, scale = middle.attentions[0], float(self.vae.config.scaling_factor)
        shift = float(getattr(self.vae.config, "shift_factor", None) or 0.0)
        parts: dict[str, Any] = {"res1": middle.resnets[0], "res2": middle.resnets[1]}
        parts |= {"attn.norm": attention.group_norm, "attn.q": attention.to_q, "attn.k": attention.to_k}
        parts |= {"attn.v": attention.to_v, "attn.proj": attention.to_out[0]}
        channels = self.latent_channels
        return mid_block(
            parts,
            decoder.conv_in,
            getattr(self.vae, "post_quant_conv", None),
            torch.full((channels,), 1 / scale),
            torch.full((channels,), shift),
            int(middle.resnets[0].norm1.num_groups),
        )

    def _posterior(self, images: Tensor) -> Any:
        """The VAE's distribution, or the latents themselves [B, C, h, w] for a VAE without one."""
        height, width = int(images.shape[1]), int(images.shape[2])
        if height % self.vae_scale_factor or width % self.vae_scale_factor:
            raise InputError(
                "DIF-043",
                f"The images are {width}×{height}, but {self.name} needs sides that are multiples of "
                f"{self.vae_scale_factor}; resize them.",
            )
        pixels = (images * 2 - 1).permute(0, 3, 1, 2).to(self.device, self.dtype)
        with explains_memory(f"encoding {len(images)} images of {width}×{height} pixels", self.device):
            found = self.vae.encode(pixels)
        posterior = found.latent_dist if hasattr(found, "latent_dist") else found.latents
        check_finite(_mode(posterior), "latents", self.name, self.dtype)
        return posterior

    def move(self, device: torch.device | str) -> None:
        """Move the weights to another device, so that a host can free the GPU between two steps."""
        self.device = torch.device(device)
        self.unet, self.vae, self.text_encoder = map(self._placed, (self.unet, self.vae, self.text_encoder))
        self._texts.clear()

    def _placed(self, model: Any) -> Any:
        # Module's own `to`, because diffusers' prints a warning for half precision on a CPU
        model = torch.nn.Module.to(model, self.device, self.dtype).eval().requires_grad_(False)
        # half-precision convolutions are faster in this layout; on a CPU it changes rounding and gains little
        return model.to(memory_format=torch.channels_last) if self.device.type == "cuda" else model

    def _size(self, latents: Tensor) -> str:
        height, width = (int(side) * self.vae_scale_factor for side in latents.shape[-2:])
        return f"{len(latents)} images of {width}×{height} pixels"


def _bytes(*parts: Any) -> int:
    return sum(p.numel() * p.element_size() for part in parts for p in part.parameters())


def _mode(posterior: Any) -> Tensor:
    return posterior if isinstance(posterior, Tensor) else posterior.mode()


@torch.no_grad()
def mid_block(
    parts: Mapping[str, Any],
    conv_in: Any,
    mix: Any,
    slope: Tensor,
    offset: Tensor,
    groups: int,
) -> MidBlock:
    """Collect the tensors of a mid block under a refiner's names; all maps before it become one convolution.

    Args:
        parts: Modules by a refiner's names.
        conv_in: The decoder's first convolution, 3×3.
        mix: The 1×1 convolution before it, or None.
        slope: [C], with `offset` the affine map from scaled latents to the decoder's input.
        offset: [C].
        groups: Groups of the GroupNorms.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in parts.items():
        for key, value in module.state_dict().items():
            if key.split(".")[0] in ("norm1", "conv1", "norm2", "conv2", "weight", "bias"):
                tensors[f"{name}.{key}"] = value.detach().float().cpu().clone()
    weight, bias = conv_in.weight.float().cpu(), conv_in.bias.float().cpu()
    if mix is not None:
        bias = bias + torch.einsum("ockl,c->o", weight, mix.bias.float().cpu())
        weight = torch.einsum("ockl,ci->oikl", weight, mix.weight.float().cpu()[:, :, 0, 0])
    tensors["conv_in.bias"] = bias + torch.einsum("ockl,c->o", weight, offset)
    tensors["conv_in.weight"] = weight * slope[None, :, None, None]
    return MidBlock(groups, tensors)
