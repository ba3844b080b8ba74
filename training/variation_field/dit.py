"""Train the diffusion transformer and the image encoder on latents of a trained VAE.

python -m training.variation_field.dit --out RUN --steps 3000
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.diffusion.cosine_schedule import CosineSchedule
from engine.diffusion.dpm_solver import multistep
from engine.files.paths import printable
from engine.models.variation_field import (
    Conditions,
    ImageEncoder,
    ImageEncoderShape,
    Statistics,
    VariationDit,
    VariationDitShape,
    VariationVae,
    guided,
)
from engine.scene import Cameras
from training.common.checkpoints import load_average
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
from .data import KIND, Clip, ClipShape, Pool
from .losses import truth_loss
from .vae import encoded, folded, new_full_vae, new_vae

CANONICAL_TOKENS = 128
ENCODER = ImageEncoderShape()
SHAPE = VariationDitShape(
    model_channels=128,
    image_cond_channels=ENCODER.token_channels,
    num_blocks=3,
    num_heads=4,
    position_scale=100.0,
    projected_channels=ENCODER.projected_channels,
)
SCHEDULE = CosineSchedule()
# clips from which means and deviations are taken
STATISTICS_CLIPS = 100


@dataclass(frozen=True)
class DitTraining:
    """What a step looks at.

    Args:
        batch: Clips per step.
        frames: Frames per clip; the first is always frame 0.
        dropout: Share of the samples without images.
        full_noise: Share of the samples at the schedule's first time; not in the paper. A small model that samples in one
            step needs it.
        jitter: Largest error of the assumed camera, in pixels of the principal point and percent of the focal length.
        decoded: Weight of the decoded positions' loss on predictions of the clean latents (times the signal they have);
            not in the paper.
        gaussians: Gaussians per clip in that loss.
    """

    batch: int = 4
    frames: int = 8
    dropout: float = 0.1
    full_noise: float = 0.4
    jitter: float = 1.0
    decoded: float = 0.0
    gaussians: int = 96


@dataclass(frozen=True, eq=False)
class Prepared:
    """A clip as the transformer needs it: latents [T, L, C], video [T, S, S, 3] uint8, standardized tokens [S, 14]."""

    clip: Clip
    latents: Tensor
    video: Tensor
    tokens: Tensor
    anchors: Tensor

    @property
    def images(self) -> Tensor:
        return self.video.float() / 255

    def to(self, device: torch.device) -> Prepared:
        """The same on a device."""
        if self.latents.device.type == device.type:
            return self
        return Prepared(*(getattr(self, field.name).to(device) for field in fields(self)))


class Generator(nn.Module):
    """Transformer and image encoder, trained together."""

    def __init__(self, dit: VariationDitShape = SHAPE, encoder: ImageEncoderShape = ENCODER) -> None:
        super().__init__()
        self.dit, self.encoder = VariationDit(dit), ImageEncoder(encoder)

    def conditions(self, clips: list[Prepared], frames: Tensor, camera: Cameras) -> Conditions:
        """Conditions of some frames [B, F] of each clip; the first must be 0."""
        images = torch.stack([c.images[f] for c, f in zip(clips, frames, strict=True)])
        anchors = torch.stack([c.anchors for c in clips])
        tokens, projected = self.encoder(images, anchors, camera)
        if not self.dit.shape.projected_channels:
            projected = None
        return Conditions(tokens, torch.stack([c.tokens for c in clips]), anchors, projected)


class Latents:
    """Clips with the latents of a frozen VAE.

    Args:
        vae: The trained VAE, `folded`, on the device of the training.
        pool: Training clips.
        data: Training clips in the pool's place.
        tokens: Canonical Gaussians that the transformer sees; 0: CANONICAL_TOKENS.
        statistics: Means and deviations; None: those of the first clips of the pool.
    """

    def __init__(
        self,
        vae: VariationVae,
        pool: Pool,
        statistics: Statistics | None = None,
        data: Samples[Clip] | None = None,
        tokens: int = 0,
    ) -> None:
        self.vae, self.pool, self.data = vae.eval().requires_grad_(False), pool, data
        self.tokens = tokens or CANONICAL_TOKENS
        self._prepared: dict[int, Prepared] = {}
        if statistics is not None:
            self.statistics = statistics
            return
        if data is None:
            some = [pool[i] for i in range(min(STATISTICS_CLIPS, pool.size))]
        else:
            some = data.first(STATISTICS_CLIPS)
        latents = torch.stack([self.encoded(c) for c in some])
        vectors = torch.stack([c.vector for c in some])
        self.statistics = Statistics(
            vectors.mean((0, 1)),
            vectors.std((0, 1)).clamp(min=1e-3),
            latents.mean((0, 1, 2)),
            latents.std((0, 1, 2)).clamp(min=1e-3),
        )

    def encoded(self, clip: Clip) -> Tensor:
        device = next(self.vae.parameters()).device
        with torch.no_grad():
            found = encoded(self.vae, [clip.to(device)], torch.arange(len(clip.deltas))[None])[0][0]
        return found.to(clip.canonical.device)

    def prepared(self, clip: Clip) -> Prepared:
        """Everything that the transformer needs of a clip."""
        # not kept in the clip: eight bits are enough
        video = (clip.images * 255).round().byte()
        clip.__dict__.pop("images")
        return Prepared(
            clip,
            self.encoded(clip),
            video,
            self.statistics.canonical_tokens(clip.vector, min(self.tokens, len(clip.vector))),
            clip.canonical[clip.anchors, :3].contiguous(),
        )

    def __getitem__(self, index: int) -> Prepared:
        if index not in self._prepared:
            self._prepared[index] = self.prepared(self.pool[index])
        return self._prepared[index]

    def draw(self, count: int, generator: torch.Generator, share: Share = WHOLE) -> list[Prepared]:
        """`count` random clips, of a batch of as many for every share."""
        if self.data is not None:
            return [self.prepared(clip) for clip in self.data.draw(count)]
        drawn = torch.randint(self.pool.size, (count * share.count,), generator=generator)
        return [self[i] for i in share.of(drawn).tolist()]


def jittered(camera: Cameras, amount: float, generator: torch.Generator) -> Cameras:
    """The camera with a wrong principal point (pixels) and focal length (percent)."""
    off = (2 * torch.rand(3, generator=generator) - 1) * amount
    K = camera.K.clone()
    K[:, :2, 2] += off[:2].double()
    K[:, 0, 0] *= 1 + 0.01 * float(off[2])
    K[:, 1, 1] *= 1 + 0.01 * float(off[2])
    return replace(camera, K=K)


def noise_times(count: int, full: float, generator: torch.Generator) -> Tensor:
    """Times [B] in the schedule: a share of 1 (noise alone), the others uniform."""
    drawn = torch.rand(2, count, generator=generator)
    uniform = SCHEDULE.last + (1 - SCHEDULE.last) * drawn[1]
    return torch.where(drawn[0] < full, torch.ones(count), uniform)


def _on(statistics: Statistics, device: torch.device) -> Statistics:
    return Statistics(*(getattr(statistics, field.name).to(device) for field in fields(statistics)))


def dit_losses(
    network: Generator,
    latents: Latents,
    clips: list[Prepared],
    config: DitTraining,
    generator: torch.Generator,
    share: Share = WHOLE,
) -> Losses:
    """v-prediction on noisy standardized latents, for a share of a step's batch, of which `clips` are."""
    device = next(network.parameters()).device
    clips = [clip.to(device) for clip in clips]
    total, batch = len(clips[0].latents), len(clips) * share.count
    others = [1 + torch.randperm(total - 1, generator=generator)[: config.frames - 1] for _ in range(batch)]
    frames = share.of(torch.stack([torch.cat([torch.zeros(1, dtype=torch.long), o]) for o in others]))
    camera = jittered(pictures.INPUT.cameras(), config.jitter, generator)
    conditions = network.conditions(clips, frames, camera)
    dropped = share.of(torch.rand(batch, generator=generator)) < config.dropout
    keep = (~dropped).float()[:, None, None, None].to(device)
    projected = None if conditions.projected is None else conditions.projected * keep
    conditions = replace(conditions, image_tokens=conditions.image_tokens * keep, projected=projected)
    clean = torch.stack([c.latents[f] for c, f in zip(clips, frames, strict=True)])
    statistics = _on(latents.statistics, device)
    clean = statistics.standardized(clean)
    t = share.of(noise_times(batch, config.full_noise, generator))
    rates = torch.tensor([SCHEDULE.rates(float(x)) for x in t], device=device)
    alpha, sigma = (r[:, None, None, None] for r in rates.unbind(1))
    noise = share.of(torch.randn(batch, *clean.shape[1:], generator=generator)).to(device)
    x = alpha * clean + sigma * noise
    times = torch.tensor([SCHEDULE.network_time(float(x)) for x in t], device=device)
    v = network.dit(x, times, conditions)
    losses = {"velocity": (v - (alpha * noise - sigma * clean)).square().mean()}
    if config.decoded:
        found = statistics.latents(alpha * x - sigma * v)
        count = clips[0].clip.canonical.shape[0]
        start = int(torch.randint(count - config.gaussians + 1, (1,), generator=generator))
        some = slice(start, start + config.gaussians)
        vectors = torch.stack([c.clip.vector[some] for c in clips])
        deltas = latents.vae.decode(found, vectors, anchors=conditions.anchors)
        truth = [c.clip.deltas[f][:, some].float() for c, f in zip(clips, frames, strict=True)]
        losses["decoded"] = config.decoded * truth_loss(deltas, torch.stack(truth), 0.1, 0.3)
    return losses


