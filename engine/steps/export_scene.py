"""Take a 4D scene elsewhere: a frame or sequence of splat files, `.4dgs`, OpenUSD, the scene file, a player file, a web page,
or an avatar's folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..deform.moments import is_held, shown
from ..errors import InputError
from ..fields import choice, number, validate
from ..files.atomic import check_writable
from ..io.imports.gaussian_avatars import export_gaussian_avatar, files_of
from ..io.scene_file import save_scene
from ..io.sequences.description import NAME, Description
from ..io.sequences.writing import check_no_others, into_folder, into_zip
from ..io.splats import SUFFIXES as SPLATS
from ..io.splats import WRITTEN, Format
from ..io.usd import WRITABLE as USD_SUFFIXES
from ..io.usd import stage_turn, writing_usd
from ..io.writable import spatial_order
from ..messages import Finished, Progress, Saved, Started, Stream, progress_of
from ..playback.bake import Baked, bake, units
from ..playback.bake_config import BakeConfig
from ..playback.page import check_player, write_page
from ..render import CameraPath
from ..scene import Gaussians, Scene4D
from ..scene.origins import check_same_origin, in_coordinates_of, origin_note
from ..scene.rigs import is_unturned, rig_up, up_in_words
from ..train.threads import on_one_thread
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run", "suffix"]

AVATAR = "GaussianAvatars folder"
SUFFIXES = {
    "ply": ".ply",
    "ply sequence": "",
    "spz": ".spz",
    "spz sequence": "",
    "4dgs": ".4dgs",
    "usdc": ".usdc",
    "usda": ".usda",
    "usdz": ".usdz",
    "scene": ".safetensors",
    "clip": ".gs4dclip",
    "html": ".html",
    AVATAR: "",
}
SEQUENCE = " sequence"
# of the formats that were added later
SUFFIXES |= {name: form.suffix for name, form in WRITTEN.items() if name not in SUFFIXES}
SUFFIXES |= {f"{name}{SEQUENCE}": "" for name in WRITTEN if f"{name}{SEQUENCE}" not in SUFFIXES}
FOLDER, ZIP = "folder", "zip"


@dataclass(frozen=True)
class Config:
    kind: str = choice(
        "ply",
        tuple(SUFFIXES),
        "ply is lossless, spz about a tenth of the size (spz 4 for newer readers); sog, compressed ply and splat are for "
        "SuperSplat and web viewers; glb is glTF; a sequence writes one file per frame; 4dgs holds the motion in one file; usdc, "
        "usda (text) and usdz hold it for OpenUSD programs; scene is this pack's own format; clip is a player file; html is a "
        "web page with the player; GaussianAvatars folder is for scenes bound to a head.",
        label="format",
    )
    seconds: float = number(
        0.0, 0.0, 1e6, "Time of a single-frame export, in seconds from the start.", label="time (seconds)"
    )
    moments: int = number(
        0,
        0,
        10_000,
        "Number of frames in a sequence. More plays more smoothly; 0 uses the captured frames.",
        label="frames",
        words={0: "captured"},
    )
    container: str = choice(
        FOLDER,
        (FOLDER, ZIP),
        "Whether a sequence is written as a folder or as one zip file. Import 4D Scene reads both.",
        label="sequence as",
        since="0.3",
    )

    def __post_init__(self) -> None:
        validate(self)


class Written(list[Path]):
    """The written files or folder's files, and what there is to say of them."""

    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """What there is to say, one line each."""
        return "\n".join(self.notes)

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {"files": [str(path) for path in self], "notes": list(self.notes)}


def suffix(config: Config) -> str:
    """How the written file's name ends; empty where a folder is written."""
    return ".zip" if is_sequence(config) and config.container == ZIP else SUFFIXES[config.kind]


def is_sequence(config: Config) -> bool:
    """Whether a file is written for each frame."""
    return config.kind.endswith(SEQUENCE)


def times_of(scene: Scene4D, config: Config) -> list[float]:
    """The moments of a sequence, in seconds."""
    if config.moments == 0:
        return scene.times.tolist()
    return torch.linspace(
        float(scene.times[0]), float(scene.times[-1]), config.moments, dtype=torch.float64
    ).tolist()


