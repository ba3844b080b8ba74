"""Groups of parameters: the steps are Adam's, and checkpoints of both of torch's Adams open."""

import pytest
import torch
from torch import nn

from engine.train.parameter_groups import ParameterGroups

SHAPES = {"weight": (5, 3), "bias": (5,)}


def values():
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def descend(parameters, optimize, steps):
    for _ in range(steps):
        sum((p**2).sum() for p in parameters.values()).backward()
        optimize()


def trained(steps):
    own = values()
    groups = ParameterGroups({"refiner": own})
    groups.set_rates({"refiner": 0.1})
    descend(own, groups.step, steps)
    return groups


def plain(steps):
    """torch.optim.Adam, and its state as checkpoints of 0.2 have it."""
    own = values()
    optimizer = torch.optim.Adam(own.values(), lr=0.1, eps=1e-15)

    def optimize():
        optimizer.step()
        optimizer.zero_grad()

    descend(own, optimize, steps)
    state = {}
    for name, parameter in own.items():
        state[f"refiner/{name}/value"] = parameter.detach()
        state |= {f"refiner/{name}/{key}": value for key, value in optimizer.state[parameter].items()}
    return own, state


def test_steps_are_those_of_torchs_adam():
    expected, state = plain(5)
    groups = trained(5)
    assert groups.state().keys() == state.keys()
    for name, parameter in expected.items():
        assert torch.allclose(groups.groups["refiner"][name], parameter, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("which", ["fused", "plain"])
def test_a_loaded_state_continues_as_if_nothing_had_been_between(which):
    state = plain(3)[1] if which == "plain" else trained(3).state()
    groups = ParameterGroups({"refiner": values()})
    groups.load_state({name: tensor.clone() for name, tensor in state.items()})
    groups.set_rates({"refiner": 0.1})
    descend(groups.groups["refiner"], groups.step, 2)
    whole = trained(5)
    for name, tensor in whole.state().items():
        assert torch.allclose(groups.state()[name], tensor, rtol=1e-5, atol=1e-6)


def test_a_memory_that_does_not_fit_is_refused():
    state = trained(1).state()
    state["refiner/weight/exp_avg"] = torch.zeros(2)
    with pytest.raises(ValueError, match="exp_avg"):
        ParameterGroups({"refiner": values()}).load_state(state)
