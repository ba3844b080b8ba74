"""Train the demo scene: python -m training.demo_scene.train CAPTURE --out assets/scenes/walker/walker.safetensors

Unfinished work is kept next to the scene; the same command resumes it. The last line is one JSON object with the figures of the
card.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from engine import messages as m
from engine.capture.readers import LoadOptions, load_video
from engine.io.scene_file import save_scene
from engine.steps import evaluate_scene, fit_scene

# images of 397×512 pixels
SCALE = 0.8
# cameras that the scene keeps, at both heights in turn: as many images are edited as there are views
KEPT = [0, 3, 4, 7, 8, 11, 12, 15, 16, 19, 20, 22]
# SH degree 1 would take a third of the file for a subject that is matte
CONFIG = fit_scene.Config(
    iterations=14_000,
    budget=25_000,
    initial_count=20_000,
    sh_degree=0,
    start_scale=0.25,
    full_size_at=0.5,
    preview_every=0,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("capture", type=Path, help="what training/demo_clip/make.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=CONFIG.iterations)
    arguments = parser.parse_args()
    video = load_video(arguments.capture, LoadOptions(scale=SCALE))
    config = replace(CONFIG, iterations=arguments.iterations)
    start, scene = time.monotonic(), None
    for message in fit_scene.run(video, config, "cpu", arguments.out.with_suffix(".partial")):
        if isinstance(message, m.Progress) and message.done % 100 == 0:
            print(
                message.done, message.count, f"{time.monotonic() - start:.0f} s", message.losses, flush=True
            )
        if isinstance(message, m.Finished):
            scene = message.value
    assert scene is not None
    save_scene(scene.with_(rig=scene.rig[KEPT]), arguments.out)
    found = m.result(evaluate_scene.run(scene, video, evaluate_scene.Config(every=4, pictures=0), "cpu"))
    figures = {key: value for key, value in found.summary.items() if value is not None}
    print(json.dumps({"gaussians": len(scene.canonical), "bytes": arguments.out.stat().st_size, **figures}))


if __name__ == "__main__":
    main()
