"""A variation field for a splat from a video: image encoder, diffusion transformer and decoder, one after the other.

Source: GVFDiffusion (Zhang et al., ICCV 2025), section 3.2 and released code. What differs: videos longer than the model's
are sampled in overlapping windows (engine/diffusion/windows.py), frames are decoded a few at a time, and a run goes on
from any of its steps.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..backends import explains_memory
from ..diffusion import windows
from ..diffusion.cosine_schedule import CosineSchedule
from ..diffusion.dpm_solver import Predict, Sample, adaptive, multistep, singlestep
from ..diffusion.precision import choose_precision
from ..errors import InputError
from ..files.weights import fingerprint
from ..models import dinov2
from ..models.variation_field import (
    Conditions,
    VariationDit,
    VariationFolder,
    VariationVae,
    farthest_points,
    guided_twice,
)
from .model_space import ModelSpace
from .variation_fit import fitted
from .variation_sampling import ADAPTIVE_UNITS, Sampling

PLACE = "models/gs4d"
BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "models" / "tiny-variation-field"
# frames that are encoded or decoded at once
FRAMES_AT_ONCE = 8
# numbers of a variation field, in Gaussians times frames: 200 million take 11 GB
MOST_CHANGES = 200_000_000


def bundled_variation() -> Path:
    """Folder of the bundled model.

    Raises:
        InputError: It is not part of this installation.
    """
    if not BUNDLED.is_dir():
        raise InputError(
            "GEN-017",
            "This installation has no bundled variation-field model; choose the folder of another one, such as GVFDiffusion's.",
        )
    return BUNDLED


class VariationModels:
    """The networks of a variation field, and the device on which they run.

    Args:
        folder: GVFDiffusion's published folder, or one that describes itself in gs4d.json.
        encoder: Folder of DINOv2 with registers; not used where the model's folder has an image encoder.
        device: Where they run.

    Raises:
        InputError: A folder is incomplete, damaged or of another model, or they do not fit each other.

    Example:
        models = VariationModels("gvfdiffusion", "dinov2-with-registers-large", device="cuda")
        made = result(variation_diffusion.run(models, scene, frames, masks))
    """

    def __init__(
        self, folder: Path | str, encoder: Path | str | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.folder = VariationFolder(folder)
        self.config = self.folder.config
        self.device = torch.device(device)
        self.dtype = choose_precision("auto", self.device)
        self.encoder: dinov2.ImageEncoder | None = None
        if self.config.image_encoder is not None:
            return
        if encoder is None:
            raise InputError(
                "GEN-013",
                f"{self.folder.path.name} does not contain an image encoder; choose the folder of the one that it was trained "
                "with (dinov2-with-registers-large for GVFDiffusion).",
            )
        self.encoder = dinov2.ImageEncoder(encoder, PLACE)
        channels = self.config.transformer.image_cond_channels
        if channels != self.encoder.channels:
            raise InputError(
                "GEN-014",
                f"{self.folder.path.name} takes image tokens of {channels} channels, but {self.encoder.folder.name} makes "
                f"{self.encoder.channels}; choose the image encoder that it was trained with "
                "(dinov2-with-registers-large for GVFDiffusion).",
            )

    @property
    def name(self) -> str:
        encoder = [] if self.encoder is None else [self.encoder.folder.name]
        return " + ".join([self.folder.path.name, *encoder])

    @property
    def megabytes(self) -> int:
        """Size of the weights that are on the device together."""
        sizes = [file.stat().st_size >> 20 for file in self.folder.files]
        return sum(sizes) if self.encoder is None else max(sum(sizes), self.encoder.folder.megabytes)

    def fingerprint(self) -> str:
        """Hash of all weights, for histories and checkpoints."""
        encoder = [] if self.encoder is None else self.encoder.folder.files
        return fingerprint([*self.folder.files, *encoder])


@dataclass(frozen=True, eq=False)
class Update:
    """Where a run stands.

    Args:
        done: Finished units, of `units`.
        sample: The state after a step of the sampler, to go on from; None in other stages.
    """

    done: int
    sample: Sample | None = None


class VariationRun:
    """A run of the models on one video and splat.

    Args:
        models: The models.
        space: The splat in the model's frame.
        frames: Square frames of the video on white [T, S, S, 3], frame 0 showing the splat as it is.
        sampling: How to sample.
        begun: A state of the same run to go on from.

    Raises:
        InputError: The splat has too few Gaussians for the model, or too many for so many frames.
    """

    def __init__(
        self,
        models: VariationModels,
        space: ModelSpace,
        frames: Tensor,
        sampling: Sampling,
        begun: Sample | None = None,
    ) -> None:
        self.models, self.space, self.frames = models, space, frames
        self.sampling, self.begun = sampling, begun
        self.windows = windows.plan(len(frames), sampling.window, sampling.overlap)
        if len(space.raw) * len(frames) > MOST_CHANGES:
            most = MOST_CHANGES // len(space.raw)
            raise InputError(
                "GEN-015",
                f"{len(space.raw):,} Gaussians in {len(frames)} frames are more than this machine should hold; use at most "
                f"{most} frames, or a splat with fewer Gaussians.",
            )
        self.vectors = space.raw.vector().float().to(models.device)
        self.statistics = models.folder.statistics(models.device)
        anchors = farthest_points(self.vectors[:, :3], models.config.vae.num_latents)
        self.anchors = self.vectors[anchors, :3]
        self._vae: VariationVae | None = None

    @property
    def vae(self) -> VariationVae:
        if self._vae is None:
            self._vae = self.models.folder.vae(self.models.device)
        return self._vae

    def stages(self) -> Generator[Update, None, dict[str, Tensor]]:
        """Encode, sample and decode.

        Yields:
            Where the run stands.

        Returns:
            Changes of the scene's Gaussians, for a `PerFrame` deformation.

        Raises:
            InputError: A network returned NaN or infinite values, or memory ran out; it names the setting to lower.
        """
        count, sampling = len(self.frames), self.sampling
        latents = None if self.begun is None or not self._is_done(self.begun) else self.begun.latents
        if latents is None:
            with self._memory("encoding the video", "Use fewer frames."):
                conditions = yield from self._conditions()
            advice = f"Lower 'window' below the {min(sampling.window, count)} frames that are used here, or turn on 'low memory'."
            with self._memory("sampling the variation field", advice):
                for sample in self._samples(conditions):
                    latents = _finite(sample.latents, "transformer")
                    yield Update(count + self._units_done(sample), sample)
                del conditions
        assert latents is not None
        done = count + sampling.units
        with self._memory("fitting the motion to the video", "Set 'fit steps' to 0."):
            for step, nearer in enumerate(self._fitted(latents), 1):
                latents = nearer
                yield Update(done + step)
        advice = f"Lower 'decode chunk' below {sampling.chunk:,}, or use fewer frames."
        with self._memory("decoding the variation field", advice):
            return (yield from self._decoded(latents, done + sampling.fit_steps))

    def deltas(self, latents: Tensor, frames: Tensor) -> Tensor:
        """Decoded deltas [F, N, 14] of some `frames` [F] of generated latents [1, T, L, C]."""
        some = self.statistics.latents(latents[:, frames.to(latents.device)])
        return self.vae.decode(some, self.vectors[None], self.sampling.chunk, self.anchors[None])[0]

    def _fitted(self, latents: Tensor) -> Iterator[Tensor]:
        """Latents after each step of the fit to the video."""

        def deltas(values: Tensor, frames: Tensor) -> Tensor:
            return _finite(self.deltas(values, frames), "decoder").float()

        self.vae.requires_grad_(False)
        camera = self.models.config.camera.cameras()
        steps, seed = self.sampling.fit_steps, self.sampling.seed
        yield from fitted(latents, deltas, self.space.raw, self.frames, camera, steps, seed)

    def _memory(self, doing: str, advice: str) -> AbstractContextManager[None]:
        device = self.models.device
        return explains_memory(doing, device if device.type == "cuda" else None, advice)

    def _conditions(self) -> Generator[Update, None, Conditions]:
        models, tokens, projected = self.models, list[Tensor](), list[Tensor]()
        own, done = models.folder.image_encoder(models.device), 0
        if own is not None:
            camera = models.config.camera.cameras()
            first = self.frames[:1]
            for part in self.frames.split(FRAMES_AT_ONCE):
                # what moves is seen against the first frame
                images = torch.cat([first, part])[None].to(models.device)
                found, near = own(images, self.anchors[None], camera)
                tokens.append(found[:, 1:])
                projected.append(near[:, 1:])
                done += len(part)
                yield Update(done)
        else:
            assert models.encoder is not None
            with models.encoder.on(models.device, models.dtype) as encoder:
                for part in self.frames.split(FRAMES_AT_ONCE):
                    tokens.append(encoder.patch_tokens(part.to(models.device))[None].to(models.dtype))
                    done += len(part)
                    yield Update(done)
        canonical = self.statistics.canonical_tokens(self.vectors, models.config.canonical_tokens)
        return Conditions(
            torch.cat(tokens, dim=1),
            canonical[None],
            self.statistics.anchors(self.anchors, self.sampling.standardized_anchors)[None],
            torch.cat(projected, dim=1) if projected else None,
        )

    def _samples(self, conditions: Conditions) -> Iterator[Sample]:
        models, sampling = self.models, self.sampling
        shape = models.config.vae
        count, size = len(self.frames), (shape.num_latents, shape.latent_dim)
        generator = torch.Generator().manual_seed(sampling.seed)
        noise = torch.randn(1, 1 if sampling.shared_noise else count, *size, generator=generator)
        noise = noise.expand(1, count, *size).to(models.device)
        network = models.folder.transformer(models.device, models.dtype)
        predict = windows.blended(
            [self._predictor(network, conditions, window.frames) for window in self.windows], self.windows
        )
        schedule, begun = CosineSchedule(), self.begun
        if begun is not None:
            begun = replace(
                begun,
                latents=begun.latents.to(models.device),
                memory={name: t.to(models.device) for name, t in begun.memory.items()},
            )
        if sampling.sampler == "adaptive":
            return adaptive(predict, noise, schedule, sampling.largest_step, begun)
        method = multistep if sampling.sampler == "multistep" else singlestep
        return method(predict, noise, schedule, sampling.steps, begun)

    def _predictor(self, network: VariationDit, conditions: Conditions, frames: Tensor) -> Predict:
        """Velocities of a window, with guidance."""
        sampling = self.sampling
        index = frames.to(conditions.image_tokens.device)

        def predict(x: Tensor, t: float) -> Tensor:
            projected = conditions.projected
            part = replace(
                conditions,
                image_tokens=conditions.image_tokens[:, index],
                projected=None if projected is None else projected[:, index],
            )
            scales = sampling.canonical_scale, sampling.image_scale
            return guided_twice(network, part, *scales, sampling.at_once)(x, t)

        return predict

    def _is_done(self, sample: Sample) -> bool:
        return self._units_done(sample) >= self.sampling.units

    def _units_done(self, sample: Sample) -> int:
        if self.sampling.sampler != "adaptive":
            return int(sample.numbers["step"])
        schedule = CosineSchedule()
        if sample.t <= schedule.last + 1e-5:
            return ADAPTIVE_UNITS
        start, end = schedule.half_log_snr(schedule.first), schedule.half_log_snr(schedule.last)
        share = (schedule.half_log_snr(sample.t) - start) / (end - start)
        return min(math.floor(share * ADAPTIVE_UNITS), ADAPTIVE_UNITS - 1)

    def _decoded(self, latents: Tensor, done: int) -> Generator[Update, None, dict[str, Tensor]]:
        latents = latents.to(self.models.device)
        parts: list[dict[str, Tensor]] = []
        for frames in torch.arange(len(self.frames)).split(FRAMES_AT_ONCE):
            deltas = _finite(self.deltas(latents, frames), "decoder").float().cpu()
            parts.append(self.space.changes(deltas))
            done += len(frames)
            yield Update(done)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _finite(values: Tensor, what: str) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise InputError(
            "GEN-016",
            f"The {what} of the variation field returned NaN or infinite values; download its weights again, or run it on the "
            "CPU, which computes in full precision.",
        )
    return values
