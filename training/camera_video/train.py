"""Train the small video model on made scenes: distances of the first frame, and flow matching of the video along the path.

OMP_NUM_THREADS=1 python -m training.camera_video.train --out RUN --steps 20000
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from engine.files.atomic import make_folder
from engine.models.camera_video import CameraVideo, CameraVideoConfig, load_camera_video, save_camera_video
from engine.models.reconstruction import latents_to_pixels, pixels_to_latents
from training.common.loop import LoopConfig, faster, train
from training.common.options import (
    add_data_option,
    add_loop_options,
    add_step_options,
    count,
    loop_config,
    script,
)
from training.common.processes import Processes, use_device
from training.common.samples import Samples, open_samples
from training.common.share import WHOLE, Losses, LossSteps, Share, finished
from training.reconstruction.scenes import SceneShape

from .data import Clip, Clips, sample_kind

# 5.0 M parameters, for videos of 9 frames of 64 pixels
CONFIG = CameraVideoConfig()


@dataclass(frozen=True)
class Training:
    """What a step looks at.

    Args:
        batch: Clips per step.
        pool: Different clips.
        video: Weight of the mean squared error of frames.
        depth: Weight of the mean error of log distances.
        pure: Part of the samples whose time is 1, where sampling starts.
        floor: Times below count as this one: the error of a velocity is that of the frames divided by the time.
        moving: How much heavier pixels are that move.
    """

    batch: int = 4
    pool: int = 3000
    video: float = 10.0
    depth: float = 1.0
    pure: float = 0.25
    floor: float = 0.4
    moving: float = 2.0


def new_model(config: CameraVideoConfig = CONFIG, seed: int = 0) -> CameraVideo:
    """A model with the initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CameraVideo(config)


def step_losses(
    model: CameraVideo, clips: list[Clip], training: Training, generator: torch.Generator
) -> Losses:
    """Losses of one step."""
    return finished(loss_steps(model, clips, training, generator))


def loss_steps(
    model: CameraVideo,
    clips: list[Clip],
    training: Training,
    generator: torch.Generator,
    share: Share = WHOLE,
) -> LossSteps:
    """Losses of a share of a step's batch, of which `clips` are."""
    video = torch.stack([c.video for c in clips])
    rays = torch.stack([c.rays for c in clips])
    truth = torch.stack([c.distances for c in clips]).float()
    moving = torch.stack([c.moving for c in clips]).float()
    known = truth > 0
    latent = model.config.latent
    clean = pixels_to_latents(video, latent)
    count = len(clips) * share.count
    noise = share.of(torch.randn(count, *clean.shape[1:], generator=generator))
    time = torch.rand(count, generator=generator)
    time = share.of(torch.where(torch.rand(count, generator=generator) < training.pure, 1.0, time))
    totals = yield {"known": known.sum()}
    device = next(model.parameters()).device
    video, rays, truth, moving, clean = (x.to(device) for x in (video, rays, truth, moving, clean))
    known, noise, time = (x.to(device) for x in (known, noise, time))
    guess = model.guess(video[:, 0], rays)
    wanted = (truth.clamp(min=1e-3) / model.config.distance).log()
    depth = ((guess.log_distances - wanted).abs() * known).sum() / totals["known"].to(device).clamp(
        min=1 / share.count
    )
    t = time.view(-1, 1, 1, 1, 1)
    found = latents_to_pixels(model((1 - t) * clean + t * noise, time, guess, rays), latent)
    # the first frame is not predicted
    squared = (found - video)[:, 1:].square().mean(-1)
    weight = (1 + (training.moving - 1) * moving[:, 1:]) / time.clamp(min=training.floor).view(
        -1, 1, 1, 1
    ) ** 2
    return {"video": training.video * (squared * weight).mean(), "depth": training.depth * depth}


def train_model(
    model: CameraVideo,
    training: Training,
    loop: LoopConfig,
    checkpoint: Path | None = None,
    shape: SceneShape = SceneShape(),
    report_every: int = 50,
    data: Samples[Clip] | None = None,
) -> CameraVideo:
    """Train in place, with made clips or those of `data`; the result has the averaged weights."""
    clips = data or Clips(training.pool, shape, model.config.pixels)

    def losses(generator: torch.Generator, _: float, share: Share) -> LossSteps:
        drawn = clips.draw(training.batch, generator, share)
        return loss_steps(model, drawn, training, generator, share)

    described = {"network": model.config.to_json(), "training": asdict(training)}
    average = train(model, losses, loop, checkpoint, report_every, data, described)
    model.load_state_dict(average)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; an interrupted one goes on"
    )
    add_step_options(parser, 20000, 1e-3)
    parser.add_argument(
        "--batch", type=count, default=4, help="samples of each process in a step (default: %(default)s)"
    )
    parser.add_argument(
        "--pool", type=count, default=3000, help="different made clips (default: %(default)s)"
    )
    parser.add_argument(
        "--sampling-steps",
        type=int,
        default=1,
        help="the model's default, written into its file: the best of `evaluate`; a finished run writes it anew",
    )
    add_loop_options(parser)
    add_data_option(parser)
    parser.add_argument(
        "--start", type=Path, help="model file whose weights a new run starts from, not random ones"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = use_device(options.device)
    make_folder(options.out)
    training = Training(batch=options.batch, pool=options.pool)
    model = new_model(replace(CONFIG, steps=options.sampling_steps))
    if options.start:
        model.load_state_dict(load_camera_video(options.start).state_dict())
    described = {"parameters": sum(p.numel() for p in model.parameters()), "training": asdict(training)}
    is_main = Processes().is_main
    if is_main:
        text = json.dumps(described, indent=1) + "\n"
        (options.out / "training.json").write_text(text, encoding="utf-8")
        print(json.dumps({"parameters": described["parameters"]}), flush=True)
    if options.bfloat16:
        faster(model.depth, model.embed, *model.blocks, model.spread, model.pixels)
    loop = loop_config(options, weight_decay=0.01)
    checkpoint = options.out / "checkpoint.pt"
    data = None
    if options.data:
        data = open_samples(options.data, sample_kind(model.config.pixels), loop.seed)
    train_model(model.to(device), training, loop, checkpoint, report_every=options.report_every, data=data)
    if is_main:
        save_camera_video(model, options.out / "video.safetensors")


if __name__ == "__main__":
    script(main)
