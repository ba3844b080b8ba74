"""The instances of a job: one for each combination of its matrix's values, which its texts name in braces."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping

from ..errors import InputError
from ..files.paths import file_stems, printable
from ..wording import brief, listed
from .job_file import JobEntry, JobFile, Text

Values = Mapping[str, str]
# of a job file: beyond it, a matrix has a slip
MOST_JOBS = 10_000
# characters of a text with its values: some systems take no longer words, and a few lines of braces could stand for gigabytes
LONGEST_TEXT = 30_000
# characters of a value in the name of an instance
LONGEST_VALUE = 32
_PLACE = re.compile(r"\{\{|\}\}|\{ *([A-Za-z_]\w*) *\}")


def instances(entry: JobEntry) -> Iterator[dict[str, str]]:
    """The combinations of the matrix's values; the last name changes first. One empty combination without a matrix."""
    names = list(entry.matrix)
    for texts in itertools.product(*entry.matrix.values()):
        yield {name: text.text for name, text in zip(names, texts, strict=True)}


def check_number(file: JobFile) -> None:
    """InputError where the matrices make more jobs than anybody wants."""
    total = 0
    for entry in file.jobs.values():
        number = 1
        for texts in entry.matrix.values():
            number *= len(texts)
        total += number
        if total > MOST_JOBS:
            raise InputError(
                "CLU-019",
                f"{file.at(entry.line)}: with the matrix of '{entry.name}' there are more than {MOST_JOBS:,} jobs. Shorten it.",
            )


def instance_name(entry: JobEntry, values: Values) -> str:
    """ "edit[a, make it gold]": the name of one instance in tables and reports. Not unique where long values begin alike."""
    return (
        f"{entry.name}[{', '.join(brief(v, LONGEST_VALUE) for v in values.values())}]"
        if values
        else entry.name
    )


def file_names(entry: JobEntry) -> dict[str, dict[str, str]]:
    """For each name of the matrix, what a value is called in the name of a file: different for all of its values."""
    found: dict[str, dict[str, str]] = {}
    for name, texts in entry.matrix.items():
        values = [text.text for text in texts]
        words = [re.sub(r"\s+", "-", value.strip()) for value in values]
        found[name] = dict(zip(values, file_stems(words), strict=True))
    return found


def filled(
    text: Text, values: Values, file: JobFile, shape: Callable[[str, str], str] = lambda _, v: v
) -> str:
    """A text with the matrix's values in it; `{{` is a brace. `shape` is given name and value, and returns what is put in.

    Raises InputError for a name in braces that the matrix does not have, and for a text that gets too long.
    """
    length = len(text.text)

    def put(match: re.Match[str]) -> str:
        nonlocal length
        name = match[1]
        if name is None:
            return match[0][0]
        if name not in values:
            there = listed(list(values)) or "no names"
            raise InputError(
                "CLU-020",
                f"{file.at(text.line)}: '{{{printable(name)}}}' is not in the matrix of this job, which has {there}. "
                "Write {{ for a brace.",
            )
        found = shape(name, values[name])
        length += len(found)
        if length > LONGEST_TEXT:
            raise _too_long(text, file)
        return found

    if length > LONGEST_TEXT:
        raise _too_long(text, file)

    return _PLACE.sub(put, text.text)


def _too_long(text: Text, file: JobFile) -> InputError:
    return InputError(
        "CLU-058",
        f"{file.at(text.line)}: a text here has more than {LONGEST_TEXT:,} characters with the values of the matrix in it. "
        "Shorten it.",
    )
