"""Lens distortion: models, their inverses, and images turned into those of a pinhole camera.

A `Distortion` maps ideal normalized image points (x/z, y/z) to where the lens puts them. Sources: OpenCV's calib3d
(radial, rational, tangential and thin-prism terms; fisheye: Kannala & Brandt 2006), COLMAP's camera models, FOV:
Devernay & Faugeras 2001, division: Fitzgibbon 2001, EUCM: Khomutenko, Garcia & Martinet 2016.

Pixels as everywhere here: (0, 0) is the outer corner of the top-left pixel. OpenCV and
Qualisys count from the first pixel's center instead: add 0.5 to their principal points before they come here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError

Array = NDArray[Any]

# How many parameters a model may have; missing ones at the end are zero.
MODELS = {
    "pinhole": 0,
    "opencv": 12,  # k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4
    "fisheye": 4,  # k1 k2 k3 k4 on the angle
    "fov": 1,  # omega
    "thin_prism_fisheye": 8,  # k1 k2 p1 p2 k3 k4 sx1 sy1
    "rad_tan_thin_prism_fisheye": 12,  # k0 … k5 p0 p1 s0 … s3
    "division": 1,  # k
    "eucm": 2,  # alpha beta
}
# pixels whose map is made at a time
STRIP = 1 << 20
# Half the widest pinhole view: beyond it a flat image has no usable pixels.
WIDEST = np.tan(np.radians(70.0))


@dataclass(frozen=True)
class Distortion:
    """A lens: `model` is one of MODELS, `params` its numbers in OpenCV's (or COLMAP's) order; missing ones are 0."""

    model: str = "pinhole"
    params: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise InputError(
                "CAP-144",
                f"The lens model '{self.model}' is not supported. Supported models are {', '.join(MODELS)}.",
            )
        if len(self.params) > MODELS[self.model]:
            raise InputError(
                "CAP-145",
                f"The lens model '{self.model}' has {MODELS[self.model]} parameters, but {len(self.params)} "
                "were given. Correct the list.",
            )
        if not np.isfinite(self.params).all():
            raise InputError(
                "CAP-146",
                f"The lens parameters {self.params} contain NaN or infinite values. Calibrate again.",
            )

    @property
    def is_identity(self) -> bool:
        """No bending at all: images can be used as they are. A fisheye with zeros still bends."""
        return self.model == "pinhole" or (self.model == "opencv" and not any(self.params))

    @property
    def all_params(self) -> tuple[float, ...]:
        """The parameters, filled with zeros to the model's number."""
        return (*self.params, *([0.0] * (MODELS[self.model] - len(self.params))))

    def distort(self, points: Array) -> Array:
        """Ideal normalized points [..., 2] → distorted normalized points [..., 2] (float64); NaN beyond what it shows."""
        x, y = np.moveaxis(np.asarray(points, dtype=np.float64), -1, 0)
        if self.model == "opencv":
            return np.stack(_brown(x, y, self.all_params), axis=-1)
        if self.model == "fov":
            radius = np.hypot(x, y)
            omega = self.all_params[0]
            factor = np.ones_like(radius)
            far = radius > 1e-9
            if abs(omega) > 1e-9:
                factor[~far] = 2 * np.tan(omega / 2) / omega
                factor[far] = np.arctan(2 * radius[far] * np.tan(omega / 2)) / (radius[far] * omega)
            return np.stack([x * factor, y * factor], axis=-1)
        if self.model == "pinhole":
            return np.stack([x, y], axis=-1)
        if self.model == "division":
            inside = 1 - 4 * self.all_params[0] * (x * x + y * y)
            factor = 2 / (1 + np.sqrt(np.where(inside >= 0, inside, np.nan)))
            return np.stack([x * factor, y * factor], axis=-1)
        if self.model == "eucm":
            alpha, beta = self.all_params
            inside = 1 + beta * (x * x + y * y)
            factor = 1 / (alpha * np.sqrt(np.where(inside >= 0, inside, np.nan)) + 1 - alpha)
            return np.stack([x * factor, y * factor], axis=-1)
        radius = np.hypot(x, y)
        factor = np.where(radius > 1e-9, np.arctan(radius) / np.maximum(radius, 1e-300), 1.0)
        # length = angle from the axis
        u, v = x * factor, y * factor
        square = u * u + v * v
        p = self.all_params
        if self.model == "fisheye":
            radial = 1 + square * (p[0] + square * (p[1] + square * (p[2] + square * p[3])))
            return np.stack([u * radial, v * radial], axis=-1)
        if self.model == "thin_prism_fisheye":
            radial = square * (p[0] + square * (p[1] + square * (p[4] + square * p[5])))
            du = u * radial + 2 * p[2] * u * v + p[3] * (square + 2 * u * u) + p[6] * square
            dv = v * radial + 2 * p[3] * u * v + p[2] * (square + 2 * v * v) + p[7] * square
            return np.stack([u + du, v + dv], axis=-1)
        radial = 1 + sum(k * square ** (i + 1) for i, k in enumerate(p[:6]))
        u, v = u * radial, v * radial
        square = u * u + v * v
        du = p[6] * (2 * u * u + square) + 2 * p[7] * u * v + square * (p[8] + square * p[9])
        dv = p[7] * (2 * v * v + square) + 2 * p[6] * u * v + square * (p[10] + square * p[11])
        return np.stack([u + du, v + dv], axis=-1)

    def undistort(self, points: Array, iterations: int = 30) -> Array:
        """Distorted normalized points [..., 2] → ideal ones [..., 2]; NaN where no ideal point was found.

        Newton's method with halved steps and a differenced Jacobian. Points outside what the lens can show (or beyond
        where its polynomial turns back) have no inverse.
        """
        shape = np.shape(points)
        target = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        if self.is_identity:
            return target.reshape(shape).copy()
        guess = self._first_guess(target)
        error = np.linalg.norm(self.distort(guess) - target, axis=-1)
        for _ in range(iterations):
            value, dx, dy = self._differences(guess)
            determinant = dx[..., 0] * dy[..., 1] - dy[..., 0] * dx[..., 1]
            determinant = np.where(np.abs(determinant) < 1e-12, 1e-12, determinant)
            residual = target - value
            step = np.stack(
                [
                    (residual[..., 0] * dy[..., 1] - dy[..., 0] * residual[..., 1]) / determinant,
                    (dx[..., 0] * residual[..., 1] - residual[..., 0] * dx[..., 1]) / determinant,
                ],
                axis=-1,
            )
            trial, trial_error = guess, error
            for _ in range(6):
                trial = guess + step
                trial_error = np.linalg.norm(self.distort(trial) - target, axis=-1)
                worse = ~(trial_error <= error)
                if not worse.any():
                    break
                step[worse] *= 0.5
            better = trial_error <= error
            guess[better], error[better] = trial[better], trial_error[better]
            if error.max(initial=0.0) < 1e-13:
                break
        guess[~((error < 1e-8) & self._keeps_orientation(guess))] = np.nan
        return guess.reshape(shape)

    def _first_guess(self, target: Array) -> Array:
        """Ideal points [N, 2] from which Newton's method finds those of `target` [N, 2]: exact for division and EUCM."""
        square = (target**2).sum(axis=1, keepdims=True)
        if self.model == "division":
            return target / np.maximum(1 + self.all_params[0] * square, 1e-3)
        if self.model == "eucm":
            alpha, beta = self.all_params
            root = np.sqrt(np.maximum(1 - (2 * alpha - 1) * beta * square, 0))
            depth = (1 - beta * alpha**2 * square) / np.maximum(alpha * root + 1 - alpha, 1e-12)
            return target / np.maximum(depth, 1e-3)
        return target.copy()

    def _keeps_orientation(self, points: Array) -> Array:
        """Whether the mapping at ideal `points` [..., 2] has a positive determinant [...]; beyond, it turns back."""
        _, dx, dy = self._differences(points)
        return dx[..., 0] * dy[..., 1] - dy[..., 0] * dx[..., 1] > 0

    def _differences(self, points: Array) -> tuple[Array, Array, Array]:
        """The mapping at `points` [..., 2] and its derivatives along x and y, each [..., 2]."""
        h = 1e-6
        value = self.distort(points)
        dx = (self.distort(points + np.array([h, 0.0])) - value) / h
        dy = (self.distort(points + np.array([0.0, h])) - value) / h
        return value, dx, dy


