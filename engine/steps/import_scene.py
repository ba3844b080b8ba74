"""Bring in a scene that was made elsewhere.

A 4DGaussians folder; an avatar of GaussianAvatars, with its head model; a splat file of one frame (`io.splats`); an OpenUSD
file, animated or still; or a folder or zip with a splat file for each frame, in the order of their numbers (as this pack's
sequences, 4DGaussians' per-frame export and most animation tools write them).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..deform.moments import mending_note, scene_of_moments
from ..errors import InputError
from ..fields import choice, flag, number, validate
from ..files.paths import printable
from ..geometry.boxes import gaussian_bounds
from ..heads import Head
from ..io.imports.fourdgaussians_folder import import_fourdgaussians, is_fourdgaussians
from ..io.imports.gaussian_avatars import import_gaussian_avatar, is_gaussian_avatar
from ..io.sequences.reading import read_sequence
from ..io.sequences.sources import files_at
from ..io.splats import SUFFIXES, UNREADABLE, axes_note, read_splat, splat_origin
from ..io.usd import UsdSplats, is_usd
from ..messages import Finished, Progress, Started, Stream
from ..scene import Gaussians, Scene4D
from ..scene.mending import mended
from ..scene.origins import around_origin, coarse_note
from ..scene.rigs import UPS, ring_of_cameras
from ..train.threads import on_one_thread
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

AUTO, FILE_ORDER = "auto", "file order"


@dataclass(frozen=True)
class Config:
    heads: str = choice(
        "auto",
        ("auto", "all", "position, scale, rotation"),
        "What an imported deformation field changes. auto reads the folder's cfg_args; without it, DyNeRF and MultipleView "
        "scenes change everything.",
        label="deformation heads",
    )
    duration: float = number(
        1.0,
        0.001,
        1e6,
        "Length of the imported scene in seconds. More plays slower.",
        label="duration (seconds)",
    )
    time_steps: int = number(
        60,
        2,
        10_000,
        "Number of frames the scene lists; any time in between can be rendered.",
        label="frames",
    )
    up: str = choice(
        "y down",
        tuple(UPS),
        "Up axis of the source; cameras are placed around it accordingly.",
        label="up axis",
    )
    fps: float = number(
        0.0,
        0.0,
        240.0,
        "Frame rate of an avatar or a sequence of splat files. More plays faster; 0 uses the rate in sequence.json, else 25 for "
        "an avatar and 24 for a sequence.",
        1.0,
        label="frames per second",
        words={0: "usual"},
        since="0.1",
    )
    blends_moments: bool = flag(
        True,
        "Interpolates between the files of a sequence; off holds each file until the next (for unrelated files).",
        label="interpolate frames",
        since="0.1",
    )
    correspondence: str = choice(
        AUTO,
        (AUTO, FILE_ORDER),
        "Which Gaussians of a sequence's files are the same. auto compares the frames: equal order, or matched by place and "
        "looks, else each frame is held; file order trusts the order without a check.",
        label="match Gaussians",
        since="0.3",
    )

    def __post_init__(self) -> None:
        validate(self)


@on_one_thread
def run(source: Path, config: Config = Config(), head: Head | None = None) -> Stream:
    """Import what is at a path.

    Args:
        source: A folder of 4DGaussians or GaussianAvatars, a splat file, an OpenUSD file, or a folder or zip of splat files.
        config: How it is read.
        head: The head model that an avatar was trained with; its motion is not used, the avatar has its own.

    Yields:
        Started, Progress, and Finished with a `Scene4D`.

    Raises:
        InputError: `source` is nothing that can be imported, or an avatar without a head model or with another one.
    """
    source = Path(source)
    if is_usd(source):
        yield from _usd(source, config)
        return
    is_avatar = is_gaussian_avatar(source)
    files = None if is_avatar or is_fourdgaussians(source) else files_at(source)
    yield Started(1 if files is None else len(files.names), f"importing {source.name}")
    if is_avatar:
        yield Finished(_avatar(source, head, config))
    elif is_fourdgaussians(source):
        yield Finished(
            import_fourdgaussians(
                source, "import_scene", config.heads, config.duration, config.time_steps, config.up
            )
        )
    elif source.suffix.lower() in (*SUFFIXES, *UNREADABLE) and source.is_file():
        yield Finished(_still(source, config))
    elif files is not None:
        up = torch.tensor(UPS[config.up], dtype=torch.float64)
        trusts = config.correspondence == FILE_ORDER
        moved = yield from read_sequence(files, config.fps, up, config.blends_moments, trusts, "import_scene")
        yield Finished(moved)
    elif not source.exists():
        raise InputError("STP-016", f"There is nothing at {source.name}; check the path.")
    else:
        raise InputError(
            "STP-017",
            f"{source.name} is not a 4DGaussians or GaussianAvatars folder (cfg_args and point_cloud/iteration_…), a .ply, "
            ".spz, .splat, .sog, .ksplat, .glb or .gltf file, a folder or zip of them, or an OpenUSD file. Choose another path.",
        )


def _usd(source: Path, config: Config) -> Stream:
    """The scene of an OpenUSD file; up axis, units and times are the file's own."""
    splats = UsdSplats(source)
    yield Started(len(splats), f"importing {source.name}")
    frames: list[Gaussians] = []
    for i in range(len(splats)):
        frames.append(splats.frame(i))
        yield Progress(i + 1, count=len(frames[-1]))
    if not any(len(frame) for frame in frames):
        raise InputError("USD-017", f"{source.name} holds no visible Gaussians; export it again.")
    up = torch.tensor(UPS[splats.up], dtype=torch.float64)
    blends = config.blends_moments and not splats.holds
    origins = [splats.origin] * len(frames)
    scene = scene_of_moments(frames, splats.fps, up, blends, origins, splats.seconds)
    # first, so that a preview starts there
    rig, cameras = splats.cameras.before(scene.rig, scene.bounds)
    scene = scene.with_(rig=rig)
    if len(frames) == 1:
        scene = scene.with_(times=torch.linspace(0, config.duration, 2, dtype=torch.float64))
    note = "\n".join(filter(None, (mending_note(scene), splats.note, cameras)))
    yield Finished(
        scene.with_history(
            "import_scene",
            source=source.name,
            gaussians=len(scene.canonical),
            moments=len(frames),
            note=note,
        )
    )


