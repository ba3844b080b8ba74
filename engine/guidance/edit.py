"""Edit images with an instruction: InstructPix2Pix with attention shared across views or frames.

Source: InstructPix2Pix (Brooks et al., CVPR 2023) as in Instruct-4DGS (Kwon et al., CVPR 2025, section 3.2:
Coherent-IP2P). Added: strength (only the last part of the noise schedule is run), local edits (outside the mask the
latents follow the noised originals, and the pixels are the originals'), and chunks: many images are edited a few at a
time, with the key image in each chunk.

All images go through the noise schedule together: timesteps are the outer loop, chunks the inner one. Every chunk of a
timestep reads the latents from its start, so the key image is the same in each of them, and with key-frame attention the
chunks give the same result as one large batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..diffusion import Attention, Backbone, CrossFrameAttention
from ..diffusion.key_views import Recording
from ..errors import InputError
from .classifier_free import predict
from .edit_request import ATTENTION, STARTS, EditRequest, kept_steps
from .image_latents import ImageLatents
from .inpaint import Keep, Move, moves
from .key_passes import PLAIN_BELOW, KeyPasses, Placement
from .score import check_finite

__all__ = ["ATTENTION", "STARTS", "Edit", "EditRequest", "Placement", "edit_pictures"]

# mask value from which a latent may change; pixels are blended by smaller values too
BARELY = 0.05


class Edit:
    """An edit in progress: call `step` until `is_finished`, then read `images`.

    `state` and `load_state` save and restore it bit for bit.

    Args:
        backbone: A model with image conditioning.
        originals: [F, H, W, 3] in 0..1.
        request: Settings of the edit.
        masks: [F, H, W] in 0..1, where the edit may act; None: everywhere.
        placement: Cameras and frames of the images; needed for attention "epipolar".
        keep: [F, H, W] in 0..1, where the originals are kept as `request.keep` says; None: nowhere.
        noised: [F, H, W, 3] in 0..1, the images that denoising starts from; None: the originals. The model is conditioned
            on the originals in both cases.

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

    # [F, C, h, w] at the start of the current timestep; None before the first and after the last one
    latents: Tensor | None
    # [F, C, h, w] at its end, as far as chunks are done
    advanced: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        originals: Tensor,
        request: EditRequest,
        masks: Tensor | None = None,
        placement: Placement | None = None,
        keep: Tensor | None = None,
        noised: Tensor | None = None,
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
        for given in (masks, keep):
            if given is not None and given.shape != originals.shape[:3]:
                got = "×".join(str(n) for n in reversed(given.shape[1:]))
                raise InputError(
                    "GUI-007",
                    f"The mask has {len(given)} images of {got}, but there are {len(originals)} views of "
                    f"{originals.shape[2]}×{originals.shape[1]}; give one mask per view, of the same size.",
                )
        self.keep = None if keep is None else Keep(keep, backbone.vae_scale_factor, request.keep, masks)
        self.backbone, self.originals, self.request, self.masks = backbone, originals, request, masks
        is_epipolar = request.attention == "epipolar"
        # checks mode and key
        CrossFrameAttention("full3d" if is_epipolar else request.attention, len(originals), request.key)
        every = backbone.noise_schedule.timesteps(request.steps)
        kept = kept_steps(len(every), request.strength)
        self.timesteps = every[len(every) - kept :]
        # what all images do one after the other, in indices into self.timesteps
        self.moves = moves(kept, None if keep is None else request.keep)
        self.key_passes = self._key_passes(placement) if is_epipolar else None
        untouched = masks is not None and not bool((masks > 0).any())
        self.chunks = [] if kept == 0 or untouched else self.split()
        # [F, H, W, 3] on the CPU: the model's output, also outside the mask
        self.painted = originals.clone()
        # indices into self.chunks and self.moves
        self.chunk = self.position = 0
        # images that went through the guided model, counted once per step
        self.calls = 0
        self.encoded = ImageLatents(backbone, originals, noised, request.seed)
        # [C, h, w]: the predicted clean latents, for previews
        self._clean: dict[int, Tensor] = {}
        self.latents = self.advanced = None

    def _key_passes(self, placement: Placement | None) -> KeyPasses:
        asked = self.request
        steps, branch = len(self.moves), asked.guidance.image_branch
        return KeyPasses(
            placement, len(self.originals), asked.key, asked.frames_at_once, steps, asked.seed, branch
        )

    def split(self) -> list[list[int]]:
        """Image indices by chunk."""
        return self.request.chunks(len(self.originals)) if self.key_passes is None else self.key_passes.chunks

    @property
    def notes(self) -> list[str]:
        """Sentences about this edit for the artist."""
        if not self.chunks:
            return []
        return [
            *(self.key_passes.notes() if self.key_passes is not None else []),
            *(self.keep.notes() if self.keep is not None else []),
        ]

    @property
    def total(self) -> int:
        """Number of steps over all chunks."""
        return len(self.chunks) * len(self.moves)

    @property
    def done(self) -> int:
        return self.position * len(self.chunks) + self.chunk

    @property
    def is_finished(self) -> bool:
        return self.done >= self.total

    @property
    def images(self) -> Tensor:
        """Edited images [F, H, W, 3] in 0..1 on the CPU, the originals before the end.

        Outside the mask they are bit-identical to the originals.
        """
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
        """Image indices of the next chunk (of the last one after the end)."""
        if not self.chunks:
            return []
        return self.chunks[-1 if self.is_finished else self.chunk]

    @torch.no_grad()
    def step(self) -> None:
        """Run one denoising step of one chunk; after the last one of all, the edited images are in `images`."""
        frames, noise_schedule = self.frames, self.backbone.noise_schedule
        condition, latents = self.encoded.conditions(frames), self._latents(frames)
        level = self.move.level
        t = self.timesteps[level]
        sharing = self._sharing(frames, t)
        output = predict(self.backbone, latents, t, self.request.guidance, condition, sharing)
        check_finite(output, self.backbone.name)
        clean = noise_schedule.predict_x0(output, latents, t)
        latents = noise_schedule.step(output, latents, t, self._timestep(level + 1))
        latents = self._with_originals(frames, latents, level + 1)
        self._put(frames, latents, clean)
        self.calls += len(frames)
        if self.key_passes is not None and t >= PLAIN_BELOW:
            self.calls += self.key_passes.keys_before(self.chunk)
        self.chunk += 1
        if self.chunk == len(self.chunks):
            self._leave_timestep()

    @property
    def move(self) -> Move:
        """The step under way."""
        return self.moves[self.position]

    def _timestep(self, level: int) -> int:
        """Timestep of a level; -1 after the last one."""
        return self.timesteps[level] if level < len(self.timesteps) else -1

    def _with_originals(self, frames: list[int], latents: Tensor, level: int) -> Tensor:
        """Latents with those of the originals put back outside the mask, and where the edit keeps them."""
        free = None if self.masks is None else self._free(frames)
        if self.keep is not None:
            kept = self.keep.latents[frames] * self.request.keep.share(level, len(self.timesteps))
            free = 1 - kept if free is None else free * (1 - kept)
        if free is None:
            return latents
        originals, t = self.backbone.scaled(self.encoded.conditions(frames)), self._timestep(level)
        if t >= 0:
            originals = self.backbone.noise_schedule.add_noise(originals, self.encoded.noise(frames), t)
        free = free.to(latents)
        return free * latents + (1 - free) * originals

    def _sharing(self, frames: list[int], t: int) -> Attention:
        if self.key_passes is None:
            key = frames.index(self.request.key) if self._keyed else 0
            return CrossFrameAttention(self.request.attention, len(frames), key)
        if t < PLAIN_BELOW:
            return CrossFrameAttention("vanilla", len(frames))
        rows, columns = self.encoded.conditions(frames).shape[-2:]
        return self.key_passes.attention(self.position, self.chunk, (rows, columns), self._record)

    def _record(self, keys: list[int], recording: Recording) -> None:
        """Run a key pass, of which only the record is used."""
        latents, condition = self._latents(keys), self.encoded.conditions(keys)
        t, guidance = self.timesteps[self.move.level], self.request.guidance
        predict(self.backbone, latents, t, guidance, condition, recording)

    def _put(self, frames: list[int], latents: Tensor, clean: Tensor) -> None:
        """Store the latents of a chunk; the key image is taken from the first chunk of several."""
        if self.advanced is None:
            self.advanced = latents.new_zeros(len(self.originals), *latents.shape[1:])
        first = 1 if self.chunk > 0 and self._keyed else 0
        self.advanced[frames[first:]] = latents[first:]
        self._clean.update(zip(frames[first:], clean[first:], strict=True))

    def _leave_timestep(self) -> None:
        self.latents, self.advanced = self.advanced, None
        if self.key_passes is not None:
            self.key_passes.forget()
        self.chunk, self.position = 0, self.position + 1
        assert self.latents is not None
        if self.is_finished:
            self.painted, self.latents = self.encoded.decode(self.latents), None
        elif self.move.noised_from is not None:
            self.latents = self._noised_again(self.latents, self.move.noised_from)

    def _noised_again(self, latents: Tensor, level: int) -> Tensor:
        """All latents of `level` with the noise added that leads back to that of the move."""
        there, here = (
            self.backbone.noise_schedule.alpha(self._timestep(i)) for i in (level, self.move.level)
        )
        # noise of its own for each time
        generator = torch.Generator().manual_seed(self.request.seed + self.position)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        latents = (here / there) ** 0.5 * latents + max(1 - here / there, 0) ** 0.5 * noise
        return self._with_originals(list(range(len(latents))), latents, self.move.level)

    def preview(self, limit: int) -> tuple[Tensor, Tensor]:
        """Originals and current images, both [≤ limit, H, W, 3] on the CPU; the same images in each preview."""
        shown = sorted(self._clean)[:limit]
        if self.is_finished or not shown:
            shown = list(range(len(self.originals)))[:limit]
            return self.originals[shown], self._limited(self.painted[shown], shown)
        with torch.no_grad():
            clean = torch.stack([self._clean[i] for i in shown])
            return self.originals[shown], self._limited(self.encoded.decode(clean), shown)

    @property
    def _keyed(self) -> bool:
        """The key image comes along in every chunk."""
        return self.request.attention not in ("vanilla", "epipolar")

    def _latents(self, frames: list[int]) -> Tensor:
        """[f, C, h, w] at the start of the current timestep."""
        if self.latents is not None:
            return self.latents[frames]
        noise = self.encoded.noise(frames)
        if self.request.start == "noise" and self.request.strength == 1:
            return noise
        clean = self.encoded.starts(frames)
        return self.backbone.noise_schedule.add_noise(self.backbone.scaled(clean), noise, self.timesteps[0])

    @torch.no_grad()
    def as_seen(self) -> Tensor:
        """The originals after the model's autoencoder [F, H, W, 3], on the CPU."""
        return self.encoded.decode(
            self.backbone.scaled(self.encoded.conditions(list(range(len(self.originals)))))
        )

    def _limited(self, images: Tensor, frames: list[int]) -> Tensor:
        if self.masks is not None:
            share = self.masks[frames][..., None].cpu()
            images = share * images + (1 - share) * self.originals[frames]
        if self.keep is not None and self.chunks:
            images = self.keep.composite(images, self.originals[frames], frames)
        return images

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, numbers) from which `load_state` continues."""
        tensors = {"painted": self.painted}
        if self.latents is not None:
            tensors["latents"] = self.latents
        if self.advanced is not None:
            tensors["advanced"] = self.advanced
        return tensors, {"chunk": self.chunk, "position": self.position, "calls": self.calls}

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        device = self.backbone.device
        self.painted = tensors["painted"]
        self.latents = tensors["latents"].to(device) if "latents" in tensors else None
        self.advanced = tensors["advanced"].to(device) if "advanced" in tensors else None
        self._clean = {}
        if self.key_passes is not None:
            self.key_passes.forget()
        self.chunk, self.position = int(numbers["chunk"]), int(numbers["position"])
        self.calls = int(numbers["calls"])


def edit_pictures(
    backbone: Backbone,
    originals: Tensor,
    request: EditRequest,
    masks: Tensor | None = None,
    placement: Placement | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """Run a whole edit; see `Edit` for the arguments and errors.

    Returns:
        Edited images [F, H, W, 3] in 0..1, on the CPU.
    """
    edit = Edit(backbone, originals, request, masks, placement, keep)
    while not edit.is_finished:
        edit.step()
    return edit.images
