"""A textured room with moving balls, cast ray by ray: exact images, depth, flow, masks and tracks from any camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from engine.scene import Cameras
from engine.scene.cameras import look_at

NOTHING = -1


class Filmed(NamedTuple):
    """What one camera sees at one time."""

    image: Tensor  # [H, W, 3] in 0..1
    depth: Tensor  # [H, W] along the viewing axis
    part: Tensor  # [H, W] long: the index of the thing
    points: Tensor  # [H, W, 3] world


@dataclass(frozen=True)
class Ball:
    """A textured ball, at rest or moving in a line, swaying and turning."""

    center: tuple[float, float, float]
    radius: float
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)  # from time 0 to time 1
    sway: float = 0.0
    turn: float = 0.0  # radians about y from time 0 to time 1

    def at(self, time: float) -> tuple[Tensor, Tensor]:
        """Rotation [3, 3] and center [3] at a time in 0..1."""
        a = self.turn * time
        turn = torch.tensor([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
        center = torch.tensor(self.center) + time * torch.tensor(self.shift)
        center[1] += self.sway * math.sin(2 * math.pi * time)
        return turn, center

    @property
    def moves(self) -> bool:
        return any(self.shift) or bool(self.sway) or bool(self.turn)


WALLS = ((1, 1.0), (2, 6.0), (0, -3.2), (0, 3.2), (1, -2.4))  # axis, position
BALLS = (
    Ball((-1.5, 0.55, 4.2), 0.45),
    Ball((1.6, 0.4, 4.6), 0.6),
    Ball((0.2, 0.75, 5.0), 0.25),
    Ball((-0.9, 0.35, 3.0), 0.42, (1.3, 0.0, 0.3), 0.0, 1.2),
    Ball((0.9, -0.5, 3.4), 0.25, (-0.3, 0.0, -0.2), 0.25, 0.0),
)
# two balls near the camera that fill about 30 % of the image
CROWDED = (
    *BALLS[:3],
    Ball((-0.55, 0.1, 2.2), 0.55, (0.5, 0.0, 0.2), 0.1, 0.8),
    Ball((0.75, -0.1, 2.4), 0.5, (-0.2, 0.2, 0.5), 0.15, -0.7),
)


@dataclass(frozen=True)
class Room:
    """A room in OpenCV axes; the camera starts near the origin and looks along z."""

    balls: tuple[Ball, ...] = BALLS
    seed: int = 0
    waves: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, compare=False)

    def film(self, camera: Cameras, time: float, rays_per_side: int = 3) -> Filmed:
        """What `camera` (one view) sees at a time in 0..1."""
        width, height = camera.sizes[0]
        side = rays_per_side
        cast = self._cast(camera, time, side)
        image = self._colors(cast, time).reshape(height, side, width, side, 3).mean((1, 3))
        middle = self._cast(camera, time, 1)
        pose = camera.world_to_camera[0].float()
        depth = middle.points @ pose[2, :3] + pose[2, 3]
        part = middle.part.reshape(height, width)
        return Filmed(image, depth.reshape(height, width), part, middle.points.reshape(height, width, 3))

    def moved(self, points: Tensor, part: Tensor, time: float, later: float) -> Tensor:
        """Where surface points [..., 3] of things `part` [...] are at another time."""
        result = points.clone()
        for i, ball in enumerate(self.balls):
            if ball.moves:
                (turn, center), (turn_later, center_later) = ball.at(time), ball.at(later)
                here = part == len(WALLS) + i
                result[here] = (points[here] - center) @ turn @ turn_later.T + center_later
        return result

    def is_moving(self, part: Tensor) -> Tensor:
        """Whether each pixel's thing moves."""
        moving = [len(WALLS) + i for i, ball in enumerate(self.balls) if ball.moves]
        return torch.isin(part, torch.tensor(moving))

    def _cast(self, camera: Cameras, time: float, side: int) -> _Cast:
        width, height = camera.sizes[0]
        K, pose = camera.K[0].float(), camera.world_to_camera[0].float()
        v, u = torch.meshgrid(
            (torch.arange(height * side) + 0.5) / side,
            (torch.arange(width * side) + 0.5) / side,
            indexing="ij",
        )
        rays = torch.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], torch.ones_like(u)], -1)
        rays = rays.reshape(-1, 3) @ pose[:3, :3]
        origin = -pose[:3, :3].T @ pose[:3, 3]
        nearest = torch.full((len(rays),), torch.inf)
        part = torch.full((len(rays),), NOTHING)
        for i, (axis, position) in enumerate(WALLS):
            along = (position - origin[axis]) / rays[:, axis]
            hit = (along > 1e-3) & (along < nearest)
            nearest, part = torch.where(hit, along, nearest), torch.where(hit, i, part)
        for i, ball in enumerate(self.balls):
            _, center = ball.at(time)
            away = origin - center
            a, b = (rays * rays).sum(1), rays @ away
            inside = b * b - a * (away @ away - ball.radius**2)
            along = (-b - inside.clamp(min=0).sqrt()) / a
            hit = (inside > 0) & (along > 1e-3) & (along < nearest)
            nearest = torch.where(hit, along, nearest)
            part = torch.where(hit, len(WALLS) + i, part)
        return _Cast(origin + rays * nearest[:, None], part)

    def _colors(self, cast: _Cast, time: float) -> Tensor:
        colors = torch.zeros(len(cast.points), 3)
        for i in range(len(WALLS) + len(self.balls)):
            here = cast.part == i
            places = cast.points[here]
            if i >= len(WALLS):
                turn, center = self.balls[i - len(WALLS)].at(time)
                places = (places - center) @ turn
            colors[here] = self._texture(i, places)
        return colors

    def _texture(self, part: int, places: Tensor) -> Tensor:
        """Waves of several lengths, and patches with hard edges."""
        if part not in self.waves:
            g = torch.Generator().manual_seed(1000 * self.seed + part)
            # walls are far away: their pattern is coarser
            lengths = torch.tensor([0.9, 0.6, 0.4, 0.3, 0.22, 0.3]) * (2.2 if part < len(WALLS) else 1.0)
            directions = torch.nn.functional.normalize(torch.randn(6, 3, generator=g), dim=1)
            self.waves[part] = (
                directions * (2 * math.pi / lengths)[:, None],
                6.3 * torch.rand(6, generator=g),
                torch.rand(8, 3, generator=g),
            )
        directions, phases, palette = self.waves[part]
        waves = (places @ directions.T + phases).sin()
        patch = (waves[:, :3] > 0).long() @ torch.tensor([1, 2, 4])
        fine = 0.5 + 0.25 * (waves[:, 3:4] + waves[:, 4:5] * waves[:, 5:6])
        return (0.65 * (0.25 + 0.6 * palette[patch]) + 0.35 * fine).clamp(0, 1)


