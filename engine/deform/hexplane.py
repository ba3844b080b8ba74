"""HexPlane deformation of 4D Gaussian Splatting (Wu et al., CVPR 2024, arXiv 2310.08528, sections 4.1 and 4.2).

Six planes a level for the pairs (xy, xz, xt, yz, yt, zt) of a Gaussian's centre and the time; their samples are
multiplied, levels are concatenated, and a small network turns the features into additions to the stored (pre-activation)
values of the Gaussians. Written for two CPU cores: at one moment a time plane is a line, so it costs one row blend and a
one-dimensional look-up, and only the enabled heads are evaluated.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..finite import is_finite
from ..scene import rotations
from ..scene.gaussians import Gaussians

HEADS = {"position": 3, "scale": 3, "rotation": 4, "opacity": 1, "sh": 48}  # head → outputs
PAIRS = tuple(itertools.combinations(range(4), 2))  # axes (a, b) of plane 0..5 in x, y, z, t; t = 3
SPACE_PLANES, TIME_PLANES = (0, 1, 3), (2, 4, 5)
THREE = ("position", "scale", "rotation")
LARGEST_GRID = 1 << 28  # values; a gigabyte of float32, far above every published configuration


@dataclass(frozen=True)
class HexPlaneConfig:
    """Sizes and conventions of a field; the three weights are those of the regularisers it was made to train with."""

    features: int = 16  # channels per level
    resolution: tuple[int, int, int, int] = (64, 64, 64, 75)  # x, y, z, t of the first level
    multires: tuple[int, ...] = (1, 2)  # factors on the spatial resolution; the time resolution stays
    depth: int = 1  # linear layers in the trunk; 0 and 1 are the same single layer
    width: int = 64
    heads: tuple[str, ...] = THREE
    apply_rotation: bool = False  # True: quaternion product q · Δ; False: component-wise sum
    time_mapping: str = (
        "raw01"  # "raw01": [0, 1] used as grid coordinate, as 4D-GS does; "symmetric": the whole axis
    )
    time_range: tuple[float, float] = (0.0, 1.0)  # seconds that become 0 and 1
    plane_smoothness_weight: float = 1e-4
    time_smoothness_weight: float = 1e-3
    time_l1_weight: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("resolution", "multires", "heads", "time_range"):  # lists from JSON become tuples
            object.__setattr__(self, name, tuple(getattr(self, name)))
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
                "DEF-004", f"HexPlane: time_range {self.time_range} must be two ascending numbers of seconds."
            )
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
                f"HexPlane: depth {self.depth}, width {self.width} and {values} grid values are more than any field needs; "
                "lower the resolution.",
            )

    def plane_shapes(self) -> list[list[tuple[int, int, int, int]]]:
        """Levels × 6 shapes (1, C, res_b, res_a): the second axis of a pair is the height."""
        levels: list[list[tuple[int, int, int, int]]] = []
        for factor in self.multires:
            size = [*(r * factor for r in self.resolution[:3]), self.resolution[3]]
            levels.append([(1, self.features, size[b], size[a]) for a, b in PAIRS])
        return levels

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
                f"HexPlane: unknown settings {', '.join(sorted(unknown))}; was the file made by a newer version?",
            )
        try:
            return HexPlaneConfig(**data)
        except TypeError as error:
            raise InputError("DEF-008", f"HexPlane: its settings cannot be read ({error}).") from error


# Table in the paper's repository, per data set; time resolution is about half the number of frames of a clip.
PRESETS: dict[str, HexPlaneConfig] = {
    "dnerf": HexPlaneConfig(32, (64, 64, 64, 75), (1, 2), 0, 64, THREE, time_smoothness_weight=1e-2),
    "hypernerf": HexPlaneConfig(16, (64, 64, 64, 150), (1, 2, 4), 1, 128, THREE, plane_smoothness_weight=2e-4),
    "dynerf": HexPlaneConfig(16, (64, 64, 64, 150), (1, 2), 0, 128, tuple(HEADS), plane_smoothness_weight=2e-4),
    "multipleview": HexPlaneConfig(16, (64, 64, 64, 150), (1, 2), 0, 128, tuple(HEADS), plane_smoothness_weight=2e-4),
    "dycheck": HexPlaneConfig(16, (64, 64, 64, 150), (1, 2, 4), 1, 128, THREE, plane_smoothness_weight=2e-4),
    # ours, for a short clip on two CPU cores
    "small": HexPlaneConfig(16, (32, 32, 32, 25), (1, 2), 0, 48, THREE, time_mapping="symmetric"),
}  # fmt: skip


class _RowBlend(torch.autograd.Function):
    """(1 − w)·plane[…, i, :] + w·plane[…, i + 1, :], with a gradient written once instead of one plane for each row."""

    @staticmethod
    def forward(ctx: Any, plane: Tensor, row: int, weight: float) -> Tensor:
        ctx.shape, ctx.row, ctx.weight = plane.shape, row, weight
        if weight == 0.0:
            return plane[:, :, row : row + 1].clone()
        return torch.lerp(plane[:, :, row : row + 1], plane[:, :, row + 1 : row + 2], weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        result = grads[0].new_zeros(ctx.shape)
        result[:, :, ctx.row] = grads[0][:, :, 0] * (1 - ctx.weight)
        if ctx.weight != 0.0:
            result[:, :, ctx.row + 1] = grads[0][:, :, 0] * ctx.weight
        return result, None, None


class HexPlane(nn.Module):
    """A deformation field. `settings` are its sizes; `aabb` [2, 3] is row 0 = maximum, row 1 = minimum, as in 4D-GS."""

    kind: ClassVar[str] = "hexplane"
    aabb: Tensor

    def __init__(
        self,
        settings: HexPlaneConfig,
        aabb: Tensor,
        generator: torch.Generator | None = None,
        zero_init: bool = True,
    ) -> None:
        """A new field, see `create`. Raises InputError where `aabb` has no extent."""
        super().__init__()
        if (
            tuple(aabb.shape) != (2, 3)
            or not bool(torch.isfinite(aabb).all())
            or bool((aabb[0] == aabb[1]).any())
        ):
            raise InputError(
                "DEF-009",
                f"HexPlane: the box {aabb.tolist()} must be a maximum and a minimum corner with some extent.",
            )
        box = aabb.detach().to(torch.float32).clone()
        if not bool((torch.isfinite(_per_unit(box)) & (_per_unit(box) != 0)).all()):
            corners = " ".join(f"{number:g}" for number in aabb.flatten().tolist())
            raise InputError(
                "DEF-010",
                f"HexPlane: the box '{corners}' is too small or too large to compute with; the file is damaged, or the "
                "units of its capture are wrong.",
            )
        self.settings = settings
        self.register_buffer("aabb", box)
        self.grids = nn.ModuleList()
        for shapes in settings.plane_shapes():
            planes = nn.ParameterList()
            for index, shape in enumerate(shapes):
                if index in TIME_PLANES:  # neutral in the product
                    planes.append(nn.Parameter(torch.ones(shape)))
                else:
                    planes.append(nn.Parameter(torch.rand(shape, generator=generator) * 0.4 + 0.1))
            self.grids.append(planes)
        width = settings.width
        inputs = [settings.features * len(settings.multires), *[width] * (max(settings.depth, 1) - 1)]
        self.trunk = nn.ModuleList(_linear(i, width, generator) for i in inputs)
        self.hidden = nn.ModuleDict({head: _linear(width, width, generator) for head in settings.heads})
        self.output = nn.ModuleDict({head: _linear(width, HEADS[head], generator) for head in settings.heads})
        if zero_init:
            for head, layer in self.output.items():
                assert isinstance(layer, nn.Linear)
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
                if head == "rotation" and settings.apply_rotation:
                    with torch.no_grad():
                        layer.bias[0] = 1.0  # the identity quaternion

    @classmethod
    def create(
        cls,
        config: HexPlaneConfig,
        aabb: Tensor,
        generator: torch.Generator | None = None,
        zero_init: bool = True,
    ) -> HexPlane:
        """A new field for the box `aabb` [2, 3] (row 0 maximum, row 1 minimum; flat axes are given some extent).

        `zero_init` starts the heads' outputs at zero, so that the new field moves nothing; 4D-GS itself starts from
        Xavier-uniform outputs (zero_init=False).
        """
        high, low = aabb.detach().double()
        extent = (high - low).abs()
        pad = torch.where(extent < 1e-6, extent.max().clamp(min=1.0) * 0.5, torch.zeros_like(extent))
        return cls(config, torch.stack([high + pad, low - pad]), generator, zero_init)

    # -- what a file stores -------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        return self.settings.to_json()

    def tensors(self) -> dict[str, Tensor]:
        """Every parameter and the box, by name; they share memory with the field."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> HexPlane:
        """The inverse of `config` and `tensors`. Raises InputError where names or shapes do not fit."""
        settings = HexPlaneConfig.from_json(config)
        wanted = settings.tensor_shapes()  # held against the file before anything of its claimed size is made
        for name in sorted(wanted.keys() | tensors.keys()):
            have = tuple(tensors[name].shape) if name in tensors else None
            if have != wanted.get(name):
                raise InputError(
                    "DEF-011",
                    f"HexPlane: '{name}' has shape {have} in the file, expected {wanted.get(name)}; the file is damaged or "
                    "of another kind.",
                )
        with torch.random.fork_rng(
            devices=[]
        ):  # the initial values are overwritten; the global state stays untouched
            field = cls(settings, tensors["aabb"])
        field.load_state_dict({name: tensor.to(torch.float32) for name, tensor in tensors.items()})
        return field

    def to(self, device: torch.device | str) -> HexPlane:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A copy on `device`; the original stays where it is."""
        result = copy.deepcopy(self)
        nn.Module.to(result, device)
        return result

    def take(self, index: Tensor) -> HexPlane:
        """Itself: where a Gaussian is decides how it moves."""
        return self

    def trainable(self) -> HexPlane:
        return self

    # -- parameters ---------------------------------------------------------------------------------------------------

    def planes(self) -> list[list[nn.Parameter]]:
        """Levels × 6 planes [1, C, res_b, res_a] in the order of `PAIRS`, for the regularisers."""
        return [list(level) for level in self.grids]  # pyright: ignore[reportArgumentType]

    def grid_parameters(self) -> list[nn.Parameter]:
        return [plane for level in self.planes() for plane in level]

    def network_parameters(self) -> list[nn.Parameter]:
        return [*self.trunk.parameters(), *self.hidden.parameters(), *self.output.parameters()]

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def time_coordinate(self, seconds: float) -> float:
        """The grid coordinate in [-1, 1] that a time is looked up at."""
        start, end = self.settings.time_range
        t = (seconds - start) / (end - start) if end > start else 0.0
        return t if self.settings.time_mapping == "raw01" else 2 * t - 1

    def features(self, means: Tensor, seconds: Sequence[float]) -> Tensor:
        """HexPlane features [C·levels, B·N] of `means` [N, 3] at B times (paper, equation 5); N runs fastest."""
        p = (means - self.aabb[0]) * _per_unit(self.aabb) - 1.0
        _check_coordinates(p)
        grid = torch.stack([p[:, list(PAIRS[i])] for i in SPACE_PLANES])[:, None]  # [3, 1, N, 2]
        line = torch.stack([p.T, torch.zeros_like(p.T)], dim=-1)[
            :, None
        ]  # [3, 1, N, 2]; a line is one row high
        coordinates = [self.time_coordinate(s) for s in seconds]
        levels: list[Tensor] = []
        for planes in self.planes():
            still = _sample([planes[i] for i in SPACE_PLANES], grid)
            moving = [_sample([_row(planes[i], t) for i in TIME_PLANES], line) for t in coordinates]
            levels.append(
                torch.cat([still * m for m in moving], dim=1) if len(moving) > 1 else still * moving[0]
            )
        return torch.cat(levels) if len(levels) > 1 else levels[0]

    def deltas(self, means: Tensor, seconds: Sequence[float]) -> dict[str, Tensor]:
        """Output of each enabled head, [B, N, k], for `means` [N, 3] at B times."""
        if not self.settings.heads:
            return {}
        h = self.features(means, seconds)
        for index, layer in enumerate(self.trunk):
            h = _columns(layer, h.relu_() if index else h)
        h = h.relu_()
        shape = (len(seconds), means.shape[0])
        result: dict[str, Tensor] = {}
        for (
            head
        ) in self.settings.heads:  # one at a time: buffers of all heads at once cost more in page faults
            out = _columns(self.output[head], _columns(self.hidden[head], h).relu_())
            result[head] = out.unflatten(1, shape).permute(1, 2, 0)
        return result

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        """The Gaussians at a time in seconds; differentiable in both the Gaussians and the field."""
        return self.deform_many(gaussians, [seconds])[0]

    def deform_many(self, gaussians: Gaussians, seconds: Tensor | Sequence[float]) -> list[Gaussians]:
        """The Gaussians at each of B times in seconds; the spatial planes are looked up once."""
        times = [float(s) for s in seconds]
        if not times:
            return []
        deltas = self.deltas(gaussians.means, times)
        return [self._add(gaussians, {k: v[i] for k, v in deltas.items()}) for i in range(len(times))]

    def deform_active(self, gaussians: Gaussians, seconds: float, active: Tensor | None) -> Gaussians:
        """As `deform`, but only where `active` [N] bool; the rest keeps its values bit for bit. None = all."""
        if active is None:
            return self.deform(gaussians, seconds)
        index = active.nonzero().flatten()
        if len(index) == len(gaussians):
            return self.deform(gaussians, seconds)
        if len(index) == 0:
            return gaussians
        part = gaussians.map(lambda t: t[index])
        moved = self.deform(part, seconds).tensors()
        before = part.tensors()
        return gaussians.with_(
            **{
                name: tensor.index_copy(0, index, moved[name])
                for name, tensor in gaussians.tensors().items()
                if moved[name] is not before[name]
            }
        )

    def _add(self, g: Gaussians, deltas: dict[str, Tensor]) -> Gaussians:
        changed: dict[str, Tensor] = {}
        if "position" in deltas:
            changed["means"] = g.means + deltas["position"]
        if "scale" in deltas:
            changed["log_scales"] = g.log_scales + deltas["scale"]
        if "rotation" in deltas:
            if self.settings.apply_rotation:
                changed["quats"] = rotations.normalise(rotations.multiply(g.quats, deltas["rotation"]))
            else:
                changed["quats"] = g.quats + deltas["rotation"]
        if "opacity" in deltas:
            changed["logit_opacities"] = g.logit_opacities + deltas["opacity"][:, 0]
        if "sh" in deltas:  # a scene of a lower SH degree uses the first bases of the head
            changed["sh"] = g.sh + deltas["sh"].unflatten(-1, (16, 3))[:, : g.sh.shape[1]]
        return g.with_(**changed)


def _per_unit(box: Tensor) -> Tensor:
    """Grid coordinates [3] in one world unit of `box` [2, 3]; negative, as 4D-GS has it."""
    return 2.0 / (box[1] - box[0])


def _check_coordinates(p: Tensor) -> None:
    """InputError where a grid coordinate of `p` [N, 3] is NaN or infinite."""
    # on the CPU, the backward pass of grid_sample ends the whole process there; on a GPU it does not, and a look would
    # wait for the device
    if p.device.type != "cpu" or is_finite(p):
        return
    bad = int((~torch.isfinite(p.detach())).any(dim=1).sum())
    raise InputError(
        "DEF-012",
        f"{bad} of {len(p)} Gaussians lie at positions that are NaN or beyond what the deformation can compute with; the "
        "scene is damaged, export or train it again.",
    )


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    assert isinstance(layer, nn.Linear)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    bound = inputs**-0.5
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def _columns(layer: nn.Module, x: Tensor) -> Tensor:
    """A linear layer on columns: [inputs, M] → [outputs, M]; grid samples come out this way round."""
    assert isinstance(layer, nn.Linear)
    return torch.addmm(layer.bias[:, None], layer.weight, x)


def _row(plane: Tensor, t: float) -> Tensor:
    """The line [1, C, 1, res_a] of a time plane at grid coordinate `t`, clamped to the border."""
    last = plane.shape[2] - 1
    position = (min(max(t, -1.0), 1.0) + 1) / 2 * last
    row = min(int(position), max(last - 1, 0))
    return _RowBlend.apply(plane, row, position - row)  # pyright: ignore[reportReturnType]


def _sample(planes: list[Tensor], grid: Tensor) -> Tensor:
    """Product [C, N] of the bilinear samples of three planes at `grid` [3, 1, N, 2], clamped to the border."""
    if planes[0].shape == planes[1].shape == planes[2].shape:  # one call runs the three on several threads
        a, b, c = F.grid_sample(torch.cat(planes), grid, padding_mode="border", align_corners=True)[:, :, 0]
    else:
        a, b, c = (
            F.grid_sample(plane, grid[i : i + 1], padding_mode="border", align_corners=True)[0, :, 0]
            for i, plane in enumerate(planes)
        )
    return a * b * c