@on_one_thread
def run(
    scene: Scene4D,
    config: Config,
    target: Path,
    compare: Scene4D | None = None,
    bake_config: BakeConfig = BakeConfig(),
    path: CameraPath | None = None,
) -> Stream:
    """Write to `target` (a file, or a folder for a sequence); Finished(Written, a list of paths). Raises InputError.

    `compare`: a second scene that an html page shows next to the first. `bake_config`: what the player files of "clip"
    and "html" cost. `path`: a camera for OpenUSD files, whose frames are then those of the path.
    """
    target = Path(target)
    if compare is not None and config.kind != "html":
        raise InputError(
            "STP-011",
            f"A {config.kind} holds one scene; leave the second one out, or choose html, which shows two.",
        )
    # the command line says it by the name alone
    if is_sequence(config) and target.suffix == ".zip" and not target.is_dir():
        config = replace(config, container=ZIP)
    is_usd = suffix(config) in USD_SUFFIXES
    if path is not None and not is_usd:
        raise InputError(
            "USD-016",
            f"A {config.kind} cannot hold a camera path; leave it out, or choose usdc, usda or usdz.",
        )
    ending = suffix(config)
    if ending and target.suffix != ending:
        raise InputError(
            "STP-012",
            f"{target.name}: a {config.kind} export ends in {ending}; name it {target.stem}{ending}.",
        )
    if not ending and target.is_file():
        raise InputError(
            "STP-013", f"{target.name} is a file, but a {config.kind} needs a folder; choose another name."
        )
    start = float(scene.times[0])
    # a scene file keeps the origin, and a player file has a note of its own
    local = tuple(filter(None, [origin_note(scene.rig.origin)]))
    if is_sequence(config):
        yield from _sequence(scene, config, target, local)
        return
    if config.kind in ("clip", "html"):
        yield from _player_files([scene] if compare is None else [scene, compare], bake_config, target)
        return
    if config.kind == "4dgs":
        yield from _fourdgs(scene, config, target, local)
        return
    if is_usd:
        yield from _usd(scene, config, target, path)
        return
    yield Started(1, f"writing {target.name}")
    written = Written([target])
    if config.kind == AVATAR:
        written = Written(files_of(export_gaussian_avatar(scene, target)))
        written.notes = local
    elif config.kind == "scene":
        save_scene(scene, target)
    else:
        if config.seconds > scene.duration + 1e-9:
            raise InputError(
                "STP-014", f"seconds is {config.seconds}, but the scene lasts {scene.duration:.3f} seconds."
            )
        kept, notes = _kept(scene, [start + config.seconds], WRITTEN[config.kind])
        written.notes = (*notes, *local)
        WRITTEN[config.kind].write(_frame(scene, start + config.seconds, kept), target, scene.rig.origin)
    yield Progress(1)
    yield Finished(written)


def _sequence(scene: Scene4D, config: Config, target: Path, local: tuple[str, ...]) -> Stream:
    """One file per frame and a description, in a folder or a zip; no more than one frame is in memory."""
    seconds = times_of(scene, config)
    form = WRITTEN[config.kind.removesuffix(SEQUENCE)]
    names = [f"frame_{i:05}{form.suffix}" for i in range(len(seconds))]
    is_zip = config.container == ZIP
    if not is_zip:
        check_no_others(target, set(names), SPLATS)
    yield Started(len(seconds), f"{len(seconds)} frames into {target.name}{'' if is_zip else '/'}")
    kept, notes = _kept(scene, seconds, form)
    follows = not is_held(scene.deformation)
    description = Description.of(seconds, follows)
    written = Written()
    with (into_zip if is_zip else into_folder)(target) as put:
        # first, so that a sequence whose export was interrupted lacks frames of it
        about = put(NAME, description.write)
        for i, (name, t) in enumerate(zip(names, seconds, strict=True)):
            frame = _frame(scene, t, kept)
            if not follows:
                frame = shown(frame)
            path = put(name, lambda path, frame=frame: form.write(frame, path, scene.rig.origin))
            written.append(path)
            yield Saved(str(path), i + 1)
            yield Progress(i + 1)
    written[:] = dict.fromkeys([*written, about])
    written.notes = (*notes, description.text(), *local)
    yield Finished(written)


def _fourdgs(scene: Scene4D, config: Config, target: Path, notes: tuple[str, ...]) -> Stream:
    """One .4dgs file, frame by frame."""
    from ..io.fourdgs import writing_fourdgs

    seconds = times_of(scene, config)
    yield Started(2 * len(seconds), f"{len(seconds)} frames into {target.name}")
    yield from progress_of(writing_fourdgs(scene, seconds, target), count=len(scene.canonical))
    written = Written([target])
    written.notes = notes
    yield Finished(written)


def _usd(scene: Scene4D, config: Config, target: Path, path: CameraPath | None) -> Stream:
    """One OpenUSD file, frame by frame: the scene's frames, or those of a camera path."""
    if path is None:
        seconds, cameras, rate = times_of(scene, config), None, None
    else:
        seconds, rate = path.seconds.tolist(), path.fps
        cameras = in_coordinates_of(scene, path.cameras)
    yield Started(len(seconds), f"{len(seconds)} frames into {target.name}")
    yield from progress_of(writing_usd(scene, seconds, target, cameras, rate), count=len(scene.canonical))
    written = Written([target])
    turn, up = stage_turn(scene.rig)
    is_turned = not is_unturned(turn)
    turned = f"Turned upright: the cameras' up, {up_in_words(rig_up(scene.rig))}, is now USD's {up} axis."
    written.notes = tuple(
        filter(None, [turned if is_turned else "", origin_note(scene.rig.origin, is_turned)])
    )
    yield Finished(written)


