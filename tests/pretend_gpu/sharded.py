"""Trainings for test_sharding.py: processes on one pretend GPU each, as with NCCL, started by torchrun.

    torchrun --nproc-per-node 2 tests/pretend_gpu/sharded.py REPORT.json

Exchanges refuse what NCCL would: tensors on the CPU, and parts of tensors. The values themselves go over gloo.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engine import messages
from engine.steps import fit_scene
from engine.train import fit, hexplane_motion, ranks, support
from engine.train.densify import strategy_for
from tests.pretend_gpu.device import GPU, PretendGPU, PretendTensor
from tests.pretend_gpu.rasterizer import rasterizer_on
from tests.scenes import capture_of, moving_scene

CONFIG = fit_scene.Config(
    iterations=30, budget=61, initial_count=51, views_per_step=2, min_views=2, preview_every=20, sh_degree=1
)
# steps between two visits of density control, and two searches for static Gaussians
EVERY = 9
TRAININGS = {
    "fixed budget": replace(CONFIG, still_threshold=0.1),
    "adaptive": replace(CONFIG, density="adaptive", motion="per_frame"),
}


def often(*given: Any) -> Any:
    """The strategy of density control, with more visits."""
    strategy: Any = strategy_for(*given)
    return None if strategy is None else replace(strategy, every=EVERY)


def as_nccl(exchange: Callable[..., Any], tensors: int) -> Callable[..., Any]:
    """An exchange of pretend tensors, which are its first arguments."""

    def exchanged(*given: Any) -> Any:
        for tensor in given[:tensors]:
            assert isinstance(tensor, PretendTensor), "NCCL exchanges no tensors of the CPU"
            assert tensor.held.is_contiguous(), "NCCL exchanges whole tensors only"
        return exchange(*(tensor.held for tensor in given[:tensors]), *given[tensors:])

    return exchanged


def trained(config: fit_scene.Config, checkpoint: Path) -> dict[str, Any]:
    video = capture_of(moving_scene(40, views=4, moments=3))
    with PretendGPU() as gpu, rasterizer_on(gpu):
        made = messages.result(fit_scene.run(video, config, "cuda", checkpoint))
        shapes = {name: list(t.shape) for name, t in made.deformation.tensors().items()}
        return {"gaussians": len(made.canonical), "device": made.device.type, "motion": shapes}


def main(target: Path) -> None:
    torch.set_num_threads(1)
    # everything happens in a short training too
    hexplane_motion.CHECK_EVERY = support.EVERY = EVERY
    fit.strategy_for = often
    names: Sequence[tuple[str, int]] = (
        ("all_reduce", 1),
        ("broadcast", 1),
        ("send", 1),
        ("recv", 1),
        ("all_to_all_single", 2),
    )
    report: dict[str, Any] = {}
    with ranks.joined("cpu", is_sharded=True) as joined:
        for name, tensors in names:
            setattr(dist, name, as_nccl(getattr(dist, name), tensors))
        ranks._current = replace(joined, device=GPU)  # pyright: ignore[reportPrivateUsage]
        for name, config in TRAININGS.items():
            report[name] = trained(config, target.parent / f"{name}.safetensors")
        if joined.leads:
            target.write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
