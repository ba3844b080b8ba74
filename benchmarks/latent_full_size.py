"""Time and memory of a latent field and its edit at the paper's full size, with 860 M RANDOM weights.

    python benchmarks/latent_edit.py --full-size [--device cuda] [--shrink 0.02]

Sizes as in full_size.py (20 views as 512×384 images, 100,000 Gaussians, a motion field over 300 frames), with the
defaults of the steps: 600 steps for the field with the full refinement layer, 200 for the edit, 600 for the refit.
The goal is 2 minutes and 6 GB on one GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cost import Counting, costing
from benchmarks.environment import environment
from benchmarks.full_size import Sizes, finished, numbers, random_backbone, random_scene
from engine.steps import delta_edit, latents_to_scene, train_latents


def run(scale: float, device: str, dtype: torch.dtype, seed: int, is_brief: bool = False) -> dict[str, Any]:
    """Times and memory of the three steps, as plain JSON. `scale` shrinks model, scene and step counts at once; `is_brief`
    makes at most 30 steps of each."""
    sizes = Sizes() if scale == 1 else Sizes().shrunk(scale)
    backbone: Any = Counting(random_backbone(scale, device, dtype, seed, sizes.resolution))
    scene, video = random_scene(sizes, seed)
    scene = scene.to(device)
    resolution = max(
        sizes.resolution, 128
    )  # at smaller sizes, a UNet of this depth has a single latent left in its middle block
    common: dict[str, Any] = {"preview_every": 0, "seed": seed}

    def steps(step: Any) -> int:
        wanted = max(2, round(step.Config.iterations * scale))
        return min(wanted, 30) if is_brief else wanted

    def training(iterations: int) -> Any:
        config = train_latents.Config(iterations=iterations, refiner="full", resolution=resolution, **common)
        return finished(train_latents.run(scene, backbone, config, video, device), "latents")

    def editing(field: Any, iterations: int) -> Any:
        config = delta_edit.Config(
            prompt="a gold statue",
            source_prompt="a statue",
            looks_at="nothing",
            iterations=iterations,
            **common,
        )
        return finished(delta_edit.run(field, backbone, config, None, None, device), "edit")

    # kernels are selected at first use, which is not part of the measured time
    with costing(backbone, device) as warming:
        editing(training(2), 2)
    with costing(backbone, device) as trained:
        field = training(steps(train_latents))
    with costing(backbone, device) as edited:
        field = editing(field, steps(delta_edit))
    with costing(backbone, device) as back:
        config = latents_to_scene.Config(iterations=steps(latents_to_scene), detail="as decoded", **common)
        finished(latents_to_scene.run(field, backbone, config, None, device), "fit")
    spent = {"train_latents": trained, "delta_edit": edited, "latents_to_scene": back}
    return {
        "seconds": round(sum(cost.seconds for cost in spent.values()), 2),
        "seconds_train": round(trained.seconds, 2),
        "seconds_warm_up": round(warming.seconds, 2),
        "peak_mb": round(max(cost.peak_mb for cost in spent.values()), 1),
        **{name: numbers(cost) for name, cost in spent.items()},
        "latents": [
            backbone.latent_channels,
            field.size[1] // backbone.vae_scale_factor,
            field.size[0] // backbone.vae_scale_factor,
        ],
        "unet_parameters": sum(p.numel() for p in backbone.unet.parameters()),
        "weights": "random",
        "dtype": str(dtype).removeprefix("torch."),
        "scale": scale,
        "env": environment(device, seed),
    }