class _Cast(NamedTuple):
    points: Tensor  # [R, 3]
    part: Tensor  # [R]


def walk(
    frames: int, size: tuple[int, int] = (160, 120), reach: float = 1.0, fov: float = 60.0, pans: bool = False
) -> Cameras:
    """A handheld camera that moves sideways and a little forward while looking into the room; `pans` only turns it."""
    poses: list[Tensor] = []
    for i in range(frames):
        t = i / max(frames - 1, 1)
        place = reach * torch.tensor(
            [1.0 * (t - 0.5), -0.15 * math.sin(3 * t), 0.35 * t + 0.05 * math.sin(7 * t)]
        )
        target = torch.tensor([0.15 * math.sin(4 * t), 0.1 * math.cos(5 * t), 4.0])
        if pans:
            place, target = torch.zeros(3), torch.tensor([1.6 * (t - 0.5), 0.2 * math.sin(4 * t), 4.0])
        poses.append(look_at(place, target, torch.tensor([0.0, -1.0, 0.0])))
    return pinholes(torch.stack(poses), size, fov)


def pinholes(poses: Tensor, size: tuple[int, int], fov: float) -> Cameras:
    """Cameras with a horizontal field of view in degrees."""
    width, height = size
    focal = width / 2 / math.tan(math.radians(fov) / 2)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    count = len(poses)
    return Cameras(poses, K.repeat(count, 1, 1), (size,) * count, tuple(f"frame{i:03}" for i in range(count)))


