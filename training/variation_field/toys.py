"""Procedural rigs: toys of boxes and ellipsoids on joints, and things that bend and breathe."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .rig import Rig


def _basis(z: Tensor) -> Tensor:
    """A rotation [3, 3] whose third column is the unit vector `z`."""
    other = torch.tensor([1.0, 0, 0]) if abs(float(z[0])) < 0.8 else torch.tensor([0.0, 1, 0])
    x = F.normalize(torch.linalg.cross(other, z), dim=0)
    return torch.stack([x, torch.linalg.cross(z, x), z], dim=1)


def _grid(rows: int, columns: int) -> Tensor:
    """Faces of a closed tube of `rows` rings of `columns` vertices."""
    i, j = torch.meshgrid(torch.arange(rows - 1), torch.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return torch.cat([torch.stack([a, b, d], -1), torch.stack([a, d, c], -1)]).reshape(-1, 3)


def ellipsoid(radii: Tensor, power: float = 1.0, rows: int = 11, columns: int = 16) -> tuple[Tensor, Tensor]:
    """Vertices and faces of a superellipsoid: power 1 is an ellipsoid, small powers come near a box."""
    theta = torch.linspace(-math.pi / 2, math.pi / 2, rows)[:, None]
    phi = (torch.arange(columns) * (2 * math.pi / columns) + 0.2)[None]

    def bent(x: Tensor) -> Tensor:
        return x.sign() * x.abs().clamp(min=1e-6) ** power

    x = bent(theta.cos()) * bent(phi.cos())
    y = bent(theta.cos()) * bent(phi.sin())
    z = bent(theta.sin()).expand_as(x)
    return torch.stack([x, y, z], -1).reshape(-1, 3) * radii, _grid(rows, columns)


class _Parts:
    """Meshes that are put together, each on one joint."""

    def __init__(self) -> None:
        self.vertices: list[Tensor] = []
        self.faces: list[Tensor] = []
        self.owners: list[Tensor] = []

    def add(self, mesh: tuple[Tensor, Tensor], turn: Tensor, center: Tensor, joint: int) -> None:
        start = sum(len(v) for v in self.vertices)
        self.vertices.append(mesh[0] @ turn.T + center)
        self.faces.append(mesh[1] + start)
        self.owners.append(torch.full((len(mesh[0]),), joint))

    def rig(self, joints: list[Tensor], parents: list[int], amplitudes: Tensor, phases: Tensor) -> Rig:
        weights = F.one_hot(torch.cat(self.owners), len(joints)).float()
        return Rig(
            torch.cat(self.vertices),
            torch.cat(self.faces),
            weights,
            torch.stack(joints),
            tuple(parents),
            amplitudes,
            phases,
            breathes=tuple(range(len(joints))),
        )


def limbed(generator: torch.Generator) -> Rig:
    """A body with two to six limbs of one or two segments."""

    def rand(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    def shape() -> float:
        return float(0.25 + 0.75 * rand(1)) if float(rand(1)) < 0.5 else 1.0

    parts = _Parts()
    body = torch.tensor([0.11, 0.11, 0.15]) * (0.7 + 0.8 * rand(3))
    parts.add(ellipsoid(body, shape()), torch.eye(3), torch.zeros(3), 0)
    joints, parents, phases = [torch.zeros(3)], [-1], [0.0]
    directions: list[Tensor] = []
    for i in range(int(torch.randint(2, 7, (1,), generator=generator))):
        # the most distant of a few directions, so that limbs do not grow into each other
        some = F.normalize(torch.randn(6, 3, generator=generator), dim=-1)
        if directions:
            some = some[(some @ torch.stack(directions).T).amax(1).argmin()]
        else:
            some = some[0]
        directions.append(some)
        root, turn, parent = some * body * 0.9, _basis(some), 0
        thick = 0.03 + 0.04 * rand(1)
        for _ in range(1 + int(rand(1) < 0.5)):
            length = 0.08 + 0.1 * rand(1)
            radii = torch.cat([thick, thick * (0.6 + 0.4 * rand(1)), length])
            parts.add(ellipsoid(radii, shape()), turn, root + some * length * 0.9, len(joints))
            joints.append(root)
            parents.append(parent)
            phases.append(0.5 * (i % 2))
            parent, root = len(joints) - 1, root + some * length * 1.75
            thick = thick * 0.85
    amplitudes = (0.35 + 0.65 * rand(len(joints), 1)).expand(-1, 3).clone()
    amplitudes[0] *= torch.tensor([0.4, 0.4, 0.7])
    return parts.rig(joints, parents, amplitudes, torch.tensor(phases))


def bending(generator: torch.Generator) -> Rig:
    """A tube that bends along its length, sometimes thick as a bulb and sometimes thin as a snake."""

    def rand(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    count = int(torch.randint(3, 7, (1,), generator=generator))
    rows, columns = 40, 16
    along = torch.linspace(0, 1, rows)
    length, thick = 0.45 + 0.35 * rand(1), 0.05 + 0.1 * rand(1)
    cap = torch.sqrt((1 - (2 * along - 1).abs() ** 6).clamp(min=0.0))
    wave = 1 + 0.35 * torch.sin(2 * math.pi * (rand(1) * 2 * along + rand(1)))
    radius = (thick * cap * wave).clamp(min=1e-3)
    angle = torch.arange(columns) * (2 * math.pi / columns)
    ring = torch.stack([angle.cos(), angle.sin() * (0.4 + 0.6 * rand(1)), torch.zeros(columns)], -1)
    vertices = radius[:, None, None] * ring + (along * length)[:, None, None] * torch.tensor([0.0, 0, 1])
    turn = (
        _basis(F.normalize(torch.randn(3, generator=generator), dim=0))
        if float(rand(1)) < 0.6
        else torch.eye(3)
    )
    # hat functions: each row hangs on the two joints around it
    place = along * (count - 1)
    weights = (1 - (place[:, None] - torch.arange(count)).abs()).clamp(min=0)
    weights = weights[:, None].expand(-1, columns, -1).reshape(-1, count)
    joints = torch.linspace(0, 1, count)[:, None] * length * torch.tensor([0.0, 0, 1])
    amplitudes = (0.25 + 0.5 * rand(1)).expand(count, 3).clone()
    return Rig(
        vertices.reshape(-1, 3) @ turn.T,
        _grid(rows, columns),
        weights,
        joints @ turn.T,
        tuple(range(-1, count - 1)),
        amplitudes,
        torch.arange(count) * 0.17,
        breathes=tuple(range(count)),
    )
