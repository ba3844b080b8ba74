"""Train a small reconstruction model on made scenes, in the paper's three stages.

OMP_NUM_THREADS=1 python -m training.reconstruction.train --out RUN --steps 20000
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from engine.files.atomic import make_folder
from engine.models.reconstruction import (
    GaussianMaps,
    Ldrm,
    LdrmConfig,
    Motion,
    Reconstruction,
    kept,
    load_ldrm,
    mean_color,
    moved,
    pixels_format,
    pixels_to_latents,
    save_ldrm,
)
from engine.render import Rasterizer, choose
from engine.scene import Cameras, harmonics
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
from training.common.share import WHOLE, Losses, LossSteps, Share, finished

from . import paper
from .data import Pool, Sample, SampleShape, own_frames
from .losses import (
    SMALL,
    Weights,
    distance_loss,
    heaviness,
    motion_loss,
    pearson,
    photometric,
    total_variation,
)
from .matches import Matched, drawn_matches, matches_loss
from .staged import StagedSamples

# 3.4 M parameters with correlation, for videos of 64 pixels
CONFIG = LdrmConfig(
    latent=pixels_format(4, 8),
    patch=1,
    width=192,
    blocks=5,
    heads=6,
    deconv_channels=(64, 48, 32),
    head_channels=48,
    time_stride=4,
    space_stride=2,
    distance=2.2,
    opacity_bias=2.0,
    image_input=True,
    lifetimes=True,
    correspondences="correlation",
)
# least opacity of a pixel that has a depth
COVERED = 0.5


@dataclass(frozen=True)
class Stage:
    """Part of the training.

    Args:
        share: Part of all steps.
        size: Width and height of the images.
        is_dynamic: Things move, and the deformation head is trained; otherwise it is frozen.
    """

    share: float
    size: int
    is_dynamic: bool


# the paper: 40K, 40K and 20K steps at 256 and 512 pixels; motion is most of a small model's work
STAGES = {
    "paper": (Stage(0.4, 32, False), Stage(0.4, 64, False), Stage(0.2, 64, True)),
    "three": (Stage(0.05, 32, False), Stage(0.1, 64, False), Stage(0.85, 64, True)),
    "one": (Stage(1.0, 64, True),),
}


@dataclass(frozen=True)
class Training:
    """What a step looks at.

    Args:
        weights: Of the losses.
        stages: In order.
        batch: Samples per step.
        queries: Query frames per sample, with a view on and one off the path each.
        pool: Different samples of each kind.
    """

    weights: Weights = SMALL
    stages: tuple[Stage, ...] = STAGES["three"]
    batch: int = 2
    queries: int = 2
    pool: int = 1500


def new_model(config: LdrmConfig = CONFIG, seed: int = 0) -> Ldrm:
    """A model with the initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Ldrm(config)


def run(model: Ldrm, samples: list[Sample]) -> Reconstruction:
    """One pass over the videos of samples."""
    device = next(model.parameters()).device
    video = torch.stack([s.video for s in samples]).to(device)
    rays = torch.stack([s.rays for s in samples]).to(device)
    given = [s.latents for s in samples if s.latents is not None]
    latents = (
        torch.stack(given).to(device).float() if given else pixels_to_latents(video, model.config.latent)
    )
    return model(latents, rays, video if model.config.image_input else None)


@cache
def _rasterizer(device: torch.device) -> Rasterizer:
    return choose("auto", device)


def draw(
    maps: GaussianMaps, motion: Motion | None, query: int, cameras: Cameras, least: float, batch: int = 0
) -> tuple[Tensor, Tensor]:
    """Images [V, H, W, 3] and depths [V, H, W] of one sample at one query time; differentiable.

    Where nothing was seen, the background is the Gaussians' mean color, and the depth is 0.
    """
    index = kept(maps, least, batch)
    a = moved(maps, motion, query, batch)
    w2c, K, _ = cameras.on(a.means)
    depth = a.means @ w2c[:, 2, :3, None] + w2c[:, 2, 3, None, None]
    rgb = (a.sh[:, 0] * harmonics.C0 + 0.5).expand(len(cameras), -1, -1)
    features = torch.cat([rgb, depth], dim=-1)[:, index]
    width, height = cameras.sizes[0]
    backdrop = torch.cat([mean_color(maps, batch), a.means.new_zeros(1)])
    shapes = (a.means[index], a.quats[index], a.scales[index], a.opacities[index])
    drawn, alpha, _ = _rasterizer(a.means.device).render(*shapes, features, w2c, K, width, height, backdrop)
    safe = torch.where(alpha > COVERED, alpha, torch.inf)
    return drawn[..., :3], drawn[..., 3] / safe


