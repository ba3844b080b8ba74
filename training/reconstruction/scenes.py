"""Moving scenes made in code: a room, props, and things that move in it; z is up, lights do not move.

Shading is painted on the surfaces at rest, so that a point keeps its color while it moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.scene import rotations
from training.variation_field.motion import random_motion
from training.variation_field.rig import posed
from training.variation_field.toys import bending, ellipsoid, limbed

# waves of a texture, and numbers of one
WAVES = 5
# of the walls' two colors, against those of things
WALL_CONTRAST = 0.35


@dataclass(frozen=True)
class SceneShape:
    """What scenes are like.

    Args:
        frames: T.
        props: Most things that stand still.
        movers: Most things that move; 0: a static scene.
        speed: Factor of all motion.
    """

    frames: int = 9
    props: int = 4
    movers: int = 2
    speed: float = 1.0


@dataclass(frozen=True, eq=False)
class MadeScene:
    """Triangles whose vertices move, and their textures.

    Args:
        rest: Vertices at rest, where textures are painted [V, 3].
        vertices: [T, V, 3] in world units.
        faces: [F, 3].
        part: The part of each face [F].
        shade: Brightness of each face [F].
        colors: Two colors of each part [P, 2, 3].
        waves: Wave vectors [P, WAVES, 3] and phases [P, WAVES] of each part's texture.
        phases: See `waves`.
        edges: How sharp each texture is [P].
        moves: Whether a part moves [P].
        center: What cameras look at [3].
        reach: Half the room's width.
    """

    rest: Tensor
    vertices: Tensor
    faces: Tensor
    part: Tensor
    shade: Tensor
    colors: Tensor
    waves: Tensor
    phases: Tensor
    edges: Tensor
    moves: Tensor
    center: Tensor
    reach: float

    def color(self, points: Tensor, face: Tensor) -> Tensor:
        """Colors [P, 3] of surface points at rest [P, 3] on faces [P]."""
        part = self.part[face]
        phases = (self.waves[part] * points[:, None]).sum(-1) + self.phases[part]
        # three slow waves decide between the two colors, the others are grain
        slow = phases[:, :3].sin().sum(-1)
        mix = 0.5 + 0.5 * (self.edges[part] * slow).tanh()
        colors = self.colors[part]
        # as strong as the colors differ
        grain = 0.08 * phases[:, 3:].sin().sum(-1) * (colors[:, 1] - colors[:, 0]).abs().mean(-1)
        flat = torch.lerp(colors[:, 0], colors[:, 1], mix[:, None])
        return ((flat + grain[:, None]) * self.shade[face][:, None]).clamp(0, 1)


class _Builder:
    def __init__(self, frames: int, generator: torch.Generator) -> None:
        self.frames, self.generator = frames, generator
        self.rest: list[Tensor] = []
        self.moved: list[Tensor] = []
        self.faces: list[Tensor] = []
        self.parts: list[Tensor] = []
        self.moves: list[bool] = []
        self.sizes: list[float] = []
        self.contrasts: list[float] = []
        self.count = 0
        # walls have similar quiet colors, so that a view sees little that the path does not explain
        self.tone = 0.3 + 0.5 * self.rand(3)

    def rand(self, *size: int) -> Tensor:
        return torch.rand(*size, generator=self.generator)

    def add(
        self, rest: Tensor, faces: Tensor, moved: Tensor | None, size: float, contrast: float = 1.0
    ) -> None:
        """A part: `moved` [T, V, 3], or None where it stays; `size` is that of its texture's patches."""
        self.contrasts.append(contrast)
        self.rest.append(rest)
        self.moved.append(rest.expand(self.frames, -1, -1) if moved is None else moved)
        self.faces.append(faces + self.count)
        self.parts.append(torch.full((len(faces),), len(self.moves)))
        self.moves.append(moved is not None)
        self.sizes.append(size)
        self.count += len(rest)

    def scene(self, center: Tensor, reach: float) -> MadeScene:
        rest, faces = torch.cat(self.rest), torch.cat(self.faces)
        corners = rest[faces]
        normals = F.normalize(
            torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=-1
        )
        light = F.normalize(torch.tensor([0.4, -0.7, 0.8]) + 0.4 * (self.rand(3) - 0.5), dim=0)
        count = len(self.moves)
        scale = 2 * math.pi / torch.tensor(self.sizes)[:, None, None]
        speeds = torch.tensor([0.5, 0.7, 1.0, 1.8, 2.3])[None, :, None] * scale
        directions = F.normalize(torch.randn(count, WAVES, 3, generator=self.generator), dim=-1)
        contrast = torch.tensor(self.contrasts)[:, None]
        first = torch.where(
            contrast < 1, self.tone + 0.16 * (self.rand(count, 3) - 0.5), 0.15 + 0.75 * self.rand(count, 3)
        )
        change = (0.2 + 0.35 * self.rand(count, 3)) * (self.rand(count, 3) - 0.5).sign()
        second = (first + contrast * change).clamp(0.05, 0.98)
        return MadeScene(
            rest,
            torch.cat(self.moved, dim=1),
            faces,
            torch.cat(self.parts),
            0.72 + 0.28 * (normals @ light).abs(),
            torch.stack([first, second], dim=1),
            directions * speeds,
            2 * math.pi * self.rand(count, WAVES),
            (0.5 + 1.5 * self.rand(count)) * contrast[:, 0].sqrt(),
            torch.tensor(self.moves),
            center,
            reach,
        )


