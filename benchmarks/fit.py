"""How well and how fast a capture is trained, against a static scene trained on the same images.

    python benchmarks/fit.py --json [--data DIR] [--max-seconds 180] [--hold-out-every 8]
    python benchmarks/fit.py --json --leave-one-out [VIEW ...] [--together] [--picture FILE.png]

Held-out views are those of the capture or of `--hold-out`; held-out frames are every n-th one of the trained views. The
time covers the whole training (reading, initialization and all steps), not the evaluation. With `--leave-one-out`, each of the
named cameras, or every one, is left out of training in turn (PSNR of trained and of left-out views, and the gap between them);
with `--together`, all of them at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from benchmarks.leave_one_out import EVERY, leave_one_out
from engine import messages as m
from engine.capture.readers import LoadOptions, load_video
from engine.cli import add_config, config_from
from engine.render import choose_device
from engine.scene import MultiViewVideo, Scene4D
from engine.steps import evaluate_scene, fit_scene

DEMO = Path(__file__).resolve().parents[1] / "assets" / "clips" / "walker"


def train(video: MultiViewVideo, config: fit_scene.Config, device: str) -> tuple[Scene4D, float, int]:
    """(scene, seconds, iterations)."""
    start, done = time.monotonic(), 0
    scene = None
    for message in fit_scene.run(video, config, device):
        if isinstance(message, m.Started):
            print(message.note, file=sys.stderr)
        if isinstance(message, m.Progress):
            done = message.done
            if done % 500 == 0:
                took = time.monotonic() - start
                print(
                    f"  {done} steps, {message.count} Gaussians, {took:.0f} s, {message.losses}",
                    file=sys.stderr,
                )
        if isinstance(message, m.Finished):
            scene = message.value
    assert scene is not None
    return scene, time.monotonic() - start, done


def measure(scene: Scene4D, video: MultiViewVideo, device: str, every: int) -> dict[str, float]:
    """PSNR and SSIM on held-out views at trained frames, and on trained views at held-out frames."""
    views = m.result(evaluate_scene.run(scene, video, evaluate_scene.Config(pictures=0), device))
    held = [row for row in views.rows if not every or row.moment % every != every - 1]
    result = {
        "psnr_views": sum(r.psnr for r in held) / len(held),
        "ssim_views": sum(r.ssim for r in held) / len(held),
    }
    inside = [r.psnr_subject for r in held if r.psnr_subject is not None]
    if inside:
        result["psnr_views_subject"] = sum(inside) / len(inside)
    if every:
        config = evaluate_scene.Config(views="trained", every=every, offset=every - 1, pictures=0)
        moments = m.result(evaluate_scene.run(scene, video, config, device)).rows
        result["psnr_moments"] = sum(r.psnr for r in moments) / len(moments)
        result["ssim_moments"] = sum(r.ssim for r in moments) / len(moments)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="(always) the last line is one JSON object")
    parser.add_argument(
        "--data", default=str(DEMO), help="capture folder in any layout (default: the demo capture)"
    )
    parser.add_argument("--device", default=choose_device())
    parser.add_argument("--keep", help="write the trained scene here")
    parser.add_argument("--no-static", action="store_true", help="skip the still fit")
    parser.add_argument(
        "--leave-one-out", nargs="*", type=int, metavar="VIEW", help="leave each of these cameras out in turn"
    )
    parser.add_argument("--together", action="store_true", help="leave these cameras out at once")
    parser.add_argument("--measured-every", type=int, default=EVERY, help="measure every n-th frame of these")
    parser.add_argument("--picture", type=Path, help="a contact sheet of the left-out views")
    add_config(parser, LoadOptions)
    add_config(parser, fit_scene.Config, skip=tuple({"background"} & {f.name for f in fields(LoadOptions)}))
    parser.set_defaults(hold_out_every=8, preview_every=0)
    arguments = parser.parse_args()
    video = load_video(arguments.data, config_from(arguments, LoadOptions))
    config = config_from(arguments, fit_scene.Config, background="auto")
    if arguments.leave_one_out is not None:
        views = arguments.leave_one_out or list(range(video.views))
        # frames in between are held out by the other rows
        every_frame = replace(config, hold_out_every=0)
        found = leave_one_out(
            video,
            [views] if arguments.together else [[view] for view in views],
            lambda each: train(each, every_frame, arguments.device),
            arguments.picture,
            arguments.measured_every,
        )
        print(json.dumps({"capture": video.name, **found, "env": environment(arguments.device, config.seed)}))
        return
    scene, seconds, iterations = train(video, config, arguments.device)
    result = {
        "capture": video.name,
        "seconds": round(seconds, 1),
        "iterations": iterations,
        "gaussians": len(scene.canonical),
        **measure(scene, video, arguments.device, config.hold_out_every),
    }
    if arguments.keep:
        from engine.io.scene_file import save_scene

        save_scene(scene, Path(arguments.keep))
    print({k: v for k, v in result.items()}, file=sys.stderr)
    if not arguments.no_static:
        still, seconds, _ = train(video, replace(config, motion="none"), arguments.device)
        static = measure(still, video, arguments.device, config.hold_out_every)
        result |= {"seconds_static": round(seconds, 1), **{f"{k}_static": v for k, v in static.items()}}
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}
    print(json.dumps({**rounded, "env": environment(arguments.device, config.seed)}))


if __name__ == "__main__":
    main()