def step_losses(
    model: Ldrm, samples: list[Sample], stage: Stage, training: Training, generator: torch.Generator
) -> Losses:
    """Losses of one step."""
    return finished(loss_steps(model, samples, stage, training, generator))


def loss_steps(
    model: Ldrm,
    samples: list[Sample],
    stage: Stage,
    training: Training,
    generator: torch.Generator,
    share: Share = WHOLE,
) -> LossSteps:
    """Losses of a share of a step's batch, of which `samples` are."""
    weights, config = training.weights, model.config
    frames = len(samples[0].path)
    # the frames of random views; all samples of a batch share them
    first = frames if len(samples[0].frames) > frames else 0
    some = torch.randint(first, len(samples[0].frames), (training.queries,), generator=generator)
    times = samples[0].frames[some]
    picks = torch.randint(1 << 30, (len(samples) * share.count, training.queries), generator=generator)
    targets = [_views(s, times, row) for s, row in zip(samples, share.of(picks).tolist(), strict=True)]
    views = [(s, v) for s, rows in zip(samples, targets, strict=True) for v in rows]
    moving = torch.cat([s.moving[v] for s, v in views]).float()
    every = 1 if config.correspondences != "none" else config.time_stride
    truth = torch.stack([s.distances for s in samples])[:, ::every]
    sums = {"photo": heaviness(moving, weights).sum(), "distance": (truth > 0).sum()}
    known, moves = (torch.stack([getattr(s, n) for s in samples])[:, :, None] for n in ("known", "moves"))
    sums["motion"] = (known.float() * heaviness(moves.float(), weights)).sum() * training.queries
    has_matches = stage.is_dynamic and config.correspondences == "correlation"
    matched: list[Matched] = []
    if has_matches and weights.motion and weights.match:
        own = torch.tensor(own_frames(config, frames))
        matched = drawn_matches(samples, times, own, weights, generator, share)
        sums["match"] = torch.stack([m.heavy.sum() for m in matched]).sum()
    sums = yield sums
    device = next(model.parameters()).device
    totals = {name: total.clamp(min=1 / share.count).to(device) for name, total in sums.items()}
    truth, moving, known, moves = (x.to(device) for x in (truth, moving, known, moves))

    found = run(model, samples)
    motion = model.motion(found, times) if stage.is_dynamic else None
    drawn: list[Tensor] = []
    depths: list[Tensor] = []
    for b, (sample, rows) in enumerate(zip(samples, targets, strict=True)):
        for q, seen_by in enumerate(rows):
            cameras = sample.cameras[seen_by]
            rgb, depth = draw(found.gaussians, motion, q, cameras, config.min_opacity, b)
            drawn.append(rgb)
            depths.append(depth)
    wanted = torch.cat([s.images[v] for s, v in views]).to(device).float() / 255
    true_depth = torch.cat([s.depths[v] for s, v in views]).to(device).float()
    depth = torch.cat(depths)
    losses = {"photo": photometric(torch.cat(drawn), wanted, moving, weights, totals["photo"])}
    if weights.pearson:
        # holes have no depth to compare: a few of them would outweigh everything else
        seen = true_depth * (depth.detach() > 0)
        losses["depth"] = weights.pearson * (1 - pearson(depth, seen)).mean()
    if weights.variation:
        losses["variation"] = weights.variation * total_variation(depth)
    if weights.distance:
        maps = found.all_frames or found.gaussians
        losses["distance"] = weights.distance * distance_loss(maps.distances, truth, totals["distance"])
    if motion is not None and weights.motion:
        shifts = torch.stack([s.shifts for s in samples])[:, :, times].to(device).float()
        spread = shifts.shape[:-1]
        distance, sparsity = motion_loss(
            motion.shifts, shifts, known.expand(spread), moves.expand(spread), weights, totals["motion"]
        )
        losses |= {"motion": distance, "sparsity": sparsity}
        if matched:
            losses["match"] = weights.match * matches_loss(model, found, matched, times, totals["match"])
    return losses


def _views(sample: Sample, times: Tensor, picks: list[int]) -> list[list[int]]:
    """The views of a sample at each time: the one on the path, and a random one off it if there is any."""
    frames = len(sample.path)
    found: list[list[int]] = []
    for time, pick in zip(times.tolist(), picks, strict=True):
        others = [i for i in range(frames, len(sample.frames)) if int(sample.frames[i]) == time]
        found.append([time, *([others[pick % len(others)]] if others else [])])
    return found


