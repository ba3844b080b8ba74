"""Training of a HexPlane field: learning rates, smoothness, and which Gaussians are held still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..deform import PRESETS, HexPlane, HexPlaneConfig, Masked
from ..losses.regularizers import hexplane_regularizer
from ..scene import Deformation, Gaussians
from .adam import Adam
from .motion import Collected, MotionStart, TrainableMotion, on_cpu
from .normalization import Normalization
from .parameters import GaussianParameters, Lineage
from .schedule import log_linear
from .state import adam_memory

# iterations between two checks for static Gaussians
CHECK_EVERY = 200
MOMENTS_CHECKED = 8
# fraction of the training after which Gaussians that do not move count as static
LEARNED = 0.5
# fraction of static Gaussians from which skipping them outweighs the cost of gathering the others
WORTH_IT = 0.3


class HexPlaneMotion(TrainableMotion):
    """Trains a field that depends on position alone, so added and removed Gaussians do not concern it."""

    def __init__(
        self,
        field: HexPlane,
        times: Tensor,  # [T] seconds of the frames
        grid_lr: float,
        network_lr: float,
        plane_weight: float = 1.0,
        still_threshold: float = 0.0,
    ) -> None:
        self.field, self.times = field, times
        self.rates, self.plane_weight, self.still_threshold = (
            (grid_lr, network_lr),
            plane_weight,
            still_threshold,
        )
        # [N] bool: held still; None where all may move
        self.still: Tensor | None = None
        # `still` comes from the start scene and was not measured since
        self.inherits = False
        groups = [
            {"params": [field.grids], "lr": grid_lr},
            {"params": [field.network], "lr": network_lr},
        ]
        self.optimizer = Adam(groups)

    @staticmethod
    def create(start: MotionStart) -> HexPlaneMotion:
        """A field over the normalized subject (a cube of half-size 1.1), identity at the start."""
        c, times = start.config, start.video.times
        settings = field_settings(PRESETS[c.motion], times, c.time_resolution)
        box = torch.tensor([[1.1] * 3, [-1.1] * 3])
        field = HexPlane.create(settings, box, start.generator, zero_init=True).to(start.canonical.device)
        return HexPlaneMotion(field, times, c.grid_lr, c.network_lr, c.plane_weight, c.still_threshold)

    @staticmethod
    def continued(start: MotionStart) -> HexPlaneMotion:
        """The start scene's field, brought to the normalized world, at the training's rates."""
        assert start.scene is not None
        part, c, device = start.scene.deformation, start.config, start.canonical.device
        field = part.inner if isinstance(part, Masked) else part
        assert isinstance(field, HexPlane)
        field = _rescaled(
            field.to(device), 1 / start.world.scale, [-x for x in start.world.center], first=True
        )
        times = start.video.times
        motion = HexPlaneMotion(field, times, c.grid_lr, c.network_lr, c.plane_weight, c.still_threshold)
        if isinstance(part, Masked):
            motion.still, motion.inherits = ~part.moving.to(device), True
        return motion

    @staticmethod
    def adopt(part: Deformation, times: Tensor) -> HexPlaneMotion:
        """Trains a finished field in place, at the learning rates of 4DGS."""
        assert isinstance(part, HexPlane)
        return HexPlaneMotion(part, times, grid_lr=1.6e-3, network_lr=1.6e-4)

    def deform(self, trained: Gaussians, seconds: float) -> Gaussians:
        moving = None if self.still is None else ~self.still
        return self.field.deform_active(trained, seconds, moving)

    def loss(self) -> Tensor:
        """The regularizers of 4D-GS with the preset's weights (paper, equation 7)."""
        s, weight = self.field.settings, self.plane_weight
        return hexplane_regularizer(
            self.field.grids,
            self.field.grid_layout,
            weight * s.plane_smoothness_weight,
            weight * s.time_smoothness_weight,
            weight * s.time_l1_weight,
        )

    def step(self, progress: float) -> None:
        """One Adam step; both rates fall to a tenth over the fit."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = log_linear(rate, rate * 0.1, progress) if rate else 0.0
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def after_density(self, change: Lineage, part: Deformation | None = None) -> None:
        """Only `still` is stored for each Gaussian, and `after_step` measures it again.

        What the start scene said about its Gaussians is passed on, since it is measured much later.
        """
        if self.inherits and self.still is not None:
            self.still = self.still[change.parents]

    @torch.no_grad()
    def after_step(self, parameters: GaussianParameters, iteration: int, progress: float) -> None:
        """Find static Gaussians again: after every change of count, and every `CHECK_EVERY` iterations.

        Not before `LEARNED`: the field starts as the identity, and held Gaussians cannot learn to move.
        """
        if not self.still_threshold or progress < LEARNED:
            return
        changed = self.still is not None and len(self.still) != len(parameters)
        if not changed and iteration % CHECK_EVERY:
            return
        still = self._measure(parameters.gaussians())
        self.inherits = False
        self.still = still if float(still.float().mean()) >= WORTH_IT else None

    def _measure(self, gaussians: Gaussians) -> Tensor:
        """[N] bool: at no frame does a Gaussian change by more than the threshold (positions in subject radii)."""
        limit = self.still_threshold
        chosen = torch.linspace(0, len(self.times) - 1, min(MOMENTS_CHECKED, len(self.times))).round().long()
        still = torch.ones(len(gaussians), dtype=torch.bool, device=gaussians.device)
        before = gaussians.activated()
        for moved in self.field.deform_many(gaussians, self.times[chosen].tolist()):
            now = moved.activated()
            still &= (now.means - before.means).norm(dim=-1) < limit
            still &= (now.scales - before.scales).abs().amax(dim=-1) < limit
            # radians
            turn = (now.quats * before.quats).sum(-1).abs().clamp(max=1).acos() * 2
            still &= turn * before.scales.amax(dim=-1) < limit
            still &= (now.opacities - before.opacities).abs() < 0.01
            still &= (now.sh - before.sh).abs().amax(dim=(1, 2)) < 0.02
        return still

    def finished(self, world: Normalization, collected: Collected = on_cpu) -> Deformation:
        """The trained deformation in world units, a copy on the CPU."""
        field, still = self._in_world(world), collected(self.still, 0)
        return Masked(field, ~still) if bool(still.any()) else field

    def _in_world(self, world: Normalization) -> HexPlane:
        """The field that moves world Gaussians as this one moves normalized ones; a copy on the CPU."""
        return _rescaled(self.field.to("cpu"), world.scale, list(world.center))

    def trained(self) -> dict[str, Tensor]:
        return self.field.tensors()

    def optimized(self) -> list[Tensor]:
        return list(self._parameters().values())

    def rows(self) -> Mapping[str, int | None]:
        return {"still": 0}

    def state(self) -> dict[str, Tensor]:
        result = {f"field.{name}": t for name, t in self.field.tensors().items()}
        for name, parameter in self._parameters().items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                result[f"adam.{name}.{key}"] = value
        if self.still is not None:
            result["still"] = self.still
        if self.inherits:
            result["inherits"] = torch.ones(())
        return result

    def load_state(self, state: dict[str, Tensor]) -> None:
        if "adam.0.step" in state:
            # one for each plane and layer: its memory would be dropped without a word
            raise ValueError("it was written by an earlier version")
        with torch.no_grad():
            for name, tensor in self.field.tensors().items():
                tensor.copy_(state[f"field.{name}"])
        self.optimizer.state.clear()
        for name, parameter in self._parameters().items():
            moments = adam_memory(state, f"adam.{name}", parameter)
            if moments:
                self.optimizer.state[parameter] = moments
        still = state.get("still")
        # of a process that divided them, none may be
        self.still = still.to(self.field.grids.device) if still is not None and bool(still.any()) else None
        self.inherits = "inherits" in state

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {"grids": self.field.grids, "network": self.field.network}


def _rescaled(field: HexPlane, scale: float, center: list[float], first: bool = False) -> HexPlane:
    """The field after the change of units x → scale·x + center, or scale·(x + center) with `first`; changed in place."""
    shift = torch.tensor(center, device=field.aabb.device)
    with torch.no_grad():
        if first:
            field.aabb.add_(shift).mul_(scale)
        else:
            field.aabb.mul_(scale).add_(shift)
        if "position" in field.settings.heads:
            for tensor in field.head("position"):
                tensor.mul_(scale)
    return field


def field_settings(preset: HexPlaneConfig, times: Tensor, time_resolution: int = 0) -> HexPlaneConfig:
    """The preset with the capture's time range; half as many time steps as frames unless `time_resolution` is set."""
    steps = time_resolution or max(4, round(len(times) / 2))
    return replace(
        preset,
        resolution=(*preset.resolution[:3], steps),
        time_range=(float(times[0]), float(times[-1])),
        time_mapping="symmetric",
    )
