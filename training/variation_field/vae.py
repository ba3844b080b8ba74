"""Train the variation-field VAE, on its own or jointly with the canonical Gaussians' decoder (canonical.py).

python -m training.variation_field.vae --out RUN --steps 4000
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from engine.files.atomic import make_folder
from engine.models.variation_field import VariationVae, VariationVaeShape
from training.common.loop import LoopConfig, faster, train
from training.common.options import (
    add_config_options,
    add_data_option,
    add_loop_options,
    add_step_options,
    count,
    loop_config,
    script,
    show,
)
from training.common.processes import Processes, use_device
from training.common.samples import Samples, open_samples
from training.common.share import WHOLE, Losses, Share

from . import paper, pictures
from .data import KIND, Clip, ClipShape, Pool, stacked
from .losses import (
    UNITS,
    VaeWeights,
    image_loss,
    kl_loss,
    mesh_loss,
    perceptual_network,
    truth_loss,
)

SHAPE = VariationVaeShape(
    depth=2,
    dim=144,
    num_latents=64,
    latent_dim=16,
    heads=8,
    appearance_input=True,
    anchor_positions=True,
)
# of the position code, in octaves above half a period per unit
OCTAVES = 4.3
# factor of queries and keys that compare positions
SHARPNESS = 3.5


@dataclass(frozen=True)
class VaeTraining:
    """What a step looks at, and what is learned.

    Args:
        weights: Of the losses.
        attributes: All five attributes change; False: colors and opacities stay (the ablation).
        batch: Clips per step.
        frames: Frames per clip.
        gaussians: Gaussians per clip in the losses on positions.
        points: Surface points per clip that the encoder sees.
        images: Images per step; 0: no image losses.
        image_steps: Share of the steps that have image losses.
    """

    weights: VaeWeights = field(default_factory=lambda: VaeWeights(mesh=0.0, kl=1e-5, truth=3.0))
    attributes: bool = True
    batch: int = 8
    frames: int = 4
    gaussians: int = 384
    points: int = 256
    images: int = 6
    image_steps: float = 0.1


def new_vae(shape: VariationVaeShape = SHAPE, seed: int = 0) -> VariationVae:
    """A VAE with initial weights that suit a small model, of a seed.

    Position codes are finer (their frequencies are a buffer, and part of the published file too), displacements count in
    units of their usual size, and cross-attentions start as local averages: each head compares three frequencies of the
    position codes of query and key.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = VariationVae(shape)
    count = shape.dim // 6
    omega = math.pi * 2 ** torch.linspace(0, OCTAVES, count, dtype=torch.float64)
    vae.position_encoding[0].omega.copy_(omega)  # type: ignore[union-attr]
    with torch.no_grad():
        units = torch.tensor([0.15] * 3 + [2.0] * 3 + [4.0])[: shape.input_dim]
        vae.input_embedding[0].weight.div_(units)  # type: ignore[union-attr, operator]
        vae.logvar_fc.bias.fill_(-4.0)
        # channels by axis, sine or cosine, frequency; wanted: by frequency first, so that a head has a few of them
        order = torch.arange(shape.dim).reshape(3, 2, count).permute(2, 0, 1).flatten()
        compare = SHARPNESS * torch.eye(shape.dim)[order]
        for attention in (vae.cross_attend_blocks[0].fn, vae.decoder_cross_attn.fn):
            attention.to_q.weight.copy_(compare)  # type: ignore[union-attr, operator]
            attention.to_kv.weight[: shape.dim].copy_(compare)  # type: ignore[union-attr, operator, index]
    return vae