def beside(camera: Cameras, degrees: float, distance: float = 4.0) -> Cameras:
    """The same camera after an orbit by some degrees about the point `distance` in front of it."""
    a = math.radians(degrees)
    turn = torch.eye(4, dtype=torch.float64)
    turn[0, 0], turn[0, 2], turn[2, 0], turn[2, 2] = math.cos(a), math.sin(a), -math.sin(a), math.cos(a)
    there, back = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    there[2, 3], back[2, 3] = -distance, distance
    return Cameras(
        (back @ turn @ there @ camera.world_to_camera[0])[None], camera.K, camera.sizes, (f"{degrees:+g}",)
    )


@dataclass(frozen=True)
class Clip:
    """A filmed clip with everything that is true of it."""

    room: Room
    cameras: Cameras
    images: Tensor  # [T, H, W, 3]
    depth: Tensor  # [T, H, W]
    part: Tensor  # [T, H, W]
    points: Tensor  # [T, H, W, 3]

    @property
    def times(self) -> list[float]:
        return torch.linspace(0, 1, len(self.images)).tolist()

    @property
    def moving(self) -> Tensor:
        """[T, H, W] bool."""
        return self.room.is_moving(self.part)

    def flow(self, first: int, second: int) -> Tensor:
        """True displacement [H, W, 2] of every pixel's surface point, in pixels, whether it stays visible or not."""
        place = self.placed(first, second)
        pixels, _ = self.cameras.project(place.reshape(-1, 3), second)
        start, _ = self.cameras.project(self.points[first].reshape(-1, 3), first)
        return (pixels - start).reshape(*self.depth.shape[1:], 2)

    def placed(self, first: int, second: int) -> Tensor:
        """Where the surface points [H, W, 3] of frame `first` are in frame `second`."""
        times = self.times
        return self.room.moved(self.points[first], self.part[first], times[first], times[second])

    def visible(self, first: int, second: int) -> Tensor:
        """Whether the surface point of each pixel of `first` is seen in `second`, [H, W] bool."""
        height, width = self.depth.shape[1:]
        pixels, depth = self.cameras.project(self.placed(first, second).reshape(-1, 3), second)
        u, v = pixels.floor().long().unbind(1)
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (depth > 0)
        found = self.depth[second][v.clamp(0, height - 1), u.clamp(0, width - 1)]
        return (inside & ((depth - found).abs() < 0.03 * depth)).reshape(height, width)


def film_clip(room: Room, cameras: Cameras, rays_per_side: int = 3) -> Clip:
    """Films a room with one camera per frame; one ray per pixel is enough where images do not matter."""
    times = torch.linspace(0, 1, len(cameras)).tolist()
    filmed = [room.film(cameras[i], time, rays_per_side) for i, time in enumerate(times)]
    stacked = [torch.stack(each) for each in zip(*filmed, strict=True)]
    return Clip(room, cameras, *stacked)


def scrambled(depth: Tensor, seed: int = 0) -> Tensor:
    """Depth maps [T, H, W] with another scale and shift in every frame, as relative-depth networks give them."""
    g = torch.Generator().manual_seed(seed)
    scale = (1.4 * torch.rand(len(depth), generator=g) - 0.7).exp()
    shift = 0.6 * torch.rand(len(depth), generator=g) - 0.3
    return (depth + shift[:, None, None]) * scale[:, None, None]