def train_model(
    model: Ldrm,
    training: Training,
    loop: LoopConfig,
    checkpoint: Path | None = None,
    report_every: int = 50,
    data: StagedSamples | None = None,
) -> Ldrm:
    """Train in place, with made samples or those of `data`; the result has the averaged weights."""
    pools: dict[tuple[int, bool], Pool] = {}

    def losses(generator: torch.Generator, progress: float, share: Share) -> LossSteps:
        stage = stage_at(training.stages, progress)
        if data is not None:
            samples = data.of(training.stages.index(stage)).draw(training.batch)
            return loss_steps(model, samples, stage, training, generator, share)
        key = (stage.size, stage.is_dynamic)
        if key not in pools:
            # samples of earlier stages are not drawn again
            pools.clear()
            shape = SampleShape(size=stage.size)
            if not stage.is_dynamic:
                shape = replace(shape, scene=replace(shape.scene, movers=0))
            pools[key] = Pool(training.pool, shape, model.config)
        samples = pools[key].draw(training.batch, generator, share)
        return loss_steps(model, samples, stage, training, generator, share)

    described = {"network": model.config.to_json(), "training": asdict(training)}
    average = train(model, losses, loop, checkpoint, report_every, data, described)
    model.load_state_dict(average)
    return model


def stage_at(stages: tuple[Stage, ...], progress: float) -> Stage:
    """The stage at a part of all steps."""
    end = 0.0
    for stage in stages:
        end += stage.share
        if progress < end - 1e-9:
            return stage
    return stages[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of the run; an interrupted one goes on")
    add_config_options(parser)
    add_step_options(parser, 20000, 1e-3, paper.LR)
    parser.add_argument(
        "--batch", type=count, default=2, help="samples of each process in a step (default: %(default)s)"
    )
    parser.add_argument(
        "--pool", type=count, default=1500, help="different made samples (default: %(default)s)"
    )
    parser.add_argument(
        "--stages",
        choices=list(STAGES),
        help="default: three; paper for the paper's size with a source for each stage",
    )
    parser.add_argument("--correspondences", choices=("none", "correlation"), default="correlation")
    parser.add_argument("--no-lifetimes", action="store_true")
    parser.add_argument("--no-motion-loss", action="store_true")
    add_loop_options(parser)
    add_data_option(parser, "+")
    parser.add_argument(
        "--start", type=Path, help="model file whose weights a new run starts from, not random ones"
    )
    options = parser.parse_args()
    is_full = options.config == "paper"
    if options.meta:
        if not is_full:
            parser.error("--meta needs --config paper")
        show(paper.meta_step(options.batch), f"{options.batch} videos, without rendering")
        return
    if is_full and not options.data:
        parser.error("--config paper needs --data: made samples have no latents of a video model")
    options.lr = options.lr or (paper.LR if is_full else 1e-3)
    options.stages = options.stages or (
        "paper" if is_full and len(options.data) > 1 else "one" if is_full else "three"
    )
    if options.data and len(options.data) not in (1, len(STAGES[options.stages])):
        parser.error(
            f"--data has {len(options.data)} sources; give one for all stages, or one for each of --stages {options.stages} "
            f"({len(STAGES[options.stages])})"
        )
    torch.set_num_threads(1)
    if options.out is None:
        parser.error("--out is needed, the folder of the run")
    device = use_device(options.device)
    make_folder(options.out)
    config = replace(CONFIG, correspondences=options.correspondences, lifetimes=not options.no_lifetimes)
    weights = SMALL if config.correspondences == "correlation" else replace(SMALL, match=0.0)
    if is_full:
        config, weights = paper.CONFIG, Weights()
    if options.no_motion_loss:
        weights = replace(weights, motion=0.0)
    training = Training(weights, STAGES[options.stages], options.batch, pool=options.pool)
    model = new_model(config)
    if options.start:
        model.load_state_dict(load_ldrm(options.start).state_dict())
    described = {"parameters": sum(p.numel() for p in model.parameters()), "training": asdict(training)}
    is_main = Processes().is_main
    if is_main:
        text = json.dumps(described, indent=1) + "\n"
        (options.out / "training.json").write_text(text, encoding="utf-8")
        print(json.dumps({"parameters": described["parameters"]}), flush=True)
    if options.bfloat16:
        faster(*model.blocks, model.deconv, model.head_gs, model.head_def.conv, model.head_def.mix)
    loop = loop_config(options, weight_decay=0.01)
    data = StagedSamples(options.data, config, loop.seed) if options.data else None
    checkpoint = options.out / "checkpoint.pt"
    train_model(model.to(device), training, loop, checkpoint, options.report_every, data)
    if is_main:
        save_ldrm(model, options.out / "ldrm.safetensors")


if __name__ == "__main__":
    script(main)