def _avatar(source: Path, head: Head | None, config: Config) -> Scene4D:
    if head is None:
        raise InputError(
            "STP-033",
            f"{printable(source.name)} is an avatar of GaussianAvatars, which stores Gaussians relative to a head model. "
            "Connect Load Head with the model that it was trained with (command line: --head-model).",
        )
    return import_gaussian_avatar(source, head.model, "import_scene", config.fps)


def _still(source: Path, config: Config) -> Scene4D:
    (gaussians,), note = mended([read_splat(source, as_stored=True)])
    if len(gaussians) == 0:
        raise InputError("STP-018", f"{source.name} holds no Gaussians; export it again.")
    note = "\n".join(filter(None, (note, axes_note(source), coarse_note(gaussians.means))))
    (gaussians,), origin = around_origin([gaussians], [splat_origin(source)])
    bounds = gaussian_bounds(gaussians.means)
    rig = ring_of_cameras(bounds, torch.tensor(UPS[config.up], dtype=torch.float64))
    rig = replace(rig, origin=origin)
    times = torch.linspace(0, config.duration, 2, dtype=torch.float64)
    scene = Scene4D.still(gaussians, times, rig, bounds, torch.ones(3))
    return scene.with_history("import_scene", source=source.name, gaussians=len(gaussians), note=note)


def summary(scene: Scene4D) -> str:
    """A line about the scene, and what was assumed about it."""
    entry = scene.last_entry("import_scene") or {}
    return "\n".join(filter(None, (scene.summary(), str(entry.get("note", "")))))


STEP = Step(
    name="import_scene",
    node="Import4DScene",
    label="Import 4D Scene",
    category="4dgs/load",
    description="Imports a scene from other software: a 4DGaussians folder, an avatar of GaussianAvatars, a splat file, an "
    "OpenUSD file, or a folder or zip with one splat file per frame.",
    search=(
        "ply",
        "spz",
        "splat",
        "sog",
        "supersplat",
        "gltf",
        "glb",
        "gaussian avatars",
        "flame avatar",
        "sequence",
        "zip",
        "usd",
        "usdz",
        "openusd",
    ),
    config=Config,
    run=run,
    inputs=(
        Input(
            "source",
            Kind.SOURCE,
            "Path of a 4DGaussians or GaussianAvatars folder, a splat file (.ply, .spz, .splat, .sog, .ksplat, .glb, .gltf), a "
            "folder or zip of such files (one per frame), or an OpenUSD file (.usd, .usda, .usdc, .usdz), in input, output or "
            "models/gs4d.",
        ),
        Input(
            "head",
            Kind.HEAD,
            "For GaussianAvatars folders: the head model that the avatar was trained with, from Load Head. Its motion is "
            "not used.",
            optional=True,
            since="0.2",
        ),
    ),
    outputs=(Output("scene", Kind.SCENE, "The imported scene."),),
    has_device=False,
    note=summary,
)
