"""The command line: one verb per step, the same configs and functions as the nodes.

Exit codes: 0 done, 1 the input cannot be used (one sentence on stderr), 2 wrong arguments, 130 stopped by the user
(what was trained is kept in the checkpoint). With `--json` the last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from .errors import InputError

Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING if arguments.json else logging.INFO, format="%(message)s")
    try:
        report = arguments.verb(arguments)
    except InputError as error:
        if arguments.json:
            print(json.dumps({"error": str(error)}))
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "stopped; what was trained is in the checkpoint, the same command goes on from it",
            file=sys.stderr,
        )
        return 130
    if arguments.json:
        print(json.dumps(report))
    return 0


# -- arguments from configs -----------------------------------------------------------------------------------------


def add_config(parser: argparse.ArgumentParser, config: type[Any], skip: tuple[str, ...] = ()) -> None:
    """One flag per Config field, with its default, range and sentence."""
    for f in fields(config):
        if f.name in skip:
            continue
        name, meta = "--" + f.name.replace("_", "-"), f.metadata
        text = str(meta.get("text", "")).replace("%", "%%")
        if isinstance(f.default, bool):
            parser.add_argument(name, default=f.default, action=argparse.BooleanOptionalAction, help=text)
        elif "options" in meta:
            parser.add_argument(
                name, default=f.default, choices=meta["options"], help=f"{text} (default {f.default})"
            )
        else:
            kind = type(f.default)
            parser.add_argument(
                name,
                default=f.default,
                type=kind,
                metavar=kind.__name__.upper(),
                help=f"{text} (default {f.default})",
            )


def config_from(arguments: Arguments, config: type[Any], **fixed: Any) -> Any:
    """The Config whose flags `add_config` added."""
    named = {f.name: getattr(arguments, f.name) for f in fields(config) if hasattr(arguments, f.name)}
    return config(**{**named, **fixed})


def follow(stream: Any, quiet: bool, put_away: Callable[[Any], object] | None = None) -> Any:
    """Run a step's stream, printing its progress on stderr; Ctrl-C closes it between two messages.

    `put_away` is given what the step makes before the stream ends: where it fails, a training keeps its checkpoint.
    """
    from .train import messages as m

    stopping: list[bool] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(*_: Any) -> None:
        if stopping:
            raise KeyboardInterrupt
        stopping.append(True)

    try:
        for number in before:
            signal.signal(number, stop)
    except ValueError:  # not the main thread: the caller owns the signals
        pass
    total, shown, value = 0, 0.0, None
    try:
        for message in stream:
            if isinstance(message, m.Started):
                total = message.total
                if not quiet:
                    print(message.note, file=sys.stderr)
            elif isinstance(message, m.Finished):
                value = message.value
                if put_away is not None:
                    put_away(value)
                continue  # what is made is not thrown away for a Ctrl-C that came too late
            elif isinstance(message, m.Progress) and not quiet and time.monotonic() - shown > 1:
                shown = time.monotonic()
                numbers = "  ".join(f"{k} {v:.4f}" for k, v in message.losses.items())
                count = f"  {message.count} Gaussians" if message.count else ""
                print(f"  {message.done}/{total}{count}  {numbers}", file=sys.stderr)
            if stopping:
                raise KeyboardInterrupt
    finally:
        stream.close()
        try:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)
        except ValueError:
            pass
    return value


def _device(arguments: Arguments) -> str:
    import torch

    from .render import choose_device

    name = arguments.device
    if name == "auto":
        return choose_device(getattr(arguments, "rasterizer", "auto"))
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            "CUDA was asked for, but this machine or this build of torch has none; use --device cpu."
        )
    try:
        torch.device(name)
    except RuntimeError as error:
        raise InputError(f"There is no device called '{name}'; use auto, cpu or cuda.") from error
    return name


# -- verbs ----------------------------------------------------------------------------------------------------------


def _load_video(arguments: Arguments) -> Any:
    from .io.datasets import LoadOptions, load_video

    return load_video(Path(arguments.data), config_from(arguments, LoadOptions))


def fit_scene(arguments: Arguments) -> dict[str, Any]:
    from .io.checkpoint import save_scene
    from .steps import fit_scene as step

    out = Path(arguments.out)
    checkpoint = (
        Path(arguments.checkpoint) if arguments.checkpoint else out.with_suffix(".training.safetensors")
    )
    video = _load_video(arguments)
    start = time.monotonic()
    scene = follow(
        step.run(video, config_from(arguments, step.Config), _device(arguments), checkpoint),
        arguments.json,
        put_away=lambda made: save_scene(made, out),
    )
    return {"out": str(out), "gaussians": len(scene.canonical), "seconds": round(time.monotonic() - start, 2)}


def preflight(arguments: Arguments) -> dict[str, Any]:
    from .steps import preflight as step

    report = follow(step.run(_load_video(arguments), config_from(arguments, step.Config)), arguments.json)
    if not arguments.json:
        print(report.text())
    return report.to_json()


def render(arguments: Arguments) -> dict[str, Any]:
    from .io.checkpoint import load_scene
    from .io.movie import write_mp4
    from .steps import camera_path, render_scene

    scene = load_scene(Path(arguments.scene))
    path = camera_path.make(scene, config_from(arguments, camera_path.Config))
    config = config_from(arguments, render_scene.Config)
    rendering = follow(render_scene.run(scene, path, config, _device(arguments)), arguments.json)
    out = write_mp4(rendering.images, rendering.fps, Path(arguments.out))
    return {"out": str(out), "frames": len(path)}


def evaluate(arguments: Arguments) -> dict[str, Any]:
    from .io.checkpoint import load_scene
    from .steps import evaluate_scene as step

    scene = load_scene(Path(arguments.scene))
    evaluation = follow(
        step.run(scene, _load_video(arguments), config_from(arguments, step.Config), _device(arguments)),
        arguments.json,
    )
    if not arguments.json:
        print(evaluation.text())
    return evaluation.summary


def import_scene(arguments: Arguments) -> dict[str, Any]:
    from .io.checkpoint import save_scene
    from .steps import convert_capture
    from .steps import import_scene as step

    if Path(arguments.out).suffix != ".safetensors":
        config = config_from(arguments, convert_capture.Config)
        out = follow(convert_capture.run(Path(arguments.source), Path(arguments.out), config), arguments.json)
        return {"out": str(out)}
    scene = follow(step.run(Path(arguments.source), config_from(arguments, step.Config)), arguments.json)
    save_scene(scene, Path(arguments.out))
    return {"out": arguments.out, "gaussians": len(scene.canonical)}


def export(arguments: Arguments) -> dict[str, Any]:
    from .io.checkpoint import load_scene
    from .steps import export_scene as step

    scene = load_scene(Path(arguments.scene))
    paths = follow(step.run(scene, config_from(arguments, step.Config), Path(arguments.out)), arguments.json)
    return {"files": [str(path) for path in paths]}


def sample(arguments: Arguments) -> dict[str, Any]:
    from .io.checkpoint import load_scene
    from .steps import sample_scene as step

    scene = load_scene(Path(arguments.scene))
    seconds = step.parse_times(arguments.times, scene)
    out = step.save(scene, seconds, Path(arguments.out))
    return {"out": str(out), "times": seconds}


def demo(arguments: Arguments) -> dict[str, Any]:
    from .demo import run

    report = run(Path(arguments.out), follow, _device(arguments))
    if not arguments.json:
        print(f"made {', '.join(report['files'])} in {report['folder']}/ in {report['seconds']:.0f} s")
    return report


def _parser() -> argparse.ArgumentParser:
    from .io.datasets import LoadOptions
    from .steps import camera_path, evaluate_scene, export_scene, render_scene
    from .steps import convert_capture as convert_step
    from .steps import fit_scene as fit_step
    from .steps import import_scene as import_step
    from .steps import preflight as preflight_step

    parser = argparse.ArgumentParser(
        prog="python -m engine", description="Train, render, measure and convert 4D Gaussian scenes."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: Callable[[Arguments], dict[str, Any]], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.add_argument(
            "--json", action="store_true", help="print one JSON object as the last line, and nothing else"
        )
        sub.set_defaults(verb=run)
        return sub

    def with_data(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--data", required=True, help="folder of the capture")
        add_config(sub, LoadOptions, skip=("background",))

    def with_device(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--device", default="auto", help="auto, cpu or cuda; auto takes cuda where gsplat works"
        )

    sub = verb("fit_scene", fit_scene, "Train a 4D scene from a multi-view video.")
    with_data(sub)
    with_device(sub)
    sub.add_argument("--out", required=True, help="scene file to write (.safetensors)")
    sub.add_argument(
        "--checkpoint", help="training state, resumed from when it is there (default: beside --out)"
    )
    add_config(sub, fit_step.Config)

    sub = verb("preflight", preflight, "Check a capture before training, and say what to do about it.")
    with_data(sub)
    add_config(sub, preflight_step.Config)

    sub = verb("render", render, "Render a scene along a camera path to an mp4.")
    sub.add_argument("--scene", required=True)
    sub.add_argument("--out", required=True, help="mp4 to write")
    with_device(sub)
    add_config(sub, camera_path.Config)
    add_config(sub, render_scene.Config)

    sub = verb("evaluate", evaluate, "Measure a scene against the pictures of a capture.")
    sub.add_argument("--scene", required=True)
    with_data(sub)
    with_device(sub)
    add_config(sub, evaluate_scene.Config)

    sub = verb(
        "import",
        import_scene,
        "Bring in a scene trained elsewhere (a 4DGaussians folder, a splat file or a folder of them) or a studio's capture.",
    )
    sub.add_argument("--source", required=True)
    sub.add_argument(
        "--out",
        required=True,
        help="scene file to write (.safetensors); any other name is the folder that a capture is converted into",
    )
    add_config(sub, import_step.Config)
    add_config(sub, convert_step.Config)

    sub = verb("export", export, "Write a scene as .ply, .spz, .4dgs or a sequence of files.")
    sub.add_argument("--scene", required=True)
    sub.add_argument("--out", required=True, help="file, or folder for a sequence")
    add_config(sub, export_scene.Config)

    sub = verb("sample", sample, "Write the activated Gaussians at chosen times as tensors.")
    sub.add_argument("--scene", required=True)
    sub.add_argument("--times", default="all", help="seconds such as 0,0.5,1, or all")
    sub.add_argument("--out", required=True)

    sub = verb(
        "demo", demo, "Train the clip that ships and leave a video, the scene, a .ply and a page of pictures."
    )
    sub.add_argument("--out", default="demo", help="folder to write")
    with_device(sub)
    return parser
