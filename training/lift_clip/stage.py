"""A room with props that stand still and a clay figure that walks through it; meters, z up.

Light is painted on the surfaces, so that a point keeps its color while it moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.geometry.animated_mesh import AnimatedMesh
from engine.io.gltf import open_document, read_animated_mesh
from engine.scene import Cameras
from training.reconstruction.views import seen
from training.variation_field.toys import ellipsoid

FIGURE = Path(__file__).resolve().parents[2] / "assets" / "puppets" / "clay_dancer" / "clay_dancer.glb"
# frames per second of the clip, and of the walk that is read
FPS = 12.0
# half the room's width, its depth behind the origin, where it begins behind the camera, and its height
REACH, DEPTH, NEAR, HEIGHT = 2.4, 1.9, -4.0, 2.8
# from where to where the figure walks, in x, and at which y
WALK, LANE = (-0.75, 0.55), 0.1

Paint = Callable[[Tensor], Tensor]


class Shot(NamedTuple):
    """What one camera sees at one frame."""

    image: Tensor  # [H, W, 3] in 0..1
    depth: Tensor  # [H, W] along the viewing axis, at pixel centers
    moves: Tensor  # [H, W] bool, at pixel centers


@dataclass(frozen=True, eq=False)
class Stage:
    """Triangles whose vertices move, and the paint of each part.

    Args:
        rest: Vertices as they are painted [V, 3].
        vertices: [T, V, 3].
        faces: [F, 3].
        part: The part of each face [F]; the last part is the figure, which moves.
        paints: Colors [P, 3] from points at rest [P, 3], for every part but the last.
        colors: Color of each vertex [V, 3]; the figure's.
    """

    rest: Tensor
    vertices: Tensor
    faces: Tensor
    part: Tensor
    paints: tuple[Paint, ...]
    colors: Tensor

    def shoot(self, frame: int, cameras: Cameras, view: int, samples: int = 3) -> Shot:
        """What a camera sees, with `samples` × `samples` samples per pixel."""
        width, height = cameras.sizes[view]
        large = cameras[view].resized(((samples * width, samples * height),))
        found = seen(self, frame, large, 0)  # pyright: ignore[reportArgumentType]
        hit = found.face.reshape(-1).clamp(min=0)
        points = found.at(self.rest, self.faces).reshape(-1, 3)
        color = torch.zeros(len(hit), 3)
        for index, paint in enumerate(self.paints):
            here = self.part[hit] == index
            color[here] = paint(points[here])
        own = self.part[hit] == len(self.paints)
        color[own] = found.at(self.colors, self.faces).reshape(-1, 3)[own]
        cells = color.reshape(height, samples, width, samples, 3)
        exact = seen(self, frame, cameras, view)  # pyright: ignore[reportArgumentType]
        moves = self.part[exact.face.clamp(min=0)] == len(self.paints)
        return Shot(cells.mean((1, 3)).clamp(0, 1), exact.depth, moves)


def make_stage(frames: int) -> Stage:
    """The room, its props and the walk."""
    parts: list[tuple[Tensor, Tensor]] = []
    paints: list[Paint] = []

    def add(mesh: tuple[Tensor, Tensor], paint: Paint) -> None:
        parts.append(mesh)
        paints.append(paint)

    width, length = 2 * REACH, DEPTH - NEAR
    add(_wall((-REACH, NEAR, 0), (width, 0, 0), (0, length, 0)), _floor)
    add(_wall((-REACH, DEPTH, 0), (width, 0, 0), (0, 0, HEIGHT)), _bricks)
    for x in (-REACH, REACH):
        add(_wall((x, NEAR, 0), (0, length, 0), (0, 0, HEIGHT)), _wallpaper)
    add(_wall((-REACH, NEAR, HEIGHT), (width, 0, 0), (0, length, 0)), _plaster)
    add(_box((-1.15, 1.05, 0.0), (0.62, 0.55, 0.55), 0.35), _crate)
    add(_box((-1.1, 1.05, 0.55), (0.4, 0.36, 0.34), -0.25), _crate)
    add(_box((1.45, 1.35, 0.0), (0.8, 0.34, 1.5), 0.0), _shelf)
    add(_ball((0.78, 0.55, 0.26), 0.26), _beach_ball)
    add(_ball((-0.35, 1.35, 0.3), 0.3), _marble)
    add(_ball((1.35, -0.35, 0.17), 0.17), _stripes)
    figure = _figure()
    moved = _walking(figure, frames)
    starts = torch.tensor([0, *(len(v) for v, _ in parts)]).cumsum(0)
    rest = torch.cat([*(v for v, _ in parts), moved[0]])
    still = torch.cat([v for v, _ in parts])
    faces = [f + s for (_, f), s in zip(parts, starts[:-1], strict=True)]
    counts = [len(f) for f in faces] + [len(figure.faces)]
    colors = torch.zeros(len(rest), 3)
    colors[int(starts[-1]) :] = figure.colors
    return Stage(
        rest,
        torch.cat([still.expand(frames, -1, -1), moved], 1),
        torch.cat([*faces, figure.faces + starts[-1]]),
        torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)),
        tuple(paints),
        colors,
    )


def _figure() -> AnimatedMesh:
    reading = read_animated_mesh(open_document(FIGURE), "Walk", FPS)
    while True:
        try:
            next(reading)
        except StopIteration as done:
            return done.value


def _walking(figure: AnimatedMesh, frames: int) -> Tensor:
    """The figure's vertices [T, V, 3] on its way across the room, turned to where it goes and a little to the camera."""
    cycle = len(figure.frames) - 1
    t = torch.arange(frames)
    # y up and facing z, to z up and facing −y
    walk = figure.frames[t % cycle][..., [0, 2, 1]] * torch.tensor([1.0, -1, 1])
    angle = math.radians(62)
    turn = torch.tensor(
        [
            [math.cos(angle), -math.sin(angle), 0],
            [math.sin(angle), math.cos(angle), 0],
            [0, 0, 1],
        ]
    )
    share = t / max(frames - 1, 1)
    way = torch.stack([WALK[0] + (WALK[1] - WALK[0]) * share, LANE - 0.25 * share, 0 * share], 1)
    walk = walk @ turn.T
    lowest = walk[..., 2].amin()
    return walk + way[:, None] - torch.tensor([0.0, 0, 1]) * lowest


