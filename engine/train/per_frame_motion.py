"""Training of motion that is stored per frame: an offset of every Gaussian at every frame, smooth in time and near rigid.

Source: the tracking of Dynamic 3D Gaussians (Luiten et al., 3DV 2024): offsets are parameters, a frame starts from its trained
neighbor, and neighborhoods stay rigid. Changed: all frames are trained in one run, and smoothness compares a frame with the
line between its neighbors in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ..deform import PerFrame
from ..deform.frame_times import frames_around
from ..losses.rigidity import rigidity
from ..scene import Deformation, Gaussians
from .adam import Adam
from .motion import Collected, MotionStart, TrainableMotion, on_cpu
from .normalization import Normalization
from .parameters import GaussianParameters, Lineage
from .schedule import log_linear
from .state import adam_memory

SMOOTHNESS, RIGIDITY = 0.1, 0.02
NEIGHBORS = 8
# steps between two searches for neighbors
SEARCH_EVERY = 500
# offsets of positions learn this much faster than positions: each frame is seen in few of the steps
POSITION_FACTOR = 5.0
# of a finished motion: the rate of a field's changes, relative to their root mean square
ADOPTED_RATE = 0.01


class PerFrameMotion(TrainableMotion):
    """Trains offsets [T, N, …] of positions and quaternions, and of whatever else a finished motion changes.

    Args:
        times: Frame times [T] in seconds.
        offsets: By field of `Gaussians`, [T, N, …].
        rates: Learning rate of each field.
        weight: Multiplies smoothness and rigidity.
        part: The deformation whose changes are trained in place.
        seen: Which frames hold trained offsets, [T] bool; None: no frame does.
    """

    row_axis = 1
    loss_is_mean = True

    def __init__(
        self,
        times: Tensor,
        offsets: Mapping[str, Tensor],
        rates: Mapping[str, float],
        weight: float = 1.0,
        part: PerFrame | None = None,
        seen: Tensor | None = None,
    ) -> None:
        self.times, self.rates, self.weight = times.double().cpu(), dict(rates), weight
        self.seen = torch.zeros(len(times), dtype=torch.bool) if seen is None else seen
        # [N, K] canonical neighbors; None: to be searched
        self.neighbors: Tensor | None = None
        # of the finished motion: frames are interpolated
        self.blends = True
        # what was rendered last, for `loss`: canonical and moved Gaussians, and the frame
        self._last: tuple[Gaussians, Gaussians, int] | None = None
        self._bind(offsets, part)

    def _bind(self, offsets: Mapping[str, Tensor], part: PerFrame | None) -> None:
        self.offsets = {name: nn.Parameter(t.detach().float().clone()) for name, t in offsets.items()}
        self.part = part
        if part is not None:
            part.changes = cast("dict[str, Tensor]", self.offsets)
        groups = [{"params": [p], "lr": self.rates[name]} for name, p in self.offsets.items()]
        self.optimizer = Adam(groups)

    @staticmethod
    def create(start: MotionStart) -> PerFrameMotion:
        """No motion at the start; only positions and rotations move."""
        c, first = start.config, start.canonical
        rates = {"means": POSITION_FACTOR * c.position_lr, "quats": c.rotation_lr}
        frames = len(start.video.times)
        offsets = {
            name: first.tensors()[name].new_zeros(frames, *first.tensors()[name].shape) for name in rates
        }
        return PerFrameMotion(start.video.times, offsets, rates, c.plane_weight)

    @staticmethod
    def continued(start: MotionStart) -> PerFrameMotion:
        """The start scene's offsets, trained at the rates of the fields that they change."""
        assert start.scene is not None
        part, c, first = start.scene.deformation, start.config, start.canonical
        assert isinstance(part, PerFrame)
        rates = {
            "means": POSITION_FACTOR * c.position_lr,
            "log_scales": c.scale_lr,
            "quats": c.rotation_lr,
            "logit_opacities": c.opacity_lr,
            "sh": c.color_lr,
        }
        offsets: dict[str, Tensor] = {}
        for name in rates:
            if name in part.changes:
                offsets[name] = part.changes[name].to(first.device).float()
            elif name in ("means", "quats"):
                value = first.tensors()[name]
                offsets[name] = value.new_zeros(len(part.seconds), *value.shape)
        offsets["means"] = offsets["means"] / start.world.scale
        seen = torch.ones(len(part.seconds), dtype=torch.bool)
        rates = {name: rates[name] for name in offsets}
        motion = PerFrameMotion(part.seconds, offsets, rates, c.plane_weight, seen=seen)
        motion.blends = part.blends
        return motion

    @staticmethod
    def adopt(part: Deformation, times: Tensor) -> PerFrameMotion:
        """Trains a finished motion in place, at rates relative to the size of its changes."""
        assert isinstance(part, PerFrame)
        rates = {
            name: ADOPTED_RATE * float(t.float().square().mean().sqrt()) for name, t in part.changes.items()
        }
        seen = torch.ones(len(part.seconds), dtype=torch.bool)
        return PerFrameMotion(part.seconds, part.changes, rates, part=part, seen=seen)

    def deform(self, trained: Gaussians, seconds: float) -> Gaussians:
        first, second, weight = frames_around(self.times, seconds)
        frame = second if weight > 0.5 else first
        if torch.is_grad_enabled():
            self._enter(frame)
        changed = {
            name: trained.tensors()[name] + torch.lerp(t[first], t[second], weight)
            for name, t in self.offsets.items()
        }
        moved = trained.with_(**changed)
        if torch.is_grad_enabled():
            self._last = trained, moved, frame
        return moved

    @torch.no_grad()
    def _enter(self, frame: int) -> None:
        """A frame that is trained for the first time starts where the nearest trained one is."""
        if bool(self.seen[frame]):
            return
        trained = self.seen.nonzero().flatten()
        if len(trained):
            nearest = int(trained[(self.times[trained] - self.times[frame]).abs().argmin()])
            for offset in self.offsets.values():
                offset[frame] = offset[nearest]
        self.seen[frame] = True

    def loss(self) -> Tensor | None:
        """Smoothness over time and rigidity of the frame that was rendered last.

        None where an edit trains a finished motion on: it may be as rough and bending as it was made.
        """
        if self._last is None or not self.weight:
            return None
        canonical, moved, frame = self._last
        total = SMOOTHNESS * self._roughness(frame)
        if len(canonical) > NEIGHBORS and "means" in self.offsets:
            near = self._neighbors(canonical.means)
            total = total + RIGIDITY * rigidity(
                canonical.means, canonical.quats, moved.means, moved.quats, near
            )
        return self.weight * total

    def _roughness(self, frame: int) -> Tensor:
        """Mean squared distance of a frame's offsets from the line between the trained frames before and after it."""
        trained = self.seen.nonzero().flatten().tolist()
        place = trained.index(frame)
        total = torch.zeros((), device=next(iter(self.offsets.values())).device)
        if 0 < place < len(trained) - 1:
            a, b = trained[place - 1], trained[place + 1]
            weight = float((self.times[frame] - self.times[a]) / (self.times[b] - self.times[a]))
            for offset in self.offsets.values():
                total = total + (torch.lerp(offset[a], offset[b], weight) - offset[frame]).square().mean()
        return total

    def _neighbors(self, means: Tensor) -> Tensor:
        if self.neighbors is None:
            # a third of a second that nothing else in this file needs
            from scipy.spatial import KDTree

            points = means.detach().cpu().numpy()
            # the nearest one of each is itself
            _, found = KDTree(points).query(points, NEIGHBORS + 1)
            self.neighbors = torch.as_tensor(found, dtype=torch.long, device=means.device)[:, 1:].contiguous()
        return self.neighbors

    def step(self, progress: float) -> None:
        """One Adam step; all rates fall to a tenth over the training."""
        for group, rate in zip(self.optimizer.param_groups, self.rates.values(), strict=True):
            group["lr"] = log_linear(rate, rate * 0.1, progress) if rate else 0.0
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._last = None

    def after_step(self, parameters: GaussianParameters, iteration: int, progress: float) -> None:
        """Forget the neighbors from time to time, since canonical positions are trained too."""
        if iteration % SEARCH_EVERY == 0:
            self.neighbors = None

    def after_density(self, change: Lineage, part: Deformation | None = None) -> None:
        """Offsets follow their Gaussians; those of new ones start with the parent's, without Adam's memory."""
        assert part is None or isinstance(part, PerFrame)
        memory = {name: dict(self.optimizer.state.get(p, {})) for name, p in self.offsets.items()}
        self._bind({name: p[:, change.parents] for name, p in self.offsets.items()}, part)
        for name, parameter in self.offsets.items():
            if not memory[name]:
                continue
            rows = {key: memory[name][key][:, change.parents].clone() for key in ("exp_avg", "exp_avg_sq")}
            for row in rows.values():
                row[:, change.born] = 0
            self.optimizer.state[parameter] = {"step": memory[name]["step"], **rows}
        self.neighbors = self._last = None

    def trained(self) -> Mapping[str, Tensor]:
        return {f"offset.{name}": p for name, p in self.offsets.items()}

    @torch.no_grad()
    def finished(self, world: Normalization, collected: Collected = on_cpu) -> PerFrame:
        """The motion in world units, a copy on the CPU; frames that were held out lie between their neighbors."""
        changes = {name: collected(p, 1).clone() for name, p in self.offsets.items()}
        kept = self.seen.nonzero().flatten()
        if 0 < len(kept) < len(self.seen):
            for frame in (~self.seen).nonzero().flatten().tolist():
                first, second, weight = frames_around(self.times[kept], float(self.times[frame]))
                for change in changes.values():
                    change[frame] = torch.lerp(change[kept[first]], change[kept[second]], weight)
        if "means" in changes:
            changes["means"] *= world.scale
        return PerFrame(self.times, changes, self.blends)

    def rows(self) -> Mapping[str, int | None]:
        kept = ("value", "exp_avg", "exp_avg_sq")
        return {"neighbors": None, **{f"{name}.{key}": 1 for name in self.offsets for key in kept}}

    def state(self) -> dict[str, Tensor]:
        result: dict[str, Tensor] = {"seen": self.seen}
        if self.neighbors is not None:
            result["neighbors"] = self.neighbors
        for name, parameter in self.offsets.items():
            result[f"{name}.value"] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                result[f"{name}.{key}"] = value
        return result

    def load_state(self, state: dict[str, Tensor]) -> None:
        devices = {name: p.device for name, p in self.offsets.items()}
        self._bind({name: state[f"{name}.value"].to(device) for name, device in devices.items()}, self.part)
        for name, parameter in self.offsets.items():
            memory = adam_memory(state, name, parameter)
            if memory:
                self.optimizer.state[parameter] = memory
        self.seen = state["seen"].cpu().clone()
        device = next(iter(devices.values()))
        self.neighbors = state["neighbors"].to(device) if "neighbors" in state else None
