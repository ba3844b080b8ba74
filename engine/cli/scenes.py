"""Verbs that render, import, bake and show a scene: those that are more than one step, or less."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import demo as demonstration
from ..cluster.verbs import Role
from ..diffusion.known_edits import BUNDLED_EDITS, FORCE_TEXT
from ..errors import InputError
from ..files.atomic import check_writable
from ..files.mp4 import check_video, check_video_name
from ..files.part_file import check_part, check_part_name
from ..io.scene_file import load_scene, save_scene
from ..playback import element
from ..render import join_parts
from ..render.part import Part, in_words
from ..steps import bake_clip, camera_path, convert_capture, export_scene, render_scene
from ..steps import import_scene as importing
from ..steps.step import Input, Kind
from .arguments import AddVerb, Arguments, add_path, config_from, device_of, follow, names_video, say
from .kinds import read_input

SCENE = Input("scene", Kind.SCENE, "scene (.safetensors)")
COMPARE = Input("compare", Kind.SCENE, "optional second scene, right of the divider", optional=True)
HEAD = next(each for each in importing.STEP.inputs if each.kind is Kind.HEAD)


def _part(text: str) -> Part:
    try:
        return Part.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def render(arguments: Arguments) -> dict[str, Any]:
    part: Part | None = arguments.part
    target = Path(arguments.out)
    (check_video if part is None else check_part)(target)
    scene = load_scene(arguments.scene)
    path = camera_path.make(scene, config_from(arguments, camera_path.Config))
    config, device = config_from(arguments, render_scene.Config), device_of(arguments)
    if part is None:
        step = replace(render_scene.STEP, run=render_scene.to_video)
        out = follow(step(scene, path, config, target, device=device), arguments.json)
        return {"out": str(out), "frames": len(path)}
    frames = part.of(len(path))
    step = replace(render_scene.STEP, run=render_scene.to_part)
    out = follow(step(scene, path, config, frames, target, device=device), arguments.json)
    return {"out": str(out), "frames": len(frames), "part": in_words(frames), "of": len(path)}


def join(arguments: Arguments) -> dict[str, Any]:
    start, target = time.monotonic(), Path(arguments.out)
    notes: list[str] = []
    stream = join_parts.run([Path(path) for path in arguments.parts], target)
    out = follow(stream, arguments.json, endings=notes)
    say("\n".join(notes), arguments)
    seconds = round(time.monotonic() - start, 2)
    return {"out": str(out), "parts": len(arguments.parts), "notes": notes, "seconds": seconds}


def import_scene(arguments: Arguments) -> dict[str, Any]:
    source, out = Path(arguments.source), Path(arguments.out)
    if out.suffix != ".safetensors":
        config = config_from(arguments, convert_capture.Config)
        return {"out": str(follow(convert_capture.run(source, out, config), arguments.json))}
    check_writable(out)
    head = read_input(arguments, HEAD, {})
    scene = follow(importing.run(source, config_from(arguments, importing.Config), head), arguments.json)
    save_scene(scene, out)
    say(importing.summary(scene), arguments)
    return {"out": arguments.out, "gaussians": len(scene.canonical)}


def clip(arguments: Arguments) -> dict[str, Any]:
    out = Path(arguments.out)
    check_writable(out)
    scene, config = load_scene(arguments.scene), config_from(arguments, bake_clip.Config)
    baked = follow(bake_clip.run(scene, config, out.stem), arguments.json)
    baked.save(out)
    say("\n".join([bake_clip.describe(baked), *baked.player_file.notes]), arguments)
    return {"out": str(out), **bake_clip.measures(baked)}


def _is_clip(path: Path, _: Arguments) -> None:
    if path.suffix != ".gs4dclip":
        raise InputError("CLI-007", f"{path.name}: a clip ends in .gs4dclip; name it {path.stem}.gs4dclip.")


def page(arguments: Arguments) -> dict[str, Any]:
    out = Path(arguments.out)
    check_writable(out)
    scene = load_scene(arguments.scene)
    compare = load_scene(arguments.compare) if arguments.compare else None
    baking = config_from(arguments, bake_clip.Config)
    stream = export_scene.run(scene, export_scene.Config(kind="html"), out, compare, baking)
    written = follow(stream, arguments.json)
    say(written.text(), arguments)
    megabytes = round(out.stat().st_size / 1e6, 3)
    return {"out": str(out), "megabytes": megabytes, "notes": list(written.notes)}


def web_player(arguments: Arguments) -> dict[str, Any]:
    out = Path(arguments.out)
    check_writable(out / element.SCRIPT)
    scene, config = load_scene(arguments.scene), config_from(arguments, bake_clip.Config)
    title = Path(arguments.scene).stem
    baked = follow(bake_clip.run(scene, config, title), arguments.json)
    files = element.write_web_player(baked, out, title)
    say("\n".join([bake_clip.describe(baked), *baked.player_file.notes]), arguments)
    return {"out": str(out), "files": [file.name for file in files], **bake_clip.measures(baked)}


def demo(arguments: Arguments) -> dict[str, Any]:
    report = demonstration.run(
        Path(arguments.out), follow, device_of(arguments), prompt=arguments.prompt, force=arguments.force
    )
    made = f"made {', '.join(report['files'])} in {report['folder']}/ in {report['seconds']:.0f} s"
    if report["page"]:
        megabytes = Path(report["page"]).stat().st_size / 1e6
        made += f"\nopen {report['page']} ({megabytes:.1f} MB) in a browser: the moving scene before and after the edit"
    say(made, arguments)
    return report


def add_scene_verbs(add_verb: AddVerb) -> None:
    """Each verb with its flags."""
    renderer = add_verb(
        "render",
        render,
        "Render a scene along a camera path to a video, or some of its frames to a part for `join`.",
        inputs=(SCENE,),
        out="video to write (.mp4), or part (.mkv)",
        check_out=lambda path, arguments: (check_part_name if arguments.part else check_video_name)(path),
        has_device=True,
        configs=(camera_path.Config, render_scene.Config),
    )
    help = "render these frames of the path only, from 0 and without the last (0:40), or a share of them (1/3), for `join`"
    renderer.add_argument("--part", type=_part, metavar="A:B|K/N", help=help)
    joiner = add_verb(
        "join",
        join,
        "Join the parts of a rendering to the video that one run would have written.",
        out="video to write (.mp4)",
        check_out=names_video,
    )
    help = "all parts of a rendering (.mkv from `render --part`), in any order"
    add_path(joiner, "--parts", nargs="+", required=True, metavar="FILE", help=help)
    importer = add_verb(
        "import",
        import_scene,
        "Import a scene (a 4DGaussians or GaussianAvatars folder, a splat file or a folder of them, an OpenUSD file), or convert "
        "a studio's capture.",
        inputs=(HEAD,),
        out="scene to write (.safetensors); with any other name, the folder a capture is converted into",
        configs=(importing.Config, convert_capture.Config),
    )
    add_path(importer, "--source", required=True, help="file or folder to import")
    add_verb(
        "clip",
        clip,
        "Bake a scene to a small file for the player.",
        inputs=(SCENE,),
        out="player file to write (.gs4dclip)",
        check_out=_is_clip,
        configs=(bake_clip.Config,),
    )
    add_verb(
        "page",
        page,
        "Write a self-contained web page that plays a scene, or two side by side.",
        inputs=(SCENE, COMPARE),
        out="page to write (.html)",
        configs=(bake_clip.Config,),
    )
    add_verb(
        "web-player",
        web_player,
        "Write a folder for a web server: the player as <gs4d-player>, the scene, and a page that shows it.",
        inputs=(SCENE,),
        out="folder to write",
        configs=(bake_clip.Config,),
    )
    about_demo = "Train the demo scene, edit it with a prompt, and write videos, scenes, a .ply, a contact sheet and a page."
    sub = add_verb("demo", demo, about_demo, has_device=True)
    add_path(sub, "--out", "-o", role=Role.OUTPUT, default="demo", metavar="DIR", help="folder to write")
    prompt = f"the edit (default: {demonstration.PROMPT}); empty skips it. {BUNDLED_EDITS}"
    sub.add_argument("--prompt", default=demonstration.PROMPT, help=prompt)
    sub.add_argument("--force", action="store_true", help=FORCE_TEXT)