def _brown(x: Array, y: Array, p: tuple[float, ...]) -> tuple[Array, Array]:
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = p
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    prism_x, prism_y = r2 * (s1 + r2 * s2), r2 * (s3 + r2 * s4)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + prism_x,
        y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y) + prism_y,
    )


def pinhole_inside(K: Array, size: tuple[int, int], distortion: Distortion) -> Array:
    """The pinhole K [3, 3] whose image of `size` (width, height) lies wholly inside the distorted one, no larger.

    The edges of the distorted image are traced back to ideal points; the largest upright rectangle between them
    becomes the new image, so that no pixel is invented. Focal lengths of x and y may come out different.
    """
    width, height = size
    if distortion.is_identity:
        return np.array(K, dtype=np.float64)
    inverse = np.linalg.inv(np.asarray(K, dtype=np.float64))
    steps = np.linspace(0.0, 1.0, 65)
    left = np.stack([np.zeros_like(steps), steps * height], axis=-1)
    top = np.stack([steps * width, np.zeros_like(steps)], axis=-1)
    edges = {
        "left": left,
        "right": left + np.array([width, 0.0]),
        "top": top,
        "bottom": top + np.array([0.0, height]),
    }
    ideal = {name: distortion.undistort(_apply(inverse, edge)) for name, edge in edges.items()}

    def limit(values: Array, toward_positive: bool) -> float:
        signed = values if toward_positive else -values
        known = signed[np.isfinite(signed)]
        found = float(known.min()) if len(known) else float(WIDEST)
        return min(found, float(WIDEST)) * (1 if toward_positive else -1)

    x0, x1 = limit(ideal["left"][:, 0], False), limit(ideal["right"][:, 0], True)
    y0, y1 = limit(ideal["top"][:, 1], False), limit(ideal["bottom"][:, 1], True)
    if not (x1 - x0 > 1e-6 and y1 - y0 > 1e-6):
        raise InputError(
            "CAP-147",
            f"The lens parameters {distortion.params} of model '{distortion.model}' leave no usable "
            "image. Check the calibration.",
        )
    fx, fy = width / (x1 - x0), height / (y1 - y0)
    return np.array([[fx, 0.0, -x0 * fx], [0.0, fy, -y0 * fy], [0.0, 0.0, 1.0]])


