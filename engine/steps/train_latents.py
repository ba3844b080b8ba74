"""Train a latent field: the scene as a diffusion model's autoencoder sees it (ED-NeRF, Park et al., ICLR 2024, 3.1-3.2).

Pictures of the scene are encoded once each; Gaussians that stay where they are learn latent features, and from
`warm_up` on a refinement layer learns what independent rays lose. Changed: Gaussians instead of a voxel grid, for all
moments at once; features start from colours through the linear map that fits them best, so that a few hundred steps are
enough; the latent background is learned from the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..diffusion import Backbone, MidBlock
from ..diffusion.sizes import FULL_SIZE, size_for
from ..errors import InputError
from ..fields import choice, flag, number, text, validate
from ..guidance.delta import MISMATCH, vae_mismatch
from ..latent import Drawing, LatentField, VaeSignature, latent_cameras
from ..messages import Stream
from ..models.latent_refiner import LatentRefiner, RefinerShape
from ..scene import MultiViewVideo, Scene4D, harmonics
from ..train.latent_config import LatentConfig
from ..train.latents import LatentOptimization, tensor_cache, views_by_moment
from ..train.originals import SOURCES, Originals, Pair, choose_pairs, choose_source
from ..train.schedule import log_linear
from ..train.threads import threads_for, threads_for_model
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

REFINERS = ("auto", "none", "small", "full", "autoencoder")
SAMPLED = 16  # pictures from which the map from colours to latents is fitted


@dataclass(frozen=True)
class Config(LatentConfig):
    refiner: str = choice(
        "auto",
        REFINERS,
        "Refinement layer: small (32 channels), full (128), autoencoder (initialized from the model's own decoder), or "
        "none. auto is small for small models and full for others.",
        label="refinement layer",
    )
    resolution: int = number(
        0,
        0,
        4096,
        "Longer side of the encoded images in pixels. More is slower; 0 uses the model's default.",
        label="resolution (0 = auto)",
    )
    originals: str = choice(
        "auto",
        SOURCES,
        "Images to encode: captured or rendered. auto uses captured images if the scene has not been edited.",
        label="original source",
    )
    moments: str = text(
        "all",
        "Indices of the frames to train on, such as '0 5-9'; 'all' uses every frame.",
        label="frames",
        advanced=True,
    )
    depends_on_direction: bool = flag(
        False,
        "View-dependent latents (SH degree 1): closer on shiny surfaces, four times the size.",
        label="view-dependent latents",
        advanced=True,
    )
    warm_up: float = number(
        0.2,
        0.0,
        1.0,
        "Fraction of the iterations before the refinement layer starts training.",
        0.01,
        label="refinement starts at",
        advanced=True,
    )
    field_weight: float = number(
        1.0,
        0.0,
        100.0,
        "Weight of the loss of the unrefined latents.",
        0.1,
        label="unrefined weight",
        advanced=True,
    )
    refiner_weight: float = number(
        1.0,
        0.0,
        100.0,
        "Weight of the loss of the refined latents.",
        0.1,
        label="refined weight",
        advanced=True,
    )
    samples: int = number(
        4,
        1,
        16,
        "Samples per latent along each side, averaged. More is smoother and slower.",
        label="samples per latent",
        advanced=True,
    )
    scale_floor: float = number(
        0.25,
        0.0,
        4.0,
        "Smallest size of a Gaussian, in samples as seen from the nearest camera.",
        0.05,
        label="min scale",
        advanced=True,
    )

    def __post_init__(self) -> None:
        validate(self)


class TrainLatents(LatentOptimization):
    step_name = "train_latents"
    config: Config

    def __init__(
        self,
        scene: Scene4D,
        backbone: Backbone,
        config: Config,
        video: MultiViewVideo | None,
        device: torch.device | str,
    ) -> None:
        pairs = choose_pairs(scene, "", config.moments, video)
        factor = backbone.vae_scale_factor
        if config.resolution % factor:
            raise InputError(
                "STP-030",
                f"resolution is {config.resolution}, and each latent of {backbone.name} stands for "
                f"{factor}×{factor} pixels: choose a multiple of {factor}, such as "
                f"{-(-config.resolution // factor) * factor}.",
            )
        width, height = scene.rig.sizes[pairs[0][0]]
        size = size_for(backbone, width, height, config.resolution)
        latent_cameras(scene.rig, size, backbone.vae_scale_factor)  # says at once where that cannot be
        self.backbone, self.video = backbone, video
        self.source, self.pairs = choose_source(config.originals, scene, video, pairs, EDITS)
        refiner = _refiner(config, backbone)
        channels = backbone.latent_channels
        bases = 4 if config.depends_on_direction else 1
        blank = LatentField(
            scene,
            torch.zeros(len(scene.canonical), bases, channels, device=scene.device),
            torch.zeros(channels, device=scene.device),
            size,
            VaeSignature.of(backbone),
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
        captured = video if self.source == "captured" else None
        self.originals = Originals(self.field.scene, self.rasterizer, size, captured)
        self.moments = views_by_moment(self.pairs)
        self.targets = tensor_cache(self._encoded)
        self._start()

    def _encoded(self, pair: Pair) -> Tensor:
        image, _ = self.originals.get(*pair)
        return self._encode(image[None])

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        with threads_for_model(self.backbone):
            return self.backbone.encode(images.to(self.backbone.device))[0].float().to(self.device)

    @torch.no_grad()
    def _start(self) -> None:
        """Features of each Gaussian from its colour, through the affine map that fits a few pictures best."""
        step = max(1, len(self.pairs) // SAMPLED)
        factor = self.field.vae.factor
        colors, latents = [], []
        for pair in self.pairs[::step]:
            image = self.originals.get(*pair)[0].to(self.device).permute(2, 0, 1)
            colors.append(F.avg_pool2d(image, factor).flatten(1).T)
            latents.append(self.targets[pair].flatten(1).T)
        affine = _affine(torch.cat(colors), torch.cat(latents))
        dc = harmonics.dc_to_rgb(self.field.scene.canonical.sh[:, 0]).clamp(0, 1)
        self.learned["features"][:, 0] = _homogeneous(dc) @ affine
        width, height = self.field.size
        middle = self._encode(self.field.scene.background.expand(1, height, width, 3))
        # its middle: towards the edge an autoencoder's padding shows
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

    def step(self) -> dict[str, float]:
        moment, views = self.draw_pairs(self.pairs, self.moments)
        truth = torch.stack([self.targets[view, moment] for view in views])
        with threads_for(self.rasterizer, self.device, len(self)):
            drawn, _ = self.drawn(views, float(self.before.scene.times[moment]))
            raw = (drawn - truth).square().mean()
            loss, seen = self.config.field_weight * raw, {"latent_error": float(raw.detach())}
            if self.refiner is not None and self.progress >= self.config.warm_up:
                refined = (self.refiner(drawn) - truth).square().mean()
                loss = loss + self.config.refiner_weight * refined
                seen["refined_error"] = float(refined.detach())
            loss.backward()
            self.learn()
        return seen

    @torch.no_grad()
    def preview(self) -> Tensor:
        """[H, 2W, 3]: a picture, and the field's latents decoded; walks through the pictures."""
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
        """What share of the noise the model does not find in the latents of one picture; see `vae_mismatch`."""
        latents = self.targets[self.pairs[0]][None].to(self.backbone.device)
        with threads_for_model(self.backbone):
            return vae_mismatch(self.backbone, latents)

    def inputs(self) -> list[Any]:
        return [*super().inputs(), self.backbone, self.video]


