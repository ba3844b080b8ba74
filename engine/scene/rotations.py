"""Rotations as pure functions: quaternions are wxyz, matrices act on column vectors."""

import torch
from torch import Tensor


def normalise(quats: Tensor) -> Tensor:
    """Unit quaternions [..., 4] from any non-zero ones; a zero quaternion stays zero (and free of NaN)."""
    return torch.nn.functional.normalize(quats, dim=-1, eps=1e-12)


def quats_to_matrices(quats: Tensor) -> Tensor:
    """[..., 4] wxyz (normalized here) → rotation matrices [..., 3, 3]."""
    w, x, y, z = normalise(quats).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def matrices_to_quats(matrices: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] → unit quaternions [..., 4] wxyz with w ≥ 0.

    Four candidate forms exist, each exact where its own component is large; the best-conditioned one is taken.
    """
    m = matrices
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    # four times the squared components
    squares = torch.stack([1 + trace, *(1 + 2 * m[..., i, i] - trace for i in range(3))], dim=-1)
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    candidates = torch.stack(
        [
            torch.stack([squares[..., 0], a, b, c], dim=-1),
            torch.stack([a, squares[..., 1], d, e], dim=-1),
            torch.stack([b, d, squares[..., 2], f], dim=-1),
            torch.stack([c, e, f, squares[..., 3]], dim=-1),
        ],
        dim=-2,
    )
    best = squares.argmax(dim=-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quats = normalise(candidates.gather(-2, best).squeeze(-2))
    return torch.where(quats[..., :1] < 0, -quats, quats)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of quaternions [..., 4] wxyz: rotating by `b` first, then by `a`."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def conjugate(quats: Tensor) -> Tensor:
    """The inverse rotations of unit quaternions [..., 4], wxyz."""
    return torch.cat([quats[..., :1], -quats[..., 1:]], dim=-1)


def rotate(quats: Tensor, vectors: Tensor) -> Tensor:
    """Vectors [..., 3] turned by unit quaternions [..., 4], wxyz."""
    axis, w = quats[..., 1:], quats[..., :1]
    twice = 2 * torch.linalg.cross(axis, vectors)
    return vectors + w * twice + torch.linalg.cross(axis, twice)


def slerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Shortest-arc interpolation between unit quaternions [..., 4] (weight [...] in 0..1)."""
    dot = (a * b).sum(-1, keepdim=True)
    b = torch.where(dot < 0, -b, b)
    angle = dot.abs().clamp(max=1.0).acos()
    weight = weight[..., None]
    small = angle < 1e-4
    safe = torch.where(small, torch.ones_like(angle), angle)
    from_a = torch.where(small, 1 - weight, ((1 - weight) * safe).sin() / safe.sin())
    from_b = torch.where(small, weight, (weight * safe).sin() / safe.sin())
    return normalise(from_a * a + from_b * b)


def axis_angles_to_matrices(axis_angles: Tensor) -> Tensor:
    """Rotation vectors [..., 3] (radians) → matrices [..., 3, 3]; differentiable, at zero too (Rodrigues)."""
    squared = axis_angles.square().sum(-1, keepdim=True)[..., None]
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sine = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    cosine = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / angle.square())
    x, y, z = axis_angles.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    return torch.eye(3).to(axis_angles) + sine * cross + cosine * (cross @ cross)


def matrices_to_axis_angles(matrices: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] → rotation vectors [..., 3] of at most π radians."""
    quats = matrices_to_quats(matrices)
    vector = quats[..., 1:]
    length = vector.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, quats[..., :1])
    return torch.where(length > 1e-12, vector / length.clamp(min=1e-12) * angle, 2 * vector)
