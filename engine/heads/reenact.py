"""Motion for a head from another motion (reenactment) or from values by name (posing). Pure functions on parameters.

The person stays: shape and static offset are always the head's own.
"""

from __future__ import annotations

import difflib
import math
import re

import torch
from torch import Tensor

from ..errors import InputError
from ..scene.rotations import axis_angles_to_matrices, matrices_to_axis_angles
from .model import HeadModel
from .motion import HeadMotion

FACE = ("expr", "jaw_pose", "eyes_pose")
PLACE = ("rotation", "neck_pose", "translation")
# what of the driver is taken; the rest stays as in the head's own neutral frame
DRIVEN = {
    "everything": (*FACE, *PLACE),
    "face": FACE,
    "expression": ("expr",),
    "jaw": ("jaw_pose",),
    "eyes": ("eyes_pose",),
    "head": PLACE,
}


def neutral_frame(motion: HeadMotion) -> int:
    """The frame with the least expression."""
    return int((motion.expr.norm(dim=1) + motion.jaw_pose.norm(dim=1)).argmin())


def drive(
    own: HeadMotion,
    driver: HeadMotion,
    driven: str = "everything",
    relative: bool = True,
    amplitude: float = 1.0,
    smoothing: float = 0.0,
) -> HeadMotion:
    """The head `own` moving as `driver` does.

    Args:
        own: Whose shape is kept; its most neutral frame is what `relative` adds to.
        driver: T frames of parameters for the same head model.
        driven: One of `DRIVEN`.
        relative: Transfer the driver's change since its own neutral frame, so that its identity does not spill over;
            False takes its values as they are.
        amplitude: Factor of the expression's and the jaw's change (with `relative`), or of their values.
        smoothing: Standard deviation in frames of a Gaussian filter over time; 0 = off.

    Raises:
        InputError: The driver's parameters are of another head model.
    """
    if driver.expr.shape[1] != own.expr.shape[1]:
        raise InputError(
            "HED-041",
            f"The driver has {driver.expr.shape[1]} expression coefficients, the head has {own.expr.shape[1]}; use "
            "parameters fitted with the same head model.",
        )
    driver = smoothed(driver, smoothing)
    base, source = (m.frames(slice(i, i + 1)) for m in (own, driver) for i in (neutral_frame(m),))
    moved: dict[str, Tensor] = {}
    for name in (*FACE, *PLACE):
        rest = getattr(base, name)
        if name not in DRIVEN[driven]:
            moved[name] = rest.expand(len(driver), -1).clone()
            continue
        value, origin = getattr(driver, name), getattr(source, name)
        factor = amplitude if name in ("expr", "jaw_pose") else 1.0
        if not relative:
            moved[name] = factor * value
        elif name in ("expr", "translation"):
            moved[name] = rest + factor * (value - origin)
        else:
            moved[name] = _turned(rest, value, origin, factor)
    return own.with_(times=driver.times.clone(), **moved)


def _turned(rest: Tensor, value: Tensor, origin: Tensor, factor: float) -> Tensor:
    """Rotation vectors [T, 3·k]: the turn from `origin` to `value`, `factor` times as far, after `rest`."""
    parts: list[Tensor] = []
    for r, v, o in zip(rest.split(3, 1), value.split(3, 1), origin.split(3, 1), strict=True):
        change = axis_angles_to_matrices(v) @ axis_angles_to_matrices(o).transpose(-1, -2)
        change = axis_angles_to_matrices(factor * matrices_to_axis_angles(change))
        parts.append(matrices_to_axis_angles(change @ axis_angles_to_matrices(r)))
    return torch.cat(parts, dim=1)


