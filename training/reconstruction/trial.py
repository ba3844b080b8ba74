"""Short trainings of the small model with its switches on and off, from the same samples, measured on the same unseen scenes.

OMP_NUM_THREADS=1 python -m training.reconstruction.trial --out RUN --steps 300 --variants ours neither
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from engine.models.reconstruction import LdrmConfig, save_ldrm
from training.common.loop import LoopConfig, train

from .data import Pool, SampleShape
from .evaluate import evaluate, held_out, save_sheet
from .losses import SMALL, Weights
from .train import CONFIG, Stage, Training, loss_steps, new_model

VARIANTS: dict[str, tuple[LdrmConfig, Weights]] = {
    "ours": (CONFIG, SMALL),
    "no_correspondence": (replace(CONFIG, correspondences="none"), SMALL),
    "no_lifetimes": (replace(CONFIG, lifetimes=False), SMALL),
    "neither": (replace(CONFIG, correspondences="none", lifetimes=False), SMALL),
    "no_motion_loss": (CONFIG, replace(SMALL, motion=0.0, match=0.0)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--pool", type=int, default=150)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    pool = Pool(options.pool, SampleShape(), CONFIG)
    unseen = [held_out(i, CONFIG) for i in range(options.scenes)]
    stage = Stage(1.0, 64, True)
    for name in options.variants:
        config, weights = VARIANTS[name]
        model, training = new_model(config), Training(weights, batch=options.batch)
        loop = LoopConfig(options.steps, options.lr, warmup=30, weight_decay=0.01, average=0.98)
        start = time.process_time()
        average = train(
            model,
            lambda generator, _, share, m=model, t=training: loss_steps(
                m, pool.draw(t.batch, generator, share), stage, t, generator, share
            ),
            loop,
            report_every=25,
        )
        seconds = time.process_time() - start
        model.load_state_dict(average)
        save_ldrm(model, options.out / f"{name}.safetensors")
        save_sheet(model, unseen[:4], options.out / f"{name}.png")
        figures = {"seconds": round(seconds, 1), **evaluate(model, unseen)}
        print(json.dumps({name: figures}), flush=True)


if __name__ == "__main__":
    main()
