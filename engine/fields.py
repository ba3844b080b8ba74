"""Config fields that explain themselves: one sentence serves tooltip, command-line help and docs."""

from __future__ import annotations

from dataclasses import field, fields, is_dataclass
from typing import Any

from .errors import InputError


def number(default: float | int, low: float, high: float, text: str, step: float | None = None) -> Any:
    """A numeric Config field: default, allowed range, and one sentence that says what a larger number does.

    The sentence becomes the node's tooltip, the command line's help and the docs.
    """
    return field(default=default, metadata={"low": low, "high": high, "text": text, "step": step})


def choice(default: str, options: tuple[str, ...], text: str) -> Any:
    """A Config field that is one of a few words."""
    return field(default=default, metadata={"options": options, "text": text})


def flag(default: bool, text: str) -> Any:
    """A yes/no Config field; its name reads as a sentence."""
    return field(default=default, metadata={"text": text})


def words(default: str, text: str) -> Any:
    """A free-text Config field."""
    return field(default=default, metadata={"text": text})


def validate(config: Any) -> None:
    """InputError naming the first field outside its range; called from each Config's `__post_init__`."""
    assert is_dataclass(config)
    for f in fields(config):
        value, meta = getattr(config, f.name), f.metadata
        if "low" in meta and not (isinstance(value, int | float) and meta["low"] <= value <= meta["high"]):
            raise InputError(f"{f.name} is {value}; it must lie between {meta['low']} and {meta['high']}.")
        if "options" in meta and value not in meta["options"]:
            raise InputError(f"{f.name} is '{value}'; choose one of {', '.join(meta['options'])}.")
