"""Gaussian splats of a USD stage, frame by frame.

All visible `ParticleField3DGaussianSplat` prims (and `ParticleField` prims with the same applied schemas) become one set of
Gaussians in the stage's axes, in meters where the stage says what its unit is. Frames are those of the stage's frame rate
between its start and end, and every sample between them.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError
from ...files.paths import printable
from ...scene import Gaussians, harmonics
from ...scene.cameras import AT_ZERO, Origin
from ...scene.rigs import UPS
from .cameras import StageCameras, read_cameras
from .layers import open_stage
from .library import library, nameable, unreadable
from .particles import Particles
from .splat_prim import ORIGIN

READABLE = (".usd", ".usda", ".usdc", ".usdz")
# of a frame: samples that are nearer to the next one end a value that holds until then
INSTANT = 1e-4
MOST_FRAMES = 10_000
# in all frames together: 2 GB, and as much again while they are put together
MOST_NUMBERS = 500_000_000


def is_usd(path: Path) -> bool:
    """Whether a path is a file with one of USD's suffixes."""
    return path.suffix.lower() in READABLE and path.is_file()


class UsdSplats:
    """The Gaussians of a USD file.

    Args:
        path: The file.

    Raises:
        InputError: usd-core is missing, the file cannot be read, it refers to files outside of its folder, or it has no
            Gaussians that this version of OpenUSD knows.

    Example:
        splats = UsdSplats(Path("walker.usdc"))
        frames = [splats.frame(i) for i in range(len(splats))]
    """

    def __init__(self, path: Path) -> None:
        self.name = printable(path.name)
        self._usd = library()
        with nameable(path.parent) as folder:
            self._stage = open_stage(self._usd, folder / path.name)
        with unreadable(path.name):
            self._prims = self._found()
            self._scale = self._meters()
            samples = sorted(set[float]().union(*(prim.times() for prim in self._prims)))
            # whether values last until the next frame
            self.holds = False
            self._codes = [self._usd.Usd.TimeCode.EarliestTime()]
            if len(samples) > 1:
                self._codes = [self._usd.Usd.TimeCode(code) for code in self._frames(samples)]
            # a damaged axis counts as USD's own
            up = str(self._usd.UsdGeom.GetStageUpAxis(self._stage))
            self.up = {"Y": "y up", "Z": "z up"}.get(up, "y up")
            self.origin = self._origin()
            self._check_size()
            self.cameras = self._cameras()

    def __len__(self) -> int:
        """How many frames there are; 1 for a still scene."""
        return len(self._codes)

    @property
    def seconds(self) -> Tensor:
        """Times of the frames [T] (float64), from 0."""
        codes = torch.tensor([code.GetValue() for code in self._codes], dtype=torch.float64)
        return (codes - codes[0]) / self._rate

    @property
    def note(self) -> str:
        """What was assumed, in one line."""
        axis = self.up[0].upper()
        parts = [f"{axis} up"]
        unit = self._usd.UsdGeom.GetStageMetersPerUnit(self._stage)
        if self._scale != 1:
            parts.append(f"scaled by {self._scale:g} to meters")
        elif not self._usd.UsdGeom.StageHasAuthoredMetersPerUnit(self._stage):
            parts.append("units not stated, taken as they are")
        else:
            parts.append(f"{unit:g} m per unit")
        if len(self) > 1:
            parts.append(f"{self.fps:g} frames per second{', held' if self.holds else ''}")
        elif (
            self._stage.HasAuthoredTimeCodeRange()
            and self._stage.GetEndTimeCode() > self._stage.GetStartTimeCode()
        ):
            parts.append("no motion in its Gaussians")
        missing = sorted(set[str]().union(*(prim.missing for prim in self._prims)))
        if missing:
            parts.append(f"no {', '.join(missing)}: OpenUSD's defaults")
        degree = max(prim.degree for prim in self._prims)
        if degree > harmonics.MAX_DEGREE:
            parts.append(f"spherical harmonics above degree {harmonics.MAX_DEGREE} left out")
        if self._others:
            parts.append(f"{self._others} other particle fields left out")
        return f"USD: {'; '.join(parts)}."

    def frame(self, i: int) -> Gaussians:
        """The Gaussians of frame `i`; positions in float64. Raises InputError where an array is too short."""
        with unreadable(self.name):
            parts = [prim.at(self._codes[i], self._scale) for prim in self._prims]
        return parts[0] if len(parts) == 1 else Gaussians.concatenate(parts)

    @property
    def _rate(self) -> float:
        return float(self._stage.GetTimeCodesPerSecond())

    @property
    def fps(self) -> float:
        """Frames per second: the stage's own, or its time codes per second where it has none."""
        has_own = self._stage.HasAuthoredMetadata("framesPerSecond")
        return float(self._stage.GetFramesPerSecond()) if has_own else self._rate

    def _found(self) -> list[Particles]:
        """The prims with Gaussians. Raises InputError where there is none."""
        usd, prims, unknown, others = self._usd, list[Particles](), list[str](), list[str]()
        self._others = 0
        known = usd.Usd.SchemaRegistry()
        for prim in self._stage.Traverse(usd.Usd.TraverseInstanceProxies()):
            kind = str(prim.GetTypeName())
            if prim.IsA(usd.UsdVol.ParticleField):
                if not prim.HasAPI(usd.UsdVol.ParticleFieldKernelGaussianEllipsoidAPI):
                    self._others += 1
                elif usd.UsdGeom.Imageable(prim).ComputePurpose() in ("default", "render"):
                    prims.append(Particles(usd, prim, self.name))
            elif kind and not known.FindConcretePrimDefinition(kind) and _sounds_like_splats(kind):
                unknown.append(kind)
            elif kind:
                others.append(kind)
        if prims:
            return prims
        if unknown:
            version = ".".join(str(n) for n in usd.Usd.GetVersion()[1:])
            raise InputError(
                "USD-011",
                f"{self.name} has Gaussians of the type '{printable(unknown[0])[:60]}', which usd-core {version} does not know. "
                "Export it as ParticleField3DGaussianSplat (OpenUSD 26.3), or update usd-core.",
            )
        kinds = ", ".join(sorted(set(map(printable, others)))[:5]) or "nothing"
        raise InputError(
            "USD-012",
            f"{self.name} has no Gaussian splats (ParticleField3DGaussianSplat); it has {kinds}. Choose another file, or export "
            "it again with the files that it refers to.",
        )

    def _cameras(self) -> StageCameras:
        """The stage's cameras at the first frame."""
        up = torch.tensor(UPS[self.up], dtype=torch.float64)
        return read_cameras(self._usd, self._stage, self._codes[0], self._scale, up, self.origin)

    def _meters(self) -> float:
        """The factor to meters; 1 where the stage does not state its unit."""
        if not self._usd.UsdGeom.StageHasAuthoredMetersPerUnit(self._stage):
            return 1.0
        unit = float(self._usd.UsdGeom.GetStageMetersPerUnit(self._stage))
        return unit if math.isfinite(unit) and unit > 0 else 1.0

    def _frames(self, samples: list[float]) -> list[float]:
        """The time codes of the frames, ascending. Raises InputError where there are too many."""
        start, end = samples[0], samples[-1]
        if self._stage.HasAuthoredTimeCodeRange():
            first, last = float(self._stage.GetStartTimeCode()), float(self._stage.GetEndTimeCode())
            if math.isfinite(first) and math.isfinite(last) and first < last:
                start, end = first, last
        step = self._rate / self.fps
        if not (math.isfinite(step) and step > 0):
            raise InputError(
                "USD-013",
                f"{self.name} states {self._rate:g} time codes and {self.fps:g} frames per second; both must be above 0. "
                "Correct them in the program that made it.",
            )
        frames = (end - start) / step
        # of a stage that lasts for hours, only what has samples
        grid = (
            []
            if frames > MOST_FRAMES
            else [start + i * step for i in range(math.floor(frames + INSTANT) + 1)]
        )
        codes = sorted({*grid, start, end, *(code for code in samples if start <= code <= end)})
        kept: list[float] = []
        for code in reversed(codes):
            # the later of two is the frame, and the other one the end of a value that holds
            if not kept or kept[-1] - code > INSTANT * step:
                kept.append(code)
        self.holds = any(after - before <= INSTANT * step for before, after in pairwise(samples))
        if len(kept) > MOST_FRAMES:
            raise InputError(
                "USD-014",
                f"{self.name} has {len(kept):,} different times, and at most {MOST_FRAMES:,} are read. Export fewer frames.",
            )
        return kept[::-1]

    def _origin(self) -> Origin:
        """What positions are relative to, where a scene of this pack noted it."""
        prim = self._prims[0]
        place = prim.origin(ORIGIN)
        if place is None:
            return AT_ZERO
        x, y, z = prim.placed(self._codes[0], self._scale, place).tolist()
        return x, y, z

    def _check_size(self) -> None:
        sizes = [prim.floats(self._codes[0]) for prim in self._prims]
        need = len(self) * sum(varying for varying, _ in sizes) + sum(still for _, still in sizes)
        if need > MOST_NUMBERS:
            raise InputError(
                "USD-015",
                f"{self.name}: its {len(self):,} frames need {8e-9 * need:.0f} GB of memory, more than is taken for one scene "
                f"({8e-9 * MOST_NUMBERS:.0f} GB). Export fewer frames or Gaussians.",
            )


def _sounds_like_splats(kind: str) -> bool:
    return any(word in kind.lower() for word in ("gaussian", "splat", "particlefield"))
