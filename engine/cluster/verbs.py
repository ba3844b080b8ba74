"""What a job file may ask for: verbs with their flags. The command line describes its own (engine/cli/verbs.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

# flags of a verb's first output, and of its unfinished work
OUT, CHECKPOINT = "out", "checkpoint"


class Role(Enum):
    """What the value of a flag is."""

    VALUE = "value"
    # a path that is read
    INPUT = "input"
    # a path that is written, and is there when the verb ends well
    OUTPUT = "output"
    # a path that is written while the verb works
    KEPT = "kept"
    # a folder of this machine's own, for what can be made again
    CACHE = "cache"


@dataclass(frozen=True)
class Flag:
    """One flag of a verb.

    Args:
        name: As it is typed: "--frame-count".
        role: What its value is.
        is_switch: It is true or false, and has no value.
        off: What turns a switch off ("--no-refine"); empty where it is off unless given.
        takes_several: It takes one value or more.
        is_required: A job must give it. So must it an output with a default, which would lie in the pack.
    """

    name: str
    role: Role = Role.VALUE
    is_switch: bool = False
    off: str = ""
    takes_several: bool = False
    is_required: bool = False


@dataclass(frozen=True)
class Refused:
    """Why a command line is not taken; `flag` is the name of the flag at fault, empty where it is not one alone."""

    reason: str
    flag: str = ""


@dataclass(frozen=True)
class Verb:
    """A verb.

    Args:
        name: As it is typed.
        flags: By the names they have in job files (with underscores).
        check: What checks the words of a command.
        shares_views: Several processes can share its work.
        checkpoints: Endings of the files next to its first output that keep its unfinished work: ".training.safetensors".
    """

    name: str
    flags: Mapping[str, Flag]
    check: Callable[[Sequence[str]], Refused | None]
    shares_views: bool = False
    checkpoints: tuple[str, ...] = ()


Verbs = Mapping[str, Verb]
