"""Config fields: one declaration defines the input, the command-line flag and the documentation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, field, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from .errors import InputError
from .wording import is_utf8, shown

C = TypeVar("C")
# characters of a text, which histories repeat in every file of a scene
LONGEST_TEXT = 100_000


def number(
    default: float | int,
    low: float,
    high: float,
    help: str,
    step: float | None = None,
    *,
    label: str = "",
    id: str = "",
    advanced: bool = False,
    since: str = "",
    words: Mapping[int, str] | None = None,
) -> Any:
    """A numeric Config field.

    Args:
        default: Value if not set; its type (int or float) is the field's.
        low: Smallest allowed value.
        high: Largest allowed value.
        help: Tooltip, command-line help and documentation: what it does, what a larger value does, typical range.
        step: Increment in user interfaces; chosen from the default if None.
        label: Name in user interfaces; the field's name with spaces if empty.
        id: Name in saved graphs and scene histories if the field was renamed since; it never changes.
        advanced: Hidden until advanced settings are shown.
        since: Version that added the field; such an input is optional, so that older graphs still run.
        words: Words for numbers that are not amounts, such as {0: "auto"}. Files and graphs hold the number; the canvas
            shows the word in its place, and the command line takes both.
    """
    words = words or {}
    return _field(default, help, label, id, advanced, since, low=low, high=high, step=step, words=words)


def choice(
    default: str,
    options: Sequence[str],
    help: str,
    *,
    label: str = "",
    id: str = "",
    advanced: bool = False,
    since: str = "",
) -> Any:
    """A Config field with a few allowed values; the keywords are those of `number`.

    `options` is stored by reference, so that a registry's list may grow.
    """
    return _field(default, help, label, id, advanced, since, options=options)


def flag(
    default: bool, help: str, *, label: str = "", id: str = "", advanced: bool = False, since: str = ""
) -> Any:
    """A yes/no Config field; the keywords are those of `number`."""
    return _field(default, help, label, id, advanced, since)


def text(
    default: str,
    help: str,
    *,
    multiline: bool = False,
    check: Callable[[str], object] | None = None,
    label: str = "",
    id: str = "",
    advanced: bool = False,
    since: str = "",
) -> Any:
    """A free-text Config field; the keywords are those of `number`. `check` raises InputError for a wrong text."""
    return _field(default, help, label, id, advanced, since, multiline=multiline, check=check)


def _field(default: Any, help: str, label: str, id: str, advanced: bool, since: str, **more: Any) -> Any:
    metadata = {"help": help, "label": label, "id": id, "advanced": advanced, "since": since, **more}
    return field(default=default, metadata=metadata)


def id_of(f: Field[Any]) -> str:
    """The name of a Config field in saved graphs, scene histories and checkpoint keys."""
    return f.metadata.get("id") or f.name


def label_of(f: Field[Any]) -> str:
    """The name of a Config field in user interfaces."""
    words = re.sub(r"_lr$", " learning rate", f.name)
    return f.metadata.get("label") or words.replace("_", " ")


def caption_of(f: Field[Any]) -> str:
    """The label with what numbers stand for: "steps (0 = auto)". The canvas reads the words from it (web/faces.js)."""
    words = ", ".join(f"{value} = {word}" for value, word in f.metadata.get("words", {}).items())
    return f"{label_of(f)} ({words})" if words else label_of(f)


def number_of(f: Field[Any], text: str) -> float | int:
    """The number that a text stands for: one of the field's words, or digits. Raises ValueError for another text."""
    named = {_plain(word): value for value, word in f.metadata["words"].items()}
    kind = int if isinstance(f.default, int) else float
    return kind(named.get(_plain(text), text))


def text_of(f: Field[Any], value: Any) -> str:
    """A value for the user: the field's word for it where it has one."""
    words = f.metadata.get("words", {})
    return words[value] if value in words else str(value)


def _plain(text: str) -> str:
    """A word as it is compared: "no limit" may be typed as "No-Limit"."""
    return " ".join(re.split(r"[\s_-]+", text.strip().casefold()))


def as_record(config: Any) -> dict[str, Any]:
    """The config's values by the ids that files use: for histories and checkpoint keys."""
    return {id_of(f): getattr(config, f.name) for f in fields(config)}


def restored(kind: type[C], record: Mapping[str, Any]) -> C:
    """A config with the values of a record from a history, by id; what is missing or no longer valid is as by default."""
    config = kind()
    for f in fields(cast(Any, config)):
        if id_of(f) in record:
            with suppress(InputError):
                changed = replace(cast(Any, config), **{f.name: record[id_of(f)]})
                # configs that others extend leave it to them
                validate(changed)
                config = changed
    return config


def validate(config: Any) -> None:
    """Raise InputError for the first field of a wrong type or outside its range; each Config's `__post_init__` calls it."""
    assert is_dataclass(config)
    for f in fields(config):
        value, meta = getattr(config, f.name), f.metadata
        if "help" in meta:
            _check_type(f, value)
        if "low" in meta and not (isinstance(value, int | float) and meta["low"] <= value <= meta["high"]):
            raise InputError(
                "ENG-005", f"{f.name} is {value}; it must be between {meta['low']} and {meta['high']}."
            )
        if "options" in meta and value not in meta["options"]:
            raise InputError("ENG-006", f"{f.name} is '{value}'; choose one of {', '.join(meta['options'])}.")
        if meta.get("check") is not None:
            meta["check"](value)


def _check_type(f: Field[Any], value: Any) -> None:
    """InputError unless `value` is of the kind that the field's default has: graphs and scripts may hold anything."""
    if isinstance(f.default, str):
        # lone surrogates, which JSON can hold, cannot be written to a file or given to a tokenizer
        fits, wanted = isinstance(value, str) and is_utf8(value), "text"
    elif isinstance(f.default, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(f.default, int | float):
        whole = isinstance(f.default, int)
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and (not whole or isinstance(value, int) or value.is_integer())
        wanted = "a whole number" if whole else "a number"
    else:
        return
    if not fits:
        raise InputError("ENG-009", f"{f.name} is {shown(value)}; it must be {wanted}.")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise InputError(
            "ENG-010",
            f"{f.name} has {len(value):,} characters, {shown(value)}; at most {LONGEST_TEXT:,} fit. Shorten it.",
        )


def indices(text: str, count: int, what: str) -> tuple[int, ...]:
    """The numbers in a text such as "0 2 5-8", ascending and without duplicates; "" or "all" is 0 … count − 1.

    `what` names what is counted ("view"). Raises InputError if a word is not a number or a number is out of range.
    """
    words_given = text.replace(",", " ").split()
    if not words_given or [w.lower() for w in words_given] == ["all"]:
        return tuple(range(count))
    found: set[int] = set()
    for word in words_given:
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", word)
        if match is None:
            raise InputError(
                "ENG-007", f"'{word[:40]}' is not a {what} number; enter numbers and ranges, such as 0 2 5-8."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= count:
            raise InputError(
                "ENG-008", f"There is no {what} {word}; there are {count}, numbered 0 to {count - 1}."
            )
        found.update(range(first, last + 1))
    return tuple(sorted(found))
