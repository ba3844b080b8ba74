"""The decoder of canonical Gaussians: stage 1 trains it alone, stage 2 jointly with the variation-field VAE.

As in the paper, structured latents on occupied voxels become Gaussians, with the network of the published model at another
size. Its encoder is TRELLIS', which sees DINOv2's features of many views; here a voxel's latent comes from the surface points
in it. The bundled model has no canonical decoder: it animates splats that exist.

python -m training.variation_field.canonical --out RUN --alone 600 --joint 600
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.files.atomic import make_folder
from engine.models.trellis import GaussianDecoder, GaussianDecoderShape, GaussianFormat, RawGaussians
from engine.models.trellis.voxels import Voxels
from engine.models.variation_field import VariationVae, farthest_points, interpolate_displacements
from training.common.loop import LoopConfig, faster, train
from training.common.options import add_data_option, add_loop_options, loop_config, script
from training.common.processes import use_device
from training.common.samples import Samples, open_samples
from training.common.share import Losses, Share

from . import pictures
from .data import KIND, Clip, Pool
from .losses import VaeWeights, image_loss, kl_loss, mesh_loss, perceptual_network
from .vae import decoded, new_vae

SHAPE = GaussianDecoderShape(
    resolution=16,
    model_channels=96,
    latent_channels=8,
    num_blocks=2,
    num_heads=4,
    gaussians=GaussianFormat(8, scale_bias=0.02, min_scale=0.0009),
)


@dataclass(frozen=True)
class CanonicalWeights:
    """Weights of stage 1; in stage 2 they are added to the VAE's.

    Args:
        images: L1, SSIM and LPIPS (or its stand-in) of images.
        kl: KL divergence of the latents.
        volume: Mean volume of the Gaussians.
        opacity: Mean squared distance of opacities from 1.
    """

    images: VaeWeights = field(default_factory=VaeWeights)
    kl: float = 1e-6
    volume: float = 1e4
    opacity: float = 1e-3


class CanonicalVae(nn.Module):
    """Latents [V, C] of occupied voxels, from the points in them, and the decoder to Gaussians.

    Args:
        shape: The decoder's architecture.
    """

    def __init__(self, shape: GaussianDecoderShape = SHAPE) -> None:
        super().__init__()
        self.decoder = GaussianDecoder(shape)
        width = shape.model_channels
        # count, mean place in the voxel, mean color
        self.encoder = nn.Sequential(
            nn.Linear(7, width), nn.SiLU(), nn.Linear(width, 2 * shape.latent_channels)
        )

    def forward(self, points: Tensor, colors: Tensor, noise: torch.Generator) -> tuple[RawGaussians, Tensor]:
        """Gaussians of a surface, and the KL divergence.

        Args:
            points: [P, 3] in the box.
            colors: DC coefficients [P, 3].
            noise: Of the latents.
        """
        resolution = self.decoder.shape.resolution
        place = (points + 0.5) * resolution
        cells, owner, counts = torch.unique(
            place.long().clamp(0, resolution - 1), dim=0, return_inverse=True, return_counts=True
        )
        features = torch.cat([place - place.floor() - 0.5, colors], dim=-1)
        sums = features.new_zeros(len(cells), 6).index_add(0, owner, features)
        seen = torch.cat([counts[:, None].log(), sums / counts[:, None]], dim=-1)
        mean, logvar = self.encoder(seen).chunk(2, dim=-1)
        drawn = torch.randn(mean.shape, generator=noise).to(mean)
        latents = mean + (0.5 * logvar.clamp(-30, 20)).exp() * drawn
        coords = torch.cat([cells.new_zeros(len(cells), 1), cells], dim=1)
        return self.decoder(latents, Voxels(coords))[0], kl_loss(mean, logvar)


class Joint(nn.Module):
    """Both networks of stage 2."""

    def __init__(self, canonical: CanonicalVae, vae: VariationVae) -> None:
        super().__init__()
        self.canonical, self.vae = canonical, vae


def canonical_losses(
    network: CanonicalVae,
    clip: Clip,
    weights: CanonicalWeights,
    generator: torch.Generator,
    views: int = 2,
) -> tuple[Losses, RawGaussians]:
    """Losses of the canonical Gaussians of one clip, and the Gaussians."""
    clip = clip.to(next(network.parameters()).device)
    raw, kl = network(clip.canonical[:, :3], clip.canonical[:, 3:6], generator)
    cameras = pictures.ring(12)[torch.randint(12, (views,), generator=generator).tolist()]
    with torch.no_grad():
        wanted = pictures.image(clip.at(0), cameras)
    drawn = pictures.image(raw.to_gaussians(), cameras)
    losses = {
        "canonical_image": image_loss(drawn, wanted, weights.images, perceptual_network()),
        "canonical_kl": weights.kl * kl,
        "volume": weights.volume * raw.sizes().prod(-1).mean(),
        "opacity": weights.opacity * (1 - raw.activated().opacities).square().mean(),
    }
    return losses, raw


def joint_losses(
    network: Joint,
    clip: Clip,
    weights: CanonicalWeights,
    motion: VaeWeights,
    generator: torch.Generator,
    frames: int = 2,
) -> Losses:
    """Losses of stage 2: the variation field moves the Gaussians that the canonical decoder makes."""
    clip = clip.to(next(network.parameters()).device)
    losses, raw = canonical_losses(network.canonical, clip, weights, generator, views=1)
    vae, vector = network.vae, raw.vector()
    size = vae.shape.input_dim
    chosen = 1 + torch.randperm(len(clip.changes) - 1, generator=generator)[:frames]
    changes = clip.changes[chosen][..., :size].float()
    means = raw.means.detach()
    anchors = means[farthest_points(means, vae.shape.num_latents)]
    moved = interpolate_displacements(changes, clip.points, anchors)
    mean, logvar = vae.encode_at(clip.points[None], changes[None], anchors[None], moved[None])
    noise = torch.randn(mean.shape, generator=generator).to(mean)
    latents = mean + (0.5 * logvar.clamp(-30, 20)).exp() * noise
    deltas = decoded(vae, latents, vector[None], anchors=anchors[None])[0]
    target = interpolate_displacements(changes[..., :3], clip.points, means)
    losses["mesh"] = motion.mesh * mesh_loss(deltas, target)
    losses["kl"] = motion.kl * kl_loss(mean, logvar)
    view = pictures.ring(12)[int(torch.randint(12, (1,), generator=generator))]
    drawn = torch.cat([pictures.image(pictures.changed(raw, d), view) for d in deltas])
    with torch.no_grad():
        wanted = torch.cat([pictures.image(clip.at(int(t)), view) for t in chosen])
    losses["image"] = image_loss(drawn, wanted, motion, perceptual_network())
    return losses


def train_alone(
    network: CanonicalVae,
    pool: Pool | Samples[Clip],
    loop: LoopConfig,
    weights: CanonicalWeights = CanonicalWeights(),
    checkpoint: Path | None = None,
    report_every: int = 50,
) -> None:
    """Stage 1, one clip per step and process."""

    def losses(generator: torch.Generator, _: float, share: Share) -> Losses:
        clip = pool.draw(1, generator, share)[0]
        return canonical_losses(network, clip, weights, share.generator(generator))[0]

    data = pool if isinstance(pool, Samples) else None
    network.load_state_dict(train(network, losses, loop, checkpoint, report_every, data))


def train_jointly(
    network: Joint,
    pool: Pool | Samples[Clip],
    loop: LoopConfig,
    weights: CanonicalWeights = CanonicalWeights(),
    motion: VaeWeights = VaeWeights(),
    checkpoint: Path | None = None,
    report_every: int = 50,
) -> None:
    """Stage 2, one clip per step and process."""

    def losses(generator: torch.Generator, _: float, share: Share) -> Losses:
        clip = pool.draw(1, generator, share)[0]
        return joint_losses(network, clip, weights, motion, share.generator(generator))

    data = pool if isinstance(pool, Samples) else None
    network.load_state_dict(train(network, losses, loop, checkpoint, report_every, data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--alone", type=int, default=600, help="steps of stage 1")
    parser.add_argument("--joint", type=int, default=600, help="steps of stage 2")
    parser.add_argument("--clips", type=int, default=1200)
    parser.add_argument("--lr", type=float, default=1e-3)
    add_loop_options(parser)
    add_data_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    make_folder(options.out)
    device = use_device(options.device)
    network = CanonicalVae().to(device)
    if options.bfloat16:
        faster(*network.decoder.blocks)
    pool = open_samples(options.data, KIND) if options.data else Pool(options.clips)
    alone, jointly = (
        loop_config(options, steps, part)
        for steps, part in ((options.alone, "alone"), (options.joint, "joint"))
    )
    train_alone(
        network, pool, alone, checkpoint=options.out / "canonical.pt", report_every=options.report_every
    )
    # the published rates: 5e-5 for the variation field, a tenth of it for the canonical decoder
    joint = Joint(network, new_vae().to(device))
    train_jointly(
        joint, pool, jointly, checkpoint=options.out / "joint.pt", report_every=options.report_every
    )


if __name__ == "__main__":
    script(main)