# -- shapes -----------------------------------------------------------------------------------------------------------


def _wall(corner: tuple[float, ...], u: tuple[float, ...], v: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """A rectangle in cells: a triangle that reaches behind a camera is not drawn."""
    count = 24
    s, t = torch.meshgrid(torch.linspace(0, 1, count), torch.linspace(0, 1, count), indexing="ij")
    points = torch.tensor(corner) + s[..., None] * torch.tensor(u) + t[..., None] * torch.tensor(v)
    i, j = torch.meshgrid(torch.arange(count - 1), torch.arange(count - 1), indexing="ij")
    a = (i * count + j).reshape(-1)
    faces = torch.cat(
        [torch.stack([a, a + count, a + 1], -1), torch.stack([a + 1, a + count, a + count + 1], -1)]
    )
    return points.reshape(-1, 3).float(), faces


def _box(at: tuple[float, ...], size: tuple[float, ...], angle: float) -> tuple[Tensor, Tensor]:
    """A box that stands at a point, turned about its vertical axis."""
    corners = torch.tensor([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])
    faces = torch.tensor(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [1, 5, 7], [1, 7, 3]]
    )  # fmt: skip
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return corners * torch.tensor(size) @ turn.T + torch.tensor(at), faces


def _ball(at: tuple[float, ...], radius: float) -> tuple[Tensor, Tensor]:
    vertices, faces = ellipsoid(torch.full((3,), radius), rows=33, columns=48)
    return vertices + torch.tensor(at), faces


# -- paints -----------------------------------------------------------------------------------------------------------


def _hash(cells: Tensor) -> Tensor:
    """Numbers in 0..1 from whole numbers [..., K]."""
    factors = torch.tensor([127.1, 311.7, 74.7])[: cells.shape[-1]].double()
    return ((cells.double() * factors).sum(-1).sin() * 43758.5453).frac().abs().float()


def _noise(points: Tensor, size: float) -> Tensor:
    """Smooth noise in 0..1 with grains of a size [P], in three dimensions."""
    at = points / size
    low = at.floor()
    share = at - low
    share = share * share * (3 - 2 * share)
    total = torch.zeros(len(points))
    for corner in range(8):
        offset = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1]).float()
        weight = torch.where(offset > 0, share, 1 - share).prod(-1)
        total = total + weight * _hash(low + offset)
    return total


