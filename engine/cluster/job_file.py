"""Job files: YAML, read as texts with their lines. What the texts mean is plan.py's business.

A text is taken as it is written (`1:30` stays `1:30`). Anchors, aliases and tags are refused: a few lines of them can stand
for gigabytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backends import require
from ..errors import InputError
from ..files.paths import printable, read_regular
from ..wording import shown

# bytes, and levels of lists and mappings
LARGEST, DEEPEST = 512 * 1024, 8
# of a job; one that asks for more has a slip in its file
MOST_RETRIES = 100
# share of a GPU or CPU that Ray counts
SMALLEST = 0.0001
NAME = re.compile(r"[A-Za-z_][\w-]{0,63}", re.ASCII)
# keys of a job that are not flags
KEYS = ("run", "matrix", "after", "gpus", "cpus", "processes", "retries")
# what PyYAML says about a file, and what to do then
_QUOTES = "Values that begin with {, [, &, *, ! or % need quotes."
_ADVICE = {
    "\\t": "Indent with spaces instead of tabs.",
    "mapping values are not allowed": "Check the indentation; a value with ': ' in it needs quotes.",
    "could not find expected ':'": "Write 'name: value', with a space after the colon.",
    "a quote is not closed": "Close it.",
    "another document": "Remove the line '---'.",
    "expected <block end>": "Check the indentation, and the quotes here and above. Values that begin with {, with [ or with a "
    "quote need quotes around them.",
}
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp")}
_MERGE = "tag:yaml.org,2002:merge"
_PLAIN_TAGS |= {"tag:yaml.org,2002:seq", "tag:yaml.org,2002:map", "tag:yaml.org,2002:value"}


@dataclass(frozen=True)
class Text:
    """A text of the file and the line it stands in; `is_missing` where YAML has null."""

    text: str
    line: int
    is_missing: bool = False


@dataclass(frozen=True)
class Entry:
    """The value of a flag: one text, or a list of them."""

    texts: tuple[Text, ...]
    line: int
    is_list: bool


@dataclass(frozen=True)
class JobEntry:
    """A job as it is written."""

    name: str
    line: int
    run: Text
    matrix: dict[str, tuple[Text, ...]] = field(default_factory=dict)
    after: tuple[Text, ...] = ()
    gpus: float = 0.0
    cpus: float = 1.0
    # that torchrun starts on the job's machine
    processes: int = 1
    retries: int = 2
    # by the names flags have in the file
    flags: dict[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True)
class JobFile:
    """A job file: its path, the folder of the outputs as it is written, its jobs by name."""

    path: Path
    folder: Text
    jobs: dict[str, JobEntry]

    def at(self, line: int) -> str:
        """ "jobs.yaml, line 12": how messages name a place."""
        return f"{printable(self.path.name)}, line {line}"


def read_job_file(path: Path) -> JobFile:
    """Read a job file. Raises InputError, with the line, for whatever is not one."""
    name = printable(path.name)
    root = _Reader(name).mapping(_compose(path, name), "the file")
    where = f"{name}, line 1"
    if "jobs" not in root:
        raise InputError(
            "CLU-001", f"{where}: there is no 'jobs:'. List the jobs below it, each with a name."
        )
    if unknown := sorted(set(root) - {"folder", "jobs"}):
        key, _ = root[unknown[0]]
        raise InputError(
            "CLU-002",
            f"{name}, line {_line(key)}: '{unknown[0]}' is not known here; a job file has 'folder' and 'jobs'.",
        )
    reader = _Reader(name)
    folder = reader.text(root["folder"][1]) if "folder" in root else Text("", 1, is_missing=True)
    if folder.is_missing or not folder.text.strip():
        raise InputError(
            "CLU-003",
            f"{name}, line {folder.line}: there is no 'folder:'. Name the folder for the outputs, relative to this file.",
        )
    jobs = {
        key: reader.job(key, _line(node), value)
        for key, (node, value) in reader.mapping(root["jobs"][1], "jobs").items()
    }
    if not jobs:
        raise InputError(
            "CLU-004", f"{name}, line {_line(root['jobs'][0])}: 'jobs' is empty. List at least one job."
        )
    return JobFile(path, folder, jobs)


def _line(node: Any) -> int:
    return node.start_mark.line + 1


def _compose(path: Path, name: str) -> Any:
    """The root node of a YAML file; None for an empty one."""
    require("yaml")
    import yaml

    try:
        raw = read_regular(path) if path.stat().st_size <= LARGEST else None
    except OSError as error:
        raise InputError(
            "CLU-005", f"{name} cannot be read: {error.strerror}. Enter the path of a job file."
        ) from error
    if raw is None:
        raise InputError(
            "CLU-006", f"{name} has more than {LARGEST:,} bytes; it is not a job file. Check the path."
        )

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event: Any = self.peek_event()
            if getattr(event, "anchor", None) is not None:
                raise InputError(
                    "CLU-007",
                    f"{name}, line {event.start_mark.line + 1}: anchors (&) and aliases (*) are not read. Write the "
                    "value out, in "
                    "quotes if it begins with such a character.",
                )
            self.depth += 1
            if self.depth > DEEPEST:
                raise InputError(
                    "CLU-008",
                    f"{name}, line {event.start_mark.line + 1}: nested more than {DEEPEST} levels deep. Check the indentation.",
                )
            node: Any = super().compose_node(parent, index)
            self.depth -= 1
            if node.tag not in _PLAIN_TAGS and node.tag != _MERGE:
                raise InputError(
                    "CLU-009",
                    f"{name}, line {_line(node)}: the tag {shown(node.tag)} is not read. Remove it.",
                )
            return node

    try:
        loader = Loader(raw)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise InputError("CLU-010", _not_yaml(error, name)) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("CLU-011", f"{name} is not YAML ({shown(str(error))}). Save it as UTF-8.") from error


def _not_yaml(error: Any, name: str) -> str:
    """The sentence about a file that YAML cannot read."""
    mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", None))
    if mark is None:
        reason = getattr(error, "reason", None) or "it is not text"
        return f"{name}: this is not YAML ({reason}). Save it as text in UTF-8."
    context = getattr(error, "context", None)
    if context in ("while scanning a simple key", "while scanning a quoted scalar"):
        # the problem is noticed lines after it
        mark = error.context_mark
    if context == "while scanning a quoted scalar":
        problem = "a quote is not closed"
    advice = next((advice for sign, advice in _ADVICE.items() if sign in problem), _QUOTES)
    return f"{name}, line {mark.line + 1}: this is not YAML ({problem}). {advice}"


class _Reader:
    """Nodes of YAML as values; errors name the file and the line."""

    def __init__(self, name: str) -> None:
        self.name = name

    def mapping(self, node: Any, what: str, are_flags: bool = False) -> dict[str, tuple[Any, Any]]:
        """Nodes of key and value by key; flags may be written with hyphens or underscores."""
        found: dict[str, tuple[Any, Any]] = {}
        if node is None or node.id != "mapping":
            line = 1 if node is None else _line(node)
            raise InputError("CLU-012", f"{self.name}, line {line}: {what} must be 'name: value' lines.")
        for key, value in node.value:
            text = self.text(key).text
            if key.tag == _MERGE:
                raise InputError(
                    "CLU-055",
                    f"{self.name}, line {_line(key)}: merge keys (<<) are not read. Write the lines out.",
                )
            text = text.replace("-", "_") if are_flags else text
            if text in found:
                raise InputError(
                    "CLU-013",
                    f"{self.name}, line {_line(key)}: '{printable(text)}' occurs twice in {what}. Keep the correct one.",
                )
            found[text] = (key, value)
        return found

    def text(self, node: Any) -> Text:
        if node.id != "scalar":
            raise InputError(
                "CLU-014",
                f"{self.name}, line {_line(node)}: one value is expected here, not a list or a mapping.",
            )
        is_missing = node.tag == "tag:yaml.org,2002:null"
        return Text("" if is_missing else node.value, _line(node), is_missing)

    def texts(self, node: Any) -> tuple[Text, ...]:
        return tuple(map(self.text, node.value)) if node.id == "sequence" else (self.text(node),)

    def job(self, name: str, line: int, node: Any) -> JobEntry:
        if NAME.fullmatch(name) is None:
            raise InputError(
                "CLU-015",
                f"{self.name}, line {line}: '{printable(name)[:60]}' cannot be a job's name. Use letters, digits, - and _.",
            )
        keys = self.mapping(node, f"the job '{name}'", are_flags=True)
        if "run" not in keys:
            raise InputError(
                "CLU-016", f"{self.name}, line {line}: the job '{name}' has no 'run:'. Name the verb it runs."
            )
        given: dict[str, Any] = {}
        if "matrix" in keys:
            given["matrix"] = self._matrix(*keys["matrix"])
        if "after" in keys:
            given["after"] = self.texts(keys["after"][1])
        for key, low, high in (
            ("gpus", 0, 64),
            ("cpus", 0, 1024),
            ("processes", 1, 64),
            ("retries", 0, MOST_RETRIES),
        ):
            if key in keys:
                given[key] = self._number(key, keys[key][1], low, high)
        flags = {
            key: Entry(self.texts(value), _line(node), value.id == "sequence")
            for key, (node, value) in keys.items()
            if key not in KEYS
        }
        return JobEntry(name, line, self.text(keys["run"][1]), flags=flags, **given)

    def _matrix(self, key: Any, node: Any) -> dict[str, tuple[Text, ...]]:
        found: dict[str, tuple[Text, ...]] = {}
        for name, (_, values) in self.mapping(node, "matrix").items():
            found[name] = texts = self.texts(values)
            twice = [text.text for i, text in enumerate(texts) if text.text in {t.text for t in texts[:i]}]
            if not name.isidentifier() or not texts or twice or any(text.is_missing for text in texts):
                wrong = f"the value {shown(twice[0])} twice" if twice else "no usable name or an empty value"
                raise InputError(
                    "CLU-017",
                    f"{self.name}, line {_line(values)}: matrix '{printable(name)[:60]}' has {wrong}. Write 'name: "
                    "[value, value]', "
                    "each value once.",
                )
        return found

    def _number(self, key: str, node: Any, low: float, high: float) -> float:
        text = self.text(node)
        try:
            value = int(text.text) if key in ("processes", "retries") else float(text.text)
        except ValueError:
            value = None
        is_share = value is not None and 0 < value < SMALLEST
        is_broken = value is not None and key == "gpus" and value > 1 and value % 1 > 0
        if value is None or not low <= value <= high or is_share or is_broken:
            kind = "a whole number" if key in ("processes", "retries") else "a number"
            more = ", whole above 1" if is_broken else f", and {SMALLEST:g} at least" if is_share else ""
            raise InputError(
                "CLU-018",
                f"{self.name}, line {text.line}: {key} is {shown(text.text)}; it must be {kind} from {low} to {high}{more}.",
            )
        return value
