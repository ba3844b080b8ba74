"""A motion made outside the engine: every Gaussian drifts at a velocity of its own, which can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from engine.scene import Deformation, Gaussians
from engine.train.motion import MotionStart, TrainableMotion
from engine.train.normalization import Normalization
from engine.train.parameters import GaussianParameters, Lineage


class Drifting:
    """A deformation with one velocity [3] for each Gaussian, in world units a second."""

    kind: ClassVar[str] = "drifting"

    def __init__(self, velocity: Tensor) -> None:
        self.velocity = velocity  # [N, 3]

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        return gaussians.with_(means=gaussians.means + seconds * self.velocity)

    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return {"velocity": self.velocity.detach()}

    def to(self, device: torch.device | str) -> Drifting:
        return Drifting(self.velocity.detach().clone().to(device))

    def take(self, index: Tensor) -> Drifting:
        return Drifting(self.velocity[index])

    def trainable(self) -> Drifting:
        return self


class DriftMotion(TrainableMotion):
    """Trains velocities; positions are trained in units of half the subject's radius, as a local frame would be."""

    unit: ClassVar[float] = 0.5

    def __init__(self, velocity: Tensor, part: Drifting | None = None) -> None:
        self._bind(velocity, part)
        self.seen: list[int] = []  # counts that `after_density` and `after_step` were told of

    def _bind(self, velocity: Tensor, part: Drifting | None) -> None:
        self.velocity, self.part = nn.Parameter(velocity.detach().clone()), part
        self.optimizer = torch.optim.Adam([self.velocity], lr=1e-2)
        if part is not None:
            part.velocity = self.velocity

    @staticmethod
    def create(start: MotionStart) -> DriftMotion:
        return DriftMotion(torch.zeros_like(start.canonical.means))

    @staticmethod
    def adopt(part: Deformation, times: Tensor) -> DriftMotion:
        assert isinstance(part, Drifting)
        return DriftMotion(part.velocity, part)

    def to_trained(self, canonical: Gaussians) -> Gaussians:
        return canonical.with_(means=canonical.means / self.unit)

    def to_canonical(self, trained: Gaussians) -> Gaussians:
        return trained.with_(means=trained.means * self.unit)

    def deform(self, trained: Gaussians, seconds: float) -> Gaussians:
        canonical = self.to_canonical(trained)
        return canonical.with_(means=canonical.means + seconds * self.velocity)

    def loss(self) -> Tensor:
        return 1e-4 * self.velocity.square().mean()

    def step(self, progress: float) -> None:
        self.optimizer.param_groups[0]["lr"] = 1e-2 * (1 - 0.9 * progress)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def after_step(self, parameters: GaussianParameters, iteration: int, progress: float) -> None:
        assert len(parameters) == len(self.velocity)

    def after_density(self, change: Lineage, part: Deformation | None = None) -> None:
        memory = dict(self.optimizer.state.get(self.velocity, {}))
        assert part is None or isinstance(part, Drifting)
        self._bind(self.velocity[change.parents], part)
        if memory:
            rows = {key: memory[key][change.parents].clone() for key in ("exp_avg", "exp_avg_sq")}
            for row in rows.values():
                row[change.born] = 0
            self.optimizer.state[self.velocity] = {"step": memory["step"], **rows}
        self.seen.append(len(self.velocity))

    def trained(self) -> Mapping[str, Tensor]:
        return {"velocity": self.velocity}

    def finished(self, world: Normalization) -> Drifting:
        return Drifting((self.velocity.detach() * world.scale).cpu())

    def state(self) -> dict[str, Tensor]:
        memory = self.optimizer.state.get(self.velocity, {})
        return {"velocity": self.velocity.detach(), **{f"adam.{key}": value for key, value in memory.items()}}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._bind(state["velocity"], self.part)
        memory = {
            key.removeprefix("adam."): value.clone() for key, value in state.items() if key != "velocity"
        }
        if memory:
            self.optimizer.state[self.velocity] = memory