def make_scene(seed: int, shape: SceneShape = SceneShape()) -> MadeScene:
    """The scene of a seed."""
    generator = torch.Generator().manual_seed(seed)
    b = _Builder(shape.frames, generator)
    reach, depth, height = (
        float(x) for x in torch.tensor([1.6, 0.75, 2.0]) + torch.tensor([0.6, 0.5, 0.8]) * b.rand(3)
    )
    floor = -0.55
    _room(b, reach, depth, floor, floor + height)
    movers = 0
    if shape.movers:
        movers = 1 + int(torch.randint(shape.movers, (1,), generator=generator))
    # places on the floor, apart from each other
    places = _places(b, movers + 1 + int(torch.randint(shape.props, (1,), generator=generator)), reach, depth)
    for i, place in enumerate(places):
        if i < movers:
            _mover(b, place, floor, shape)
        else:
            _prop(b, place, floor)
    center = torch.tensor([0.0, 0.1, -0.12]) + 0.12 * (b.rand(3) - 0.5)
    return b.scene(center, reach)


def _room(b: _Builder, reach: float, depth: float, floor: float, ceiling: float) -> None:
    """Floor, back, sides and ceiling, cut into cells: a triangle that reaches behind a camera is not drawn."""
    near = -3.2

    def wall(corner: list[float], u: list[float], v: list[float], size: float) -> None:
        count = 14
        s, t = torch.meshgrid(torch.linspace(0, 1, count), torch.linspace(0, 1, count), indexing="ij")
        points = torch.tensor(corner) + s[..., None] * torch.tensor(u) + t[..., None] * torch.tensor(v)
        i, j = torch.meshgrid(torch.arange(count - 1), torch.arange(count - 1), indexing="ij")
        a = i * count + j
        faces = torch.cat(
            [torch.stack([a, a + count, a + 1], -1), torch.stack([a + 1, a + count, a + count + 1], -1)]
        )
        b.add(points.reshape(-1, 3), faces.reshape(-1, 3), None, size, WALL_CONTRAST)

    sizes = (0.8 + 0.9 * b.rand(5)).tolist()
    length, high = depth - near, ceiling - floor
    wall([-reach, near, floor], [2 * reach, 0, 0], [0, length, 0], sizes[0])
    wall([-reach, depth, floor], [2 * reach, 0, 0], [0, 0, high], sizes[1])
    wall([-reach, near, floor], [0, length, 0], [0, 0, high], sizes[2])
    wall([reach, near, floor], [0, length, 0], [0, 0, high], sizes[3])
    wall([-reach, near, ceiling], [2 * reach, 0, 0], [0, length, 0], sizes[4])


