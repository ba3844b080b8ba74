"""A moving scene as one USD file: a `ParticleField3DGaussianSplat` with time samples, and a camera if there is a path.

The schema is that of OpenUSD 26.3 (`usdVol/schema.usda`): linear scales and opacities, unit quaternions, and the spherical
harmonics of 3D Gaussian Splatting, all bases of one Gaussian after the other. What does not change over time is written once. The
scene is turned so that the stage's up axis is its own. Values are turned, not the prim, because renderers disagree whether a
prim's transform also turns spherical harmonics.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from ...errors import InputError
from ...files.atomic import temporary_beside, write_atomically
from ...finite import is_finite
from ...messages import returned
from ...scene import Cameras, Gaussians, Scene4D
from .axes import stage_turn
from .camera_prim import CameraPrim
from .library import Library, library, nameable, reason_of
from .splat_prim import SplatPrim
from .times import TimeCodes, time_codes

WRITABLE = (".usdc", ".usda", ".usdz")
ROOT = "/Scene"
CREATOR = "GS4D Studio"
# of a layer's samples: what is kept in memory before it goes to the file
BUFFER = 1 << 26
# a .usdz is a zip without Zip64
LARGEST_PACKAGE = (1 << 32) - (1 << 16)


def write_usd(
    scene: Scene4D,
    seconds: list[float],
    path: Path | str,
    cameras: Cameras | None = None,
    rate: float | None = None,
) -> Path:
    """Write a scene as one USD file, whole or not at all.

    Args:
        scene: The scene.
        seconds: Times to sample, in seconds; ascending, except with `rate`. The first is the file's time code 0.
        path: The .usdc, .usda or .usdz file; it is replaced if it exists.
        cameras: One camera for each of `seconds`, in the scene's coordinates; written as an animated `UsdGeom.Camera`.
        rate: Frames per second of frames that follow each other at this rate, whatever times of the scene they show.

    Returns:
        The path.

    Raises:
        InputError: usd-core is missing, the scene is empty or contains NaN, or the file cannot be written.

    Example:
        write_usd(scene, scene.times.tolist(), Path("walker.usdc"))
    """
    return returned(writing_usd(scene, seconds, path, cameras, rate))


def writing_usd(
    scene: Scene4D,
    seconds: list[float],
    path: Path | str,
    cameras: Cameras | None = None,
    rate: float | None = None,
) -> Generator[int, None, Path]:
    """As `write_usd`, frame by frame. Yields after each. If it is closed before its end, nothing is written."""
    usd, path = library(), Path(path)
    if len(scene.canonical) == 0:
        raise InputError(
            "USD-003",
            f"{path.name} was not written: the scene has no Gaussians. Check the step that created it.",
        )
    times = time_codes(seconds) if rate is None else TimeCodes([float(i) for i in range(len(seconds))], rate)
    is_package = path.suffix == ".usdz"
    with write_atomically(path) as partial, temporary_beside(path) as room, nameable(room) as folder:
        room.mkdir()
        layer = folder / f"{_identifier(path.stem)}{'.usdc' if is_package else path.suffix}"
        try:
            yield from _write_layer(usd, scene, seconds, times, layer, cameras, path.name)
            if is_package:
                layer = _packed(usd, layer, path.name)
        except RuntimeError as error:
            raise InputError(
                "USD-004",
                f"{path.name} was not written: {reason_of(error)}. Check that the disk has room, then run again.",
            ) from error
        os.replace(layer, partial)
    return path


def _packed(usd: Library, layer: Path, name: str) -> Path:
    """The .usdz of a .usdc."""
    if layer.stat().st_size > LARGEST_PACKAGE:
        raise InputError(
            "USD-005",
            f"{name} was not written: a .usdz holds at most 4 GB, and these frames take {layer.stat().st_size / 1e9:.1f} GB. "
            "Export a .usdc, or fewer frames.",
        )
    package = layer.with_suffix(".usdz")
    with usd.Sdf.ZipFileWriter.CreateNew(str(package)) as archive:
        archive.AddFile(str(layer), layer.name)
    return package


def _identifier(text: str) -> str:
    """A name for a file inside of a package."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in text) or "scene"


def _write_layer(
    usd: Library,
    scene: Scene4D,
    seconds: list[float],
    times: TimeCodes,
    path: Path,
    cameras: Cameras | None,
    name: str,
) -> Generator[int, None, None]:
    """Write a .usdc or .usda. Yields after each frame."""
    turn, up = stage_turn(scene.rig)
    stage = _new_stage(usd, path, up, times)
    splat = SplatPrim(usd, stage, f"{ROOT}/Gaussians", scene, turn, _holds(scene))
    camera = (
        None if cameras is None else CameraPrim(usd, stage, f"{ROOT}/Camera", cameras, turn, scene.bounds)
    )
    pending = 0
    for i, (t, code) in enumerate(zip(seconds, times.codes, strict=True)):
        pending += splat.add(_frame(scene, t, name), code)
        if camera is not None:
            camera.add(i, code)
        # what a .usdc has saved leaves the memory
        if pending > BUFFER and path.suffix == ".usdc":
            stage.Save()
            pending = 0
        yield i + 1
    splat.finish()
    stage.Save()


def _new_stage(usd: Library, path: Path, up: str, times: TimeCodes) -> Any:
    """An empty stage with its metadata."""
    stage = usd.Usd.Stage.CreateNew(str(path))
    usd.UsdGeom.SetStageUpAxis(stage, getattr(usd.UsdGeom.Tokens, up.lower()))
    usd.UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    if len(times.codes) > 1:
        stage.SetTimeCodesPerSecond(times.rate)
        stage.SetFramesPerSecond(times.rate)
        stage.SetStartTimeCode(times.codes[0])
        stage.SetEndTimeCode(times.codes[-1])
    stage.GetRootLayer().customLayerData = {"creator": CREATOR}
    root = usd.UsdGeom.Xform.Define(stage, ROOT)
    stage.SetDefaultPrim(root.GetPrim())
    usd.Usd.ModelAPI(root).SetKind("component")
    return stage


def _frame(scene: Scene4D, seconds: float, name: str) -> Gaussians:
    """The Gaussians at a time, on the CPU. Raises InputError for NaN."""
    with torch.no_grad():
        frame = scene.at(seconds).map(lambda t: t.detach().cpu().float())
    for field, tensor in {**frame.tensors(), "scales": frame.log_scales.exp()}.items():
        if not is_finite(tensor):
            raise InputError(
                "USD-006",
                f"{name} was not written: at {seconds:.3f} s, {field} contain NaN or infinite values. Check the step that "
                "created the scene.",
            )
    return frame


@torch.no_grad()
def _holds(scene: Scene4D) -> bool:
    """Whether the scene keeps each of its frames until the next: asked between the first two that differ."""
    for a, b in pairwise(scene.times.tolist()):
        first, second = scene.at(a).tensors(), scene.at(b).tensors()
        if any(not torch.equal(first[name], second[name]) for name in first):
            between = scene.at(a + 0.6 * (b - a)).tensors()
            return all(torch.equal(first[name], between[name]) for name in first)
    return False
