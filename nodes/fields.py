"""Widgets from a Config's fields, with the field's default, range, label and tooltip."""

from __future__ import annotations

import math
from dataclasses import Field, fields
from typing import Any

from ..engine.fields import caption_of, id_of
from .compat import io, make

# the canvas stores integers as doubles
LARGEST = 2**53 - 1


def inputs(config: type[Any], ids: str = "", optional: bool = False) -> list[Any]:
    """Widgets for the fields named by the space-separated `ids`, in that order; all, as declared, if empty."""
    known = {id_of(f): f for f in fields(config)}
    return [widget(known[name], optional) for name in (ids.split() or known)]


def widget(field: Field[Any], optional: bool = False, shown: bool = False) -> Any:
    """The input for one Config field; optional if a later version added it, so that older graphs still run.

    `shown` keeps an advanced field visible, for a node of advanced fields.
    """
    meta, default = field.metadata, field.default
    name = id_of(field)
    common: dict[str, Any] = {
        "default": default,
        "display_name": caption_of(field),
        "tooltip": meta["help"],
        "advanced": (meta["advanced"] and not shown) or None,
        "optional": optional or bool(meta["since"]) or None,
    }
    if "options" in meta:
        return make(io.Combo.Input, name, options=list(meta["options"]), **common)
    if isinstance(default, bool):
        return make(io.Boolean.Input, name, **common)
    if isinstance(default, int):
        low, high = int(meta["low"]), min(int(meta["high"]), LARGEST)
        # otherwise the canvas changes the seed after each run, and no run could be resumed
        if name == "seed":
            common["control_after_generate"] = False
        step = int(meta["step"] or 1)
        # the canvas rounds to the lowest value plus whole steps: 300,000 would become 300,001
        return make(io.Int.Input, name, min=low - low % step, max=high, step=step, **common)
    if isinstance(default, float):
        low, high = float(meta["low"]), float(meta["high"])
        step = meta["step"] or _step(default, high)
        return make(io.Float.Input, name, min=low, max=high, step=step, round=_round(step), **common)
    return make(io.String.Input, name, multiline=meta["multiline"], **common)


def _step(default: float, high: float) -> float:
    """Increment of the arrows for a default: a tenth of its leading digit, 1 for large ranges."""
    if default == 0:
        return 1.0 if high >= 1000 else 0.01
    return min(10.0 ** (math.floor(math.log10(abs(default))) - 1), 1.0)


def _round(step: float) -> float:
    """Rounding of typed values: finer than the arrows, so that 23.976 stays 23.976."""
    return min(float(f"{step / 10:.1g}"), 0.001)


def config_from(config: type[Any], values: dict[str, Any]) -> Any:
    """The Config with `values` (by id) for the fields it has; raises InputError for a value out of range."""
    known = {id_of(f): f for f in fields(config)}
    return config(
        **{known[n].name: _fitting(known[n].default, value) for n, value in values.items() if n in known}
    )


def _fitting(default: Any, value: Any) -> Any:
    """The value as the number that its field holds; what is none stays as it is, for the config to name."""
    # a whole number typed into a FLOAT widget arrives as int, and a wired one may be a float
    if type(default) is float and type(value) is int and abs(value) < 1 << 1000:
        return float(value)
    return int(value) if type(default) is int and type(value) is float and value.is_integer() else value
