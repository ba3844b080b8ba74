"""The Gaussians of one `ParticleField3DGaussianSplat` prim at a time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...files.paths import printable
from ...scene import Gaussians, harmonics, rotations
from ...scene.gaussians import ActivatedGaussians
from .library import Library

# attributes, in single and in half precision; the first is preferred
POSITIONS = ("positions", "positionsh")
ORIENTATIONS = ("orientations", "orientationsh")
SCALES = ("scales", "scalesh")
OPACITIES = ("opacities", "opacitiesh")
HARMONICS = ("radiance:sphericalHarmonicsCoefficients", "radiance:sphericalHarmonicsCoefficientsh")
DEGREE = "radiance:sphericalHarmonicsDegree"
# of a transform's scales: how much they may differ and still count as one
UNIFORM = 1e-5


class Particles:
    """A prim, its attributes and its place in the stage. Values that do not change are read once."""

    def __init__(self, usd: Library, prim: Any, source: str) -> None:
        self._usd, self._prim, self._source = usd, prim, source
        self._chosen = {
            names[0]: self._attribute(names)
            for names in (POSITIONS, ORIENTATIONS, SCALES, OPACITIES, HARMONICS)
        }
        self._kept: dict[str, Tensor] = {}
        # orientations of the frame before, to which those of stretched Gaussians stay near
        self._near: Tensor | None = None
        self.degree = self._degree()
        above: list[Any] = []
        while prim and not prim.IsPseudoRoot():
            above.append(prim)
            prim = prim.GetParent()
        self._xformables = [usd.UsdGeom.Xformable(p) for p in above if p.IsA(usd.UsdGeom.Xformable)]
        self._visibilities = [
            usd.UsdGeom.Imageable(p).GetVisibilityAttr() for p in above if p.IsA(usd.UsdGeom.Imageable)
        ]

    @property
    def missing(self) -> list[str]:
        """The attributes that have no value anywhere, and the schema's default instead."""
        return [name for name, attribute in self._chosen.items() if attribute is None]

    def times(self) -> set[float]:
        """The time codes at which something of this prim has a sample, where it changes at all."""
        found: set[float] = set()
        for attribute in (*self._chosen.values(), *self._visibilities):
            if attribute is not None and attribute.ValueMightBeTimeVarying():
                found.update(attribute.GetTimeSamples())
        for xformable in self._xformables:
            if xformable.TransformMightBeTimeVarying():
                found.update(xformable.GetTimeSamples())
        return found

    def floats(self, code: Any) -> tuple[int, int]:
        """How many numbers change, and how many do not: of one frame."""
        widths = {POSITIONS[0]: 3, ORIENTATIONS[0]: 4, SCALES[0]: 3, OPACITIES[0]: 1}
        widths[HARMONICS[0]] = 3 * harmonics.bases(self.degree)
        count = len(self._read(POSITIONS[0], code, 3)) // 3
        moves = any(x.TransformMightBeTimeVarying() for x in self._xformables)
        varying = sum(width for name, width in widths.items() if moves or self._varies(self._chosen[name]))
        return count * varying, count * (sum(widths.values()) - varying)

    def at(self, code: Any, scale: float) -> Gaussians:
        """The visible Gaussians at a time code in the stage's axes, with lengths times `scale`; positions in float64.

        Raises:
            InputError: An array is too short for the positions.
        """
        means = self._read(POSITIONS[0], code, 3).reshape(-1, 3)
        count = len(means)
        if (
            self._usd.UsdGeom.Imageable(self._prim).ComputeVisibility(code)
            == self._usd.UsdGeom.Tokens.invisible
        ):
            count = 0
        bases = harmonics.bases(self.degree)
        quats = self._rows(ORIENTATIONS[0], code, 4, count, (1.0, 0.0, 0.0, 0.0))
        scales = self._rows(SCALES[0], code, 3, count, (1.0, 1.0, 1.0))
        opacities = self._rows(OPACITIES[0], code, 1, count, (1.0,))[:, 0]
        sh = self._rows(HARMONICS[0], code, 3 * bases, count, (0.0,) * (3 * bases)).reshape(count, bases, 3)
        # the schema knows no end of degrees; each only adds to those before it
        sh = sh[:, : harmonics.bases(harmonics.MAX_DEGREE)]
        gaussians = Gaussians.from_activated(
            ActivatedGaussians(means[:count].double(), _oriented(quats), scales.abs(), opacities, sh)
        )
        matrix = self._usd.UsdGeom.XformCache(code).GetLocalToWorldTransform(self._prim)
        made = transformed(gaussians, scale * torch.tensor(np.array(matrix)[:, :3].T), self._near)
        self._near = made.quats
        return made

    def origin(self, key: str) -> Tensor | None:
        """Three finite numbers [3] (float64) that the prim's customData has under `key`; None where it has not."""
        value = self._prim.GetCustomDataByKey(key)
        if not isinstance(value, (self._usd.Gf.Vec3d, self._usd.Gf.Vec3f)):
            return None
        place = torch.tensor([float(c) for c in value], dtype=torch.float64)
        return place if bool(torch.isfinite(place).all()) else None

    def placed(self, code: Any, scale: float, place: Tensor) -> Tensor:
        """A direction and length [3] of the prim's own coordinates in the stage's, without their shift."""
        matrix = self._usd.UsdGeom.XformCache(code).GetLocalToWorldTransform(self._prim)
        return scale * torch.tensor(np.array(matrix)[:3, :3].T) @ place

    def _degree(self) -> int:
        attribute = self._prim.GetAttribute(DEGREE)
        degree = attribute.Get() if attribute else None
        if self._chosen[HARMONICS[0]] is None:
            return 0
        if degree is None or not 0 <= degree <= 20:
            raise InputError(
                "USD-009",
                f"{self._source}: {self._path} has spherical harmonics of degree {degree}; 0 to 3 are usual. Export it again.",
            )
        return int(degree)

    @property
    def _path(self) -> str:
        return printable(str(self._prim.GetPath()))

    def _attribute(self, names: tuple[str, str]) -> Any:
        """The first of these attributes that has a value; None where neither has."""
        found = (self._prim.GetAttribute(name) for name in names)
        return next((a for a in found if a and a.HasAuthoredValue()), None)

    @staticmethod
    def _varies(attribute: Any) -> bool:
        return attribute is not None and attribute.ValueMightBeTimeVarying()

    def _read(self, name: str, code: Any, width: int) -> Tensor:
        """The numbers [n · width] of an attribute at a time code; empty where it has none."""
        if name in self._kept:
            return self._kept[name]
        attribute = self._chosen[name]
        value = None if attribute is None else attribute.Get(code)
        numbers = torch.from_numpy(np.array(value if value is not None else [], dtype=np.float32)).reshape(-1)
        if not self._varies(attribute):
            self._kept[name] = numbers
        return numbers[: len(numbers) // width * width]

    def _rows(self, name: str, code: Any, width: int, count: int, default: tuple[float, ...]) -> Tensor:
        """The values [count, width] of an attribute; the schema cuts what is too long and gives defaults for nothing."""
        numbers = self._read(name, code, width)
        if not len(numbers):
            return torch.tensor(default).repeat(count, 1)
        if len(numbers) < count * width:
            each = 3 if name == HARMONICS[0] else width
            raise InputError(
                "USD-010",
                f"{self._source}: at time code {_number(code)}, {name} of {self._path} has {len(numbers) // each:,} values, but "
                f"{count * width // each:,} are needed for its {count:,} positions. Export it again.",
            )
        return numbers[: count * width].reshape(count, width)


def _number(code: Any) -> str:
    return "default" if code.IsDefault() else f"{code.GetValue():g}"


def _oriented(stored: Tensor) -> Tensor:
    """Quaternions [N, 4] wxyz of those in USD's order in memory; the identity for those of no length."""
    quats = stored[:, [3, 0, 1, 2]]
    length = quats.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, quats, torch.tensor([1.0, 0.0, 0.0, 0.0]))


