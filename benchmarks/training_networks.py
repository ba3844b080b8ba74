"""Training steps of our networks: measured at the small sizes, and arithmetic from them and for the papers' sizes.

    OMP_NUM_THREADS=1 python benchmarks/training_networks.py [--json] [--steps 8]

`measured`: CPU seconds of a step with samples that are in memory (the best one of --steps: losses, backward, AdamW), the
operations of its matrix products, convolutions and attention as torch counts them, and both divided. `listing`: CPU seconds in
which the headers of a shard of 10,000 samples are read. `arithmetic`: parameters, bytes without activations and operations of a
step at the papers' sizes, counted on the meta device; hours of all steps on H100s, if they reach UTILIZATION of their dense
bfloat16 peak and spend no time on rendering, reading or exchange. No training ran at that size.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from training.camera_video import train as camera_video
from training.camera_video.data import Clips
from training.common.decoding import SampleKind
from training.common.full_size import GIB, Cost
from training.common.loop import LoopConfig, train
from training.common.samples import Samples
from training.common.share import Share
from training.reconstruction import paper as reconstruction_paper
from training.reconstruction import train as reconstruction
from training.reconstruction.data import Pool, SampleShape
from training.reconstruction.scenes import SceneShape
from training.shards import write_shard
from training.variation_field import data as variation_field
from training.variation_field import dit, paper, vae

# dense bfloat16 operations per second of an H100 (SXM), from its data sheet, and the part that a training may reach
H100, UTILIZATION = 989e12, 0.3
# different samples; making them is not measured
POOL = 2
# samples of the shard whose headers are read
LISTED = 10_000
TOYS = {"limbed": 5, "bending": 2}


def trainings() -> dict[str, tuple[torch.nn.Module, int, Callable[[torch.Generator, float, Share], Any]]]:
    """Network, samples of a step, and losses of each small training."""
    ldrm, of_ldrm = reconstruction.new_model(), reconstruction.Training(pool=POOL)
    pool, stage = Pool(POOL, SampleShape(), ldrm.config), reconstruction.STAGES["one"][0]
    video, of_video = camera_video.new_model(), camera_video.Training(pool=POOL)
    videos = Clips(POOL, SceneShape(), video.config.pixels)
    field, of_field = vae.new_vae(), vae.VaeTraining(images=0)
    clips = variation_field.Pool(POOL, TOYS)
    network, of_dit = dit.new_generator(), dit.DitTraining()
    latents = dit.Latents(vae.folded(vae.new_vae()), clips)
    return {
        "reconstruction": (ldrm, of_ldrm.batch, lambda g, _, share: reconstruction.loss_steps(
            ldrm, pool.draw(of_ldrm.batch, g), stage, of_ldrm, g, share)),
        "camera video": (video, of_video.batch, lambda g, _, share: camera_video.loss_steps(
            video, videos.draw(of_video.batch, g), of_video, g, share)),
        "variation VAE": (field, of_field.batch, lambda g, _, share: vae.vae_losses(
            field, clips.draw(of_field.batch, g), of_field, g, share)),
        "variation transformer": (network, of_dit.batch, lambda g, _, share: dit.dit_losses(
            network, latents, latents.draw(of_dit.batch, g), of_dit, g, share)),
    }  # fmt: skip


def measured(steps: int) -> dict[str, dict[str, float]]:
    """A step of each small training."""
    found: dict[str, dict[str, float]] = {}
    for name, (network, batch, losses) in trainings().items():
        seconds: list[float] = []

        def timed(
            generator: torch.Generator, progress: float, share: Share, losses=losses, seconds=seconds
        ) -> Any:
            seconds.append(time.process_time())
            return losses(generator, progress, share)

        with FlopCounterMode(display=False) as counter:
            train(network, losses, LoopConfig(1), report_every=1 << 30)
        train(network, timed, LoopConfig(steps + 1), report_every=1 << 30)
        best = min(b - a for a, b in itertools.pairwise(seconds))
        operations = counter.get_total_flops()
        found[name] = {
            "parameters": sum(p.numel() for p in network.parameters()),
            "batch": batch,
            "seconds": round(best, 3),
            "gigaflops": round(operations / 1e9, 1),
            "gigaflops_per_second": round(operations / best / 1e9, 1),
        }
    return found


def listing() -> dict[str, float]:
    """CPU seconds in which the headers of a shard of LISTED samples of two files are read."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"json": b"{}", "other": bytes(3000)}
        write_shard(Path(folder) / "shard.tar", [(f"{i:06d}", files) for i in range(LISTED)])
        start = time.process_time()
        samples = Samples(folder, SampleKind("none", {}, lambda _: None))
        return {"samples": len(samples), "seconds": round(time.process_time() - start, 3)}


def arithmetic() -> dict[str, dict[str, float]]:
    """A step and the whole training of each network at its paper's size."""
    vae_batch, dit_batch = paper.BATCH * paper.GPUS * paper.VAE_ACCUMULATE, paper.BATCH * paper.GPUS
    rows: dict[str, tuple[Cost, int, int, int]] = {
        "reconstruction": (
            reconstruction_paper.meta_step(1),
            32,
            reconstruction_paper.STEPS,
            reconstruction_paper.BATCH,
        ),
        "variation VAE": (paper.vae_step(1), paper.GPUS, paper.VAE_STEPS, vae_batch),
        "variation transformer": (paper.dit_step(1), paper.GPUS, paper.DIT_STEPS, dit_batch),
    }
    found: dict[str, dict[str, float]] = {}
    for name, (cost, gpus, steps, batch) in rows.items():
        hours = steps * batch * cost.operations / (gpus * H100 * UTILIZATION) / 3600
        found[name] = {
            "parameters": cost.parameters,
            "gib_without_activations": round(cost.bytes / GIB, 2),
            "teraflops_per_sample": round(cost.operations / 1e12, 1),
            "samples_per_step": batch,
            "steps": steps,
            "gpus": gpus,
            "hours": round(hours, 1),
            # all processes exchange all gradients once per step
            "gib_exchanged_per_step": round(cost.gradients / GIB, 2),
            "checkpoint_gib": round((cost.weights + cost.optimizer + cost.average) / GIB, 2),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--steps", type=int, default=8, help="measured steps of each training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"measured": measured(options.steps), "listing": listing()}
    found |= {"arithmetic": arithmetic(), "env": environment("cpu", 0)}
    print(json.dumps(found, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
