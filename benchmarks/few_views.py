"""What four wide views of the demo give, between and at these views, without and with depth maps.

    python benchmarks/few_views.py --json [--iterations N] [--rows plain depth] [--quick]

Trains on four of the twelve cameras and compares the other eight. Depth maps are those of a scene that was trained on all
twelve: nearly true, and smooth. Each row has PSNR in dB of whole images and inside the masks, as means over images:
`trained`, `trained_inside`, `between`, `between_inside`, and `seconds`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from benchmarks.leave_one_out import measured
from engine.capture.added_depth import DepthAdded
from engine.capture.readers import load_video
from engine.demo import CLIP
from engine.messages import result
from engine.render import Rasterizer, choose, render_gaussians
from engine.scene import Scene4D
from engine.steps import fit_scene

# cameras about 90 degrees apart
FOUR = (1, 3, 6, 8)
# every n-th frame is measured
EVERY = 5
ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "depth": {"depth_weight": 0.05},
    "more_depth": {"depth_weight": 0.2},
    "few_gaussians": {"budget": 2500},
}


@torch.no_grad()
def rendered_depth(scene: Scene4D, rasterizer: Rasterizer) -> dict[tuple[int, int], torch.Tensor]:
    """Depth maps [H, W] of the four cameras at all frames, 0 where the scene is empty."""
    maps: dict[tuple[int, int], torch.Tensor] = {}
    for moment, time_now in enumerate(scene.times.tolist()):
        now = scene.at(time_now)
        for view in FOUR:
            drawn = render_gaussians(now, scene.rig[view], rasterizer, want_depth=True)
            assert drawn.depth is not None
            maps[view, moment] = torch.where(drawn.alpha[0] > 0.5, drawn.depth[0], 0.0)
    return maps


def report(iterations: int, rows: list[str], truth_iterations: int) -> dict[str, Any]:
    """All rows."""
    video, rasterizer = load_video(CLIP), choose("auto", "cpu")
    config = fit_scene.Config(iterations=truth_iterations, keeps_test_views_out=False, preview_every=0)
    truth = result(fit_scene.run(video, config))
    rest = tuple(view for view in range(video.views) if view not in FOUR)
    source = DepthAdded(video.source, rendered_depth(truth, rasterizer), video.cameras)
    few = replace(video, source=source, has_depths=True, train_views=FOUR, test_views=rest)
    found: dict[str, Any] = {}
    for name in rows:
        start = time.perf_counter()
        config = fit_scene.Config(iterations=iterations, preview_every=0, **ROWS[name])
        scene = result(fit_scene.run(few, config))
        seconds = time.perf_counter() - start
        found[name] = {"seconds": round(seconds, 1)}
        for what, views in (("trained", FOUR), ("between", rest)):
            means = measured(scene, video, views, EVERY)
            found[name] |= {what: means["whole"], f"{what}_inside": means["inside"]}
        print(json.dumps({name: found[name]}), file=sys.stderr, flush=True)
    return {**found, "iterations": iterations, "env": environment("cpu", 0)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--iterations", type=int, default=1500, help="training steps of each row")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs")
    options = parser.parse_args()
    steps = (20, 20) if options.quick else (options.iterations, 2500)
    made = report(steps[0], options.rows, steps[1])
    print(json.dumps(made, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
