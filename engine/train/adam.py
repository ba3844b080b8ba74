"""Adam as trainings use it: torch's fused one, with a third of its time for the Gaussians of a small scene."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BETAS, EPS = (0.9, 0.999), 1e-15


class Adam:
    """torch.optim.Adam(groups, eps=1e-15, fused=True), bit for bit, with its states and groups.

    Its own step sorts tensors by device and type, looks for complex numbers, and runs hooks and profiler marks: more time
    than the arithmetic takes where tensors are small. Here all tensors of a group have one device and type. The first of
    torch's optimizers that a process makes also loads torch's compiler, which takes a second.

    Args:
        groups: As torch's: dictionaries with "params" and "lr".

    Attributes:
        param_groups: The groups; their entries may be replaced.
        state: By parameter: "step", "exp_avg" and "exp_avg_sq"; empty before its first step.

    Source:
        Adam: A Method for Stochastic Optimization, Kingma and Ba 2015.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        self.param_groups = list(groups)
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self) -> None:
        """One step for every parameter that has a gradient; the rates are those in `param_groups`."""
        for group in self.param_groups:
            trained = [(p, p.grad) for p in group["params"] if p.grad is not None]
            if not trained:
                continue
            states = [self._memory(parameter) for parameter, _ in trained]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            # Undocumented: the operator that torch's fused Adam calls. See tests/engine/test_adam.py.
            torch._fused_adam_(
                [parameter for parameter, _ in trained],
                [grad for _, grad in trained],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=0.0,
                eps=EPS,
                amsgrad=False,
                maximize=False,
            )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _memory(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state