def sampled(
    network: Generator, statistics: Statistics, clip: Prepared, steps: int = 1, seed: int = 0
) -> Tensor:
    """Latents [T, L, C] of a video, by DPM-Solver++; with one step from the same noise for all frames, as in the node."""
    frames = torch.arange(len(clip.latents))[None]
    with torch.no_grad():
        conditions = network.conditions([clip], frames, pictures.INPUT.cameras())
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(
            1, 1 if steps == 1 else len(clip.latents), *clip.latents.shape[1:], generator=generator
        )
        noise = noise.expand(1, *clip.latents.shape)
        *_, last = multistep(guided(network.dit, conditions), noise, SCHEDULE, steps)
    return statistics.latents(last.latents[0])


def trained_vae(run: Path, is_full: bool = False) -> VariationVae:
    """The VAE of a run with averaged weights, as it is exported. Raises InputError where the run has none."""
    vae = new_full_vae() if is_full else new_vae()
    size = " --config paper" if is_full else ""
    load_average(
        run / "vae.pt", vae, f"python -m training.variation_field.vae{size} --out {printable(str(run))}"
    )
    return folded(vae).eval().requires_grad_(False)


def train_dit(
    network: Generator,
    latents: Latents,
    config: DitTraining,
    loop: LoopConfig,
    checkpoint: Path | None = None,
    report_every: int = 50,
) -> Generator:
    """Train in place; the result has the averaged weights."""

    def losses(generator: torch.Generator, _: float, share: Share) -> Losses:
        clips = latents.draw(config.batch, generator, share)
        return dit_losses(network, latents, clips, config, generator, share)

    shapes = {"transformer": asdict(network.dit.shape), "encoder": asdict(network.encoder.shape)}
    described = {"network": shapes, "training": asdict(config)}
    average = train(network, losses, loop, checkpoint, report_every, latents.data, described)
    network.load_state_dict(average)
    return network