def _grain(points: Tensor, size: float) -> Tensor:
    """Noise of three octaves in −1..1."""
    octaves = torch.stack([_noise(points, size / 2**i) * 0.5 ** (i + 1) for i in range(3)])
    return 2 * octaves.sum(0) / 0.875 - 1


def _edges(x: Tensor, width: float) -> Tensor:
    """1 near whole numbers, falling to 0 within a width."""
    return (1 - (x - x.round()).abs() / width).clamp(0, 1)


def _mixed(a: tuple[float, ...], b: tuple[float, ...], share: Tensor) -> Tensor:
    return torch.lerp(torch.tensor(a), torch.tensor(b), share[:, None].clamp(0, 1))


def _blobs(x: Tensor, y: Tensor) -> Tensor:
    """Shade of the props on the floor."""
    shade = torch.ones_like(x)
    for at, radius in (
        ((-1.15, 1.05), 0.55),
        ((1.45, 1.35), 0.6),
        ((0.78, 0.55), 0.33),
        ((-0.35, 1.35), 0.38),
        ((1.35, -0.35), 0.23),
    ):
        apart = ((x - at[0]).square() + (y - at[1]).square()).sqrt() / radius
        shade = shade * (1 - 0.5 * (1.35 - apart).clamp(0, 1))
    return shade


def _floor(p: Tensor) -> Tensor:
    """Planks along y, and a rug."""
    x, y, _ = p.unbind(-1)
    plank = (x / 0.21).floor()
    along = y / 1.3 + _hash(plank[:, None])
    tone = _hash(torch.stack([plank, along.floor()], -1))
    grain = _grain(p * torch.tensor([9.0, 0.9, 1.0]), 0.35)
    wood = _mixed((0.52, 0.34, 0.2), (0.74, 0.54, 0.35), 0.25 + 0.5 * tone + 0.3 * grain)
    seam = torch.maximum(_edges(x / 0.21, 0.05), _edges(along, 0.012))
    color = wood * (1 - 0.6 * seam[:, None])
    u, v = (x + 0.1) / 1.15, (y - 0.05) / 0.62
    ring = torch.maximum(u.abs(), v.abs())
    diamond = ((6 * u).frac().abs() - 0.5).abs() + ((4 * v).frac().abs() - 0.5).abs()
    pattern = _mixed((0.62, 0.16, 0.18), (0.9, 0.78, 0.55), (diamond > 0.5).float())
    border = (ring > 0.86).float()[:, None]
    rug = pattern * (1 - border) + torch.tensor([0.16, 0.24, 0.38]) * border
    rug = rug * (0.9 + 0.16 * _grain(p, 0.05)[:, None])
    return torch.where(ring[:, None] < 1, rug, color) * _blobs(x, y)[:, None]


def _bricks(p: Tensor) -> Tensor:
    """Bricks, and two pictures that hang on them."""
    x, _, z = p.unbind(-1)
    row = (z / 0.12).floor()
    column = x / 0.34 + 0.5 * (row % 2)
    tone = _hash(torch.stack([row, column.floor()], -1))
    grain = _grain(p, 0.07)
    brick = _mixed((0.5, 0.24, 0.18), (0.78, 0.48, 0.36), tone + 0.35 * grain)
    mortar = torch.maximum(_edges(z / 0.12, 0.11), _edges(column, 0.04))
    color = torch.lerp(brick, torch.tensor([0.76, 0.72, 0.66]), mortar[:, None])
    color = color * (0.78 + 0.22 * (z / 0.8).clamp(0, 1))[:, None]
    for at, half, pair in (
        ((-0.35, 1.75), (0.42, 0.3), ((0.1, 0.35, 0.55), (0.95, 0.75, 0.3))),
        ((0.62, 1.85), (0.26, 0.34), ((0.85, 0.35, 0.25), (0.93, 0.9, 0.8))),
    ):
        u, v = (x - at[0]) / half[0], (z - at[1]) / half[1]
        ring = torch.maximum(u.abs(), v.abs())
        hills = v + 0.3 * (3.1 * u + at[0]).sin() + 0.25 * _grain(p, 0.3)
        canvas = _mixed(*pair, (6 * hills).sigmoid())
        inside = torch.where((ring < 0.86)[:, None], canvas, torch.tensor([0.2, 0.14, 0.1]))
        color = torch.where((ring < 1)[:, None], inside, color)
    return color


