"""The verbs of the command line as job files see them (engine/cluster)."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from ..cluster.verbs import Flag, Refused, Role, Verb
from ..errors import InputError
from .arguments import Arguments, Parser, check_configs, check_names

# flags that whoever runs a job gives
_OF_THE_RUNNER = ("help", "json", "progress")


class _Wrong(Exception):
    """What a parser says about arguments."""


class QuietParser(Parser):
    """Raises instead of printing and ending."""

    def error(self, message: str) -> NoReturn:
        raise _Wrong(message)


def described(parser: argparse.ArgumentParser, leave_out: Sequence[str]) -> dict[str, Verb]:
    """The verbs of a parser made of QuietParser, by each of their names."""
    choices = next(a.choices for a in parser._actions if isinstance(a.choices, dict))  # pyright: ignore[reportPrivateUsage]
    return {name: _verb(name, sub) for name, sub in choices.items() if name not in leave_out}


def _verb(name: str, parser: argparse.ArgumentParser) -> Verb:
    roles = parser.get_default("path_roles") or {}
    flags: dict[str, Flag] = {}
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage]
        if action.dest in _OF_THE_RUNNER or not action.option_strings:
            continue
        role = roles.get(action.dest, Role.VALUE)
        words = [word for word in action.option_strings if word.startswith("--")]
        on = [word for word in words if not word.startswith("--no-") or action.nargs != 0]
        flag = Flag(
            name=on[0],
            role=role,
            is_switch=action.nargs == 0,
            off=next((word for word in words if word not in on), ""),
            takes_several=action.nargs in ("+", "*"),
            is_required=action.required or (role is Role.OUTPUT and action.default is not None),
        )
        flags.update({word[2:].replace("-", "_"): flag for word in on})
    shares = bool(parser.get_default("shares_views"))
    checkpoints = tuple(parser.get_default("checkpoints") or ())
    return Verb(name, flags, lambda words: _refused(parser, words), shares, checkpoints)


def _refused(parser: argparse.ArgumentParser, words: Sequence[str]) -> Refused | None:
    """Why a verb does not take these words; None if it does."""
    try:
        arguments = parser.parse_args(list(words))
    except _Wrong as error:
        named = re.match(r"argument (--[\w-]+)", str(error))
        return Refused(str(error), named[1] if named else "")
    except InputError as error:
        return Refused(error.message)
    try:
        check_configs(arguments)
        check_names(arguments)
    except InputError as error:
        return Refused(error.message, _at_fault(arguments, words))
    return None


def _at_fault(arguments: Arguments, words: Sequence[str]) -> str:
    """The first flag of which the value alone is refused."""
    given = {word.split("=")[0] for word in words}
    for config, skip, prefix in getattr(arguments, "configs", ()):
        for f in fields(config):
            flag = "--" + (prefix + f.name).replace("_", "-")
            if f.name not in skip and flag in given:
                value: Any = getattr(arguments, prefix + f.name)
                try:
                    config(**{f.name: value})
                except InputError:
                    return flag
    for name, check in getattr(arguments, "name_checks", {}).items():
        if path := getattr(arguments, name):
            try:
                check(Path(path), arguments)
            except InputError:
                return "--" + name.replace("_", "-")
    return ""
