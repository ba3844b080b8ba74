"""Sample a 4D scene: the activated Gaussians at chosen times, as plain tensors for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import backends
from ..errors import InputError
from ..fields import choice, text, validate
from ..files.atomic import write_atomically
from ..files.safetensors_writer import write_tensors
from ..geometry.placement import turned
from ..geometry.upright import ORIENTATIONS, UPRIGHT
from ..scene import Scene4D
from ..scene.cameras import AT_ZERO
from ..scene.origins import origin_note
from ..scene.rigs import is_unturned, rig_up, up_in_words, upright_turn
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "parse_seconds", "parse_times", "run", "sample", "save"]

LONGEST = 1e9  # seconds


def parse_seconds(words: str) -> list[float] | None:
    """Seconds from "0,0.5,1"; None for "all". Raises InputError."""
    if words.strip() == "all":
        return None
    try:
        seconds = [float(word) for word in words.split(",")]
    except ValueError as error:
        raise InputError("STP-028", f"times is '{words}'; give seconds such as 0,0.5,1, or 'all'.") from error
    if not all(abs(s) < LONGEST for s in seconds):
        raise InputError("STP-029", f"times is '{words}'; seconds must be finite numbers.")
    return seconds


# seconds that a rounded time may lie outside
SLACK = 1e-3


@dataclass(frozen=True)
class Config:
    times: str = text(
        "all",
        "Times in seconds, such as 0,0.5,1, or 'all' for every captured frame. More frames use more memory.",
        check=parse_seconds,
    )
    orientation: str = choice(
        UPRIGHT,
        ORIENTATIONS,
        "upright turns the scene by its cameras' up direction to y down, which ComfyUI's 3D nodes expect; as stored keeps the "
        "scene's own axes.",
        since="0.3",
    )

    def __post_init__(self) -> None:
        validate(self)


class Samples(dict[str, Tensor]):
    """What `sample` gives, and what there is to say about it."""

    note: str = ""


def run(scene: Scene4D, config: Config = Config()) -> Samples:
    """What `sample` gives for the times and the orientation of the config."""
    seconds = parse_times(config.times, scene)
    turn = upright_turn(scene.rig) if config.orientation == UPRIGHT else None
    samples = Samples(sample(scene, seconds, turn))
    if turn is None and config.orientation == UPRIGHT:
        samples.note = "not turned: the scene's cameras do not agree which way is up"
    elif turn is not None and not is_unturned(turn):
        samples.note = f"turned upright: the cameras' up, {up_in_words(rig_up(scene.rig))}, is now −y"
    return samples


def parse_times(words: str, scene: Scene4D) -> list[float]:
    """Seconds from "0,0.5,1", or every captured moment from "all". Raises InputError."""
    seconds = parse_seconds(words)
    if seconds is None:
        return scene.times.tolist()
    first, last = float(scene.times[0]), float(scene.times[-1])
    outside = [t for t in seconds if not first - SLACK <= t <= last + SLACK]
    # the scene would stand still there, and nothing would tell
    if outside:
        raise InputError(
            "STP-101",
            f"times has {outside[0]:g} s, but the scene lasts from {first:g} to {last:g} s; choose times within it, or 'all'.",
        )
    return seconds


@torch.no_grad()
def sample(scene: Scene4D, seconds: list[float], turn: Tensor | None = None) -> dict[str, Tensor]:
    """The activated Gaussians of a scene at chosen times.

    Args:
        scene: The scene.
        seconds: T times in seconds.
        turn: Rotation [3, 3] to turn the Gaussians by, about zero; view-dependent colors turn with them.

    Returns:
        means [T, N, 3], scales [T, N, 3], quats [T, N, 4] wxyz, opacities [T, N], sh [T, N, K, 3], times [T] (float64).
        Where they were turned, also turn [3, 3] (float64). Where means are relative to a local origin, also that in the
        scene's own axes: origin [3] (float64).

    Raises:
        InputError: They would not fit in memory.
    """
    count, bases = scene.canonical.sh.shape[:2]
    shortage = backends.shortage(len(seconds) * count * 4 * (11 + 3 * bases))
    if shortage and scene.device.type == "cpu":
        raise InputError(
            "STP-115",
            f"{count:,} Gaussians at {len(seconds)} times need {shortage}; choose fewer times, or close other programs.",
        )
    names = ("means", "scales", "quats", "opacities", "sh")
    stacked: dict[str, Tensor] = {}
    for i, t in enumerate(seconds):
        now = scene.at(t)
        # colors and positions of what stands upright already stay bit for bit
        if turn is not None and not is_unturned(turn):
            now = turned(now, turn)
        activated = now.activated()
        for name in names:
            values: Tensor = getattr(activated, name)
            if not i:
                stacked[name] = values.new_empty(len(seconds), *values.shape)
            stacked[name][i] = values
    stacked["times"] = torch.tensor(seconds, dtype=torch.float64)
    if turn is not None:
        stacked["turn"] = turn.double()
    if scene.rig.origin != AT_ZERO:
        stacked["origin"] = torch.tensor(scene.rig.origin, dtype=torch.float64)
    return stacked


def save(scene: Scene4D, seconds: list[float], target: Path) -> Path:
    """Write `sample` as one safetensors file, whole or not at all."""
    return write(sample(scene, seconds), target)


def write(sampled: dict[str, Tensor], target: Path) -> Path:
    """Write what `sample` gave as one safetensors file, whole or not at all."""
    with write_atomically(target) as partial:
        write_tensors(partial, sampled, {})
    return target


def summary(sampled: dict[str, Tensor]) -> str:
    """How much was sampled, and how it was turned."""
    moments, count = sampled["means"].shape[:2]
    x, y, z = sampled["origin"].tolist() if "origin" in sampled else AT_ZERO
    note = sampled.note if isinstance(sampled, Samples) else ""
    where = origin_note((x, y, z), is_turned="turn" in sampled and not is_unturned(sampled["turn"]))
    return "\n".join(filter(None, (f"{moments} moments of {count} splats", note, where)))


STEP = Step(
    name="sample_scene",
    node="SceneToSplat",
    label="4D Scene to Splat",
    category="4dgs/convert",
    description="Samples frames of a scene as a batch of splats for ComfyUI's own 3D nodes (render, transform, merge; "
    "preview and save take the first one).",
    config=Config,
    run=run,
    inputs=(Input("scene", Kind.SCENE, "The scene to sample."),),
    outputs=(Output("splat", Kind.SPLAT, "One splat per time, as a batch, for ComfyUI's own splat nodes."),),
    verb="sample",
    about="Write the activated Gaussians at chosen times as tensors.",
    has_device=False,
    note=summary,
)
