"""Canonical Gaussians from one image with TRELLIS: four networks and an image encoder, one at a time on the device.

Source: TRELLIS (Xiang et al., CVPR 2025), section 3.3 and released code; GVFDiffusion (Zhang et al., ICCV 2025) replaces
the Gaussian decoder. What differs: networks are freed after their stage, and a shape with more cells than `max_voxels`
keeps its most certain ones.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..backends import explains_memory
from ..diffusion.flow import StraightSchedule, euler, guided
from ..diffusion.precision import choose_precision
from ..errors import InputError
from ..files.torch_weights import as_safetensors
from ..files.weights import fingerprint
from ..models import trellis
from ..models.dinov2 import ImageEncoder

PLACE = "models/gs4d/trellis"
# of the square image that TRELLIS was trained with
PIXELS = 518
_FIXED_SIZE = (
    "Its memory is fixed: free the GPU of other models, or choose device 'cpu' in Load TRELLIS Models."
)


@dataclass(frozen=True)
class Sampling:
    """How an object is sampled.

    Args:
        structure_steps: Steps of the structure flow.
        structure_guidance: Its guidance, as TRELLIS counts it: the scale minus 1.
        latent_steps: Steps of the latent flow.
        latent_guidance: Its guidance.
        max_voxels: Occupied cells that are kept.
        seed: Seed of the noise of both flows.
    """

    structure_steps: int = 12
    structure_guidance: float = 7.5
    latent_steps: int = 12
    latent_guidance: float = 3.0
    max_voxels: int = 32_768
    seed: int = 0

    @property
    def units(self) -> int:
        """Units of progress of a run."""
        return self.structure_steps + self.latent_steps + 3


@dataclass(frozen=True, eq=False)
class Generated:
    """An object: its Gaussians on the CPU, and how many cells were occupied and kept."""

    gaussians: trellis.RawGaussians
    occupied: int
    voxels: int


class TrellisModels:
    """TRELLIS' networks, an image encoder and a Gaussian decoder, and the device on which they run one after the other.

    Names and shapes of all weights are checked here, so that nothing is found wrong after minutes of sampling.

    Args:
        folder: TRELLIS' folder.
        encoder: Folder of DINOv2 with registers.
        canonical_decoder: File of GVFDiffusion's canonical VAE (8 Gaussians per voxel); None: TRELLIS' own decoder (32).
        device: Where they run.

    Raises:
        InputError: A folder or file is incomplete, damaged or of another model, or they do not fit each other.

    Example:
        models = TrellisModels("TRELLIS-image-large", "dinov2-with-registers-large", device="cuda")
        made = result(canonical_from_image.run(models, image, mask))
    """

    def __init__(
        self,
        folder: Path | str,
        encoder: Path | str,
        canonical_decoder: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder = trellis.TrellisFolder(folder)
        self.encoder = ImageEncoder(encoder, PLACE)
        self.device = torch.device(device)
        # published in float16
        self.dtype = choose_precision("auto", self.device)
        for what, channels in self.folder.cond_channels.items():
            if channels != self.encoder.channels:
                raise InputError(
                    "GEN-001",
                    f"TRELLIS' {what} takes image tokens of {channels} channels, but {self.encoder.folder.name} makes "
                    f"{self.encoder.channels}; choose the image encoder that it was trained with "
                    "(dinov2-with-registers-large for TRELLIS-image-large).",
                )
        self.folder.check(gaussian_decoder=canonical_decoder is None)
        self.pipeline = self.folder.pipeline
        self._decoder = None if canonical_decoder is None else as_safetensors(Path(canonical_decoder))
        own = self.folder.decoder_shape
        self._decoder_shape = replace(own, gaussians=replace(own.gaussians, count=8))
        if self._decoder is not None:
            trellis.check_canonical_decoder(self._decoder, self._decoder_shape)

    @property
    def name(self) -> str:
        count = 8 if self._decoder is not None else self.folder.decoder_shape.gaussians.count
        return f"{self.folder.path.name} + {self.encoder.folder.name}, {count} Gaussians per voxel"

    @property
    def megabytes(self) -> int:
        """Size of the largest network's weights on the device."""
        sizes = [file.stat().st_size >> 20 for file in self.folder.files]
        return max(*sizes, self.encoder.folder.megabytes) * (2 if self.dtype == torch.float32 else 1)

    def fingerprint(self) -> str:
        """Hash of all weights, for histories."""
        decoder = [] if self._decoder is None else [self._decoder]
        return fingerprint([*self.folder.files, *self.encoder.folder.files, *decoder])

    def gaussian_decoder(self) -> trellis.GaussianDecoder:
        """Load the decoder that was chosen."""
        if self._decoder is None:
            return self.folder.gaussian_decoder(self.device, self.dtype)
        return trellis.load_canonical_decoder(self._decoder, self.device, self.dtype, self._decoder_shape)


