"""Edit images with an instruction: InstructPix2Pix with attention shared across views or frames.

Source: InstructPix2Pix (Brooks et al., CVPR 2023) as in Instruct-4DGS (Kwon et al., CVPR 2025, section 3.2:
Coherent-IP2P). Added: strength (only the last part of the noise schedule is run), local edits (outside the mask the
latents follow the noised originals, and the pixels are the originals'), and chunks: many images are edited a few at a
time, with the key image in each chunk. The key image attends only to itself, so it denoises the same way in every chunk,
and with key-frame attention the chunks give the same result as one large batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..diffusion import Backbone, CrossFrameAttention
from ..errors import InputError
from .classifier_free import Guidance, predict
from .score import check_finite

STARTS = ("noised originals", "noise")
# mask value from which a latent may change; pixels are blended by smaller values too
BARELY = 0.05
# images through the VAE at a time: its full-size layers need the most memory, and more images are not faster
AT_ONCE = 2


@dataclass(frozen=True)
class EditRequest:
    """Settings of an edit, without placeholders for a model's defaults.

    Args:
        guidance: Prompts and scales.
        steps: Denoising steps of the whole schedule.
        strength: Fraction of the noise schedule that is run, 0..1.
        start: One of STARTS; "noise" only has an effect at full strength.
        attention: One of `diffusion.MODES`.
        key: Index of the key image, which the others attend to.
        frames_at_once: Images per chunk; 0: all.
        seed: Seed of the noise.

    Raises:
        InputError: Empty prompt, unknown start, or strength outside 0..1.
    """

    guidance: Guidance
    steps: int
    strength: float = 1.0
    start: str = "noised originals"
    attention: str = "keyframe"
    key: int = 0
    frames_at_once: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.guidance.prompt.strip():
            raise InputError("GUI-002", "The prompt is empty; write what to change, such as 'make it night'.")
        if self.start not in STARTS:
            raise InputError("GUI-003", f"start is '{self.start}'; choose one of {', '.join(STARTS)}.")
        if not 0 <= self.strength <= 1:
            raise InputError("GUI-004", f"strength is {self.strength}; it must be between 0 and 1.")


class Edit:
    """An edit in progress: call `step` until `is_finished`, then read `images`.

    `state` and `load_state` save and restore it bit for bit.

    Args:
        backbone: A model with image conditioning.
        originals: [F, H, W, 3] in 0..1.
        request: Settings of the edit.
        masks: [F, H, W] in 0..1, where the edit may act; None: everywhere.

    Raises:
        InputError: No images, a model without image conditioning, masks of another size, or an invalid key.

    Source:
        Coherent-IP2P, Instruct-4DGS (Kwon et al., CVPR 2025), section 3.2.

    Example:
        edit = Edit(backbone, originals, EditRequest(Guidance("make it night", 7.5, 1.5), steps=20))
        while not edit.is_finished:
            edit.step()
        edited = edit.images
    """

    # [f, C, h, w] of the current chunk
    _condition: Tensor | None
    _noise: Tensor | None
    latents: Tensor | None
    # [f, C, h, w] of the current chunk: the predicted clean latents, for previews
    clean: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        originals: Tensor,
        request: EditRequest,
        masks: Tensor | None = None,
    ) -> None:
        if len(originals) == 0:
            raise InputError(
                "GUI-005", "The images to edit are missing; choose at least one view and one frame."
            )
        if not backbone.has_image_conditioning:
            raise InputError(
                "GUI-006",
                f"{backbone.name} is a text-to-image model (its UNet has {backbone.latent_channels} input channels where "
                f"{2 * backbone.latent_channels} are needed), but editing images needs an InstructPix2Pix model. Load "
                "one, or use score distillation, which works with this model.",
            )
        if masks is not None and masks.shape != originals.shape[:3]:
            got = "×".join(str(n) for n in reversed(masks.shape[1:]))
            raise InputError(
                "GUI-007",
                f"The mask has {len(masks)} images of {got}, but there are {len(originals)} views of "
                f"{originals.shape[2]}×{originals.shape[1]}; give one mask per view, of the same size.",
            )
        self.backbone, self.originals, self.request, self.masks = backbone, originals, request, masks
        # also checks mode and key
        self.sharing = CrossFrameAttention(request.attention, len(originals), request.key)
        every = backbone.noise_schedule.timesteps(request.steps)
        kept = max(1, round(len(every) * request.strength)) if request.strength > 0 else 0
        self.timesteps = every[len(every) - kept :]
        untouched = masks is not None and not bool((masks > 0).any())
        self.chunks = [] if kept == 0 or untouched else self._split()
        # [F, H, W, 3] on the CPU: the model's output, also outside the mask
        self.painted = originals.clone()
        # indices into self.chunks and self.timesteps
        self.chunk = self.position = 0
        # images that went through the guided model, counted once per step
        self.calls = 0
        # [C, h, w] on the CPU: conditioning latents of the originals
        self._encoded: dict[int, Tensor] = {}
        self.latents = self._condition = self._noise = self.clean = None

    def _split(self) -> list[list[int]]:
        """Image indices by chunk. With shared attention the key comes first in each chunk, unless one holds all."""
        count, size = len(self.originals), self.request.frames_at_once
        if size == 0 or size >= count:
            return [list(range(count))]
        if self.request.attention == "vanilla":
            return [list(range(i, min(i + size, count))) for i in range(0, count, size)]
        key = self.request.key
        others = [i for i in range(count) if i != key]
        room = max(1, size - 1)
        return [[key, *others[i : i + room]] for i in range(0, len(others), room)]

    @property
    def total(self) -> int:
        """Number of steps over all chunks."""
        return len(self.chunks) * len(self.timesteps)

    @property
    def done(self) -> int:
        return self.chunk * len(self.timesteps) + self.position

    @property
    def is_finished(self) -> bool:
        return self.chunk >= len(self.chunks)

    @property
    def images(self) -> Tensor:
        """Edited images so far [F, H, W, 3] in 0..1 on the CPU; outside the mask bit-identical to the originals."""
        return self.limited(self.painted)

    def limited(self, images: Tensor) -> Tensor:
        """Images of all frames [F, H, W, 3] with the originals outside the mask."""
        return self._limited(images, list(range(len(self.originals))))

    @property
    def region(self) -> Tensor | None:
        """[F, H, W] on the CPU: 1 where the model may change pixels (the mask grown to whole latents); None: no mask."""
        if self.masks is None:
            return None
        free = self._free(list(range(len(self.masks))))
        return torch.nn.functional.interpolate(free, self.masks.shape[1:])[:, 0]

    def _free(self, frames: list[int]) -> Tensor:
        """[f, 1, h, w] on the CPU: 1 for latents with a masked pixel, 0 for those that follow the originals."""
        assert self.masks is not None
        height, width = self.masks.shape[1:]
        size = height // self.backbone.vae_scale_factor, width // self.backbone.vae_scale_factor
        masks = self.masks[frames][:, None].cpu()
        return (torch.nn.functional.adaptive_max_pool2d(masks, size) > BARELY).float()

    @property
    def frames(self) -> list[int]:
        """Image indices of the current chunk (of the last one after the end)."""
        return self.chunks[min(self.chunk, len(self.chunks) - 1)] if self.chunks else []

    @torch.no_grad()
    def step(self) -> None:
        """Run one denoising step of one chunk; after its last step, its images are in `images`."""
        frames, request, noise_schedule = self.frames, self.request, self.backbone.noise_schedule
        if self._condition is None:
            self._enter_chunk()
        assert self.latents is not None and self._noise is not None and self._condition is not None
        t = self.timesteps[self.position]
        earlier = self.timesteps[self.position + 1] if self.position + 1 < len(self.timesteps) else -1
        sharing = CrossFrameAttention(
            request.attention, len(frames), frames.index(request.key) if self._keyed else 0
        )
        output = predict(self.backbone, self.latents, t, request.guidance, self._condition, sharing)
        check_finite(output, self.backbone.name)
        self.clean = noise_schedule.predict_x0(output, self.latents, t)
        self.latents = noise_schedule.step(output, self.latents, t, earlier)
        if self.masks is not None:
            kept = self.backbone.scaled(self._condition)
            if earlier >= 0:
                kept = noise_schedule.add_noise(kept, self._noise, earlier)
            free = self._free(frames).to(self.latents)
            self.latents = free * self.latents + (1 - free) * kept
        # a checkpoint does not keep the memory layout, and the last bit of a convolution depends on it
        self.latents = self.latents.contiguous()
        self.calls += len(frames)
        self.position += 1
        if self.position == len(self.timesteps):
            self._leave_chunk()

    def preview(self, limit: int) -> tuple[Tensor, Tensor]:
        """Originals and current images of the chunk in progress, both [≤ limit, H, W, 3] on the CPU."""
        frames = self.frames[:limit]
        # between two chunks: images of the finished one
        if self.clean is None or self.position == 0:
            frames = (self.chunks[self.chunk - 1] if self.chunk else self.frames)[:limit]
            return self.originals[frames], self._limited(self.painted[frames], frames)
        with torch.no_grad():
            return self.originals[frames], self._limited(self._decode(self.clean[:limit]), frames)

    @property
    def _keyed(self) -> bool:
        return self.request.attention != "vanilla"

    def _enter_chunk(self) -> None:
        """Encode the chunk's originals and draw its noise, which depends neither on the chunks nor on the device."""
        self._condition = self._conditions(self.frames)
        generator = torch.Generator().manual_seed(self.request.seed)
        shape = (len(self.originals), *self._condition.shape[1:])
        self._noise = torch.randn(shape, generator=generator)[self.frames].to(self.backbone.device)
        if self.latents is None:
            first = self.timesteps[0]
            starts_clean = self.request.start == "noise" and self.request.strength == 1
            self.latents = (
                self._noise
                if starts_clean
                else self.backbone.noise_schedule.add_noise(
                    self.backbone.scaled(self._condition), self._noise, first
                )
            )

    def _conditions(self, frames: list[int]) -> Tensor:
        """Conditioning latents [f, C, h, w] of the originals.

        Each image is encoded once and alone, so that the result does not depend on the chunks.
        """
        for i in frames:
            if i not in self._encoded:
                image = self.originals[i : i + 1].to(self.backbone.device)
                self._encoded[i] = self.backbone.encode_image_latents(image)[0].cpu()
        return torch.stack([self._encoded[i] for i in frames]).to(self.backbone.device)

    @torch.no_grad()
    def as_seen(self) -> Tensor:
        """The originals after the model's autoencoder [F, H, W, 3], on the CPU."""
        return self._decode(self.backbone.scaled(self._conditions(list(range(len(self.originals))))))

    def _leave_chunk(self) -> None:
        frames = self.frames
        assert self.latents is not None
        # after the first chunk, the key image is already finished
        first = 1 if self.chunk > 0 and self._keyed else 0
        self.painted[frames[first:]] = self._decode(self.latents[first:])
        self.latents = self._condition = self._noise = self.clean = None
        self.chunk, self.position = self.chunk + 1, 0

    def _decode(self, latents: Tensor) -> Tensor:
        parts = [self.backbone.decode(part).float().clamp(0, 1).cpu() for part in latents.split(AT_ONCE)]
        images = torch.cat(parts)
        check_finite(images, self.backbone.name)
        return images

    def _limited(self, images: Tensor, frames: list[int]) -> Tensor:
        if self.masks is None:
            return images
        share = self.masks[frames][..., None].cpu()
        return share * images + (1 - share) * self.originals[frames]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, numbers) from which `load_state` continues."""
        tensors = {"painted": self.painted}
        if self.latents is not None:
            tensors["latents"] = self.latents
        return tensors, {"chunk": self.chunk, "position": self.position, "calls": self.calls}

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        self.painted = tensors["painted"]
        self.latents = tensors["latents"].to(self.backbone.device) if "latents" in tensors else None
        self._condition = self._noise = self.clean = None
        self.chunk, self.position = int(numbers["chunk"]), int(numbers["position"])
        self.calls = int(numbers["calls"])


def edit_pictures(
    backbone: Backbone, originals: Tensor, request: EditRequest, masks: Tensor | None = None
) -> Tensor:
    """Run a whole edit; see `Edit` for the arguments and errors.

    Returns:
        Edited images [F, H, W, 3] in 0..1, on the CPU.
    """
    edit = Edit(backbone, originals, request, masks)
    while not edit.is_finished:
        edit.step()
    return edit.images
