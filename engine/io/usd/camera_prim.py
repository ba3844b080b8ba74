"""A camera path as an animated `UsdGeom.Camera`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...scene import Cameras, rotations
from .library import Library

# of the film, in the unit of focal lengths (millimeters by custom): only their ratio counts
APERTURE = 36.0
# the image size, in the prim's customData
SIZE = "gs4d:imageSize"
# of the scene's radius: the nearest and the farthest that is drawn
NEAR, FAR = 1e-3, 1e3


class CameraPrim:
    """The prim of F cameras, which are turned by `turn` [3, 3] into the stage's axes.

    USD's camera looks along −z with y up. It has no image size: renders of another aspect ratio than the path's show more or less
    at the sides. The size is noted for this pack.
    """

    def __init__(
        self, usd: Library, stage: Any, path: str, cameras: Cameras, turn: Tensor, bounds: Tensor
    ) -> None:
        self._usd = usd
        self._is_animated = len(cameras) > 1
        flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
        poses = cameras.camera_to_world.double()
        self._places = poses[:, :3, 3] @ turn.T
        self._quats = rotations.matrices_to_quats(turn @ poses[:, :3, :3] @ flip)
        for i in range(1, len(self._quats)):
            if float(self._quats[i] @ self._quats[i - 1]) < 0:
                self._quats[i] = -self._quats[i]
        K = cameras.K.double()
        sizes = torch.tensor(cameras.sizes, dtype=torch.float64)
        fx, fy = K[:, 0, 0], K[:, 1, 1]
        focal = APERTURE * fx / sizes[:, 0]
        self._lens = {
            "FocalLength": focal,
            "HorizontalAperture": torch.full_like(focal, APERTURE),
            "VerticalAperture": focal * sizes[:, 1] / fy,
            # where the middle of the image lies from the axis: right and up
            "HorizontalApertureOffset": focal * (sizes[:, 0] / 2 - K[:, 0, 2]) / fx,
            "VerticalApertureOffset": focal * (K[:, 1, 2] - sizes[:, 1] / 2) / fy,
        }
        prim = usd.UsdGeom.Camera.Define(stage, path)
        if len(set(cameras.sizes)) == 1:
            prim.GetPrim().SetCustomDataByKey(SIZE, usd.Gf.Vec2i(*cameras.sizes[0]))
        radius = float((bounds[1] - bounds[0]).norm()) / 2 or 1.0
        prim.CreateClippingRangeAttr(usd.Gf.Vec2f(NEAR * radius, FAR * radius))
        self._place = prim.AddTranslateOp(usd.UsdGeom.XformOp.PrecisionDouble)
        self._turn = prim.AddOrientOp(usd.UsdGeom.XformOp.PrecisionDouble)
        self._attributes: dict[str, Any] = {}
        for name, values in self._lens.items():
            attribute = getattr(prim, f"Create{name}Attr")()
            if self._is_animated and bool((values - values[0]).abs().max() > 1e-9 * APERTURE):
                self._attributes[name] = attribute
            else:
                attribute.Set(float(values[0]))

    def add(self, i: int, code: float) -> None:
        """The pose and lens of camera `i` at a time code."""
        gf, at = self._usd.Gf, code if self._is_animated else self._usd.Usd.TimeCode.Default()
        w, x, y, z = self._quats[i].tolist()
        self._place.Set(gf.Vec3d(*self._places[i].tolist()), at)
        self._turn.Set(gf.Quatd(w, gf.Vec3d(x, y, z)), at)
        for name, attribute in self._attributes.items():
            attribute.Set(float(self._lens[name][i]), at)
