"""Sizes of a HexPlane deformation and the presets of 4D Gaussian Splatting (Wu et al., CVPR 2024)."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import InputError
from .hexplane_layout import GridLayout, NetworkLayout

# number of outputs of each head
HEADS = {"position": 3, "scale": 3, "rotation": 4, "opacity": 1, "sh": 48}
# axes (a, b) of planes 0..5, as indices into x, y, z, t
PAIRS = tuple(itertools.combinations(range(4), 2))
SPACE_PLANES, TIME_PLANES = (0, 1, 3), (2, 4, 5)
THREE = ("position", "scale", "rotation")
# grid values: a gigabyte of float32, far above every published configuration
LARGEST_GRID = 1 << 28


@dataclass(frozen=True)
class HexPlaneConfig:
    """Sizes and conventions of a field; the three weights are those of the regularizers it was made to train with."""

    features: int = 16  # channels per level
    resolution: tuple[int, int, int, int] = (64, 64, 64, 75)  # x, y, z, t of the first level
    multires: tuple[int, ...] = (1, 2)  # factors on the spatial resolution; the time resolution stays
    depth: int = 1  # linear layers in the trunk; 0 and 1 are the same single layer
    width: int = 64
    heads: tuple[str, ...] = THREE
    apply_rotation: bool = False  # True: quaternion product q · Δ; False: component-wise sum
    # "raw01" uses [0, 1] as grid coordinates, as 4D-GS does; "symmetric" uses the whole axis
    time_mapping: str = "raw01"
    time_range: tuple[float, float] = (0.0, 1.0)  # seconds that become 0 and 1
    plane_smoothness_weight: float = 1e-4
    time_smoothness_weight: float = 1e-3
    time_l1_weight: float = 1e-4

    def __post_init__(self) -> None:
        # lists from JSON become tuples
        for name in ("resolution", "multires", "heads", "time_range"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_conventions()
        self._check_sizes()

    def _check_conventions(self) -> None:
        """InputError for heads, a time mapping or a time range that do not exist."""
        unknown = set(self.heads) - set(HEADS)
        if unknown or len(set(self.heads)) != len(self.heads):
            raise InputError(
                "DEF-002",
                f"HexPlane: heads are {self.heads}; choose among {', '.join(HEADS)}, each at most once.",
            )
        if self.time_mapping not in ("raw01", "symmetric"):
            raise InputError(
                "DEF-003", f"HexPlane: time_mapping is '{self.time_mapping}'; choose raw01 or symmetric."
            )
        # the difference of two finite numbers may still be infinite
        if len(self.time_range) != 2 or not 0 <= self.time_range[1] - self.time_range[0] < math.inf:
            raise InputError(
                "DEF-004",
                f"HexPlane: time_range is {self.time_range}; it must be two ascending times in seconds.",
            )

    def _check_sizes(self) -> None:
        """InputError for sizes that are not whole numbers, or too large for any published configuration."""
        sizes = (self.features, self.width, *self.resolution, *self.multires)
        if (
            len(self.resolution) != 4
            or not self.multires
            or not all(isinstance(s, int) and s >= 1 for s in sizes)
        ):
            raise InputError(
                "DEF-005",
                f"HexPlane: features {self.features}, width {self.width}, resolution {self.resolution} and multires "
                f"{self.multires} must be whole numbers of at least 1 (four resolutions).",
            )
        values = sum(math.prod(shape) for level in self.plane_shapes() for shape in level)
        if not 0 <= self.depth <= 64 or self.width > 8192 or values > LARGEST_GRID:
            raise InputError(
                "DEF-006",
                f"HexPlane: depth {self.depth}, width {self.width} and {values} grid values exceed the limits (64, 8192 "
                f"and {LARGEST_GRID}); lower the resolution.",
            )

    def plane_shapes(self) -> list[list[tuple[int, int, int, int]]]:
        """Levels × 6 shapes (1, C, res_b, res_a): the second axis of a pair is the height."""
        levels: list[list[tuple[int, int, int, int]]] = []
        for factor in self.multires:
            size = [*(r * factor for r in self.resolution[:3]), self.resolution[3]]
            levels.append([(1, self.features, size[b], size[a]) for a, b in PAIRS])
        return levels

    def grid_layout(self) -> GridLayout:
        return GridLayout(tuple(tuple(level) for level in self.plane_shapes()))

    def network_layout(self) -> NetworkLayout:
        inputs = self.features * len(self.multires)
        return NetworkLayout(
            inputs, self.width, max(self.depth, 1), tuple(HEADS[head] for head in self.heads)
        )

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of everything that a field of this configuration stores."""
        shapes: dict[str, tuple[int, ...]] = {"aabb": (2, 3)}
        for level, planes in enumerate(self.plane_shapes()):
            shapes |= {f"grids.{level}.{index}": shape for index, shape in enumerate(planes)}
        layers = {
            f"trunk.{i}": (self.width if i else self.features * len(self.multires), self.width)
            for i in range(max(self.depth, 1))
        }
        for head in self.heads:
            layers |= {
                f"hidden.{head}": (self.width, self.width),
                f"output.{head}": (self.width, HEADS[head]),
            }
        for name, (inputs, outputs) in layers.items():
            shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
        return shapes

    def to_json(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @staticmethod
    def from_json(data: dict[str, Any]) -> HexPlaneConfig:
        """InputError where a key is unknown or a value has the wrong type."""
        known = {f.name for f in fields(HexPlaneConfig)}
        if unknown := set(data) - known:
            raise InputError(
                "DEF-007",
                f"HexPlane: unknown settings {', '.join(sorted(unknown))}; the file may come from a newer version.",
            )
        try:
            return HexPlaneConfig(**data)
        except TypeError as error:
            raise InputError(
                "DEF-008", f"HexPlane: its settings cannot be read ({error}); the file is damaged."
            ) from error


# Table in the paper's repository, per data set; the time resolution is about half the number of frames of a video.
PRESETS: dict[str, HexPlaneConfig] = {
    "dnerf": HexPlaneConfig(32, (64, 64, 64, 75), (1, 2), 0, 64, THREE, time_smoothness_weight=1e-2),
    "hypernerf": HexPlaneConfig(16, (64, 64, 64, 150), (1, 2, 4), 1, 128, THREE, plane_smoothness_weight=2e-4),
    "dynerf": HexPlaneConfig(16, (64, 64, 64, 150), (1, 2), 0, 128, tuple(HEADS), plane_smoothness_weight=2e-4),
    "multipleview": HexPlaneConfig(16, (64, 64, 64, 150), (1, 2), 0, 128, tuple(HEADS), plane_smoothness_weight=2e-4),
    "dycheck": HexPlaneConfig(16, (64, 64, 64, 150), (1, 2, 4), 1, 128, THREE, plane_smoothness_weight=2e-4),
    # ours, for a short video on two CPU cores
    "small": HexPlaneConfig(16, (32, 32, 32, 25), (1, 2), 0, 48, THREE, time_mapping="symmetric"),
}  # fmt: skip