def new_full_vae(shape: VariationVaeShape = paper.VAE, seed: int = 0) -> VariationVae:
    """The paper's VAE with the initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VariationVae(shape)


def places(clips: list[Clip]) -> Tensor:
    """Positions of the anchors [B, L, 3]."""
    return torch.stack([c.canonical[c.anchors, :3] for c in clips])


def decoded(
    vae: VariationVae,
    latents: Tensor,
    vectors: Tensor,
    attributes: bool = True,
    anchors: Tensor | None = None,
) -> Tensor:
    """Deltas [B, T, N, 14] in world units, while training: the output is in UNITS until `folded`."""
    deltas = vae.decode(latents, vectors, anchors=anchors)
    deltas = deltas * UNITS.to(deltas)
    if not attributes:
        deltas = torch.cat([deltas[..., :10], torch.zeros_like(deltas[..., 10:])], dim=-1)
    return deltas


def folded(vae: VariationVae) -> VariationVae:
    """The same function as `decoded`, as a plain VAE."""
    with torch.no_grad():
        units = UNITS.to(vae.to_outputs.bias)
        vae.to_outputs.weight.mul_(units[:, None])
        vae.to_outputs.bias.mul_(units)
    return vae


def encoded(
    vae: VariationVae, clips: list[Clip], frames: Tensor, points: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """Mean and log variance of the latents [B, F, L, C] of some frames [B, F] of each clip, from some surface points."""
    rows = torch.arange(len(clips))[:, None]
    size = vae.shape.input_dim
    changes, moved = (stacked(clips, name)[rows, frames][..., :size] for name in ("changes", "moved"))
    return vae.encode_at(stacked(clips, "points")[:, points], changes[:, :, points], places(clips), moved)


def vae_losses(
    vae: VariationVae,
    clips: list[Clip],
    config: VaeTraining,
    generator: torch.Generator,
    share: Share = WHOLE,
) -> Losses:
    """Losses of a share of a step's batch, of which `clips` are."""
    device = next(vae.parameters()).device
    clips = [clip.to(device) for clip in clips]
    count, batch = clips[0].deltas.shape[0], len(clips) * share.count
    chosen = [torch.randperm(count, generator=generator)[: config.frames] for _ in range(batch)]
    frames = share.of(torch.stack(chosen))
    rows = torch.arange(len(clips))[:, None]
    available = clips[0].points.shape[0]
    start = int(torch.randint(max(available - config.points, 0) + 1, (1,), generator=generator))
    mean, logvar = encoded(vae, clips, frames, slice(start, start + config.points))
    noise = share.of(torch.randn(batch, *mean.shape[1:], generator=generator)).to(device)
    latents = mean + (0.5 * logvar.clamp(-30, 20)).exp() * noise
    weights = config.weights
    losses = {"kl": weights.kl * kl_loss(mean, logvar)}
    has_images = config.images and float(torch.rand(1, generator=generator)) < config.image_steps
    total = clips[0].canonical.shape[0]
    if weights.mesh or weights.truth:
        size = min(config.gaussians, total)
        start = int(torch.randint(total - size + 1, (1,), generator=generator))
        some = slice(start, start + size)
        vectors = torch.stack([c.vector[some] for c in clips])
        deltas = decoded(vae, latents, vectors, config.attributes, places(clips))
        if weights.mesh:
            target = torch.stack([c.mesh_target[:, some] for c in clips])[rows, frames]
            losses["mesh"] = weights.mesh * mesh_loss(deltas, target)
        if weights.truth:
            truth = torch.stack([c.deltas[:, some].float() for c in clips])[rows, frames]
            losses["truth"] = weights.truth * truth_loss(deltas, truth, weights.attributes, weights.looks)
    if has_images:
        cameras = pictures.ring(12)
        drawn: list[Tensor] = []
        wanted: list[Tensor] = []
        for i in range(config.images):
            row, f = i % batch, i // batch % frames.shape[1]
            view = cameras[int(torch.randint(len(cameras), (1,), generator=generator))]
            if not share.owns(row, len(clips)):
                continue
            b = row % len(clips)
            clip, frame = clips[b], int(frames[b, f])
            deltas = decoded(vae, latents[b : b + 1, f : f + 1], clip.vector[None], config.attributes)[0, 0]
            drawn.append(pictures.image(pictures.changed(clip.raw, deltas), view))
            with torch.no_grad():
                wanted.append(pictures.image(clip.at(frame), view))
        if drawn:
            # means over this share's images, which may be more or fewer than those of others
            part = len(drawn) * share.count / config.images
            network = perceptual_network()
            losses["image"] = part * image_loss(torch.cat(drawn), torch.cat(wanted), weights, network)
        else:
            losses["image"] = mean.new_zeros(())
    return losses


def train_vae(
    vae: VariationVae,
    pool: Pool,
    config: VaeTraining,
    loop: LoopConfig,
    checkpoint: Path | None = None,
    report_every: int = 50,
    data: Samples[Clip] | None = None,
) -> VariationVae:
    """Train in place, with clips of `pool` or, if given, of `data`; the result has the averaged weights."""
    clips_of = data or pool

    def losses(generator: torch.Generator, _: float, share: Share) -> Losses:
        clips = clips_of.draw(config.batch, generator, share)
        return vae_losses(vae, clips, config, generator, share)

    described = {"network": asdict(vae.shape), "training": asdict(config)}
    average = train(vae, losses, loop, checkpoint, report_every, data, described)
    vae.load_state_dict(average)
    return vae


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of the run; an interrupted one goes on")
    add_config_options(parser)
    add_step_options(parser, 1300, 1.5e-3, paper.LR)
    parser.add_argument(
        "--clips", type=count, default=1200, help="different made clips (default: %(default)s)"
    )
    parser.add_argument(
        "--batch",
        type=count,
        help=f"clips of each process in a step; default: {VaeTraining().batch}; {paper.BATCH} for the paper's size",
    )
    add_loop_options(parser)
    add_data_option(parser)
    options = parser.parse_args()
    is_full = options.config == "paper"
    options.lr = options.lr or (paper.LR if is_full else 1.5e-3)
    options.batch = options.batch or (paper.BATCH if is_full else VaeTraining().batch)
    if options.meta:
        if not is_full:
            parser.error("--meta needs --config paper")
        show(paper.vae_step(options.batch), f"VAE, {options.batch} clips, without rendering")
        return
    if options.out is None:
        parser.error("--out is needed, the folder of the run")
    torch.set_num_threads(1)
    device = use_device(options.device)
    make_folder(options.out)
    vae = new_full_vae() if is_full else new_vae()
    if options.bfloat16:
        layers = (module for layer in vae.layers for module in layer)
        faster(*vae.cross_attend_blocks, *layers, vae.decoder_cross_attn)
    if Processes().is_main:
        print(json.dumps({"parameters": sum(p.numel() for p in vae.parameters())}), flush=True)
    shape, training, loop = ClipShape(), VaeTraining(batch=options.batch), loop_config(options)
    if is_full:
        shape = paper.CLIP
        weights = VaeWeights()
        training = replace(
            training, weights=weights, gaussians=shape.gaussians, points=shape.points, image_steps=1.0
        )
        loop = replace(loop, warmup=paper.WARMUP, average=paper.AVERAGE)
    pool = Pool(options.clips, shape=shape)
    data = open_samples(options.data, KIND, loop.seed) if options.data else None
    train_vae(vae.to(device), pool, training, loop, options.out / "vae.pt", options.report_every, data)


if __name__ == "__main__":
    script(main)
