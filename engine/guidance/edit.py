"""Pictures and an instruction in, edited pictures out: InstructPix2Pix with attention shared across views or moments.

InstructPix2Pix (Brooks et al., CVPR 2023) as in Instruct-4DGS (Kwon et al., CVPR 2025, section 3.2: Coherent-IP2P).
Added: strength (only the last part of the noise schedule is gone through), local edits (outside the mask the latents
follow the originals' own noising, and the pixels are theirs), and chunks: many pictures are edited a few at a time, and
the key picture comes along in each chunk. It sees nobody but itself, so its path through the noise is the same
every time, and with key-frame attention the chunks give what one large batch would.
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
BARELY = 0.05  # of a mask: less does not free a latent, the pixels are blended by it all the same
AT_ONCE = (
    2  # pictures through the VAE at a time: its full-size layers are the widest of all, more are not faster
)


@dataclass(frozen=True)
class EditRequest:
    """What is asked of the model; the numbers are final (nothing here means "recommended")."""

    guidance: Guidance
    steps: int
    strength: float = 1.0  # share of the noise schedule that is gone through
    start: str = "noised originals"  # one of STARTS; noise only matters at full strength
    attention: str = "keyframe"  # one of diffusion.MODES
    key: int = 0  # index of the picture that the others look at
    frames_at_once: int = 0  # 0 = all
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.guidance.prompt.strip():
            raise InputError("GUI-002", "The prompt is empty; say what to change, such as 'make it night'.")
        if self.start not in STARTS:
            raise InputError("GUI-003", f"start is '{self.start}'; choose one of {', '.join(STARTS)}.")
        if not 0 <= self.strength <= 1:
            raise InputError("GUI-004", f"strength is {self.strength}; it must lie between 0 and 1.")


class Edit:
    """An edit under way: `step` until `is_finished`, then `images`. State can be taken out and put back, bit for bit."""

    def __init__(
        self,
        backbone: Backbone,
        originals: Tensor,  # [F, H, W, 3] in 0..1
        request: EditRequest,
        masks: Tensor | None = None,  # [F, H, W] in 0..1: where the edit may act
    ) -> None:
        """Raises InputError: no pictures, a model without picture condition, masks of another size, a wrong key."""
        if len(originals) == 0:
            raise InputError(
                "GUI-005", "There is no picture to edit; choose at least one view and one moment."
            )
        if not backbone.has_image_conditioning:
            raise InputError(
                "GUI-006",
                f"{backbone.name} makes pictures from text alone (its UNet has {backbone.latent_channels} input channels "
                f"where {2 * backbone.latent_channels} are needed); editing views needs an InstructPix2Pix model. "
                "Refine with Score Distillation works with this one.",
            )
        if masks is not None and masks.shape != originals.shape[:3]:
            got = "×".join(str(n) for n in reversed(masks.shape[1:]))
            raise InputError(
                "GUI-007",
                f"The mask has {len(masks)} pictures of {got}, the views {len(originals)} of "
                f"{originals.shape[2]}×{originals.shape[1]}; give one mask a view, of the same size.",
            )
        self.backbone, self.originals, self.request, self.masks = backbone, originals, request, masks
        self.sharing = CrossFrameAttention(
            request.attention, len(originals), request.key
        )  # checks mode and key
        every = backbone.noise_schedule.timesteps(request.steps)
        kept = max(1, round(len(every) * request.strength)) if request.strength > 0 else 0
        self.timesteps = every[len(every) - kept :]
        untouched = masks is not None and not bool((masks > 0).any())
        self.chunks = [] if kept == 0 or untouched else self._split()
        self.painted = (
            originals.clone()
        )  # [F, H, W, 3] on the CPU: as the model left them, beyond the mask too
        self.chunk = self.position = 0  # in self.chunks, in self.timesteps
        self.calls = 0  # pictures that went through the guided model, once a step
        self._encoded: dict[int, Tensor] = {}  # [C, h, w] on the CPU: the originals as picture condition
        self.latents = self._condition = self._noise = self.clean = None

    _condition: Tensor | None  # [f, C, h, w] of the chunk under way, as the next
    _noise: Tensor | None
    latents: Tensor | None  # [f, C, h, w] of the chunk under way
    clean: Tensor | None  # [f, C, h, w]: the picture as the model sees it now, for previews

    def _split(self) -> list[list[int]]:
        """Pictures by chunk. Where attention is shared the key comes first in every chunk but a single whole one."""
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
        """Steps in all."""
        return len(self.chunks) * len(self.timesteps)

    @property
    def done(self) -> int:
        return self.chunk * len(self.timesteps) + self.position

    @property
    def is_finished(self) -> bool:
        return self.chunk >= len(self.chunks)

    @property
    def images(self) -> Tensor:
        """[F, H, W, 3] in 0..1 on the CPU: what was edited so far; outside the mask the originals, bit for bit."""
        return self.limited(self.painted)

    def limited(self, pictures: Tensor) -> Tensor:
        """Pictures of all frames [F, H, W, 3] with the originals outside the mask."""
        return self._limited(pictures, list(range(len(self.originals))))

    @property
    def region(self) -> Tensor | None:
        """[F, H, W] on the CPU: 1 where the model painted: the mask grown to whole latents; None without one."""
        if self.masks is None:
            return None
        free = self._free(list(range(len(self.masks))))
        return torch.nn.functional.interpolate(free, self.masks.shape[1:])[:, 0]

    def _free(self, frames: list[int]) -> Tensor:
        """[f, 1, h, w] on the CPU: 1 for latents that hold a masked pixel, 0 for those that follow the originals."""
        assert self.masks is not None
        height, width = self.masks.shape[1:]
        size = height // self.backbone.vae_scale_factor, width // self.backbone.vae_scale_factor
        masks = self.masks[frames][:, None].cpu()
        return (torch.nn.functional.adaptive_max_pool2d(masks, size) > BARELY).float()

    @property
    def frames(self) -> list[int]:
        """The pictures of the chunk under way (of the last one, where all is finished)."""
        return self.chunks[min(self.chunk, len(self.chunks) - 1)] if self.chunks else []

    @torch.no_grad()
    def step(self) -> None:
        """One denoising step of one chunk; after its last step its pictures are in `images`."""
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
        # a layout of its own would not survive a checkpoint, and the last bit of a convolution depends on it
        self.latents = self.latents.contiguous()
        self.calls += len(frames)
        self.position += 1
        if self.position == len(self.timesteps):
            self._leave_chunk()

    def preview(self, limit: int) -> tuple[Tensor, Tensor]:
        """Originals and pictures as they are now, both [≤ limit, H, W, 3] on the CPU, of the chunk under way."""
        frames = self.frames[:limit]
        if self.clean is None or self.position == 0:  # between two chunks: those of the finished one
            frames = (self.chunks[self.chunk - 1] if self.chunk else self.frames)[:limit]
            return self.originals[frames], self._limited(self.painted[frames], frames)
        with torch.no_grad():
            return self.originals[frames], self._limited(self._decode(self.clean[:limit]), frames)

    @property
    def _keyed(self) -> bool:
        return self.request.attention != "vanilla"

    def _enter_chunk(self) -> None:
        """Encode the chunk's originals and draw its noise: the same for every way of chunking, on every device."""
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
        """[f, C, h, w] of originals as picture condition; each is encoded once, alone, so chunks decide no bits."""
        for i in frames:
            if i not in self._encoded:
                picture = self.originals[i : i + 1].to(self.backbone.device)
                self._encoded[i] = self.backbone.encode_image_latents(picture)[0].cpu()
        return torch.stack([self._encoded[i] for i in frames]).to(self.backbone.device)

    @torch.no_grad()
    def as_seen(self) -> Tensor:
        """[F, H, W, 3] on the CPU: what is left of the originals after the model's autoencoder."""
        return self._decode(self.backbone.scaled(self._conditions(list(range(len(self.originals))))))

    def _leave_chunk(self) -> None:
        frames = self.frames
        assert self.latents is not None
        first = 1 if self.chunk > 0 and self._keyed else 0  # the key picture is finished already
        self.painted[frames[first:]] = self._decode(self.latents[first:])
        self.latents = self._condition = self._noise = self.clean = None
        self.chunk, self.position = self.chunk + 1, 0

    def _decode(self, latents: Tensor) -> Tensor:
        parts = [self.backbone.decode(part).float().clamp(0, 1).cpu() for part in latents.split(AT_ONCE)]
        pictures = torch.cat(parts)
        check_finite(pictures, self.backbone.name)
        return pictures

    def _limited(self, pictures: Tensor, frames: list[int]) -> Tensor:
        if self.masks is None:
            return pictures
        share = self.masks[frames][..., None].cpu()
        return share * pictures + (1 - share) * self.originals[frames]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, numbers) from which `load_state` goes on."""
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
    """Edited pictures [F, H, W, 3] in 0..1 on the CPU; see `Edit` for the arguments and errors."""
    edit = Edit(backbone, originals, request, masks)
    while not edit.is_finished:
        edit.step()
    return edit.images
