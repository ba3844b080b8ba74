"""Masks of what moves: each image against what the camera sees when nobody is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

# its types cannot tell a label array from a count, and its parts are loaded when they are used
untyped: Any = scipy
Images = NDArray[np.uint8]


def empty_scene(
    samples: Images,  # [S, H, W, 3] images spread over the video
    plate: Images | None = None,  # [H, W, 4] the scene at another time, transparent where somebody stands
    closeness: float = 0.045,  # of full scale: samples of one surface differ by less
) -> Images:
    """The scene without its moving subject [H, W, 3].

    Each pixel takes the value that most samples agree on: what is static agrees with itself, what passes does not.
    Where a subject stays over a pixel for long that is the subject; there a plate helps: wherever a tenth of the
    samples confirm the plate, their mean is taken, and where fewer than four of five samples agree on anything, the
    plate itself. Its light may have changed a little; where it is transparent it says nothing.
    """
    scene = np.empty_like(samples[0])
    height, width = scene.shape[:2]
    # bounds memory for any image size
    rows = max(1, 4_000_000 // (len(samples) * width * 3))
    for top in range(0, height, rows):
        part = slice(top, min(height, top + rows))
        values = samples[:, part].astype(np.int16)
        agree = np.stack([(_gap(values, v) < 255 * closeness).sum(axis=0) for v in values])  # [S, rows, W]
        chosen = np.take_along_axis(values, agree.argmax(axis=0)[None, ..., None], axis=0)[0]
        near = _gap(values, chosen) < 255 * closeness
        unsure = np.zeros(near.shape[1:], dtype=bool)
        if plate is not None:
            known = plate[part, :, 3] > 250
            confirms = _gap(values, plate[part, :, :3].astype(np.int16)) < 255 * closeness
            confirmed = known & (confirms.mean(axis=0) >= 0.1)
            unsure = known & ~confirmed & (near.mean(axis=0) < 0.8)
            near = np.where(confirmed, confirms, near)
        weight = near[..., None].astype(np.float32)
        mean = ((values * weight).sum(axis=0) / weight.sum(axis=0)).round().astype(np.uint8)
        scene[part] = mean if plate is None else np.where(unsure[..., None], plate[part, :, :3], mean)
    return scene


def subject_mask(
    image: Images,  # [H, W, 3]
    scene: Images,  # [H, W, 3] from `empty_scene`
    threshold: float = 0.1,
) -> Images:
    """Where the image differs from the empty scene by `threshold` of full scale: [H, W] uint8, 255 = subject.

    Specks are opened away, holes closed and filled, and only pieces of at least a third of the largest are kept.
    """
    # A weak difference counts where it touches a strong one (hysteresis, Canny 1986): limbs stay whole, noise does not.
    difference = _difference(image, scene)
    strong = untyped.ndimage.binary_opening(difference > threshold)
    mask = untyped.ndimage.binary_propagation(strong, mask=difference > 0.55 * threshold)
    radius = _radius(image, 0.006)
    mask = untyped.ndimage.binary_closing(np.pad(mask, radius), iterations=radius)[
        radius:-radius, radius:-radius
    ]
    mask = untyped.ndimage.binary_opening(_without_pinholes(mask, radius), iterations=max(1, radius // 2))
    labels, count = untyped.ndimage.label(mask)
    if count == 0:
        return np.zeros(mask.shape, dtype=np.uint8)
    areas = np.bincount(labels.ravel())[1:]
    return np.where(np.isin(labels, 1 + np.flatnonzero(areas >= areas.max() / 3)), 255, 0).astype(np.uint8)


def _without_pinholes(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Small holes filled; what lies between an arm and the body is larger and stays open."""
    labels, count = untyped.ndimage.label(~mask)
    if count == 0:
        return mask
    areas = np.bincount(labels.ravel())
    return mask | ((areas < (4 * radius) ** 2)[labels] & ~mask)


def _difference(image: Images, scene: Images) -> NDArray[Any]:
    """Largest difference over the channels [H, W] in 0..1, after a blur of about a pixel that takes codec noise off."""
    smooth = untyped.ndimage.gaussian_filter(
        image.astype(np.float32) - scene.astype(np.float32), (0.8, 0.8, 0)
    )
    return np.abs(smooth).max(axis=-1) / 255.0


def _gap(values: NDArray[np.int16], other: NDArray[np.int16]) -> NDArray[np.int16]:
    return np.abs(values - other).max(axis=-1)


def _radius(image: Images, share: float) -> int:
    return max(1, round(share * image.shape[0]))
