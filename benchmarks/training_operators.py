"""How many operators a training step calls on a GPU, and how often the CPU waits for it. Runs without a GPU.

    python benchmarks/training_operators.py --json

Counts calls at torch's dispatcher on the tests' pretend GPU: forward, backward, optimizer (fused Adam is one call a group)
and density control, but not the rasterizer. `launches` leaves out calls that only make a tensor or a view. Time is not
measured. Numbers of Gaussians and images are small, since counts do not depend on them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from engine import messages as m
from engine.steps import fit_edits, fit_scene, train_latents
from tests.edit_scenes import edited_views, field_scene
from tests.pretend_gpu.device import PretendGPU
from tests.pretend_gpu.rasterizer import rasterizer_on
from tests.scenes import capture_of
from tests.tiny_diffusion import tiny_backbone

# the first steps fill caches
WARM, STEPS = 60, 20
LENGTH: dict[str, Any] = {"iterations": WARM + STEPS, "preview_every": 0}


def trainings() -> Iterator[tuple[str, m.Stream]]:
    """The trainings by name, each made when it is asked for. Sizes are small, everything else is the default."""
    scene = field_scene(count=80, views=4, moments=4)
    video, views = capture_of(scene), edited_views(scene, (0, 1, 2), (0, 2))
    # all frames and the deformation from the first counted step
    fit = replace(fit_scene.Config(budget=100, initial_count=100, coarse_fraction=0.1), **LENGTH)
    yield "fit", fit_scene.run(video, fit, "cuda")
    yield "fit_adaptive", fit_scene.run(video, replace(fit, density="adaptive"), "cuda")
    yield "fit_per_frame", fit_scene.run(video, replace(fit, motion="per_frame"), "cuda")
    yield "fit_edits", fit_edits.run(scene, views, fit_edits.Config(**LENGTH), None, "cuda")
    backbone = tiny_backbone()
    backbone.move("cuda")
    yield "train_latents", train_latents.run(scene, backbone, train_latents.Config(**LENGTH), video, "cuda")


def count(gpu: PretendGPU, stream: m.Stream) -> dict[str, float]:
    """Calls, launches and waits of a step, averaged over the last `STEPS`."""
    for message in stream:
        if isinstance(message, m.Progress) and message.done == WARM:
            gpu.reset()
        if isinstance(message, m.Progress) and message.done == WARM + STEPS:
            break
    calls, launches, waits = gpu.calls.total(), gpu.launches, gpu.waits.total()
    stream.close()
    return {"calls": calls / STEPS, "launches": launches / STEPS, "waits": waits / STEPS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    with PretendGPU() as gpu, rasterizer_on(gpu):
        for name, stream in trainings():
            rows[name] = count(gpu, stream)
            print(f"{name}: " + ", ".join(f"{value:.1f} {what}" for what, value in rows[name].items()))
    if args.json:
        flat = {f"{name}_{what}": value for name, row in rows.items() for what, value in row.items()}
        print(json.dumps({**flat, "env": environment("pretend GPU", 0)}))


if __name__ == "__main__":
    main()
