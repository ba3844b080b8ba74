"""A rig: V pinhole cameras, each with its own size, in OpenCV axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError

Origin = tuple[float, float, float]
AT_ZERO: Origin = (0.0, 0.0, 0.0)


class PlacedCameras(NamedTuple):
    """B cameras in the dtype and on the device of what is rendered."""

    world_to_camera: Tensor  # [B, 4, 4]
    K: Tensor  # [B, 3, 3]
    centers: Tensor  # [B, 3]


@dataclass(frozen=True, eq=False)
class Cameras:
    """V pinhole cameras, usually float64; rendering casts them (`on`). Never changed in place.

    Raises:
        InputError: Fields that do not describe the same number of views.

    Example:
        half = cameras.scaled(0.5)
        pixels, depths = cameras.project(points, view=0)
    """

    world_to_camera: Tensor  # [V, 4, 4] rigid, OpenCV axes
    K: Tensor  # [V, 3, 3] pixels; (0, 0) is the outer corner of the top-left pixel
    sizes: tuple[tuple[int, int], ...]  # V × (width, height) in pixels
    names: tuple[str, ...]  # V distinct names
    # where (0, 0, 0) of these coordinates lies in those of the files: file = local + origin
    origin: Origin = AT_ZERO

    def __post_init__(self) -> None:
        v = len(self.sizes)
        if (
            tuple(self.world_to_camera.shape) != (v, 4, 4)
            or tuple(self.K.shape) != (v, 3, 3)
            or len(self.names) != v
        ):
            raise InputError(
                "SCN-001",
                f"Cameras: world_to_camera {tuple(self.world_to_camera.shape)}, K {tuple(self.K.shape)}, {v} sizes and "
                f"{len(self.names)} names do not describe the same number of views.",
            )

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int | slice | list[int]) -> Cameras:
        """A rig of the chosen views; an int gives a rig of one."""
        chosen = list(range(len(self)))[index] if isinstance(index, slice) else index
        chosen = [chosen] if isinstance(chosen, int) else chosen
        part = Cameras(
            self.world_to_camera[chosen],
            self.K[chosen],
            tuple(self.sizes[i] for i in chosen),
            tuple(self.names[i] for i in chosen),
            self.origin,
        )
        part.__dict__["_whole"] = (self, chosen)
        return part

    def on(self, like: Tensor) -> PlacedCameras:
        """The cameras in the dtype and on the device of `like`.

        Kept, so that a rig is uploaded once; chosen views take theirs from it there.
        """
        if self.world_to_camera.requires_grad or self.K.requires_grad:
            return self._place(like)
        key = (like.device, like.dtype)
        if key not in self._placed:
            self._placed[key] = self._place(like)
        return self._placed[key]

    def _place(self, like: Tensor) -> PlacedCameras:
        whole: tuple[Cameras, list[int]] | None = self.__dict__.get("_whole")
        if whole is None or whole[0].world_to_camera.requires_grad or whole[0].K.requires_grad:
            tensors = self.world_to_camera, self.K, self.centers
            return PlacedCameras(*(t.to(like, non_blocking=True) for t in tensors))
        rig, chosen = whole
        # a list as an index would be uploaded, and the CPU would wait for a GPU
        return PlacedCameras(*(torch.stack([tensor[i] for i in chosen]) for tensor in rig.on(like)))

    @cached_property
    def _placed(self) -> dict[tuple[torch.device, torch.dtype], PlacedCameras]:
        return {}

    @property
    def camera_to_world(self) -> Tensor:
        """[V, 4, 4], by transposing the rotation (exact for rigid matrices)."""
        rotation = self.world_to_camera[:, :3, :3].transpose(1, 2)
        result = self.world_to_camera.clone()
        result[:, :3, :3] = rotation
        result[:, :3, 3] = -(rotation @ self.world_to_camera[:, :3, 3:]).squeeze(-1)
        return result

    @property
    def centers(self) -> Tensor:
        """Camera centers [V, 3] in world units."""
        return self.camera_to_world[:, :3, 3]

    @property
    def forward(self) -> Tensor:
        """Unit viewing directions [V, 3] in the world."""
        return self.world_to_camera[:, 2, :3]

    def with_origin(self, origin: Origin) -> Cameras:
        """The same cameras in coordinates around another origin, computed in float64.

        Args:
            origin: Where (0, 0, 0) of the new coordinates lies in those of the files.
        """
        if origin == self.origin:
            return self
        w2c = self.world_to_camera.double().clone()
        moved = torch.tensor(origin, dtype=torch.float64) - torch.tensor(self.origin, dtype=torch.float64)
        w2c[:, :3, 3] += w2c[:, :3, :3] @ moved.to(w2c.device)
        return replace(self, world_to_camera=w2c, origin=origin)

    def scaled(self, factor: float) -> Cameras:
        """The same views at another image size.

        Args:
            factor: Ratio of new to old size; sizes are rounded, and K follows the rounded sizes exactly.
        """
        sizes = tuple((max(1, round(w * factor)), max(1, round(h * factor))) for w, h in self.sizes)
        return self.resized(sizes)

    def resized(self, sizes: tuple[tuple[int, int], ...]) -> Cameras:
        """The same views at given sizes; with corner-origin pixels, this scales the rows of K.

        Args:
            sizes: V × (width, height) in pixels.
        """
        K = self.K.clone()
        for i, ((w, h), (new_w, new_h)) in enumerate(zip(self.sizes, sizes, strict=True)):
            K[i, 0] *= new_w / w
            K[i, 1] *= new_h / h
        return replace(self, K=K, sizes=sizes)

    def cropped(self, boxes: Sequence[tuple[int, int, int, int]]) -> Cameras:
        """Parts of the same views; the principal points move, and every pixel keeps its ray.

        Args:
            boxes: V × (left, top, width, height) in pixels.
        """
        K = self.K.clone()
        for i, (left, top, _, _) in enumerate(boxes):
            # the rows of K follow x − left·z and y − top·z
            K[i, 0] -= left * K[i, 2]
            K[i, 1] -= top * K[i, 2]
        sizes = tuple((width, height) for _, _, width, height in boxes)
        return replace(self, K=K, sizes=sizes)

    def project(self, points: Tensor, view: int) -> tuple[Tensor, Tensor]:
        """Project points into one view, without clipping.

        Args:
            points: Points [P, 3] in world units.
            view: Index of the view.

        Returns:
            Pixels [P, 2] and depths [P] in world units; negative depths are behind the camera.
        """
        w2c = self.world_to_camera[view].to(points)
        # [3, P]: on CPUs, small matrices are multiplied from the left several times as fast
        in_camera = w2c[:3, :3] @ points.T + w2c[:3, 3:]
        pixels = self.K[view].to(points) @ in_camera
        return (pixels[:2] / pixels[2:]).T, in_camera[2]

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain numbers that `from_json` turns back into the same float64 cameras.

        The origin is absent where it is zero, as in older files.
        """
        origin = {} if self.origin == AT_ZERO else {"origin": list(self.origin)}
        return {
            "names": list(self.names),
            "sizes": [list(size) for size in self.sizes],
            "K": self.K.double().tolist(),
            "world_to_camera": self.world_to_camera.double().tolist(),
            **origin,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Cameras:
        return Cameras(
            torch.tensor(data["world_to_camera"], dtype=torch.float64).reshape(-1, 4, 4),
            torch.tensor(data["K"], dtype=torch.float64).reshape(-1, 3, 3),
            tuple((int(w), int(h)) for w, h in data["sizes"]),
            tuple(str(name) for name in data["names"]),
            origin_from(data.get("origin")),
        )

    @staticmethod
    def concatenate(rigs: list[Cameras]) -> Cameras:
        """All cameras in one rig, in the coordinates of the first one."""
        rigs = [r.with_origin(rigs[0].origin) for r in rigs]
        return Cameras(
            torch.cat([r.world_to_camera for r in rigs]),
            torch.cat([r.K for r in rigs]),
            tuple(size for r in rigs for size in r.sizes),
            tuple(name for r in rigs for name in r.names),
            rigs[0].origin,
        )


def origin_from(value: object) -> Origin:
    """The origin that a file's JSON states; zero where it states none. InputError where it is not three finite numbers."""
    if value is None:
        return AT_ZERO
    numbers = value if isinstance(value, list) and len(value) == 3 else []
    if len(numbers) != 3 or not all(type(n) in (int, float) and abs(n) < 1e300 for n in numbers):
        raise InputError(
            "SCN-016", "The origin of the coordinates is not three finite numbers; export the file again."
        )
    x, y, z = (float(n) for n in numbers)
    return x, y, z


def in_words(origin: Origin) -> str:
    """The origin as three numbers with all their digits."""
    return f"({', '.join(f'{c:.0f}' if c == round(c) else repr(c) for c in origin)})"


def look_at(position: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """world_to_camera [4, 4] (float64) of a camera at `position` [3] that looks at `target` [3] with `up` [3] upwards.

    Where the view runs along `up`, another axis takes its place, so the result is always rigid.
    """
    position, target, up = position.double(), target.double(), up.double()
    z = torch.nn.functional.normalize(target - position, dim=0)
    x = torch.linalg.cross(z, up)
    if x.norm() < 1e-6 * up.norm():
        x = torch.linalg.cross(z, up.roll(1))
    x = torch.nn.functional.normalize(x, dim=0)
    y = torch.linalg.cross(z, x)
    result = torch.eye(4, dtype=torch.float64)
    result[:3, :3] = torch.stack([x, y, z])
    result[:3, 3] = -result[:3, :3] @ position
    return result


def have_one_shape(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two image sizes (width, height) are one image at two scales: the smaller one is off by at most a pixel."""
    (width, height), (wide, tall) = sorted((first, second))
    scale_x, scale_y = width / wide, height / tall
    return abs(width - wide * scale_y) <= 1 or abs(height - tall * scale_x) <= 1
