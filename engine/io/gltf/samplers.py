"""Animation samplers of glTF: keyframes to values at any time.

Source: Khronos Group, glTF 2.0 specification, appendix C: STEP, LINEAR (slerp for rotations) and CUBICSPLINE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .accessors import read_accessor
from .document import Document

Array = NDArray[Any]

MODES = ("STEP", "LINEAR", "CUBICSPLINE")
# below this sine, slerp divides by next to nothing and interpolates linearly
NEARLY_PARALLEL = 1e-6


@dataclass(frozen=True, eq=False)
class Sampler:
    """Keyframes of one animated value.

    Args:
        times: [K] seconds, ascending.
        values: [K, C]; for CUBICSPLINE [K, 3, C]: incoming tangent, value, outgoing tangent.
        mode: One of MODES.
        is_rotation: The values are quaternions xyzw.
    """

    times: Array
    values: Array
    mode: str
    is_rotation: bool

    def at(self, seconds: Array) -> Array:
        """[T, C] at times [T]; before the first and after the last keyframe, that one."""
        last = len(self.times) - 1
        first = np.clip(np.searchsorted(self.times, seconds, side="right") - 1, 0, last)
        second = np.minimum(first + 1, last)
        span = self.times[second] - self.times[first]
        weight = np.where(span > 0, (seconds - self.times[first]) / np.where(span > 0, span, 1.0), 0.0)
        weight = np.clip(weight, 0.0, 1.0)[:, None]
        if self.mode == "CUBICSPLINE":
            return self._cubic(first, second, span[:, None], weight)
        a, b = self.values[first], self.values[second]
        if self.mode == "STEP":
            return a
        return slerp(a, b, weight) if self.is_rotation else a + weight * (b - a)

    def _cubic(self, first: Array, second: Array, span: Array, t: Array) -> Array:
        start, leaving = self.values[first, 1], self.values[first, 2]
        end, arriving = self.values[second, 1], self.values[second, 0]
        t2, t3 = t * t, t * t * t
        found = (
            (2 * t3 - 3 * t2 + 1) * start
            + span * (t3 - 2 * t2 + t) * leaving
            + (3 * t2 - 2 * t3) * end
            + span * (t3 - t2) * arriving
        )
        return unit(found) if self.is_rotation else found


def slerp(a: Array, b: Array, weight: Array) -> Array:
    """From unit quaternions `a` to `b` [T, 4] on the shorter way; `weight` [T, 1] in 0..1."""
    cosine = (a * b).sum(-1, keepdims=True)
    b, cosine = np.where(cosine < 0, -b, b), np.abs(cosine).clip(max=1.0)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    is_near = sine < NEARLY_PARALLEL
    safe = np.where(is_near, 1.0, sine)
    from_a = np.where(is_near, 1 - weight, np.sin((1 - weight) * angle) / safe)
    from_b = np.where(is_near, weight, np.sin(weight * angle) / safe)
    return unit(from_a * a + from_b * b)


def unit(quats: Array) -> Array:
    """Quaternions xyzw [..., 4] of length 1; the identity for those of length 0."""
    length = np.linalg.norm(quats, axis=-1, keepdims=True)
    return np.where(length > 1e-12, quats / np.maximum(length, 1e-12), np.array([0.0, 0.0, 0.0, 1.0]))


def read_sampler(document: Document, entry: dict[str, Any], path: str, channels: int, where: str) -> Sampler:
    """A sampler of an animation.

    Args:
        document: The file.
        entry: The sampler's object.
        path: What it drives: "translation", "rotation", "scale" or "weights".
        channels: Numbers per keyframe.
        where: For messages.

    Raises:
        InputError: Times do not ascend, values do not match them, or the interpolation is unknown.
    """
    mode = entry.get("interpolation", "LINEAR")
    if mode not in MODES:
        raise InputError(
            "GLT-025",
            f"{document.name}: {where} has the unknown interpolation {str(mode)[:30]}. Export the file again.",
        )
    times = read_accessor(document, entry.get("input"), f"the times of {where}", ("SCALAR",)).astype(
        np.float64
    )
    kinds = {"translation": ("VEC3",), "scale": ("VEC3",), "rotation": ("VEC4",)}.get(path, ("SCALAR",))
    values = read_accessor(document, entry.get("output"), f"the values of {where}", kinds).astype(np.float64)
    rows = 3 if mode == "CUBICSPLINE" else 1
    if not len(times) or (np.diff(times) < 0).any() or values.size != len(times) * rows * channels:
        raise InputError(
            "GLT-026",
            f"{document.name}: {where} has {len(times)} times and {values.size} numbers, or its times do not ascend. Export the "
            "file again.",
        )
    values = values.reshape(len(times), rows, channels) if rows == 3 else values.reshape(len(times), channels)
    is_rotation = path == "rotation"
    if is_rotation and rows == 1:
        values = unit(values)
    return Sampler(times, values, mode, is_rotation)
