"""Gaussians as a `ParticleField3DGaussianSplat` with time samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...scene import Gaussians, Scene4D, harmonics, rotations
from ...scene.cameras import AT_ZERO
from .library import Library

# key of the prim's customData: what positions are relative to, which would not fit into single precision
ORIGIN = "gs4d:origin"
# opacity below which renderers draw nothing, and standard deviations from a Gaussian's center to its rim
VISIBLE, RIM = 1 / 255, 3.0


class Track:
    """One attribute over time: a default value while it does not change, else a sample at each frame.

    `holds`: each value lasts until the next frame, where USD itself interpolates linearly between samples.
    """

    def __init__(self, attribute: Any, step: float, holds: bool) -> None:
        self._attribute, self._step, self._holds = attribute, step, holds
        self._codes: list[float] = []
        self._before: Any = None
        self._changes = False

    def add(self, code: float, value: Any, is_same: bool) -> bool:
        """The next frame; `is_same` says that its value is that of the frame before. Returns whether a sample was written."""
        if not is_same and self._codes and not self._changes:
            self._changes = True
            for earlier in self._codes:
                self._attribute.Set(self._before, earlier)
        if self._changes:
            if self._holds and not is_same:
                self._attribute.Set(self._before, code - self._step)
            self._attribute.Set(value, code)
        self._codes.append(code)
        self._before = value
        return self._changes

    def finish(self) -> None:
        """Write the value of an attribute that never changed."""
        if self._codes and not self._changes:
            self._attribute.Set(self._before)


class SplatPrim:
    """The prim of the Gaussians of `scene`, which are turned by `turn` [3, 3]; see `Track` for `holds`."""

    def __init__(
        self, usd: Library, stage: Any, path: str, scene: Scene4D, turn: Tensor, holds: bool
    ) -> None:
        self._usd, self._turn = usd, turn
        self._is_turned = not torch.equal(turn, torch.eye(3, dtype=turn.dtype))
        # the last frame as the scene stores it, and as the stage gets it
        self._stored: dict[str, Tensor] = {}
        self._made: dict[str, Tensor] = {}
        self._values: dict[str, Any] = {}
        prim = usd.UsdVol.ParticleField3DGaussianSplat.Define(stage, path)
        prim.CreateProjectionModeHintAttr(usd.UsdVol.Tokens.perspective)
        prim.CreateSortingModeHintAttr(usd.UsdVol.Tokens.zDepth)
        prim.CreateRadianceSphericalHarmonicsDegreeAttr(scene.canonical.sh_degree)
        # colors are what a screen shows
        space = usd.Usd.ColorSpaceAPI.Apply(prim.GetPrim())
        space.CreateColorSpaceNameAttr(usd.Gf.ColorSpaceNames.SRGBRec709)
        if scene.rig.origin != AT_ZERO:
            place = turn @ torch.tensor(scene.rig.origin, dtype=torch.float64)
            prim.GetPrim().SetCustomDataByKey(ORIGIN, usd.Gf.Vec3d(*place.tolist()))
        attributes = {
            "means": prim.CreatePositionsAttr(),
            "quats": prim.CreateOrientationsAttr(),
            "log_scales": prim.CreateScalesAttr(),
            "logit_opacities": prim.CreateOpacitiesAttr(),
            "sh": prim.CreateRadianceSphericalHarmonicsCoefficientsAttr(),
            "extent": prim.CreateExtentAttr(),
        }
        step = usd.Usd.TimeCode.SafeStep()
        self._tracks = {name: Track(attribute, step, holds) for name, attribute in attributes.items()}

    def add(self, frame: Gaussians, code: float) -> int:
        """The next frame. Returns how many bytes of samples it has."""
        stored, size = frame.tensors(), 0
        same = {name: bool(self._stored) and torch.equal(t, self._stored[name]) for name, t in stored.items()}
        for name, tensor in stored.items():
            if not same[name]:
                made = self._on_stage(name, tensor)
                self._made[name], self._values[name] = made, self._value(name, made)
        same["extent"] = all(same[name] for name in stored if name != "sh")
        if not same["extent"]:
            self._values["extent"] = self._array("Vec3fArray", self._extent().numpy())
        for name, track in self._tracks.items():
            was_written = track.add(code, self._values[name], same[name])
            size += was_written * (4 * self._made[name].numel() if name in stored else 0)
        self._stored = stored
        return size

    def finish(self) -> None:
        """Write what never changed."""
        for track in self._tracks.values():
            track.finish()

    def _on_stage(self, name: str, tensor: Tensor) -> Tensor:
        """One field of stored Gaussians with the stage's axes and meaning."""
        if name == "log_scales":
            return tensor.exp()
        if name == "logit_opacities":
            return tensor.sigmoid()
        if name == "quats":
            return self._oriented(tensor)
        if not self._is_turned:
            return tensor
        if name == "sh":
            return harmonics.turned(tensor, self._turn)
        return (tensor.double() @ self._turn.T).float()

    def _oriented(self, quats: Tensor) -> Tensor:
        """Unit quaternions [N, 4] of turned Gaussians, without jumps of sign from frame to frame."""
        quats = rotations.normalise(quats)
        # of a zero quaternion, nothing can be said
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0])
        quats = torch.where(quats.norm(dim=-1, keepdim=True) < 0.5, identity, quats)
        if self._is_turned:
            turn = rotations.matrices_to_quats(self._turn).to(quats)
            quats = rotations.multiply(turn.expand_as(quats), quats)
        before = self._made.get("quats")
        if before is None:
            return quats
        return torch.where((quats * before).sum(-1, keepdim=True) < 0, -quats, quats)

    def _value(self, name: str, made: Tensor) -> Any:
        """An array of USD."""
        if name == "quats":
            # the real part comes last in memory
            return self._array("QuatfArray", made[:, [1, 2, 3, 0]].numpy())
        if name == "logit_opacities":
            return self._array("FloatArray", made.numpy())
        return self._array("Vec3fArray", made.reshape(-1, 3).numpy())

    def _array(self, kind: str, values: NDArray[np.float32]) -> Any:
        return getattr(self._usd.Vt, kind).FromNumpy(np.ascontiguousarray(values, dtype=np.float32))

    def _extent(self) -> Tensor:
        """Box [2, 3] around the rims of all visible Gaussians; of all, where none is visible."""
        made = self._made
        shown = made["logit_opacities"] >= VISIBLE
        shown = shown if bool(shown.any()) else torch.ones_like(shown)
        axes = rotations.quats_to_matrices(made["quats"][shown]) * made["log_scales"][shown, None]
        reach = RIM * axes.square().sum(-1).sqrt()
        means = made["means"][shown]
        return torch.stack([(means - reach).amin(0), (means + reach).amax(0)])