def undistortion_map(
    K: Array,  # [3, 3] of the distorted image
    distortion: Distortion,
    new_K: Array,  # [3, 3] of the wanted pinhole image
    new_size: tuple[int, int],  # (width, height) of the wanted image
    rows: range | None = None,  # of the wanted image; None for all
) -> Array:
    """Where in the distorted image each wanted pixel's center lies: [H, W, 2] float32, x then y, corner origin."""
    width, height = new_size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.asarray(range(height) if rows is None else rows) + 0.5)
    rays = _apply(np.linalg.inv(np.asarray(new_K, dtype=np.float64)), np.stack([x, y], axis=-1))
    source = _apply(np.asarray(K, dtype=np.float64), distortion.distort(rays))
    # what the lens cannot show lies outside the image
    return np.nan_to_num(source, nan=-1e4).astype(np.float32)


def remap_by_strips(
    values: Array, map_of: Callable[[range], Array], take: Callable[[Array, Array], Array]
) -> Array:
    """As `take(values, map_of(all rows))`, with the map of some rows at a time and the part of the image that these need.

    Args:
        values: [H, W(, C)].
        map_of: Where the pixels of some rows lie, as `undistortion_map` says it.
        take: `remap` or `remap_nearest`.
    """
    height, width = values.shape[:2]
    result = np.empty_like(values)
    step = max(1, STRIP // width)
    for start in range(0, height, step):
        source = map_of(range(start, min(start + step, height)))
        low = int(np.clip(source[..., 1].min() - 2, 0, height - 1))
        high = int(np.clip(source[..., 1].max() + 2, low + 1, height))
        source[..., 1] -= low
        result[start : start + step] = take(values[low:high], source)
    return result


def remap(image: Array, source: Array) -> Array:
    """An image [H, W(, C)] uint8 read at `source` [h, w, 2] (see undistortion_map): bilinear, edges repeated."""
    flat = image[..., None] if image.ndim == 2 else image
    height, width = flat.shape[:2]
    grid = torch.as_tensor(source) * (2.0 / torch.tensor([width, height])) - 1.0
    values = torch.tensor(flat, dtype=torch.float32).permute(2, 0, 1)[None]
    taken = torch.nn.functional.grid_sample(
        values, grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    result = taken[0].permute(1, 2, 0).round_().clamp_(0, 255).to(torch.uint8).numpy()
    return result[..., 0] if image.ndim == 2 else np.ascontiguousarray(result)


def remap_nearest(values: Array, source: Array) -> Array:
    """Values [H, W] float32 read at `source` [h, w, 2] (see undistortion_map): the nearest pixel's, 0 outside."""
    height, width = values.shape
    grid = torch.as_tensor(source) * (2.0 / torch.tensor([width, height])) - 1.0
    given = torch.tensor(values, dtype=torch.float32)[None, None]
    taken = torch.nn.functional.grid_sample(given, grid[None].float(), mode="nearest", align_corners=False)
    return taken[0, 0].numpy()


def _apply(matrix: Array, points: Array) -> Array:
    homogeneous = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1) @ matrix.T
    return homogeneous[..., :2] / homogeneous[..., 2:]
