"""Real spherical harmonics up to degree 3 with the signs of 3D Gaussian Splatting (Kerbl et al. 2023)."""

import math

import torch
from torch import Tensor

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396)
C3 = (
    -0.5900435899266435,
    2.890611442640554,
    -0.4570457994644658,
    0.3731763325901154,
    -0.4570457994644658,
    1.445305721320277,
    -0.5900435899266435,
)
MAX_DEGREE = 3


def bases(degree: int) -> int:
    """How many SH bases K a degree has: (degree + 1)²."""
    return (degree + 1) ** 2


def degree_of(k: int) -> int:
    """The SH degree that has `k` bases; ValueError where none (of 0..3) has."""
    for degree in range(MAX_DEGREE + 1):
        if bases(degree) == k:
            return degree
    raise ValueError(f"{k} spherical-harmonic bases: expected 1, 4, 9 or 16 (degree 0 to 3).")


def basis(directions: Tensor, degree: int) -> Tensor:
    """Values [..., K] of the first (degree + 1)² bases in unit `directions` [..., 3] (camera center → Gaussian)."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, C0)]
    if degree >= 1:
        values += [-C1 * y, C1 * z, -C1 * x]
    if degree >= 2:
        xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
        values += [C2[0] * xy, C2[1] * yz, C2[2] * (2 * zz - xx - yy), C2[3] * xz, C2[4] * (xx - yy)]
        if degree >= 3:
            values += [
                C3[0] * y * (3 * xx - yy),
                C3[1] * xy * z,
                C3[2] * y * (4 * zz - xx - yy),
                C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
                C3[4] * x * (4 * zz - xx - yy),
                C3[5] * z * (xx - yy),
                C3[6] * x * (xx - 3 * yy),
            ]
    return torch.stack(values, dim=-1)


def evaluate(sh: Tensor, directions: Tensor, degree: int | None = None) -> Tensor:
    """SH sum [..., C] of coefficients `sh` [..., K, C] in unit `directions` [..., 3], without the 0.5 offset."""
    degree = degree_of(sh.shape[-2]) if degree is None else degree
    values = basis(directions, degree)
    return (values[..., None] * sh[..., : bases(degree), :]).sum(dim=-2)


def colors(sh: Tensor, directions: Tensor, degree: int | None = None) -> Tensor:
    """RGB [..., 3] seen from `directions` [..., 3]: max(SH sum + 0.5, 0)."""
    return (evaluate(sh, directions, degree) + 0.5).clamp(min=0)


def rgb_to_dc(rgb: Tensor) -> Tensor:
    """The DC coefficient whose flat color is `rgb` (any shape)."""
    return (rgb - 0.5) / C0


def dc_to_rgb(dc: Tensor) -> Tensor:
    """The flat color of a DC coefficient (any shape), not clamped."""
    return dc * C0 + 0.5


def spread(count: int) -> Tensor:
    """Unit directions [count, 3] in float64, evenly spread over the sphere (a Fibonacci lattice)."""
    steps = torch.arange(count, dtype=torch.float64)
    z, angle = 1 - (2 * steps + 1) / count, steps * (math.pi * (3 - 5**0.5))
    flat = (1 - z * z).sqrt()
    return torch.stack([flat * angle.cos(), flat * angle.sin(), z], dim=-1)


def turned(sh: Tensor, matrix: Tensor) -> Tensor:
    """Coefficients of the same colors after the object was turned.

    Bases of one degree turn into each other, so what each becomes is solved for from values in enough directions.

    Args:
        sh: [N, K, C] of any degree.
        matrix: Rotation [3, 3] of the object.
    """
    parts = [sh[:, :1]]
    if sh.shape[1] > 1:
        directions = spread(64)
        before = directions @ matrix.double().cpu()
        for degree in range(1, degree_of(sh.shape[1]) + 1):
            own = slice(bases(degree - 1), bases(degree))
            values, wanted = basis(directions, degree)[:, own], basis(before, degree)[:, own]
            change = torch.linalg.lstsq(values, wanted).solution.to(sh)
            parts.append(torch.einsum("ij,njc->nic", change, sh[:, own]))
    return torch.cat(parts, dim=1)