def _wallpaper(p: Tensor) -> Tensor:
    _, y, z = p.unbind(-1)
    flower = ((y / 0.28).frac().abs() - 0.5).square() + ((z / 0.28).frac().abs() - 0.5).square()
    color = _mixed((0.36, 0.5, 0.46), (0.82, 0.84, 0.7), (30 * (0.1 - flower)).sigmoid())
    stripe = _edges(y / 0.14, 0.15)[:, None]
    return (color * (1 - 0.2 * stripe)) * (0.92 + 0.1 * _grain(p, 0.2)[:, None])


def _plaster(p: Tensor) -> Tensor:
    return 0.84 + 0.12 * _grain(p, 0.4)[:, None].expand(-1, 3)


def _crate(p: Tensor) -> Tensor:
    x, y, z = p.unbind(-1)
    around = (x + y) / 0.16
    board = torch.stack([(z / 0.115).floor(), around.floor() * 0], -1)
    grain = _grain(p * torch.tensor([1.0, 1.0, 7.0]), 0.25)
    wood = _mixed((0.56, 0.4, 0.2), (0.86, 0.68, 0.42), 0.3 + 0.4 * _hash(board) + 0.35 * grain)
    nails = ((around.frac().abs() - 0.5).square() + ((z / 0.115).frac() - 0.5).square()) < 0.02
    color = wood * (1 - 0.65 * _edges(z / 0.115, 0.08)[:, None])
    return torch.where(nails[:, None], 0.35 * color, color) * (0.75 + 0.25 * (z / 0.5).clamp(0, 1))[:, None]


def _shelf(p: Tensor) -> Tensor:
    """Spines of books in four rows."""
    x, y, z = p.unbind(-1)
    row = (z / 0.37).floor()
    wide = 0.055
    book = ((x + 0.6 * y) / wide + 3.7 * row).floor()
    key = torch.stack([book, row], -1)
    hue = torch.stack([_hash(key + shift) for shift in (0.0, 11.0, 23.0)], -1)
    color = 0.2 + 0.65 * hue
    label = _edges(z / 0.37 - 0.55 + 0.2 * _hash(key), 0.06)[:, None]
    color = torch.lerp(color, torch.tensor([0.94, 0.9, 0.78]), 0.8 * label)
    color = color * (1 - 0.5 * _edges((x + 0.6 * y) / wide + 3.7 * row, 0.12)[:, None])
    board = (_edges(z / 0.37, 0.09) > 0)[:, None]
    return torch.where(board, torch.tensor([0.33, 0.22, 0.15]) * (1 + 0.2 * _grain(p, 0.1)[:, None]), color)


def _lit(p: Tensor, at: tuple[float, ...]) -> Tensor:
    """Shade of a ball's surface points [P, 1]."""
    normal = F.normalize(p - torch.tensor(at), dim=-1)
    return 0.68 + 0.34 * (normal @ F.normalize(torch.tensor([0.4, -0.6, 0.8]), dim=0))[:, None]


def _beach_ball(p: Tensor) -> Tensor:
    at = (0.78, 0.55, 0.26)
    x, y, z = (p - torch.tensor(at)).unbind(-1)
    slice_ = torch.atan2(0.6 * y + 0.8 * z, x) / (2 * math.pi) * 6
    white = [0.95, 0.93, 0.88]
    palette = torch.tensor([[0.9, 0.3, 0.25], white, [0.2, 0.45, 0.75], white, [0.95, 0.75, 0.2], white])
    color = palette[slice_.floor().long() % 6]
    return color * (0.94 + 0.12 * _grain(p, 0.06)[:, None]) * _lit(p, at)


def _marble(p: Tensor) -> Tensor:
    veins = (9 * p[:, 0] + 7 * p[:, 2] + 3.5 * _grain(p, 0.25)).sin().abs()
    color = _mixed((0.12, 0.3, 0.3), (0.75, 0.9, 0.84), 1.3 * veins)
    return color * _lit(p, (-0.35, 1.35, 0.3))


def _stripes(p: Tensor) -> Tensor:
    band = ((p[:, 2] + 0.4 * p[:, 0]) / 0.055).floor() % 2
    color = _mixed((0.45, 0.2, 0.5), (0.95, 0.85, 0.6), band)
    return color * (0.92 + 0.16 * _grain(p, 0.05)[:, None]) * _lit(p, (1.35, -0.35, 0.17))
