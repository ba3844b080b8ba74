"""Connected MODEL, CLIP and VAE as the engine's diffusion backbone.

The patched ModelPatcher runs unchanged (LoRAs, attention patches, offloading, memory estimates), prompts go through
ComfyUI's tokenizer (weights in brackets, embeddings), the VAE through a copy of its patched weights (`comfy_vae`). This module
adds cross-frame attention between views and gradients through the VAE's encoder, which ComfyUI's own `encode` does not provide.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management as model_management  # pyright: ignore[reportMissingImports]
import comfy.model_patcher as model_patcher  # pyright: ignore[reportMissingImports]
import comfy.sampler_helpers as sampler_helpers  # pyright: ignore[reportMissingImports]
import comfy.samplers as samplers  # pyright: ignore[reportMissingImports]
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import (  # pyright: ignore[reportMissingImports]
    UNetModel,
)
from torch import Tensor

from ..engine.diffusion import Attention, MidBlock, ModelDefaults
from ..engine.diffusion.cross_frame_attention import is_plain
from ..engine.diffusion.known_edits import KnownEdits
from ..engine.diffusion.stable_diffusion import mid_block
from ..engine.errors import InputError
from . import comfy_vae, host
from .comfy_patchers import WANTED, fingerprint, noise_schedule, share

# Stable Diffusion 2.x; with v-prediction it was trained at 768 pixels
SD2_TEXT_WIDTH = 1024
# of 75 tokens each, in a prompt: those of a batch are repeated to one length, which grows with their product
MOST_CHUNKS = 4
# a differentiated encoder keeps about this many times the activations
GRADIENT_MEMORY = 3


class ComfyBackbone:
    """See `Backbone`. Raises InputError for an unsupported MODEL, CLIP or VAE."""

    known_edits: KnownEdits | None = None
    time_factor: int | None = None

    def __init__(self, model: Any, clip: Any, vae: Any) -> None:
        for part, label in ((model, "MODEL"), (clip, "CLIP"), (vae, "VAE")):
            if part is None:
                raise InputError(
                    "NOD-001",
                    f"The connected {label} is empty: the checkpoint does not contain one. Load it with a "
                    "separate loader.",
                )
        self.model, self.clip, self.vae = model, clip, vae
        kind, unet = self._check_model()
        self.format = model.get_model_object("latent_format")
        self.latent_channels = int(self.format.latent_channels)
        self.has_image_conditioning = self._check_channels(kind, int(unet.in_channels))
        self._check_vae(kind)
        self.vae_scale_factor = int(vae.spacial_compression_encode())
        self.noise_schedule = noise_schedule(model.get_model_object("model_sampling"), kind)
        self.device = torch.device(model.load_device)
        self.name = f"wired {kind}"
        self.fingerprint = fingerprint(model, clip.patcher, vae.patcher)
        self._width = int(model.model.model_config.unet_config["context_dim"])
        large = self._width == SD2_TEXT_WIDTH and self.noise_schedule.prediction == "v_prediction"
        self.defaults = ModelDefaults(
            image_guidance_scale=1.5 if self.has_image_conditioning else 1.0, resolution=768 if large else 512
        )
        self._texts: dict[str, Tensor] = {}
        # see `comfy_vae`; held until `release`
        self._coder: Any = None
        black, gray = vae.process_output(torch.tensor([0.0, 0.5])).tolist()
        # of process_output, which also clamps
        self._offset, self._slope = black, 2 * (gray - black)

    @property
    def megabytes(self) -> int:
        patchers = (self.model, self.clip.patcher, self.vae.patcher)
        return sum(patcher.model_size() for patcher in patchers) >> 20

    # -- unsupported models -----------------------------------------------------------------------------------------

    def _check_model(self) -> tuple[str, Any]:
        inner = self.model.model
        kind, unet = type(inner.model_config).__name__, inner.diffusion_model
        if not isinstance(unet, UNetModel) or "context_dim" not in inner.model_config.unet_config:
            latents = getattr(inner.model_config, "latent_format", None)
            is_video = getattr(latents, "latent_dimensions", 2) == 3
            which = "a video model without a" if is_video else "which has no"
            raise InputError(
                "NOD-002",
                f"The connected MODEL is {kind}, {which} Stable Diffusion UNet; {WANTED}.",
            )
        if inner.adm_channels:
            raise InputError(
                "NOD-003",
                f"The connected MODEL is {kind}, which needs more than text (size or image embeddings); {WANTED}.",
            )
        return kind, unet

    def _check_channels(self, kind: str, channels: int) -> bool:
        own = self.latent_channels
        has_image_conditioning = hasattr(self.model.model, "process_ip2p_image_in") and channels == 2 * own
        if not has_image_conditioning and channels != own:
            raise InputError(
                "NOD-004",
                f"The connected MODEL ({kind}) has a UNet with {channels} input channels, but {own} (text to image) or {2 * own} "
                "(InstructPix2Pix) are needed. Inpainting and depth models are not supported.",
            )
        return has_image_conditioning

    def _check_vae(self, kind: str) -> None:
        if getattr(self.vae, "first_stage_model", None) is None:
            raise InputError("NOD-005", "The connected VAE contains no weights; load one with Load VAE.")
        if self.vae.latent_dim != 2 or self.vae.latent_channels != self.latent_channels:
            raise InputError(
                "NOD-006",
                f"The connected VAE has {self.vae.latent_channels} latent channels in {self.vae.latent_dim} dimensions, but the "
                f"MODEL ({kind}) needs {self.latent_channels} in 2; connect the VAE that belongs to the model.",
            )

    # -- text -------------------------------------------------------------------------------------------------------

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        for prompt in prompts:
            if prompt not in self._texts:
                states = _to_the_end(lambda said=prompt: self._states(said))
                if states.shape[-1] != self._width:
                    raise InputError(
                        "NOD-007",
                        f"The connected CLIP encodes text with width {states.shape[-1]}, but the MODEL expects {self._width}; "
                        "connect the CLIP that belongs to the model.",
                    )
                self._texts[prompt] = states
        states = [self._texts[prompt] for prompt in prompts]
        # ComfyUI encodes long prompts as multiples of 77 tokens; repeating a text does not change its attention
        length = math.lcm(*(s.shape[1] for s in states))
        return torch.cat([s.repeat(1, length // s.shape[1], 1) for s in states])

    def cut_short(self, prompt: str) -> tuple[int, int] | None:
        with host.as_host():
            chunks = max(self.clip.tokenize(prompt).values(), key=len)
        if len(chunks) <= MOST_CHUNKS:
            return None
        return sum(map(_length, chunks)), sum(map(_length, chunks[:MOST_CHUNKS]))

    def _states(self, prompt: str) -> Tensor:
        with host.as_host():
            tokens = {name: chunks[:MOST_CHUNKS] for name, chunks in self.clip.tokenize(prompt).items()}
            states = self.clip.encode_from_tokens(tokens)
        return host.detach(states[:1]).float().to(self.device)

    # -- images -----------------------------------------------------------------------------------------------------

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        latents, deviation = self._posterior(images)
        if generator is not None and deviation is not None:
            # noise is drawn on the CPU, so that a seed gives the same image on every device
            noise = torch.randn(latents.shape, generator=generator).to(latents)
            latents = latents + deviation * noise
        return self.scaled(latents)

    @torch.no_grad()
    def encode_image_latents(self, images: Tensor) -> Tensor:
        return self._posterior(images)[0]

    def scaled(self, condition: Tensor) -> Tensor:
        return self.format.process_in(condition)

    def decode(self, latents: Tensor) -> Tensor:
        raw = self.format.process_out(latents)
        pictures = self._through_vae(
            lambda first, x: first.decode(x), raw, self.vae.memory_used_decode, latents.requires_grad
        )
        return (pictures * self._slope + self._offset).permute(0, 2, 3, 1)

    def _posterior(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation [B, C, h, w] of the latents; None for a VAE without a posterior (TAESD)."""
        height, width = int(images.shape[1]), int(images.shape[2])
        if height % self.vae_scale_factor or width % self.vae_scale_factor:
            raise InputError(
                "NOD-008",
                f"The images are {width}×{height}, but {self.name} needs sides that are multiples of {self.vae_scale_factor}; "
                "resize them.",
            )
        pixels = self.vae.process_input(images.permute(0, 3, 1, 2))
        out = self._through_vae(_moments, pixels, self.vae.memory_used_encode, images.requires_grad)
        if out.shape[1] == self.latent_channels:
            return out, None
        mean, log_variance = out.chunk(2, dim=1)
        return mean, (log_variance.clamp(-30, 20) / 2).exp()

    def _through_vae(
        self,
        call: Callable[[Any, Tensor], Tensor],
        batch: Tensor,
        memory_used: Callable[[Any, Any], float],
        wants_gradient: bool,
    ) -> Tensor:
        vae = self.vae
        each = memory_used((1, *batch.shape[1:]), vae.vae_dtype) * (GRADIENT_MEMORY if wants_gradient else 1)
        try:
            coder = self._loaded_vae(each * len(batch))
            # with gradients all activations are kept, so splitting the batch would not save memory
            free = model_management.get_free_memory(vae.device)
            count = len(batch) if wants_gradient else min(max(int(free / max(each, 1)), 1), len(batch))

            def coded(part: Tensor) -> Tensor:
                return call(coder, part.to(vae.device, vae.vae_dtype))

            parts = [_to_the_end(lambda p=part: coded(p)) for part in batch.split(count)]
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            raise _too_large(each * len(batch), "the VAE") from error
        out = torch.cat(parts).float().to(self.device)
        return _finite(out, "VAE", vae.vae_dtype, "--fp32-vae")

    def _loaded_vae(self, working: float) -> Any:
        """The VAE's network on its device, with room for `working` bytes beside it."""
        vae = self.vae
        if self._coder is None:
            weights = comfy_vae.size_of(vae.first_stage_model, vae.vae_dtype)
            comfy_vae.make_room(weights + working, vae.device)
            self._coder = comfy_vae.standalone(vae.patcher, vae.vae_dtype, vae.device)
        else:
            comfy_vae.make_room(working, vae.device)
        return self._coder

    def release(self) -> None:
        """Free the device memory that this object itself holds; ComfyUI frees the rest as it needs it."""
        self._coder = None

    # -- the network ------------------------------------------------------------------------------------------------

    def mid_block(self) -> MidBlock | None:
        # on the CPU, with the VAE's patches
        first = comfy_vae.standalone(self.vae.patcher, torch.float32, torch.device("cpu"))
        decoder = getattr(first, "decoder", None)
        middle: Any = getattr(decoder, "mid", None)
        if decoder is None or not all(hasattr(middle, name) for name in ("block_1", "attn_1", "block_2")):
            return None
        attention = middle.attn_1
        if not hasattr(attention, "proj_out"):
            return None
        parts = {
            "res1": middle.block_1,
            "res2": middle.block_2,
            "attn.norm": attention.norm,
            "attn.q": attention.q,
        }
        parts |= {"attn.k": attention.k, "attn.v": attention.v, "attn.proj": attention.proj_out}
        zero = torch.zeros(1, self.latent_channels, 1, 1)
        offset = self.format.process_out(zero).flatten()
        slope = self.format.process_out(zero + 1).flatten() - offset
        mix = getattr(first, "post_quant_conv", None)
        return mid_block(parts, decoder.conv_in, mix, slope, offset, int(middle.block_1.norm1.num_groups))

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
        if self.has_image_conditioning and condition is None:
            raise ValueError(f"{self.name} needs a conditioning image, but got none")
        inner = self.model.model
        needed = inner.memory_required(list(noisy.shape))
        try:
            out = _to_the_end(
                lambda: self._predict(noisy.to(self.device), t, text, condition, sharing, needed)
            )
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            raise _too_large(needed, "the diffusion model") from error
        return _finite(out, "MODEL", inner.get_dtype(), "--fp32-unet")

    def _predict(self, *asked: Any) -> Tensor:
        with host.as_host():
            out = self._network(*asked)
        return host.detach(out)

    def _network(
        self,
        noisy: Tensor,
        t: int,
        text: Tensor,
        condition: Tensor | None,
        sharing: Attention | None,
        needed: float,
    ) -> Tensor:
        model, inner = self.model, self.model.model
        options = model_patcher.create_model_options_clone(model.model_options)
        if sharing is not None and not is_plain(sharing):
            options = share(options, inner.diffusion_model, sharing)
        sampler_helpers.prepare_model_patcher(model, {}, options)
        model_management.load_models_gpu(
            [model, *model.get_nested_additional_models()], memory_required=needed
        )
        model.pre_run()
        try:
            # ComfyUI measures noise as sigma: x = image + sigma · noise, which is ours divided by √ᾱ
            sigma = inner.model_sampling.sigmas[t].to(noisy)
            scale = (1 + sigma**2).sqrt()
            x = noisy * scale
            cond: dict[str, Any] = {"cross_attn": text, "model_conds": {}, "uuid": uuid.uuid4()}
            if condition is not None:
                cond["concat_latent_image"] = condition
            conds = samplers.encode_model_conds(inner.extra_conds, [cond], x, x.device, "positive")
            clean = samplers.calc_cond_batch(inner, [conds], x, sigma.expand(len(x)), options)[0]
        finally:
            model.cleanup()
        # ComfyUI's model returns the clean latents: convert back to the network's prediction
        if self.noise_schedule.prediction == "sample":
            return clean
        if self.noise_schedule.prediction == "v_prediction":
            return (x / scale**2 - clean) * scale / sigma
        return (x - clean) / sigma