def smoothed(motion: HeadMotion, sigma: float) -> HeadMotion:
    """The parameters after a Gaussian filter over time (`sigma` in frames); the first and last frames are repeated."""
    if sigma <= 0 or len(motion) < 2:
        return motion
    radius = max(1, math.ceil(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum())[None, None]
    filtered: dict[str, Tensor] = {}
    for name in (*FACE, *PLACE):
        columns = getattr(motion, name).float().T[:, None]
        padded = torch.nn.functional.pad(columns, (radius, radius), mode="replicate")
        filtered[name] = torch.nn.functional.conv1d(padded, weights)[:, 0].T.contiguous()
    return motion.with_(**filtered)


def tracks(words: str, model: HeadModel, times: Tensor) -> dict[int, Tensor]:
    """Values over time by expression index, from lines such as `mouthSmileLeft = 0.8` or `jawOpen = 0:0, 0.5:0.7`.

    Args:
        words: One expression a line (or separated by semicolons): a number, or `seconds:value` keyframes, between which
            values are interpolated linearly. `expr 12` names the thirteenth coefficient of any model. `#` starts a
            comment.
        model: Its `expression_names` are the names; letter case does not matter.
        times: [T] seconds of the frames.

    Returns:
        Index of the coefficient → [T] values.

    Raises:
        InputError: A line without "=", an unknown name, or something that is not a number.
    """
    found: dict[int, Tensor] = {}
    for line in re.split(r"[\n;]", words):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        name, equals, values = (part.strip() for part in line.partition("="))
        if not equals:
            raise InputError(
                "HED-042", f"'{line[:60]}' is not an expression; write a line such as 'jawOpen = 0.5'."
            )
        found[_index_of(name, model)] = _track(name, values, times)
    return found


def _index_of(name: str, model: HeadModel) -> int:
    known = {n.lower(): i for i, n in enumerate(model.expression_names)}
    if name.lower() in known:
        return known[name.lower()]
    numbered = re.fullmatch(r"expr(?:ession)?\s*(\d{1,4})", name, flags=re.IGNORECASE)
    if numbered and int(numbered[1]) < model.expressions:
        return int(numbered[1])
    close = difflib.get_close_matches(name, model.expression_names, 3, 0.4) or list(
        model.expression_names[:6]
    )
    wanted = (
        f"did you mean {', '.join(close)}?" if close else f"write expr 0 to expr {model.expressions - 1}."
    )
    raise InputError("HED-043", f"{model.name} has no expression '{name[:40]}'; {wanted}")


def _track(name: str, values: str, times: Tensor) -> Tensor:
    try:
        if ":" not in values:
            keys = [(0.0, float(values))]
        else:
            pairs = [pair.split(":") for pair in values.split(",")]
            keys = sorted((float(seconds), float(value)) for seconds, value in pairs)
        if not all(math.isfinite(number) for key in keys for number in key):
            raise ValueError
    except ValueError as error:
        raise InputError(
            "HED-044",
            f"'{name[:40]} = {values[:60]}' is not a number or a list of seconds:value pairs; write 0.5, or 0:0, 0.5:0.7.",
        ) from error
    seconds, numbers = (torch.tensor(column, dtype=torch.float64) for column in zip(*keys, strict=True))
    after = torch.searchsorted(seconds, times.double()).clamp(max=len(seconds) - 1)
    before = (after - 1).clamp(min=0)
    span = (seconds[after] - seconds[before]).clamp(min=1e-9)
    weight = ((times.double() - seconds[before]) / span).clamp(0, 1)
    return torch.lerp(numbers[before], numbers[after], weight).float()


def with_tracks(motion: HeadMotion, values: dict[int, Tensor], mode: str) -> HeadMotion:
    """The motion with expression coefficients changed; `mode`: "set", "add" or "scale"."""
    expr = motion.expr.clone()
    for index, track in values.items():
        own = expr[:, index]
        expr[:, index] = track if mode == "set" else own + track if mode == "add" else own * track
    return motion.with_(expr=expr)


def turned_by(motion: HeadMotion, name: str, degrees: tuple[float, float, float]) -> HeadMotion:
    """The motion with a pose ("jaw_pose", "neck_pose", "rotation", "eyes_pose": both eyes) turned about x, y and z."""
    turn = axis_angles_to_matrices(torch.tensor(degrees) * math.pi / 180)
    own = getattr(motion, name)
    parts = [matrices_to_axis_angles(axis_angles_to_matrices(p.float()) @ turn) for p in own.split(3, 1)]
    return motion.with_(**{name: torch.cat(parts, dim=1)})


def frozen(motion: HeadMotion, what: str, frame: int) -> HeadMotion:
    """The motion with what `DRIVEN` lists under `what` held as it is at one frame."""
    held = {n: getattr(motion, n)[frame : frame + 1].expand(len(motion), -1).clone() for n in DRIVEN[what]}
    return motion.with_(**held)
