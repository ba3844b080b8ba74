"""What every step promises: a place in the menu, a frozen Config that explains itself, a declaration that fits `run`."""

import argparse
import ast
import importlib
import inspect
import pkgutil
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import pytest

import engine.steps
from engine.cli.arguments import add_config, config_from
from engine.cli.kinds import READERS, WRITERS, is_made_of_flags
from engine.fields import as_record, id_of, number
from engine.steps import all_steps, fit_edits
from engine.steps.step import Kind, Step, version

FOUND = sorted(m.name for m in pkgutil.iter_modules(engine.steps.__path__) if m.name != "step")
STEPS = all_steps()
# what only the canvas has: the command line edits files, and frames no view by hand
CANVAS_ONLY = {Kind.FRAMED_VIEW, Kind.SETTINGS, Kind.IMAGES, Kind.CAMERA_PATH, Kind.SOURCE, Kind.MODEL_FILE}


def test_the_menu_lists_every_step_once():
    assert sorted(engine.steps.STEPS) == FOUND


@pytest.mark.parametrize("name", FOUND)
def test_a_steps_config_is_frozen_and_each_field_explains_itself(name):
    step = importlib.import_module(f"engine.steps.{name}")
    assert step.__doc__
    # `make` where there is nothing to wait for
    assert callable(getattr(step, "run", None) or step.make)
    assert is_dataclass(step.Config)
    assert step.Config.__dataclass_params__.frozen
    assert all(len(f.metadata["help"]) > 10 for f in fields(step.Config))


@pytest.mark.parametrize("step", STEPS, ids=lambda s: s.name)
def test_run_takes_what_is_declared(step: Step):
    taken = inspect.signature(step.run).parameters
    wanted = {i.name for i in step.inputs if i.kind is not Kind.SETTINGS} | {"config"}
    wanted |= {"device"} if step.has_device else set()
    wanted |= {"checkpoint"} if step.resumes else set()
    wanted |= set(step.more)
    assert wanted <= set(taken)
    left = {name for name, p in taken.items() if p.default is p.empty} - wanted
    assert not left, f"{step.name}: nobody gives {left}"


@pytest.mark.parametrize("step", STEPS, ids=lambda s: s.name)
def test_ids_are_told_apart_and_every_field_has_its_place(step: Step):
    ids = [i.socket for i in step.inputs] + [id_of(f) for f in step.fields()]
    ids += [id_of(f) for config in step.more.values() for f in fields(config)]
    assert len(set(ids)) == len(ids)
    assert {f.name for f in step.fields()} == {f.name for f in fields(step.config)}
    later = [f for f in step.fields() if id_of(f) not in step.order.split()] if step.order else []
    assert all(f.metadata["since"] for f in later), "a field outside `order` needs the version that added it"
    versions = [version(f.metadata["since"]) for f in step.fields() if f.metadata["since"]]
    assert versions == sorted(versions)


def test_names_nodes_and_verbs_are_told_apart():
    for names in ([s.name for s in STEPS], [s.node for s in STEPS], [s.label for s in STEPS]):
        assert len(set(names)) == len(names)
    verbs = [name for s in STEPS if s.verb for name in (s.verb, *s.aliases)]
    assert len(set(verbs)) == len(verbs)
    assert all(s.name == name for s, name in zip(STEPS, engine.steps.DECLARED, strict=True))


@pytest.mark.parametrize("step", [s for s in STEPS if s.verb], ids=lambda s: s.name)
def test_the_command_line_knows_every_kind_of_a_verb(step: Step):
    unknown = {i.kind for i in step.inputs} - set(READERS) - CANVAS_ONLY
    assert not unknown
    needed = [i for i in step.inputs if i.kind in CANVAS_ONLY and not i.optional and not is_made_of_flags(i)]
    assert not needed, "the verb could never run"
    assert step.outputs[0].kind in WRITERS or hasattr(step.outputs[0], "of")


def test_a_new_number_is_one_line():
    """The toy field below is all that a new number takes: flag, history, canvas order and default follow."""

    @dataclass(frozen=True)
    class Config(fit_edits.Config):
        sparkle: float = number(0.5, 0.0, 1.0, "How much it sparkles; typical 0.5.", since="9.1")

    from dataclasses import replace

    step = replace(fit_edits.STEP, config=Config)
    assert step.fields()[-1].name == "sparkle"
    parser = argparse.ArgumentParser()
    add_config(parser, step.config)
    assert config_from(parser.parse_args(["--sparkle", "0.25"]), step.config).sparkle == 0.25
    assert as_record(step.config())["sparkle"] == 0.5


def test_a_renamed_field_keeps_its_old_names():
    parser = argparse.ArgumentParser()
    add_config(parser, fit_edits.Config)
    for flag in ("--position-lr", "--position-rate"):
        assert config_from(parser.parse_args([flag, "0.125"]), fit_edits.Config).position_lr == 0.125
    assert "position_rate" in as_record(fit_edits.Config()) and "position_lr" not in as_record(
        fit_edits.Config()
    )


def test_no_room_below_the_steps_knows_a_step_by_name():
    """What writes a history is told the name; only steps and the command line know them."""
    engine_folder = Path(engine.steps.__file__).parents[1]
    found = [
        f"{file.relative_to(engine_folder)}:{node.lineno} '{node.value}'"
        for file in sorted(engine_folder.rglob("*.py"))
        if file.relative_to(engine_folder).parts[0] not in ("steps", "cli")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in engine.steps.STEPS
    ]
    assert not found
