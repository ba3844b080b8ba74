"""Verbs that train, measure, convert and render a scene."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..errors import InputError
from .arguments import (
    AddVerb,
    Arguments,
    add_config,
    config_from,
    device_of,
    follow,
    load_capture,
    with_data,
    with_device,
)


def fit_scene(arguments: Arguments) -> dict[str, Any]:
    from ..files.atomic import check_writable
    from ..io.scene_file import save_scene
    from ..steps import fit_scene as step

    out = Path(arguments.out)
    checkpoint = (
        Path(arguments.checkpoint) if arguments.checkpoint else out.with_suffix(".training.safetensors")
    )
    check_writable(out)
    video = load_capture(arguments)
    start = time.monotonic()
    scene = follow(
        step.run(video, config_from(arguments, step.Config), device_of(arguments), checkpoint),
        arguments.json,
        put_away=lambda made: save_scene(made, out),
    )
    return {"out": str(out), "gaussians": len(scene.canonical), "seconds": round(time.monotonic() - start, 2)}


def preflight(arguments: Arguments) -> dict[str, Any]:
    from ..steps import preflight as step

    report = follow(step.run(load_capture(arguments), config_from(arguments, step.Config)), arguments.json)
    if not arguments.json:
        print(report.text())
    return report.to_json()


def render(arguments: Arguments) -> dict[str, Any]:
    from ..files.mp4 import check_movie, write_mp4
    from ..io.scene_file import load_scene
    from ..steps import camera_path, render_scene

    check_movie(Path(arguments.out))
    scene = load_scene(Path(arguments.scene))
    path = camera_path.make(scene, config_from(arguments, camera_path.Config))
    config = config_from(arguments, render_scene.Config)
    rendering = follow(render_scene.run(scene, path, config, device_of(arguments)), arguments.json)
    out = write_mp4(rendering.images, rendering.fps, Path(arguments.out))
    return {"out": str(out), "frames": len(path)}


def evaluate(arguments: Arguments) -> dict[str, Any]:
    from ..io.scene_file import load_scene
    from ..steps import evaluate_scene as step

    scene = load_scene(Path(arguments.scene))
    evaluation = follow(
        step.run(scene, load_capture(arguments), config_from(arguments, step.Config), device_of(arguments)),
        arguments.json,
    )
    if not arguments.json:
        print(evaluation.text())
    return evaluation.summary


def import_scene(arguments: Arguments) -> dict[str, Any]:
    from ..io.scene_file import save_scene
    from ..steps import convert_capture
    from ..steps import import_scene as step

    if Path(arguments.out).suffix != ".safetensors":
        config = config_from(arguments, convert_capture.Config)
        out = follow(convert_capture.run(Path(arguments.source), Path(arguments.out), config), arguments.json)
        return {"out": str(out)}
    scene = follow(step.run(Path(arguments.source), config_from(arguments, step.Config)), arguments.json)
    save_scene(scene, Path(arguments.out))
    return {"out": arguments.out, "gaussians": len(scene.canonical)}


def export(arguments: Arguments) -> dict[str, Any]:
    from ..io.scene_file import load_scene
    from ..steps import bake_clip
    from ..steps import export_scene as step

    scene, clips = load_scene(Path(arguments.scene)), config_from(arguments, bake_clip.Config)
    stream = step.run(scene, config_from(arguments, step.Config), Path(arguments.out), clip=clips)
    paths = follow(stream, arguments.json)
    if paths.notes and not arguments.json:
        print("\n".join(paths.notes))
    return {"files": [str(path) for path in paths], "notes": list(paths.notes)}


def clip(arguments: Arguments) -> dict[str, Any]:
    from ..files.atomic import check_writable
    from ..io.scene_file import load_scene
    from ..steps import bake_clip as step

    out = Path(arguments.out)
    if out.suffix != ".gs4dclip":
        raise InputError(f"{out.name}: a clip ends in .gs4dclip; name it {out.stem}.gs4dclip.")
    check_writable(out)
    scene, config = load_scene(Path(arguments.scene)), config_from(arguments, step.Config)
    baked = follow(step.run(scene, config, out.stem), arguments.json)
    baked.save(out)
    made = baked.clip
    if not arguments.json:
        print("\n".join([step.describe(baked), *made.notes]))
    return {
        "out": str(out),
        "gaussians": len(made.base),
        "moving": made.moving,
        "moments": len(made.times),
        "knots": 0 if made.motion is None else len(made.motion.knots),
        "megabytes": round(len(baked.data) / 1e6, 3),
        "max_error": made.max_error,
        "mean_error": made.mean_error,
        "notes": list(made.notes),
    }


def page(arguments: Arguments) -> dict[str, Any]:
    from ..io.scene_file import load_scene
    from ..steps import bake_clip
    from ..steps import export_scene as step

    scene = load_scene(Path(arguments.scene))
    compare = load_scene(Path(arguments.compare)) if arguments.compare else None
    config, out = config_from(arguments, bake_clip.Config), Path(arguments.out)
    written = follow(step.run(scene, step.Config(kind="html"), out, compare, config), arguments.json)
    if written.notes and not arguments.json:
        print("\n".join(written.notes))
    return {
        "out": str(out),
        "megabytes": round(out.stat().st_size / 1e6, 3),
        "notes": list(written.notes),
    }


def sample(arguments: Arguments) -> dict[str, Any]:
    from ..io.scene_file import load_scene
    from ..steps import sample_scene as step

    scene = load_scene(Path(arguments.scene))
    seconds = step.parse_times(arguments.times, scene)
    out = step.save(scene, seconds, Path(arguments.out))
    return {"out": str(out), "times": seconds}


def demo(arguments: Arguments) -> dict[str, Any]:
    from ..demo import run

    report = run(
        Path(arguments.out), follow, device_of(arguments), prompt=arguments.prompt, force=arguments.force
    )
    if not arguments.json:
        print(f"made {', '.join(report['files'])} in {report['folder']}/ in {report['seconds']:.0f} s")
    return report


def add_verbs(verb: AddVerb) -> None:
    """Each verb with its flags."""
    from ..demo import PROMPT
    from ..diffusion.known_edits import BUNDLED_EDITS, FORCE_TEXT
    from ..steps import bake_clip, camera_path, evaluate_scene, export_scene, render_scene
    from ..steps import convert_capture as convert_step
    from ..steps import fit_scene as fit_step
    from ..steps import import_scene as import_step
    from ..steps import preflight as preflight_step

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

    sub = verb(
        "export", export, "Write a scene as .ply, .spz, .4dgs, a sequence of files, a clip or a web page."
    )
    sub.add_argument("--scene", required=True)
    sub.add_argument("--out", required=True, help="file, or folder for a sequence")
    add_config(sub, export_scene.Config)
    add_config(sub, bake_clip.Config)

    sub = verb("clip", clip, "Bake a scene into a small file that the player plays.")
    sub.add_argument("--scene", required=True)
    sub.add_argument("--out", required=True, help="clip to write (.gs4dclip)")
    add_config(sub, bake_clip.Config)

    sub = verb(
        "page", page, "Write one self-contained web page that plays a scene, or two beside each other."
    )
    sub.add_argument("--scene", required=True)
    sub.add_argument("--compare", help="a second scene, shown right of a divider: the edited one, say")
    sub.add_argument("--out", required=True, help="page to write (.html)")
    add_config(sub, bake_clip.Config)

    sub = verb("sample", sample, "Write the activated Gaussians at chosen times as tensors.")
    sub.add_argument("--scene", required=True)
    sub.add_argument("--times", default="all", help="seconds such as 0,0.5,1, or all")
    sub.add_argument("--out", required=True)

    sub = verb(
        "demo",
        demo,
        "Train the clip that ships, edit it with one sentence, and leave videos, scenes, a .ply and a page of pictures.",
    )
    sub.add_argument("--out", default="demo", help="folder to write")
    sub.add_argument(
        "--prompt",
        default=PROMPT,
        help=f"what to change (default: {PROMPT}); empty edits nothing. {BUNDLED_EDITS}",
    )
    sub.add_argument("--force", action="store_true", help=FORCE_TEXT)
    with_device(sub)
