"""What every step promises: a place in the menu, and a frozen Config that explains itself."""

import importlib
import pkgutil
from dataclasses import fields, is_dataclass

import pytest

import engine.steps

FOUND = sorted(m.name for m in pkgutil.iter_modules(engine.steps.__path__) if m.name != "step")


def test_the_menu_lists_every_step_once():
    assert sorted(engine.steps.STEPS) == FOUND


@pytest.mark.parametrize("name", FOUND)
def test_a_steps_config_is_frozen_and_each_field_explains_itself(name):
    step = importlib.import_module(f"engine.steps.{name}")
    assert step.__doc__
    if name == "sample_scene":  # a list of times is all that it takes
        return
    assert callable(getattr(step, "run", None) or step.make)  # `make` where there is nothing to wait for
    assert is_dataclass(step.Config)
    assert step.Config.__dataclass_params__.frozen
    assert all(f.metadata.get("text") for f in fields(step.Config))
