"""Config fields that explain themselves: one sentence serves tooltip, command-line help and docs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field, fields, is_dataclass
from typing import Any

from .errors import InputError


def number(default: float | int, low: float, high: float, text: str, step: float | None = None) -> Any:
    """A numeric Config field: default, allowed range, and one sentence that says what a larger number does.

    The sentence becomes the node's tooltip, the command line's help and the docs.
    """
    return field(default=default, metadata={"low": low, "high": high, "text": text, "step": step})


def choice(default: str, options: Sequence[str], text: str) -> Any:
    """A Config field that is one of a few words; `options` is kept as it is, so that a registry's list may grow."""
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


def indices(text: str, count: int, what: str) -> tuple[int, ...]:
    """The numbers that "0 2 5-8" names, ascending and each once; "" or "all" is 0 … count − 1.

    `what` is what is counted ("view"). InputError where a word is no number or a number is not there.
    """
    words_given = text.replace(",", " ").split()
    if not words_given or [w.lower() for w in words_given] == ["all"]:
        return tuple(range(count))
    found: set[int] = set()
    for word in words_given:
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", word)
        if match is None:
            raise InputError(f"'{word[:40]}' is no {what} number; write numbers and ranges, such as 0 2 5-8.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= count:
            raise InputError(f"There is no {what} {word}; there are {count}, numbered 0 to {count - 1}.")
        found.update(range(first, last + 1))
    return tuple(sorted(found))
