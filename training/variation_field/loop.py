"""A training loop that stops and resumes: same steps, same numbers, however often it was interrupted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

# loss terms of one step, weighted; their sum is minimized
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class LoopConfig:
    """How to train; the learning rate falls with a cosine to a fiftieth.

    Args:
        steps: Optimizer steps in all.
        lr: Learning rate of AdamW.
        warmup: Steps in which it rises.
        weight_decay: Of AdamW.
        clip: Largest norm of the gradient.
        average: Decay of the weights' moving average, smaller in the first steps.
        save_every: Steps between checkpoints.
        seed: All randomness.
        seconds: Stop (as if interrupted) after this processor time; 0: no limit.
    """

    steps: int
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.0
    clip: float = 1.0
    average: float = 0.999
    save_every: int = 200
    seed: int = 0
    seconds: float = 0.0


def train(
    network: nn.Module,
    losses: Callable[[torch.Generator, float], Losses],
    config: LoopConfig,
    checkpoint: Path | None = None,
    report_every: int = 50,
) -> dict[str, Tensor]:
    """Train `network` in place and return its averaged weights.

    Args:
        network: All parameters that require gradients are trained.
        losses: Loss terms for randomness and progress in 0..1.
        config: How to train.
        checkpoint: Where to save, and to resume from if it exists; None: in memory only.
        report_every: Steps between lines of progress.
    """
    generator = torch.Generator().manual_seed(config.seed)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    average = {name: value.clone() for name, value in network.state_dict().items()}
    step, before = 0, 0.0
    if checkpoint is not None and checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        generator.set_state(saved["generator"])
        average, step, before = saved["average"], saved["step"], saved["seconds"]
    start, sums = time.process_time(), dict[str, float]()

    def save() -> None:
        if checkpoint is None:
            return
        state = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
            "average": average,
            "step": step,
            "seconds": before + time.process_time() - start,
        }
        partial = checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(checkpoint)

    network.train()
    while step < config.steps:
        if config.seconds and time.process_time() - start > config.seconds:
            break
        progress = step / config.steps
        lr = config.lr * min(1, (step + 1) / max(config.warmup, 1)) * (0.02 + 0.98 * _cosine(progress))
        for group in optimizer.param_groups:
            group["lr"] = lr
        terms = losses(generator, progress)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        step += 1
        decay = min(config.average, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - decay)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + float(term.detach())
        if step % report_every == 0:
            seconds = before + time.process_time() - start
            means = {name: round(total / report_every, 5) for name, total in sums.items()}
            print(json.dumps({"step": step, "seconds": round(seconds, 1), **means}), flush=True)
            sums.clear()
        if step % config.save_every == 0:
            save()
    save()
    network.eval()
    return average


def faster(*modules: nn.Module) -> None:
    """Let modules compute in bfloat16 on processors that have it; weights and results stay 32-bit floats."""
    for module in modules:
        module.forward = partial(_in_bfloat16, module.forward)


def _in_bfloat16(forward: Callable[..., Tensor], *values: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return forward(*values).float()


def _cosine(progress: float) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * progress)
