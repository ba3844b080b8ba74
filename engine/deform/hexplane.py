"""HexPlane deformation of 4D Gaussian Splatting (Wu et al., CVPR 2024, arXiv 2310.08528, sections 4.1 and 4.2).

Each level has six planes for the pairs (xy, xz, xt, yz, yt, zt) of a Gaussian's center and the time. Their samples are
multiplied, levels are concatenated, and a small network turns the features into additions to the stored (pre-activation)
values of the Gaussians. Optimized for two CPU cores: at one time, a time plane is a line, so it costs one row blend and a
one-dimensional look-up, and only the enabled heads are evaluated.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..finite import is_finite
from ..scene import rotations
from ..scene.gaussians import Gaussians
from .hexplane_config import HEADS, PAIRS, PRESETS, THREE, TIME_PLANES, HexPlaneConfig
from .hexplane_layout import Layer, Layers, NetworkLayout
from .network import head_outputs
from .plane_sampling import field_features

__all__ = ["HEADS", "PAIRS", "PRESETS", "THREE", "HexPlane", "HexPlaneConfig"]


class HexPlane(nn.Module):
    """A deformation field. `settings` are its sizes; `aabb` [2, 3] is row 0 = maximum, row 1 = minimum, as in 4D-GS.

    Planes and network are one flat parameter each; `planes` and `layers` are views of them, and `tensors` names the parts.
    """

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
        self.settings = settings
        self.register_buffer("aabb", _checked_box(aabb))
        self.grid_layout, self.network_layout = settings.grid_layout(), settings.network_layout()
        planes = [_new_planes(shapes, generator) for shapes in self.grid_layout.shapes]
        self.grids = nn.Parameter(self.grid_layout.pack(planes))
        self.network = nn.Parameter(NetworkLayout.pack(self._new_layers(generator)))
        if zero_init:
            self._zero_outputs()

    def _new_layers(self, generator: torch.Generator | None) -> Layers:
        layout = self.network_layout
        shapes = layout.layer_shapes
        trunk = [_linear(given, out, generator) for out, given in shapes[: layout.trunk]]
        hidden = [_linear(layout.width, layout.width, generator) for _ in layout.outputs]
        output = [_linear(layout.width, outputs, generator) for outputs in layout.outputs]
        return Layers(trunk, list(zip(hidden, output, strict=True)))

    def _zero_outputs(self) -> None:
        """Make the field the identity."""
        with torch.no_grad():
            for head, (_, (weight, bias)) in zip(self.settings.heads, self.layers().heads, strict=True):
                weight.zero_()
                bias.zero_()
                if head == "rotation" and self.settings.apply_rotation:
                    # the identity quaternion
                    bias[0] = 1.0

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
        named = {"aabb": self.aabb}
        for level, planes in enumerate(self.planes()):
            named |= {f"grids.{level}.{i}": plane for i, plane in enumerate(planes)}
        layers = self.layers()
        parts = {f"trunk.{i}": layer for i, layer in enumerate(layers.trunk)}
        heads = dict(zip(self.settings.heads, layers.heads, strict=True))
        parts |= {f"hidden.{head}": hidden for head, (hidden, _) in heads.items()}
        parts |= {f"output.{head}": output for head, (_, output) in heads.items()}
        for name, (weight, bias) in parts.items():
            named |= {f"{name}.weight": weight, f"{name}.bias": bias}
        return {name: tensor.detach() for name, tensor in named.items()}

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> HexPlane:
        """The inverse of `config` and `tensors`. Raises InputError where names or shapes do not fit."""
        settings = HexPlaneConfig.from_json(config)
        # checked before anything of the size that the file claims is allocated
        wanted = settings.tensor_shapes()
        for name in sorted(wanted.keys() | tensors.keys()):
            have = tuple(tensors[name].shape) if name in tensors else None
            if have != wanted.get(name):
                raise InputError(
                    "DEF-011",
                    f"HexPlane: '{name}' has shape {have} in the file, expected {wanted.get(name)}; the file is damaged or "
                    "of another kind.",
                )
        # the initial values are overwritten; the global random state stays untouched
        with torch.random.fork_rng(devices=[]):
            field = cls(settings, tensors["aabb"])
        for name, own in field.tensors().items():
            own.copy_(tensors[name])
        return field

    def to(self, device: torch.device | str) -> HexPlane:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A copy on `device`; the original stays where it is."""
        result = copy.deepcopy(self)
        nn.Module.to(result, device)
        return result

    def take(self, index: Tensor) -> HexPlane:
        """Itself: motion depends on a Gaussian's position alone."""
        return self

    def trainable(self) -> HexPlane:
        return self

    # -- parameters ---------------------------------------------------------------------------------------------------

    def planes(self) -> list[list[Tensor]]:
        """Levels × 6 planes [1, C, res_b, res_a] in the order of `PAIRS`; differentiable views."""
        return self.grid_layout.planes(self.grids)

    def layers(self) -> Layers:
        """The network's; differentiable views."""
        return self.network_layout.layers(self.network)

    def head(self, name: str) -> Layer:
        """The last layer of a head, views that share memory with the field. Raises ValueError where it is not enabled."""
        weight, bias = self.layers().heads[self.settings.heads.index(name)][1]
        return weight.detach(), bias.detach()

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def time_coordinate(self, seconds: float) -> float:
        """The grid coordinate in [-1, 1] that a time is looked up at."""
        start, end = self.settings.time_range
        t = (seconds - start) / (end - start) if end > start else 0.0
        return t if self.settings.time_mapping == "raw01" else 2 * t - 1

    def features(self, means: Tensor, seconds: Sequence[float]) -> Tensor:
        """HexPlane features [C·levels, B·N] of `means` [N, 3] at B times (paper, equation 5); N runs fastest."""
        p = self._coordinates(means)
        return field_features(self.grids, self.grid_layout, p, [self.time_coordinate(s) for s in seconds])

    def _coordinates(self, means: Tensor) -> Tensor:
        """Grid coordinates [N, 3] of `means`. Raises InputError where they are not finite."""
        # (means - corner)·scale - 1 in two passes
        p = torch.addcmul(self.aabb.new_full((), -1.0), means - self.aabb[0], _per_unit(self.aabb))
        _check_coordinates(p)
        return p

    def deltas(self, means: Tensor, seconds: Sequence[float]) -> dict[str, Tensor]:
        """Output of each enabled head, [B, N, k], for `means` [N, 3] at B times.

        Without gradients, a part of the Gaussians after the other: the network's buffers are up to 2 kB a Gaussian and time.
        """
        count, size = len(means), _at_once(means.device, len(seconds))
        if torch.is_grad_enabled() or count <= size:
            return self._deltas(means, seconds)
        # says how many of all are not finite
        self._coordinates(means)
        widths = {head: HEADS[head] for head in self.settings.heads}
        result = {head: means.new_empty(len(seconds), count, width) for head, width in widths.items()}
        for start in range(0, count, size):
            for head, part in self._deltas(means[start : start + size], seconds).items():
                result[head][:, start : start + size] = part
        return result

    def _deltas(self, means: Tensor, seconds: Sequence[float]) -> dict[str, Tensor]:
        """`deltas` of all Gaussians at once."""
        if not self.settings.heads:
            return {}
        outputs = head_outputs(self.network, self.network_layout, self.features(means, seconds))
        shape = (len(seconds), means.shape[0])
        return {head: out.unflatten(0, shape) for head, out in zip(self.settings.heads, outputs, strict=True)}

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        """The Gaussians at a time in seconds; differentiable in both the Gaussians and the field."""
        return self.deform_many(gaussians, [seconds])[0]

    def deform_many(self, gaussians: Gaussians, seconds: Tensor | Sequence[float]) -> list[Gaussians]:
        """The Gaussians at each of B times in seconds; the spatial planes are looked up once."""
        times = [float(s) for s in seconds]
        if not times:
            return []
        deltas = self.deltas(gaussians.means, times)
        # a view of a single time costs autograd nothing; a part of several is a copy in the backward pass
        each = {k: v.unbind() if len(times) > 1 else (v.squeeze(0),) for k, v in deltas.items()}
        return [self._add(gaussians, {k: v[i] for k, v in each.items()}) for i in range(len(times))]

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
        # a scene of a lower SH degree uses the first bases of the head
        if "sh" in deltas:
            changed["sh"] = g.sh + deltas["sh"].unflatten(-1, (16, 3))[:, : g.sh.shape[1]]
        return g.with_(**changed)


