"""Gaussians as parameters: each tensor has its own rate, and Adam's memory follows when Gaussians are added or removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..scene import Gaussians
from .adam import Adam
from .state import adam_memory

NAMES = ("means", "log_scales", "quats", "logit_opacities", "sh_dc", "sh_rest")


@dataclass(frozen=True, eq=False)
class Lineage:
    """Which Gaussians the current ones came from, after some were added, removed or relocated.

    Whatever is stored for each Gaussian follows with `values[parents]`.
    """

    # [N] long: index of the parent before the change; a Gaussian that stayed is its own parent
    parents: Tensor
    born: Tensor  # [N] bool: a copy of its parent, without optimizer state of its own

    def then(self, later: Lineage) -> Lineage:
        """Both changes as one."""
        return Lineage(self.parents[later.parents], self.born[later.parents] | later.born)


class GaussianParameters:
    """The optimized Gaussians. SH is split in two because its DC learns twenty times faster (3DGS).

    `held` [N] bool marks Gaussians that density control must leave alone: neither copied, moved, reset nor removed.
    `groups` [N] long, where it is set, says which group each one belongs to (its triangle of a mesh): density control
    empties none. Both follow every change of count.
    """

    groups: Tensor | None = None

    def __init__(self, gaussians: Gaussians, rates: dict[str, float]) -> None:
        tensors = {
            "means": gaussians.means,
            "log_scales": gaussians.log_scales,
            "quats": gaussians.quats,
            "logit_opacities": gaussians.logit_opacities,
            "sh_dc": gaussians.sh[:, :1],
            "sh_rest": gaussians.sh[:, 1:],
        }
        self.tensors = {name: nn.Parameter(t.detach().clone().contiguous()) for name, t in tensors.items()}
        self.optimizer = Adam({"params": [p], "lr": rates[name]} for name, p in self.tensors.items())
        self.held = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.device)
        self._lineage: Lineage | None = None

    def __len__(self) -> int:
        return self.tensors["means"].shape[0]

    def gaussians(self) -> Gaussians:
        """A view for rendering: gradients flow into the parameters."""
        t = self.tensors
        sh = torch.cat([t["sh_dc"], t["sh_rest"]], dim=1) if t["sh_rest"].shape[1] else t["sh_dc"]
        return Gaussians(t["means"], t["log_scales"], t["quats"], t["logit_opacities"], sh)

    def detached(self) -> Gaussians:
        """A copy that outlives the optimizer."""
        return self.gaussians().map(lambda t: t.detach().clone())

    def set_rates(self, rates: dict[str, float]) -> None:
        for name, rate in rates.items():
            self._group(name)["lr"] = rate

    def _group(self, name: str) -> dict[str, Any]:
        return self.optimizer.param_groups[NAMES.index(name)]

    def step(self) -> None:
        """One Adam step for every tensor that has a gradient; gradients are dropped."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _replace(self, name: str, value: Tensor, moments: dict[str, Tensor]) -> None:
        new = nn.Parameter(value.detach().contiguous())
        state = self.optimizer.state.pop(self.tensors[name], None)
        self._group(name)["params"] = [new]
        if state:
            self.optimizer.state[new] = {"step": state["step"], **moments}
        self.tensors[name] = new

    def _moments(self, name: str) -> dict[str, Tensor]:
        state = self.optimizer.state.get(self.tensors[name], {})
        return {key: state[key] for key in ("exp_avg", "exp_avg_sq") if key in state}

    def drain_lineage(self) -> Lineage | None:
        """The lineage since the last call; None where no Gaussian was added, removed or relocated."""
        lineage, self._lineage = self._lineage, None
        return lineage

    def _record(self, change: Lineage) -> None:
        self._lineage = change if self._lineage is None else self._lineage.then(change)
        self.held = self.held[change.parents]
        self.groups = None if self.groups is None else self.groups[change.parents]

    def without_empty_groups(self, keep: Tensor) -> Tensor:
        """`keep` [N] bool, where a group that would lose all its Gaussians keeps them all."""
        if self.groups is None or not len(keep):
            return keep
        left = torch.zeros(int(self.groups.max()) + 1, device=keep.device).index_add_(
            0, self.groups, keep.float()
        )
        return keep | (left[self.groups] == 0)

    @torch.no_grad()
    def keep(self, index: Tensor) -> None:
        """Only the Gaussians at `index` [M] (long or bool [N]) stay, with their Adam moments."""
        parents = torch.arange(len(self), device=index.device)[index]
        self._record(Lineage(parents, torch.zeros_like(parents, dtype=torch.bool)))
        for name in NAMES:
            moments = {key: m[index].contiguous() for key, m in self._moments(name).items()}
            self._replace(name, self.tensors[name][index], moments)

    @torch.no_grad()
    def append(self, new: dict[str, Tensor], parents: Tensor) -> None:
        """Add Gaussians (tensors by parameter name) with zero Adam moments; `parents` [M] long are those that they come from."""
        stay = torch.arange(len(self), device=parents.device)
        born = torch.arange(len(self) + len(parents), device=parents.device) >= len(self)
        self._record(Lineage(torch.cat([stay, parents]), born))
        for name in NAMES:
            old, extra = self.tensors[name], new[name]
            moments = {key: torch.cat([m, torch.zeros_like(extra)]) for key, m in self._moments(name).items()}
            self._replace(name, torch.cat([old, extra]), moments)

    @torch.no_grad()
    def overwrite(self, name: str, index: Tensor, value: Tensor) -> None:
        """Put `value` at `index` in place and forget the Adam moments there."""
        self.tensors[name][index] = value
        for moment in self._moments(name).values():
            moment[index] = 0

    @torch.no_grad()
    def relocate(self, index: Tensor, parents: Tensor) -> None:
        """Gaussians at `index` [M] become copies of those at `parents` [M], with zero Adam moments."""
        origin = torch.arange(len(self), device=index.device)
        born = torch.zeros_like(origin, dtype=torch.bool)
        origin[index], born[index] = parents, True
        self._record(Lineage(origin, born))
        for name, value in self.at(parents).items():
            self.overwrite(name, index, value)

    def at(self, index: Tensor) -> dict[str, Tensor]:
        """Copies of the raw values at `index`, by parameter name."""
        return {name: t.detach()[index].clone() for name, t in self.tensors.items()}

    def rows(self) -> dict[str, int | None]:
        """The axis with one entry for each Gaussian, of what `state` may hold."""
        return dict.fromkeys(
            [f"{name}.{key}" for name in NAMES for key in ("value", "exp_avg", "exp_avg_sq")] + ["groups"], 0
        )

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on: values and Adam's moments, flat."""
        result: dict[str, Tensor] = {}
        for name, tensor in self.tensors.items():
            result[f"{name}.value"] = tensor.detach()
            for key, value in self.optimizer.state.get(tensor, {}).items():
                result[f"{name}.{key}"] = value
        if self.groups is not None:
            result["groups"] = self.groups
        return result

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`; no Gaussian is held afterwards.

        Tensors are copied: bits depend on memory alignment in some math libraries.
        """
        self.optimizer.state.clear()
        for name in NAMES:
            value = state[f"{name}.value"].to(self.tensors[name].device)
            parameter = nn.Parameter(value.clone())
            self._group(name)["params"] = [parameter]
            self.tensors[name] = parameter
            moments = adam_memory(state, name, parameter)
            if moments:
                self.optimizer.state[parameter] = moments
        self.held = torch.zeros(len(self), dtype=torch.bool, device=self.held.device)
        self.groups = state["groups"].to(self.held.device) if "groups" in state else None
        self._lineage = None
