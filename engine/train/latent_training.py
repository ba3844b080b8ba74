"""Training a latent field on encoded images of a scene (ED-NeRF, Park et al., ICLR 2024, sections 3.1 and 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..diffusion import Backbone, MidBlock
from ..diffusion.backbone import check_makes_images
from ..diffusion.sizes import FULL_SIZE, size_for
from ..errors import InputError
from ..guidance.delta import vae_mismatch
from ..kernels.threads import one_thread
from ..latent import Drawing, LatentField, VaeSignature, latent_cameras
from ..models.latent_refiner import LatentRefiner, RefinerShape
from ..scene import MultiViewVideo, Scene4D, harmonics
from .feeding import Feed
from .latent_training_config import LatentTrainingConfig
from .latents import LatentOptimization, tensor_cache, views_by_moment
from .loop import Losses
from .originals import Originals, Pair, choose_pairs, choose_source, latents_of
from .schedule import log_linear
from .threads import threads_for, threads_for_model

# images from which the map from colors to latents is fitted
SAMPLED = 16


class LatentTraining(LatentOptimization):
    """An optimization (see `loop`) of latent features toward encoded images; a step names it."""

    # steps after which the captured images no longer show the scene
    edits: tuple[str, ...]
    config: LatentTrainingConfig

    def __init__(
        self,
        scene: Scene4D,
        backbone: Backbone,
        config: LatentTrainingConfig,
        video: MultiViewVideo | None,
        device: torch.device | str,
    ) -> None:
        check_makes_images(backbone, "training a latent field")
        pairs = choose_pairs(scene, "", config.moments, video)
        factor = backbone.vae_scale_factor
        if config.resolution % factor:
            raise InputError(
                "STP-030",
                f"resolution is {config.resolution}, but each latent of {backbone.name} covers {factor}×{factor} pixels; choose "
                f"a multiple of {factor}, such as {-(-config.resolution // factor) * factor}.",
            )
        width, height = scene.rig.sizes[pairs[0][0]]
        size = size_for(backbone, width, height, config.resolution)
        # fails early where the size does not fit
        latent_cameras(scene.rig, size, backbone.vae_scale_factor)
        self.backbone, self.video = backbone, video
        self.source, self.pairs = choose_source(config.originals, scene, video, pairs, self.edits)
        refiner = first_refiner(config, backbone)
        channels = backbone.latent_channels
        bases = 4 if config.depends_on_direction else 1
        with threads_for_model(backbone):
            signature = VaeSignature.of(backbone)
        blank = LatentField(
            scene,
            torch.zeros(len(scene.canonical), bases, channels, device=scene.device),
            torch.zeros(channels, device=scene.device),
            size,
            signature,
            refiner,
            Drawing(config.samples, config.scale_floor),
        )
        super().__init__(
            blank,
            config,
            None,
            device,
            trains_background=True,
            trains_refiner=refiner is not None,
            trains_geometry=False,
        )
        self.feed = Feed(video if self.source == "captured" else None)
        self.originals = Originals(self.field.scene, self.rasterizer, size, self.feed.video)
        self.moments = views_by_moment(self.pairs)
        self._targets = tensor_cache()
        self._start()

    @torch.no_grad()
    def targets(self, pairs: Sequence[Pair]) -> Tensor:
        """[P, C, h, w] that the field should show."""
        with threads_for_model(self.backbone):
            return latents_of(self._targets, pairs, self.originals, self._encode, self.backbone)

    def _encode(self, image: Tensor) -> Tensor:
        return self.backbone.encode(image[None].to(self.backbone.device))[0].float().to(self.device)

    @torch.no_grad()
    def _start(self) -> None:
        """Features of each Gaussian from its color, through the affine map that fits a few images best."""
        step = max(1, len(self.pairs) // SAMPLED)
        factor = self.field.vae.factor
        colors, latents = [], []
        for pair in self.pairs[::step]:
            image = self.originals.get(*pair)[0].to(self.device).permute(2, 0, 1)
            colors.append(F.avg_pool2d(image, factor).flatten(1).T)
            latents.append(self.targets([pair])[0].flatten(1).T)
        # sums of many rows depend on the number of threads
        with one_thread():
            affine = _affine(torch.cat(colors), torch.cat(latents))
        dc = harmonics.dc_to_rgb(self.field.scene.canonical.sh[:, 0]).clamp(0, 1)
        self.learned["features"][:, 0] = _homogeneous(dc) @ affine
        width, height = self.field.size
        with threads_for_model(self.backbone):
            middle = self._encode(self.field.scene.background.expand(height, width, 3))
        # its center: toward the edge, the autoencoder's padding shows
        self.learned["background"].copy_(middle[:, middle.shape[1] // 2, middle.shape[2] // 2])

    def rates(self) -> dict[str, float]:
        """All fall to a tenth in the second half, so that they settle."""
        c, late = self.config, 2 * self.progress - 1

        def falling(rate: float) -> float:
            return log_linear(rate, rate * 0.1, late) if rate else 0.0

        return {
            "features": falling(c.feature_lr),
            "background": falling(c.feature_lr / 5),
            "refiner": falling(c.refiner_lr),
        }

    def captured(self) -> list[Pair]:
        return self.pairs

    def wanted(self, step: int) -> list[Pair]:
        moment, views = self.draw_pairs(self.pairs, self.moments, step)
        return [(view, moment) for view in views if (view, moment) not in self._targets]

    def step(self) -> Losses:
        self.read_ahead()
        moment, views = self.draw_pairs(self.pairs, self.moments, self.iteration)
        truth = self.targets([(view, moment) for view in views])
        with threads_for(self.rasterizer, self.device):
            drawn, _ = self.drawn(views, float(self.before.scene.times[moment]))
            raw = (drawn - truth).square().mean()
            loss, seen = self.config.field_weight * raw, {"latent_error": raw.detach()}
            if self.refiner is not None and self.progress >= self.config.warm_up:
                refined = (self.refiner(drawn) - truth).square().mean()
                loss = loss + self.config.refiner_weight * refined
                seen["refined_error"] = refined.detach()
            loss.backward()
            self.learn()
        return seen

    @torch.no_grad()
    def preview(self) -> Tensor:
        """[H, 2W, 3]: an image and the field's decoded latents; cycles through the images."""
        pair = self.pairs[self.iteration // max(self.config.preview_every, 1) * 7 % len(self.pairs)]
        latents = self.refined(self.drawn([pair[0]], float(self.before.scene.times[pair[1]]))[0])
        with threads_for_model(self.backbone):
            now = self.backbone.decode(latents.to(self.backbone.device))[0].clamp(0, 1).float().cpu()
        return torch.cat([self.originals.get(*pair)[0], now], dim=1)

    def metadata(self) -> dict[str, Any]:
        refiner = None if self.refiner is None else self.refiner.shape.to_json()
        return {
            "model": self.backbone.name,
            "size": list(self.field.size),
            "refiner": refiner,
            "originals": self.source,
            "noise_missed": round(self.noise_missed(), 3),
        }

    def noise_missed(self) -> float:
        """The fraction of noise that the model misses in the latents of one image; see `vae_mismatch`."""
        latents = self.targets(self.pairs[:1]).to(self.backbone.device)
        with threads_for_model(self.backbone):
            return vae_mismatch(self.backbone, latents)

    def inputs(self) -> list[Any]:
        return [*super().inputs(), self.backbone, self.video]


def first_refiner(config: LatentTrainingConfig, backbone: Backbone) -> LatentRefiner | None:
    """A refiner at its start (the identity), its weights drawn from the config's seed."""
    kind = config.refiner
    if kind == "auto":
        kind = "full" if backbone.defaults.resolution >= FULL_SIZE else "small"
    if kind == "none":
        return None
    middle: MidBlock | None = None
    shape = RefinerShape(backbone.latent_channels, 32, groups=8)
    if kind == "full":
        shape = RefinerShape(backbone.latent_channels)
    elif kind == "autoencoder":
        middle = backbone.mid_block()
        if middle is None:
            raise InputError(
                "STP-031",
                f"The autoencoder of {backbone.name} does not have a middle block with attention to initialize the "
                "refinement layer; choose small or full.",
            )
        width = int(middle.tensors["res1.conv1.weight"].shape[0])
        shape = RefinerShape(backbone.latent_channels, width, groups=middle.groups)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        refiner = LatentRefiner(shape)
    if middle is not None:
        refiner.load_middle(middle.tensors)
    return refiner.requires_grad_(False)


def _homogeneous(colors: Tensor) -> Tensor:
    return torch.cat([colors, torch.ones_like(colors[:, :1])], dim=1)


def _affine(colors: Tensor, latents: Tensor) -> Tensor:
    """[4, C] from colors [P, 3] and a one to latents [P, C]; with a small ridge for images of a single color."""
    x = _homogeneous(colors).double()
    ridge = 1e-4 * len(x) * torch.eye(4, dtype=x.dtype, device=x.device)
    return torch.linalg.solve(x.T @ x + ridge, x.T @ latents.double()).float()
