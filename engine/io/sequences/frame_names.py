"""Which files are the frames of one clip, in which order, and which numbers are missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ...errors import InputError
from ...files.folders import natural_key
from ...wording import listed, printable

# of the usual distance between two frames of one clip: names of time stamps have no larger gaps
LONGEST_STEP = 3
IRREGULAR = "The numbers of the files are irregular: they play in their order, at equal distances."


@dataclass(frozen=True)
class Numbering:
    """The files of one clip.

    Args:
        order: Their indices in the order of playing.
        places: Where each of them, in that order, stands in time, in frames from the first.
        numbers: Their numbers; empty where names have none.
        note: What there is to say of their numbers ("" if nothing).
    """

    order: list[int]
    places: list[int]
    numbers: list[int]
    note: str = ""


def one_clip(names: Sequence[str], source: str) -> Numbering:
    """The frames of a clip by the names of their files, at least one, without folders.

    Args:
        names: The names; letters count in lower case.
        source: The folder or zip, for messages.

    Raises:
        InputError: They are the frames of several clips: names that differ in more than the number of the frame.
    """
    parts = [re.split(r"(\d+)", Path(name).stem.lower()) for name in names]
    patterns = Counter(tuple(each[::2]) for each in parts)
    by_name = sorted(range(len(names)), key=lambda i: natural_key(names[i]))
    if len(patterns) > 1:
        if max(patterns.values()) == 1:
            return _in_order(by_name)
        first = by_name[0]
        other = next(i for i in by_name if parts[i][::2] != parts[first][::2])
        raise _several(names[first], names[other], source)
    values = [[int(number) for number in each[1::2]] for each in parts]
    varying = [slot for slot in range(len(values[0])) if len({each[slot] for each in values}) > 1]
    if not varying:
        return _in_order(by_name)
    distinct = [slot for slot in varying if len({each[slot] for each in values}) == len(names)]
    if distinct:
        columns = [[each[slot] for each in values] for slot in distinct]
        # where a frame's name holds its time too, its number is what grows more slowly
        return _numbered(min(columns, key=lambda column: max(column) - min(column)))
    seconds = _decimals(parts, varying)
    if seconds is not None:
        return _in_order(sorted(range(len(names)), key=lambda i: seconds[i]))
    first = by_name[0]
    other = next((i for i in by_name if values[i][varying[0]] != values[first][varying[0]]), by_name[-1])
    raise _several(names[first], names[other], source)


def _several(first: str, other: str, source: str) -> InputError:
    return InputError(
        "IO-108",
        f"{printable(source)} holds several clips: {printable(first)} and {printable(other)} are not numbered as frames of one. "
        "Put the frames of each clip into a folder of their own.",
    )


def _in_order(order: list[int]) -> Numbering:
    return Numbering(order, list(range(len(order))), [])


def _decimals(parts: list[list[str]], varying: list[int]) -> list[float] | None:
    """Times in seconds such as 1.25, where names differ in nothing else and they are about equally far apart."""
    if len(varying) != 2 or varying[1] != varying[0] + 1:
        return None
    at = 2 * varying[0] + 1
    if any(each[at + 1] != "." for each in parts):
        return None
    seconds = [float("".join(each[at : at + 3])) for each in parts]
    steps = sorted(b - a for a, b in pairwise(sorted(seconds)))
    is_even = 0 < steps[0] and steps[-1] <= LONGEST_STEP * steps[len(steps) // 2]
    return seconds if is_even else None


def _numbered(numbers: list[int]) -> Numbering:
    """Frames by their numbers, which are all different: missing ones leave their time to the frames around them."""
    order = sorted(range(len(numbers)), key=lambda i: numbers[i])
    numbers = [numbers[i] for i in order]
    steps = [b - a for a, b in pairwise(numbers)]
    step, count = Counter(sorted(steps)).most_common(1)[0] if steps else (1, 0)
    missing = (
        [n for a, b in pairwise(numbers) for n in range(a + step, b, step)] if _few(numbers, step) else []
    )
    is_regular = 2 * count >= len(steps) and all(each % step == 0 for each in steps)
    if not is_regular or not _few(numbers, step):
        return Numbering(order, list(range(len(order))), numbers, IRREGULAR)
    places = [(n - numbers[0]) // step for n in numbers]
    if not missing:
        return Numbering(order, places, numbers)
    runs = listed(_runs(missing, step))
    noun, verb, pronoun = ("Frame", "is", "Its") if len(missing) == 1 else ("Frames", "are", "Their")
    note = f"{noun} {runs} {verb} missing. {pronoun} time is kept, so that the others play when they should."
    return Numbering(order, places, numbers, note)


def _few(numbers: list[int], step: int) -> bool:
    """Whether no more frames are missing than are there."""
    return (numbers[-1] - numbers[0]) // step + 1 <= 2 * len(numbers)


def _runs(numbers: list[int], step: int) -> list[str]:
    """ "3", "7–9" for 3, 7, 8, 9."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + step:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs]