def transformed(gaussians: Gaussians, matrix: Tensor, near: Tensor | None = None) -> Gaussians:
    """Gaussians in other coordinates, view-dependent colors included.

    Args:
        gaussians: N Gaussians.
        matrix: Affine map [3, 4] (float64). Mirrors and unequal scales are allowed; colors turn with its rotation.
        near: Quaternions [N, 4] of the same Gaussians a frame before. An ellipsoid has several; under unequal scales, those
            nearest to these are taken.
    """
    linear, shift = matrix[:, :3], matrix[:, 3]
    if torch.equal(linear, torch.eye(3, dtype=linear.dtype)):
        return gaussians.with_(means=gaussians.means + shift) if bool(shift.any()) else gaussians
    u, sizes, v = torch.linalg.svd(linear)
    turn = u @ v
    means = gaussians.means.double() @ linear.T + shift
    sh = gaussians.sh
    if not torch.allclose(turn, torch.eye(3, dtype=turn.dtype), atol=1e-12):
        sh = harmonics.turned(sh, turn)
    # an ellipsoid is its own mirror image
    proper = turn if float(torch.linalg.det(turn)) > 0 else -turn
    quat = rotations.matrices_to_quats(proper).to(gaussians.quats).expand(len(gaussians), 4)
    quats = rotations.multiply(quat, gaussians.quats)
    if float(sizes[0] - sizes[2]) <= UNIFORM * float(sizes[0]):
        log_scales = gaussians.log_scales + float(sizes[1].clamp(min=1e-30).log())
        return gaussians.with_(means=means, quats=quats, log_scales=log_scales, sh=sh)
    if near is None or len(near) != len(quats):
        near = quats
    quats, log_scales = _stretched(gaussians, linear, near)
    return gaussians.with_(means=means, quats=quats, log_scales=log_scales, sh=sh)


def _stretched(gaussians: Gaussians, linear: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Quaternions [N, 4] and log scales [N, 3] of ellipsoids under a map that is not a similarity.

    Of the orders and signs of an ellipsoid's axes, those nearest to `near` [N, 4] are taken: nothing jumps over time.
    """
    axes = (
        rotations.quats_to_matrices(gaussians.quats.double()) * gaussians.log_scales.double().exp()[:, None]
    )
    u, sizes, _ = torch.linalg.svd(linear @ axes)
    wanted = rotations.quats_to_matrices(near.double())
    # [N, 3, 3]: cosines of the wanted axes with the found ones
    cosines = wanted.transpose(1, 2) @ u
    orders = torch.tensor(list(itertools.permutations(range(3))))
    # [N, 6]: how well the found axes in each order agree with the wanted ones
    fit = cosines.abs()[:, torch.arange(3), orders].sum(-1)
    order = orders[fit.argmax(dim=1)]
    u = u.gather(2, order[:, None].expand(-1, 3, -1))
    signs = torch.where((u * wanted).sum(1) < 0, -1.0, 1.0)
    u = u * signs[:, None]
    # a reflection becomes a rotation by the axis that agrees least
    flips = torch.linalg.det(u) < 0
    least = (u * wanted).sum(1).argmin(dim=1)
    u[flips, :, least[flips]] *= -1
    quats = rotations.matrices_to_quats(u).to(gaussians.quats)
    return quats, sizes.gather(1, order).clamp(min=1e-30).log().to(gaussians.log_scales)
