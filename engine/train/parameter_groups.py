"""Named parameters in groups, each group with its own optimizer, and their whole state as flat tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .adam import Adam
from .state import adam_memory

OPTIMIZERS = ("adam", "sgd")


class ParameterGroups:
    """Trained tensors of fixed shapes; see `parameters` for Gaussians that are added and removed."""

    def __init__(self, groups: Mapping[str, Mapping[str, nn.Parameter]], optimizer: str = "adam") -> None:
        self.groups = {name: dict(group) for name, group in groups.items()}
        self.optimizers = {
            name: (
                torch.optim.SGD(list(group.values()), lr=0.0)
                if optimizer == "sgd"
                else Adam([{"params": list(group.values()), "lr": 0.0}])
            )
            for name, group in self.groups.items()
        }

    def __getitem__(self, name: str) -> nn.Parameter:
        """A parameter that is alone in its group."""
        return self.groups[name][name]

    def __contains__(self, name: str) -> bool:
        return name in self.groups

    def values(self) -> dict[str, Tensor]:
        """All parameters, by the group's name and their own where a group has several."""
        return {
            name if name == group else f"{group}.{name}": parameter
            for group, parameters in self.groups.items()
            for name, parameter in parameters.items()
        }

    def set_rates(self, rates: Mapping[str, float]) -> None:
        for name, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = rates[name]

    def step(self) -> None:
        """One step for every parameter that has a gradient; gradients are dropped."""
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Values and the optimizers' memories under names "group/parameter/what"."""
        result: dict[str, Tensor] = {}
        for group, parameters in self.groups.items():
            for name, parameter in parameters.items():
                result[f"{group}/{name}/value"] = parameter.detach()
                for key, value in self.optimizers[group].state.get(parameter, {}).items():
                    if isinstance(value, Tensor):
                        result[f"{group}/{name}/{key}"] = value
        return result

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`; parameters keep their places in memory, since bits can depend on them.

        Raises ValueError where an optimizer's memory does not fit.
        """
        found: dict[str, dict[str, Tensor]] = {}
        for path, value in state.items():
            owner, key = path.rsplit("/", 1)
            found.setdefault(owner, {})[key] = value
        for group, parameters in self.groups.items():
            for name, parameter in parameters.items():
                memory = found[f"{group}/{name}"]
                parameter.copy_(memory.pop("value"))
                if memory:
                    tensors = {f"{name}.{key}": value for key, value in memory.items()}
                    self.optimizers[group].state[parameter] = adam_memory(tensors, name, parameter)