def _length(chunk: Sequence[Any]) -> int:
    """Tokens of a chunk, without the start and without the end that fills it up."""
    ids = [entry[0] for entry in chunk]
    end = ids[-1]
    while ids and isinstance(ids[-1], int) and ids[-1] == end:
        ids.pop()
    return max(len(ids) - 1, 0)


def _to_the_end(work: Callable[[], Tensor]) -> Tensor:
    """The result of `work`. ComfyUI cancels inside a network, where a step could not resume: the work is repeated to its
    end, and the cancel takes effect between two steps."""
    try:
        return work()
    except model_management.InterruptProcessingException:
        made = work()
        model_management.interrupt_current_processing()
        return made


def _moments(first: Any, pixels: Tensor) -> Tensor:
    """Mean and log variance [B, 2C, h, w] if the VAE has a posterior, else its latents [B, C, h, w]."""
    if not hasattr(first, "regularization"):
        return first.encode(pixels)
    hidden = first.encoder(pixels)
    return first.quant_conv(hidden) if hasattr(first, "quant_conv") else hidden


def _finite(out: Tensor, part: str, dtype: Any, remedy: str) -> Tensor:
    if not bool(torch.isfinite(out).all()):
        raise InputError(
            "NOD-009",
            f"The connected {part} returned NaN or infinite values in {str(dtype).removeprefix('torch.')}; start ComfyUI "
            f"with {remedy}, or use another checkpoint.",
        )
    return out


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether ComfyUI takes the error for one of memory; newer versions know more kinds than OOM_EXCEPTION."""
    ask = getattr(model_management, "is_oom", None)
    return bool(ask(error)) if ask else isinstance(error, model_management.OOM_EXCEPTION)


def _too_large(needed: float, part: str) -> InputError:
    return InputError(
        "NOD-010",
        f"Not enough memory for {part}: about {needed / 2**30:.1f} GB needed at once. Lower the resolution or the "
        "batch size.",
    )