def _at_once(device: torch.device, times: int) -> int:
    """Gaussians whose motion is evaluated at once without gradients."""
    return max(1, (1 << 14 if device.type == "cpu" else 1 << 18) // max(times, 1))


def _checked_box(aabb: Tensor) -> Tensor:
    """A float32 copy of a box [2, 3]. Raises InputError where it has no extent or float32 cannot compute with it."""
    if (
        tuple(aabb.shape) != (2, 3)
        or not bool(torch.isfinite(aabb).all())
        or bool((aabb[0] == aabb[1]).any())
    ):
        raise InputError(
            "DEF-009",
            f"HexPlane: the box {aabb.tolist()} must be a maximum and a minimum corner that differ on every axis.",
        )
    box = aabb.detach().to(torch.float32).clone()
    if not bool((torch.isfinite(_per_unit(box)) & (_per_unit(box) != 0)).all()):
        corners = " ".join(f"{number:g}" for number in aabb.flatten().tolist())
        raise InputError(
            "DEF-010",
            f"HexPlane: the box '{corners}' is too small or too large to compute with; the file is damaged, or the "
            "units of its capture are wrong.",
        )
    return box


def _new_planes(
    shapes: Sequence[tuple[int, int, int, int]], generator: torch.Generator | None
) -> list[Tensor]:
    """The six planes of one level: random in space, ones in time, which are neutral in the product."""
    return [
        torch.ones(shape) if index in TIME_PLANES else torch.rand(shape, generator=generator) * 0.4 + 0.1
        for index, shape in enumerate(shapes)
    ]


def _per_unit(box: Tensor) -> Tensor:
    """Grid coordinates [3] in one world unit of `box` [2, 3]; negative, as 4D-GS has it."""
    return 2.0 / (box[1] - box[0])


def _check_coordinates(p: Tensor) -> None:
    """InputError where a grid coordinate of `p` [N, 3] is NaN or infinite."""
    # On the CPU, the backward pass of grid_sample crashes the process on such values. On a GPU it does not, and this check
    # would wait for the device.
    if p.device.type != "cpu" or is_finite(p):
        return
    bad = int((~torch.isfinite(p.detach())).any(dim=1).sum())
    raise InputError(
        "DEF-012",
        f"{bad} of {len(p)} Gaussians have positions that are NaN or too large for the deformation. The scene is damaged; "
        "export or train it again.",
    )


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> Layer:
    weight = nn.init.xavier_uniform_(torch.empty(outputs, inputs), generator=generator)
    bound = inputs**-0.5
    return weight, nn.init.uniform_(torch.empty(outputs), -bound, bound, generator=generator)