def new_generator(
    dit: VariationDitShape = SHAPE, encoder: ImageEncoderShape = ENCODER, seed: int = 0
) -> Generator:
    """Initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(dit, encoder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder with vae.pt")
    add_config_options(parser)
    parser.add_argument("--name", default="dit", help="name of the checkpoint")
    add_step_options(parser, 3000, 1.5e-3, paper.LR)
    parser.add_argument(
        "--clips", type=count, default=1200, help="different made clips (default: %(default)s)"
    )
    parser.add_argument(
        "--batch",
        type=count,
        help=f"clips of each process in a step; default: 4; {paper.BATCH} for the paper's size",
    )
    parser.add_argument("--decoded", type=float, default=0.0)
    parser.add_argument("--without", choices=["projected", "prior"], action="append", default=[])
    add_loop_options(parser)
    add_data_option(parser)
    options = parser.parse_args()
    device = use_device(options.device)
    is_full = options.config == "paper"
    options.lr = options.lr or (paper.LR if is_full else 1.5e-3)
    options.batch = options.batch or (paper.BATCH if is_full else 4)
    if options.meta:
        if not is_full:
            parser.error("--meta needs --config paper")
        show(paper.dit_step(options.batch), f"transformer, {options.batch} clips")
        return
    if options.out is None:
        parser.error("--out is needed, the folder with vae.pt")
    torch.set_num_threads(1)
    vae = trained_vae(options.out, is_full)
    shape = replace(
        SHAPE,
        positional_prior="prior" not in options.without,
        projected_channels=0 if "projected" in options.without else SHAPE.projected_channels,
    )
    # the paper's image tokens are DINOv2's, which is frozen; here the small encoder learns tokens of their size
    encoder = replace(ENCODER, token_channels=paper.DIT.image_cond_channels) if is_full else ENCODER
    network = new_generator(paper.DIT if is_full else shape, encoder)
    if options.bfloat16:
        faster(*network.dit.blocks)
    if Processes().is_main:
        print(json.dumps({"parameters": sum(p.numel() for p in network.parameters())}), flush=True)
    data = open_samples(options.data, KIND) if options.data else None
    clips, tokens = (paper.CLIP, paper.CANONICAL_TOKENS) if is_full else (ClipShape(), CANONICAL_TOKENS)
    latents = Latents(
        vae.to(device),
        Pool(options.clips, shape=clips),
        data=data,
        tokens=tokens,
    )
    config = DitTraining(batch=options.batch, decoded=options.decoded)
    loop = loop_config(options, weight_decay=0.0 if is_full else 1e-4)
    if is_full:
        loop = replace(loop, warmup=paper.WARMUP, average=paper.AVERAGE)
        config = replace(config, frames=paper.FRAMES, full_noise=0.0)
    train_dit(
        network.to(device), latents, config, loop, options.out / f"{options.name}.pt", options.report_every
    )


if __name__ == "__main__":
    script(main)
