"""Out of memory in a step: one sentence that names the numbers to lower, wherever in the step it happens."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import fields
from typing import Any, Protocol

from ..backends import explains_memory
from ..fields import id_of, label_of, text_of
from ..messages import Stream


class Declared(Protocol):
    """What a step says about itself (`engine.steps.step`)."""

    @property
    def label(self) -> str: ...
    @property
    def config(self) -> type[Any]: ...
    @property
    def run(self) -> Callable[..., Any]: ...
    @property
    def lowers(self) -> tuple[str, ...]: ...


def run_explained(step: Declared, given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """What the step's `run` gives for these arguments: a stream, or a value.

    Raises:
        InputError: The machine or the GPU has too little memory (ENG-002).
    """
    doing, device, advice = f"running {step.label}", named.get("device"), advice_of(step, given, named)
    with explains_memory(doing, device, advice):
        made = step.run(*given, **named)
    if not isinstance(made, Generator):
        return made

    def stream() -> Stream:
        with explains_memory(doing, device, advice):
            yield from made

    return stream()


def advice_of(step: Declared, given: tuple[Any, ...], named: Mapping[str, Any]) -> str:
    """The sentence "Lower …" with the labels and values of what the step's memory grows with."""
    configs = [value for value in (*given, *named.values()) if isinstance(value, step.config)]
    config = configs[0] if configs else step.config()
    known = {id_of(f): f for f in fields(step.config)}
    lower: list[str] = []
    fewer: list[str] = []
    turn_on: list[str] = []
    for name in step.lowers:
        if name not in known:
            lower.append(name)
            continue
        field = known[name]
        value, label = getattr(config, field.name), label_of(field)
        if isinstance(value, str):
            fewer.append(label)
        elif isinstance(value, bool):
            turn_on += [] if value else [label]
        else:
            lower.append(
                f"{label} ({text_of(field, value) if value in field.metadata['words'] else f'{value:g}'})"
            )
    parts = [f"{verb} {_listed(names)}" for verb, names in (
        ("lower", lower), ("choose fewer", fewer), ("turn on", turn_on)
    ) if names]  # fmt: skip
    sentence = ", or ".join(parts) or "give it smaller or fewer inputs"
    return f"{sentence[:1].upper()}{sentence[1:]}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