def _places(b: _Builder, count: int, reach: float, depth: float) -> list[Tensor]:
    """Points (x, y) on the floor, the first ones in the middle."""
    found: list[Tensor] = []
    for i in range(count):
        spread = torch.tensor([0.35, 0.3]) if i < 2 else torch.tensor([0.75 * reach, 0.6 * depth])
        some = (2 * b.rand(8, 2) - 1) * spread + torch.tensor([0.0, 0.05 if i < 2 else 0.3])
        if found:
            apart = torch.cdist(some, torch.stack(found)).amin(1)
            found.append(some[apart.argmax()])
        else:
            found.append(some[0])
    return found


def _solid(b: _Builder) -> tuple[Tensor, Tensor, Tensor]:
    radii = torch.tensor([0.12, 0.12, 0.14]) + 0.16 * b.rand(3)
    power = 1.0 if float(b.rand(1)) < 0.4 else float(0.2 + 0.3 * b.rand(1))
    vertices, faces = ellipsoid(radii, power)
    return vertices, faces, radii


def _upright(angle: Tensor) -> Tensor:
    return rotations.axis_angles_to_matrices(torch.stack([0 * angle, 0 * angle, angle], dim=-1))


def _prop(b: _Builder, place: Tensor, floor: float) -> None:
    vertices, faces, radii = _solid(b)
    vertices = vertices @ _upright(2 * math.pi * b.rand(1)[0]).T
    at = torch.cat([place, (floor + radii[2] * (1 + 1.5 * b.rand(1) * (b.rand(1) < 0.3)))])
    b.add(vertices + at, faces, None, 0.35 + 0.35 * float(b.rand(1)))


def _mover(b: _Builder, place: Tensor, floor: float, shape: SceneShape) -> None:
    """A toy that moves its limbs or bends, or a prop that turns; all wander."""
    t = torch.linspace(0, 1, shape.frames)
    kind = float(b.rand(1))
    if kind < 0.3:
        rest, faces, radii = _solid(b)
        rest, low = 1.15 * rest, float(1.15 * radii[2])
        axis = F.normalize(torch.randn(3, generator=b.generator) * torch.tensor([0.3, 0.3, 1.0]), dim=0)
        angle = (1.6 * b.rand(1) - 0.8) * shape.speed * t
        local = torch.einsum("tab,vb->tva", rotations.axis_angles_to_matrices(angle[:, None] * axis), rest)
    else:
        rig = (limbed if kind < 0.75 else bending)(b.generator)
        motion = random_motion(rig, shape.frames, b.generator, 0.6 * shape.speed)
        size = float(1.5 + 0.7 * b.rand(1)) if kind < 0.75 else float(1.0 + 0.3 * b.rand(1))
        turn = _upright(2 * math.pi * b.rand(1)[0])
        # bodies grow and shrink in place of their parts' own breathing
        local = size * posed(rig, motion).positions(rig.vertices, rig.weights) @ turn.T
        rest, faces = size * rig.vertices @ turn.T, rig.faces
        middle = rest.mean(0)
        rest, local = rest - middle, local - middle
        low = float(-rest[:, 2].amin())
    # a way across the view, along it, and up, with a soft start
    heading = 2 * math.pi * float(b.rand(1))
    way = (
        torch.tensor([math.cos(heading), 0.7 * math.sin(heading), 0.0])
        * (0.15 + 0.4 * b.rand(1))
        * shape.speed
    )
    along = t + 0.15 * (2 * math.pi * t).sin() * (2 * b.rand(1) - 1)
    bounce = 0.1 * b.rand(1) * (b.rand(1) < 0.5) * (2 * math.pi * t * (0.5 + b.rand(1))).sin().abs()
    at = torch.cat([place, torch.tensor([floor + low + 0.02 + 0.15 * float(b.rand(1))])])
    path = at + (along - 0.5)[:, None] * way + bounce[:, None] * torch.tensor([0.0, 0, 1])
    b.add(rest, faces, local + path[:, None], 0.35 + 0.3 * float(b.rand(1)))
