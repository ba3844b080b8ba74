"""Training clips made on the fly: a random subject of a family, its motion, its canonical Gaussians and their true deltas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.models.trellis import RawGaussians
from engine.models.variation_field import farthest_points, interpolate_displacements
from engine.scene import Gaussians, harmonics, rotations
from training.common.decoding import SampleKind
from training.common.share import WHOLE, Share

from . import figures, pictures, robot, toys
from .motion import random_motion
from .rig import Moving, Rig, SurfacePoints, posed, sample

# families that are trained on, by how often each is drawn
FAMILIES = {"limbed": 5, "bending": 2, "human": 2, "dog": 2}
# the family that is never trained on
HELD_OUT_FAMILY = "robot"
# seeds from here on are never trained on
HELD_OUT_SEED = 10_000_000


@dataclass(frozen=True)
class ClipShape:
    """Sizes of a clip: frames T, surface points N, Gaussians G, anchors L."""

    frames: int = 16
    points: int = 512
    gaussians: int = 2048
    anchors: int = 64


@dataclass(frozen=True, eq=False)
class Clip:
    """One moving subject; frame 0 is canonical.

    Args:
        canonical: [G, 14] raw values in the order means, colors, scales, rotations, opacities of `RawGaussians`.
        deltas: True deltas [T, G, 14], as the decoder of the VAE gives them.
        points: Surface points of frame 0 [N, 3].
        changes: Of the surface points [T, N, 7]: displacement, DC coefficients, opacity logit.
        anchors: Indices of the anchors among the Gaussians [L].
        moved: `changes` carried over to the anchors [T, L, 7].
        looks_change: A part glows or fades.
    """

    canonical: Tensor
    deltas: Tensor
    points: Tensor
    changes: Tensor
    anchors: Tensor
    moved: Tensor
    looks_change: bool

    @cached_property
    def raw(self) -> RawGaussians:
        return RawGaussians(*(p.squeeze(-1) for p in self.canonical.split([3, 3, 3, 4, 1], dim=-1)))

    @cached_property
    def vector(self) -> Tensor:
        """Canonical Gaussians [G, 14] as the networks take them."""
        return self.raw.vector()

    @cached_property
    def images(self) -> Tensor:
        """The video [T, S, S, 3] from the input camera, in 0..1."""
        with torch.no_grad():
            frames = [pictures.image(self.at(t), _input()) for t in range(len(self.deltas))]
        return torch.cat(frames).clamp(0, 1)

    @cached_property
    def mesh_target(self) -> Tensor:
        """Displacements [T, G, 3] of all Gaussians, interpolated from the surface points (equation 3)."""
        return interpolate_displacements(
            self.changes[..., :3].float(), self.points, self.canonical[:, :3].contiguous()
        )

    def at(self, frame: int) -> Gaussians:
        """The true Gaussians of a frame."""
        return pictures.changed(self.raw, self.deltas[frame].float())

    def to(self, device: torch.device) -> Clip:
        """The same on a device."""
        if self.canonical.device.type == device.type:
            return self
        return replace(self, **{n: getattr(self, n).to(device) for n in FIELDS if n != "looks_change"})

    def fields(self) -> dict[str, Tensor]:
        """What KIND reads."""
        return {name: torch.as_tensor(getattr(self, name)) for name in FIELDS}

    def packed(self) -> Clip:
        """The same in half precision where that is enough for training."""
        names = ("deltas", "changes", "moved")
        return replace(self, **{name: getattr(self, name).half() for name in names})


FIELDS = {
    "canonical": "G 14 float",
    "deltas": "T G 14 float",
    "points": "N 3 float",
    "changes": "T N 7 float",
    "anchors": "L int",
    "moved": "T L 7 float",
    "looks_change": "bool",
}


def _read(fields: dict[str, Tensor]) -> Clip:
    fields["anchors"] = fields["anchors"].long()
    if not 0 <= int(fields["anchors"].min()) <= int(fields["anchors"].max()) < len(fields["canonical"]):
        raise ValueError(f"anchors has indices outside 0 to {len(fields['canonical']) - 1}")
    floats = {name: fields[name].float() for name in ("canonical", "points")}
    return Clip(**{**fields, **floats, "looks_change": bool(fields["looks_change"])}).packed()


# clips of files
KIND = SampleKind("variation-field", FIELDS, _read)


@cache
def _input():
    return pictures.INPUT.cameras()


def _rigs() -> dict[str, Callable[[torch.Generator], Rig]]:
    return {
        "limbed": toys.limbed,
        "bending": toys.bending,
        "human": lambda _: figures.human(figures.folder()),
        "dog": lambda _: figures.dog(figures.folder()),
    }


def family_of(seed: int, families: dict[str, int]) -> str:
    """The family that a seed draws; the same for the same seed and families."""
    names = [name for name, share in families.items() for _ in range(share)]
    return names[seed % len(names)]


def make_clip(family: str, seed: int, shape: ClipShape = ClipShape()) -> Clip:
    """The clip of a family and a seed; the same for the same arguments.

    Args:
        family: One of FAMILIES, or HELD_OUT_FAMILY.
        seed: All randomness; from HELD_OUT_SEED on, it is never trained on.
        shape: Sizes.
    """
    salt = sum(ord(c) * 31**i for i, c in enumerate(family)) % 100_003
    generator = torch.Generator().manual_seed(seed * 100_003 + salt)
    if family == HELD_OUT_FAMILY:
        surface, gaussians_at, points_at = robot.moving(
            seed, (shape.gaussians, shape.points), shape.frames, generator
        )
    else:
        surface, gaussians_at, points_at = _rigged(_rigs()[family](generator), shape, generator)
    return _dressed(surface, gaussians_at, points_at, shape, generator)


def _rigged(rig: Rig, shape: ClipShape, generator: torch.Generator) -> tuple[SurfacePoints, Moving, Moving]:
    stretch = 1 + 0.15 * torch.randn(3, generator=generator).clamp(-1.5, 1.5)
    rig = replace(rig, vertices=rig.vertices * stretch, joints=rig.joints * stretch)
    points = sample(rig, shape.gaussians + shape.points, generator)
    strength = 0.4 + 0.6 * float(torch.rand(1, generator=generator))
    pose = posed(rig, random_motion(rig, shape.frames, generator, strength))
    upright = _facing(points.normals)
    parts: list[Moving] = []
    for some in (slice(shape.gaussians), slice(shape.gaussians, None)):
        w = points.weights[some]
        turned = pose.quats(upright[some], w) if some.stop else pose.turns.new_zeros(shape.frames, len(w), 4)
        parts.append(Moving(pose.positions(points.positions[some], w), turned, pose.growth(w), w.argmax(1)))
    return points, parts[0], parts[1]


def _facing(normals: Tensor) -> Tensor:
    """Orientations [P, 4] whose third axis is the normal."""
    other = torch.where(normals[:, :1].abs() < 0.8, torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]))
    x = F.normalize(torch.linalg.cross(other, normals), dim=-1)
    return rotations.matrices_to_quats(torch.stack([x, torch.linalg.cross(normals, x), normals], dim=-1))


def _dressed(
    surface: SurfacePoints, at: Moving, points: Moving, shape: ClipShape, generator: torch.Generator
) -> Clip:
    """Scale the subject into view, paint it, and express its motion as deltas of frame 0."""

    def rand(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    g = shape.gaussians
    low, high = at.positions[0].amin(0), at.positions[0].amax(0)
    center = (low + high) / 2
    # as large as wanted at the start, and inside the view at all times
    reach = (at.positions - center).abs().amax()
    scale = torch.minimum((0.75 + 0.2 * rand(1)) / (high - low).max(), 0.58 / reach)
    turn = 2 * math.pi * rand(1)
    about = torch.tensor([0.0, 0.0, float(turn)])
    matrix = rotations.axis_angles_to_matrices(about[None])[0]
    means, where = ((m.positions - center) * scale @ matrix.T for m in (at, points))
    quats = rotations.multiply(rotations.matrices_to_quats(matrix[None])[0].expand_as(at.quats), at.quats)
    quats = quats * torch.where((quats * quats[:1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)

    part = torch.cat([at.part, points.part])
    colors = _painted(surface, part, generator)
    glow, fade = _looks(part, shape.frames, generator)
    target = rand(3)
    wanted = colors[None] + glow[..., None] * (target - colors)
    dc = harmonics.rgb_to_dc(wanted)
    logits = torch.full((g + shape.points,), 3.0)
    opacity = logits + fade * -6.0

    spacing = (surface.area * scale**2 / g).sqrt()
    tangent = spacing * (0.75 + 0.15 * rand(g))
    flat = torch.stack([tangent, tangent * (0.85 + 0.3 * rand(g)), 0.4 * tangent], dim=-1)
    frames = [
        Gaussians(means[t], (flat * at.sizes[t, :, None]).log(), quats[t], opacity[t, :g], dc[t, :g, None])
        for t in range(shape.frames)
    ]
    raws = [RawGaussians.from_gaussians(f) for f in frames]
    first = raws[0]
    deltas = torch.stack(
        [
            torch.cat(
                [
                    r.means - first.means,
                    r.scales - first.scales,
                    r.rotations - first.rotations,
                    r.colors - first.colors,
                    (r.opacities - first.opacities)[:, None],
                ],
                dim=-1,
            )
            for r in raws
        ]
    )
    canonical = torch.cat(
        [first.means, first.colors, first.scales, first.rotations, first.opacities[:, None]], dim=-1
    )
    looks = torch.cat([dc[:, g:] - dc[:1, g:], (opacity[:, g:] - opacity[:1, g:])[..., None]], dim=-1)
    changes = torch.cat([where - where[:1], looks], dim=-1)
    anchors = farthest_points(first.means, shape.anchors)
    moved = interpolate_displacements(changes, where[0].contiguous(), first.means[anchors])
    is_changing = bool((glow.abs() + fade.abs() > 0).any())
    return Clip(canonical, deltas, where[0].contiguous(), changes, anchors, moved, is_changing)


def _painted(surface: SurfacePoints, part: Tensor, generator: torch.Generator) -> Tensor:
    """Colors [P, 3]: parts in a few colors, stripes or spots, and light from above."""

    def rand(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    parts = int(part.max()) + 1
    palette = 0.05 + 0.85 * rand(1 + int(torch.randint(1, 5, (1,), generator=generator)), 3)
    base = palette[torch.randint(len(palette), (parts,), generator=generator)][part]
    extent = (surface.positions.amax(0) - surface.positions.amin(0)).max()
    x = surface.positions / extent
    kind = float(rand(1))
    direction = F.normalize(torch.randn(3, generator=generator), dim=0)
    if kind < 0.35:
        wave = torch.sin((15 + 30 * rand(1)) * (x @ direction))
    elif kind < 0.7:
        wave = torch.sin((12 + 20 * rand(1)) * x + 6 * rand(3)).prod(-1) * 1.6
    else:
        wave = torch.zeros(len(x))
    mark = (3 * wave).clamp(-1, 1)[:, None] * 0.5 + 0.5
    other = rand(3)
    color = base + mark * (0.75 * float(rand(1))) * (other - base)
    light = F.normalize(torch.tensor([0.4, -0.5, 0.8]), dim=0)
    return (color * (0.72 + 0.28 * (surface.normals @ light))[:, None]).clamp(0.02, 0.98)


def _looks(part: Tensor, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """How far each point is on its way to another color, and to transparency, [T, P] each; zero in frame 0."""

    def rand(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    t = torch.arange(frames) / frames
    glow = fade = torch.zeros(frames, len(part))
    if float(rand(1)) < 0.4:
        some = torch.randint(int(part.max()) + 1, (2,), generator=generator)
        chosen = torch.isin(part, some).float()
        speed = 0.5 + 1.0 * rand(1)
        course = (torch.sin(math.pi * speed * t).square() * (0.5 + 0.5 * rand(1)))[:, None] * chosen
        if float(rand(1)) < 0.6:
            glow = course
        else:
            fade = course
    return glow, fade


class Pool:
    """Clips by index, made when they are first drawn and kept: each index is one seed of one family.

    Args:
        size: Number of different clips.
        families: Families and shares.
        shape: Sizes of the clips.
    """

    def __init__(
        self, size: int, families: dict[str, int] | None = None, shape: ClipShape = ClipShape()
    ) -> None:
        if size > HELD_OUT_SEED:
            raise ValueError(f"seeds from {HELD_OUT_SEED} on are held out")
        self.size, self.families, self.shape = size, families or FAMILIES, shape
        if HELD_OUT_FAMILY in self.families:
            raise ValueError(f"{HELD_OUT_FAMILY} is held out")
        self._clips: dict[int, Clip] = {}

    def __getitem__(self, index: int) -> Clip:
        if index not in self._clips:
            family = family_of(index, self.families)
            self._clips[index] = make_clip(family, index, self.shape).packed()
        return self._clips[index]

    def draw(self, count: int, generator: torch.Generator, share: Share = WHOLE) -> list[Clip]:
        """`count` random clips, of a batch of as many for every share."""
        drawn = torch.randint(self.size, (count * share.count,), generator=generator)
        return [self[i] for i in share.of(drawn).tolist()]


def held_out(family: str, count: int, shape: ClipShape = ClipShape()) -> list[Clip]:
    """The first `count` clips of a family that no training sees."""
    return [make_clip(family, HELD_OUT_SEED + i, shape) for i in range(count)]


def stacked(clips: Sequence[Clip], name: str) -> Tensor:
    """A field of all clips, [B, ...] in float32 (indices stay)."""
    values = [getattr(c, name) for c in clips]
    return torch.stack([v.float() if v.is_floating_point() else v for v in values])