def run(
    scene: Scene4D,
    backbone: Backbone,
    config: Config = Config(),
    video: MultiViewVideo | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
) -> Stream:
    """Started, Progress, Preview, Saved …, Finished(LatentField) where the scene is. Closing it writes `checkpoint`;
    the same call resumes.

    Raises InputError where the size is no multiple of the model's factor, the model has no middle block to start from,
    or a picture cannot be read.
    """
    work = TrainLatents(scene, backbone, config, video, device)
    width, height = work.field.size
    c, factor = backbone.latent_channels, backbone.vae_scale_factor
    note = f"{len(work.pairs)} {work.source} pictures of {width}×{height} as {c} channels of "
    note += f"{width // factor}×{height // factor}, {backbone.name}"
    doubt = mismatch_warning(work.noise_missed())
    if doubt:
        note += f"; {doubt}"
    yield from work.stream(note, checkpoint)


def mismatch_warning(noise_missed: float) -> str:
    """A warning where the model does not know the autoencoder's latents, else empty."""
    if noise_missed <= MISMATCH:
        return ""
    return (
        f"warning: the model misses {noise_missed:.0%} of the noise in these latents, so they may come from an autoencoder "
        "(VAE) that does not belong to it"
    )


def _refiner(config: Config, backbone: Backbone) -> LatentRefiner | None:
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
                f"The autoencoder of {backbone.name} has no middle block with attention to start the refinement layer "
                "from; choose small or full.",
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
    """[4, C] from colours [P, 3] and a one to latents [P, C]; a little ridge, for pictures of one colour."""
    x = _homogeneous(colors).double()
    ridge = 1e-4 * len(x) * torch.eye(4, dtype=x.dtype, device=x.device)
    return torch.linalg.solve(x.T @ x + ridge, x.T @ latents.double()).float()


def summary(field: LatentField) -> str:
    """A few lines about a latent field, with a warning where its model seems not to match."""
    trained = next((e for e in field.scene.history if e.get("step") == "train_latents"), {})
    warning = mismatch_warning(float(trained.get("noise_missed", 0)))
    return "\n".join([field.summary(), warning] if warning else [field.summary()])


STEP = Step(
    name="train_latents",
    node="TrainLatentField",
    label="Train Latent Field",
    category="4dgs/edit",
    description="Trains latents of a diffusion model's autoencoder on the scene's Gaussians, so that the scene can be edited "
    "without decoding images.",
    search=("ed-nerf", "latent nerf", "latent field", "refinement layer"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The scene to edit later; it is not changed."),
        Input(
            "backbone",
            Kind.GUIDANCE,
            "The model to edit with; its autoencoder makes the latents.",
            id="guidance",
        ),
        Input(
            "video",
            Kind.CAPTURE,
            "The capture that the scene was trained on: its images are encoded instead of renders.",
            optional=True,
        ),
    ),
    outputs=(Output("field_out", Kind.LATENTS, "For Delta Edit in Latent Space.", "latent field"),),
    order="iterations refiner resolution originals max_seconds preview_every seed images_per_step moments "
    "depends_on_direction warm_up field_weight refiner_weight feature_rate refiner_rate samples "
    "scale_floor rasterizer checkpoint_seconds",
    verb="train-latents",
    resumes="training",
    megabytes=lambda config: 1500,
    figure=Figure.CURVES,
    note=summary,
)