def generate(models: TrellisModels, image: Tensor, sampling: Sampling) -> Generator[int, None, Generated]:
    """Sample the Gaussians of an object.

    Args:
        models: The models.
        image: The object on black, square [S, S, 3] in 0..1.
        sampling: Steps, guidance, the largest number of cells, and the seed.

    Yields:
        Finished units, of `sampling.units`.

    Returns:
        The object.

    Raises:
        InputError: A network returned NaN or infinite values, no cell is occupied, or memory ran out.
    """
    noise = torch.Generator().manual_seed(sampling.seed)
    done = 1
    with _memory("encoding the image", models, _FIXED_SIZE), models.encoder.on(models.device, models.dtype):
        cond = models.encoder.normalized_tokens(image[None])
    yield done
    with _memory("sampling the structure", models, _FIXED_SIZE):
        latents = yield from _counted(_structure(models, cond, sampling, noise), done)
    done += sampling.structure_steps
    with _memory("decoding the structure", models, _FIXED_SIZE):
        coords, occupied = _cells(models, latents, sampling.max_voxels)
    done += 1
    yield done
    voxels = trellis.Voxels(coords)
    advice = f"Lower 'max voxels' below the {len(voxels):,} that are used here."
    with _memory("sampling the latents", models, advice):
        latents = yield from _counted(_latents(models, cond, voxels, sampling, noise), done)
    done += sampling.latent_steps
    with _memory("decoding the Gaussians", models, advice):
        gaussians = _decoded(models, latents, voxels)
    yield done + 1
    return Generated(gaussians, occupied, len(voxels))


def _counted(steps: Generator[Tensor, None, None], before: int) -> Generator[int, None, Tensor]:
    """The number of each step, counted from `before`; the last step's latents."""
    latents = torch.zeros(0)
    for number, each in enumerate(steps, before + 1):
        latents = each
        yield number
    return latents


def _memory(doing: str, models: TrellisModels, advice: str) -> AbstractContextManager[None]:
    return explains_memory(doing, models.device if models.device.type == "cuda" else None, advice)


def _sampled(
    schedule: StraightSchedule,
    flow: trellis.StructureFlow | trellis.LatentFlow,
    noise: Tensor,
    cond: Tensor,
    steps: int,
    strength: float,
    interval: tuple[float, float],
    *more: trellis.Voxels,
) -> Generator[Tensor, None, None]:
    """Latents after each step."""
    nothing = torch.zeros_like(cond)

    def predict(x: Tensor, t: float, tokens: Tensor) -> Tensor:
        return flow(x, torch.tensor([t], device=x.device), tokens, *more)

    velocity = guided(
        lambda x, t: predict(x, t, cond), lambda x, t: predict(x, t, nothing), schedule, strength, interval
    )
    for sample in euler(velocity, noise, schedule, steps):
        yield sample.latents


def _structure(
    models: TrellisModels, cond: Tensor, sampling: Sampling, noise: torch.Generator
) -> Generator[Tensor, None, None]:
    known = models.pipeline.structure
    flow = models.folder.structure_flow(models.device, models.dtype)
    shape = flow.shape
    start = torch.randn(1, shape.in_channels, *[shape.resolution] * 3, generator=noise).to(models.device)
    schedule = StraightSchedule(known.shift, known.sigma_min)
    steps, strength = sampling.structure_steps, sampling.structure_guidance
    for latents in _sampled(schedule, flow, start, cond, steps, strength, known.interval):
        yield _finite(latents, "structure flow")


def _cells(models: TrellisModels, latents: Tensor, most: int) -> tuple[Tensor, int]:
    """Coordinates [V, 4] of at most `most` occupied cells, and how many are occupied."""
    logits = models.folder.structure_decoder(models.device, models.dtype)(latents)
    coords = trellis.occupied(_finite(logits, "structure decoder"))
    count = len(coords)
    if count == 0:
        raise InputError(
            "GEN-002",
            "The structure flow found no occupied cell, so the object is empty; try another seed, more structure steps, or an "
            "image in which the object is cut out cleanly.",
        )
    if count > most:
        certain = logits[coords[:, 0], 0, coords[:, 1], coords[:, 2], coords[:, 3]].topk(most).indices
        coords = coords[certain.sort().values]
    return coords, count


def _latents(
    models: TrellisModels, cond: Tensor, voxels: trellis.Voxels, sampling: Sampling, noise: torch.Generator
) -> Generator[Tensor, None, None]:
    known = models.pipeline.latents
    flow = models.folder.latent_flow(models.device, models.dtype)
    start = torch.randn(len(voxels), flow.shape.in_channels, generator=noise).to(models.device)
    schedule = StraightSchedule(known.shift, known.sigma_min)
    steps, strength = sampling.latent_steps, sampling.latent_guidance
    for latents in _sampled(schedule, flow, start, cond, steps, strength, known.interval, voxels):
        yield _finite(latents, "latent flow")


def _decoded(models: TrellisModels, latents: Tensor, voxels: trellis.Voxels) -> trellis.RawGaussians:
    [made] = models.gaussian_decoder()(models.pipeline.denormalize(latents), voxels)
    parts = (made.means, made.colors, made.scales, made.rotations, made.opacities)
    for part in parts:
        _finite(part, "Gaussian decoder")
    return trellis.RawGaussians(*(part.float().cpu() for part in parts), format=made.format)


def _finite(values: Tensor, what: str) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise InputError(
            "GEN-003",
            f"TRELLIS' {what} returned NaN or infinite values; download its weights again, or run it on the CPU, which "
            "computes in full precision.",
        )
    return values
