"""Gaussians as parameters: each tensor with its own Adam, all kept in step when Gaussians are born or die."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..scene import Gaussians
from .state import adam_memory

NAMES = ("means", "log_scales", "quats", "logit_opacities", "sh_dc", "sh_rest")


class GaussianParameters:
    """The optimised Gaussians. SH is split in two because its DC learns twenty times faster (3DGS)."""

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
        self.optimizers = {
            name: torch.optim.Adam([p], lr=rates[name], eps=1e-15, fused=True)
            for name, p in self.tensors.items()
        }

    def __len__(self) -> int:
        return self.tensors["means"].shape[0]

    def gaussians(self) -> Gaussians:
        """A view for rendering: gradients flow into the parameters."""
        t = self.tensors
        sh = torch.cat([t["sh_dc"], t["sh_rest"]], dim=1) if t["sh_rest"].shape[1] else t["sh_dc"]
        return Gaussians(t["means"], t["log_scales"], t["quats"], t["logit_opacities"], sh)

    def detached(self) -> Gaussians:
        """A copy that outlives the optimiser."""
        return self.gaussians().map(lambda t: t.detach().clone())

    def set_rates(self, rates: dict[str, float]) -> None:
        for name, rate in rates.items():
            self.optimizers[name].param_groups[0]["lr"] = rate

    def step(self) -> None:
        """One Adam step for every tensor that has a gradient; gradients are dropped."""
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _replace(self, name: str, value: Tensor, moments: dict[str, Tensor]) -> None:
        optimizer, old = self.optimizers[name], self.tensors[name]
        new = nn.Parameter(value.detach().contiguous())
        state = optimizer.state.pop(old, None)
        optimizer.param_groups[0]["params"] = [new]
        if state:
            optimizer.state[new] = {"step": state["step"], **moments}
        self.tensors[name] = new

    def _moments(self, name: str) -> dict[str, Tensor]:
        state = self.optimizers[name].state.get(self.tensors[name], {})
        return {key: state[key] for key in ("exp_avg", "exp_avg_sq") if key in state}

    @torch.no_grad()
    def keep(self, index: Tensor) -> None:
        """Only the Gaussians at `index` [M] (long or bool [N]) stay, with their moments."""
        for name in NAMES:
            moments = {key: m[index].contiguous() for key, m in self._moments(name).items()}
            self._replace(name, self.tensors[name][index], moments)

    @torch.no_grad()
    def append(self, new: dict[str, Tensor]) -> None:
        """Add Gaussians (tensors by parameter name) with zero moments."""
        for name in NAMES:
            old, extra = self.tensors[name], new[name]
            moments = {key: torch.cat([m, torch.zeros_like(extra)]) for key, m in self._moments(name).items()}
            self._replace(name, torch.cat([old, extra]), moments)

    @torch.no_grad()
    def overwrite(self, name: str, index: Tensor, value: Tensor) -> None:
        """Put `value` at `index` in place and forget the moments there."""
        self.tensors[name][index] = value
        for moment in self._moments(name).values():
            moment[index] = 0

    def at(self, index: Tensor) -> dict[str, Tensor]:
        """Copies of the raw values at `index`, by parameter name."""
        return {name: t.detach()[index].clone() for name, t in self.tensors.items()}

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on: values and Adam's moments, flat."""
        result: dict[str, Tensor] = {}
        for name, tensor in self.tensors.items():
            result[f"{name}.value"] = tensor.detach()
            for key, value in self.optimizers[name].state.get(tensor, {}).items():
                result[f"{name}.{key}"] = value
        return result

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`. Tensors are copied: bits depend on memory alignment in some math libraries."""
        for name in NAMES:
            value = state[f"{name}.value"].to(self.tensors[name].device)
            optimizer = self.optimizers[name]
            optimizer.state.clear()
            parameter = nn.Parameter(value.clone())
            optimizer.param_groups[0]["params"] = [parameter]
            self.tensors[name] = parameter
            moments = adam_memory(state, name, parameter)
            if moments:
                optimizer.state[parameter] = moments
