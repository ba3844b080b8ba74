"""Adam of trainings takes the steps of torch's fused one, bit for bit."""

from __future__ import annotations

import torch

from engine.train.adam import EPS, Adam

SHAPES = ((400, 3), (400,), (3, 7, 16), (0, 2))


def trained(create) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Parameters in two groups, and the optimizer's states, after steps in which rates and gradients come and go."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]
    groups = [{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:], "lr": 0.2}]
    optimizer = create(groups)
    for step in range(12):
        optimizer.param_groups[1]["lr"] = 0.01 * (12 - step)
        for k, parameter in enumerate(parameters):
            if (step + k) % 4:
                parameter.grad = torch.randn(parameter.shape, generator=generator) * 10.0 ** (-3 * k)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert all(parameter.grad is None for parameter in parameters)
    return parameters, [optimizer.state[parameter] for parameter in parameters]


def test_steps_and_states_are_those_of_torch() -> None:
    found, memory = trained(Adam)
    expected, truth = trained(lambda groups: torch.optim.Adam(groups, lr=0.0, eps=EPS, fused=True))
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(memory, truth, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)
