"""Verbs that render, import, export and play a scene: those that are more than one step."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError
from .arguments import AddVerb, Arguments, add_config, add_device, config_from, device_of, follow


def render(arguments: Arguments) -> dict[str, Any]:
    from ..files.mp4 import check_video, write_mp4
    from ..io.scene_file import load_scene
    from ..steps import camera_path, render_scene

    check_video(Path(arguments.out))
    scene = load_scene(Path(arguments.scene))
    path = camera_path.make(scene, config_from(arguments, camera_path.Config))
    config = config_from(arguments, render_scene.Config)
    rendering = follow(render_scene.run(scene, path, config, device_of(arguments)), arguments.json)
    out = write_mp4(rendering.images, rendering.fps, Path(arguments.out))
    return {"out": str(out), "frames": len(path)}


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


def clip(arguments: Arguments) -> dict[str, Any]:
    from ..files.atomic import check_writable
    from ..io.scene_file import load_scene
    from ..steps import bake_clip as step

    out = Path(arguments.out)
    if out.suffix != ".gs4dclip":
        raise InputError("CLI-007", f"{out.name}: a clip ends in .gs4dclip; name it {out.stem}.gs4dclip.")
    check_writable(out)
    scene, config = load_scene(Path(arguments.scene)), config_from(arguments, step.Config)
    baked = follow(step.run(scene, config, out.stem), arguments.json)
    baked.save(out)
    made = baked.player_file
    _print_notes([step.describe(baked), *made.notes], arguments)
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
    _print_notes(written.notes, arguments)
    megabytes = round(out.stat().st_size / 1e6, 3)
    return {"out": str(out), "megabytes": megabytes, "notes": list(written.notes)}


def demo(arguments: Arguments) -> dict[str, Any]:
    from ..demo import run

    report = run(
        Path(arguments.out), follow, device_of(arguments), prompt=arguments.prompt, force=arguments.force
    )
    if not arguments.json:
        print(f"made {', '.join(report['files'])} in {report['folder']}/ in {report['seconds']:.0f} s")
    return report


def _print_notes(notes: Any, arguments: Arguments) -> None:
    if notes and not arguments.json:
        print("\n".join(notes))


def _add_scene(sub: argparse.ArgumentParser, out: str) -> None:
    sub.add_argument("--scene", required=True, metavar="FILE", help="scene (.safetensors)")
    _add_out(sub, out)


def _add_out(sub: argparse.ArgumentParser, help: str) -> None:
    sub.add_argument("--out", "-o", required=True, metavar="PATH", help=help)


def add_verbs(verb: AddVerb) -> None:
    """Each verb with its flags."""
    from ..demo import PROMPT
    from ..diffusion.known_edits import BUNDLED_EDITS, FORCE_TEXT
    from ..steps import bake_clip, camera_path, convert_capture, render_scene
    from ..steps import import_scene as import_step

    sub = verb("render", render, "Render a scene along a camera path to a video.")
    _add_scene(sub, "video to write (.mp4)")
    add_device(sub)
    add_config(sub, camera_path.Config)
    add_config(sub, render_scene.Config)

    sub = verb(
        "import",
        import_scene,
        "Import a scene (a 4DGaussians folder, a splat file or a folder of them), or convert a studio's capture.",
    )
    sub.add_argument("--source", required=True, metavar="PATH", help="file or folder to import")
    _add_out(
        sub, "scene to write (.safetensors); with any other name, the folder a capture is converted into"
    )
    add_config(sub, import_step.Config)
    add_config(sub, convert_capture.Config)

    sub = verb("clip", clip, "Bake a scene to a small file for the player.")
    _add_scene(sub, "player file to write (.gs4dclip)")
    add_config(sub, bake_clip.Config)

    sub = verb("page", page, "Write a self-contained web page that plays a scene, or two side by side.")
    _add_scene(sub, "page to write (.html)")
    sub.add_argument("--compare", metavar="FILE", help="optional second scene, right of the divider")
    add_config(sub, bake_clip.Config)

    sub = verb(
        "demo",
        demo,
        "Train the demo scene, edit it with a prompt, and write videos, scenes, a .ply and a contact sheet.",
    )
    sub.add_argument("--out", "-o", default="demo", metavar="DIR", help="folder to write")
    sub.add_argument(
        "--prompt", default=PROMPT, help=f"the edit (default: {PROMPT}); empty skips it. {BUNDLED_EDITS}"
    )
    sub.add_argument("--force", action="store_true", help=FORCE_TEXT)
    add_device(sub)
