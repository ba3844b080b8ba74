"""Data between the CPU kernels, by name. numba compiles a NamedTuple to a plain struct.

B cameras, N Gaussians. K channels are kept in registers at once; C' is the channel count as the kernels see it, a multiple
of K. A *slot* is one Gaussian on one tile that its rectangle touches; there are S of them, in the order of the Gaussians, not of
their depths: all passes but the one that writes the tiles' lists read memory in order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Splats(NamedTuple):
    """Activated Gaussians."""

    means: np.ndarray  # [N, 3]
    quats: np.ndarray  # [N, 4] wxyz, any length
    scales: np.ndarray  # [N, 3]
    opacities: np.ndarray  # [N]


class Views(NamedTuple):
    """Cameras of one image size."""

    cameras: np.ndarray  # [B, 16] float64: rotation (row by row), translation, fx, fy, cx, cy
    width: int
    height: int


class Settings(NamedTuple):
    """`RasterSettings`, always with these types, because other types would be compiled separately."""

    near: float
    far: float
    eps2d: float
    max_alpha: float
    antialiased: bool


class Ellipses(NamedTuple):
    """Gaussians projected on the images."""

    geometry: np.ndarray  # [B·N, 6], see groups.GEOMETRY
    means2d: np.ndarray  # [B·N, 2] pixels, as in `geometry`
    depths: np.ndarray  # [B·N]
    radii: np.ndarray  # [B·N] int32 pixels, 0 = not visible
    tiles: np.ndarray  # [B·N, 4] int32: x0, y0, x1, y1 of the tiles that its rectangle touches


class DepthOrder(NamedTuple):
    """The Gaussians that touch a tile, camera by camera, from front to back."""

    ids: np.ndarray  # [B, N] int32, of which the first counts[b] are set
    counts: np.ndarray  # [B] int64


class TileLists(NamedTuple):
    """Each tile's Gaussians from front to back."""

    ends: np.ndarray  # [B·tiles] int64: end of the tile's entries
    entries: np.ndarray  # [E] int32: camera · N + Gaussian
    slots: np.ndarray  # [E] int64: slot of each entry
    masks: np.ndarray  # [S] uint16: the 4×4 blocks of the tile that the slot's Gaussian reaches
    tiles: np.ndarray  # [S] int32: the slot's tile, as camera · tiles + tile


class Features(NamedTuple):
    """Features to composite."""

    rows: np.ndarray  # [N or B·N, C']
    per_camera: bool  # whether each camera has its own


class Canvas(NamedTuple):
    """The images."""

    image: np.ndarray  # [B, H, W, C']
    transmittance: np.ndarray  # [B, H, W]


class Upstream(NamedTuple):
    """Gradients of the loss that come in."""

    image: np.ndarray  # [B, H, W, C']
    alpha: np.ndarray  # [B, H, W]


class Slots(NamedTuple):
    """Gradients of each slot, and the position of a Gaussian's slots."""

    starts: np.ndarray  # [B·N + 1] int64: first slot of each Gaussian; it has none where it is not drawn
    # [S, 6 + C']: moments 1, x, y, x², xy, y² of dL/d(log alpha), then, where wanted, dL/d features; in memory, WIDTH more
    # numbers follow, which may be read
    values: np.ndarray


class Wanted(NamedTuple):
    """Which gradients the caller asked for."""

    shape: bool  # of means, quats, scales or opacities
    features: bool


class Gradients(NamedTuple):
    """Gradients of the loss that go out."""

    means2d: np.ndarray  # [B·N, 2]
    means: np.ndarray  # [N, 3]
    quats: np.ndarray  # [N, 4]
    scales: np.ndarray  # [N, 3]
    opacities: np.ndarray  # [N]
    features: np.ndarray  # [N or B·N, C']