def _player_files(scenes: list[Scene4D], config: BakeConfig, target: Path) -> Stream:
    """One player file, or a page with one or two."""
    check_writable(target)
    check_same_origin(scenes)
    if target.suffix == ".html":
        check_player()
    yield Started(sum(units(scene, config) for scene in scenes), f"writing {target.name}")
    name = target.stem.rstrip("_")  # ComfyUI ends names in _
    titles = [name] if len(scenes) == 1 else ["Before", "After"]
    baked: list[Baked] = []
    done = 0
    for scene, title in zip(scenes, titles, strict=True):
        made = yield from progress_of(bake(scene, config, title), done, len(scene.canonical))
        baked.append(made)
        done += units(scene, config)
    if target.suffix == ".html":
        write_page(baked, target, name)
    else:
        baked[0].save(target)
    written = Written([target])
    written.notes = tuple(
        note if len(baked) == 1 else f"{title}: {note}"
        for title, one in zip(titles, baked, strict=True)
        for note in one.player_file.notes
    )
    yield Finished(written)


@torch.no_grad()
def _kept(scene: Scene4D, seconds: list[float], form: Format) -> tuple[Tensor | None, tuple[str, ...]]:
    """Which Gaussians are written and in which order (a mask or indices; None: as they are), and what there is to say.

    One order for all frames, so that Gaussians keep their numbers.
    """
    lost = scene.canonical.sh_degree and not form.has_harmonics
    notes = (
        (f"{form.suffix} files hold no colors that depend on the view; each Gaussian kept its mean color.",)
        if lost
        else ()
    )
    if not len(scene.canonical):
        return None, notes
    if form.sorts:
        return spatial_order(scene.at(seconds[0]).means), notes
    return _near(scene, seconds, notes) if form.fixed_point else (None, notes)


def _near(
    scene: Scene4D, seconds: list[float], notes: tuple[str, ...]
) -> tuple[Tensor | None, tuple[str, ...]]:
    """For .spz, which Gaussians [N] are written (None: all), without those that would cost the others their precision."""
    from ..io.spz import FAR, far_out

    far = torch.zeros(len(scene.canonical), dtype=torch.bool)
    for t in seconds:
        far |= far_out(scene.at(t).means).cpu()
    count = int(far.sum())
    if not count:
        return None, notes
    noun = "Gaussian was" if count == 1 else "Gaussians were"
    note = (
        f"{count:,} {noun} left out, more than {FAR:g} times as far from the origin as 99 % of the others: .spz would round all "
        "positions for their sake. Export a .ply to keep them."
    )
    return ~far, (*notes, note)


@torch.no_grad()
def _frame(scene: Scene4D, seconds: float, kept: Tensor | None = None) -> Gaussians:
    """The Gaussians at a time, of which `kept` (a mask or indices) are left (None: all)."""
    gaussians = scene.at(seconds)
    return gaussians if kept is None else gaussians.map(lambda t: t[kept.to(t.device)])


STEP = Step(
    name="export_scene",
    node="Export4DScene",
    label="Export 4D Scene",
    category="4dgs/convert",
    description="Exports a scene to ComfyUI's output folder: one frame or a sequence of .ply, .spz, .sog, .glb and other splat "
    "files, .4dgs, OpenUSD, a player file, a web page with the player, or an avatar's folder.",
    search=(
        "ply",
        "spz",
        "sog",
        "supersplat",
        "gltf",
        "glb",
        "4dgs",
        "splat",
        "html",
        "web page",
        "share",
        "sequence",
        "zip",
        "usd",
        "usdz",
        "openusd",
    ),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The scene to export."),
        Input(
            "target",
            Kind.TARGET,
            "Name of the file or folder in ComfyUI's output folder. A number is added, so nothing is overwritten.",
            "file name",
            id="filename_prefix",
            default="gs4d/export",
        ),
        Input(
            "compare",
            Kind.SCENE,
            "For html: optional second scene for before/after comparison (right of the divider).",
            optional=True,
        ),
        Input(
            "path",
            Kind.CAMERA_PATH,
            "For usdc, usda and usdz: optional camera path from Camera Path, written as an animated camera. The file's frames "
            "and frame rate are then the path's.",
            flag="with-camera",
            optional=True,
            since="0.3",
        ),
    ),
    outputs=(Output("paths", Kind.FILES, "Path of the first exported file.", "path"),),
    more={"bake_config": BakeConfig},
    verb="export",
    about="Export a scene as a splat file (.ply, .spz, .sog, .splat, .glb), .4dgs, OpenUSD, a sequence of files, a player file, "
    "a web page or an avatar's folder.",
    has_device=False,
    suffix=suffix,
    note=Written.text,
    is_output=True,
)
