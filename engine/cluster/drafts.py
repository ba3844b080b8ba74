"""A job while its file is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .job_file import JobEntry


@dataclass
class Draft:
    """One combination of the values of a job's matrix.

    Attributes:
        words: The verb and its flags.
        settings: The same as written in the file.
        outputs: What is there when it is done, by flag.
        written: All that it writes, by flag (by its ending, for a checkpoint without one), and the lines where that is said.
        paths: Inputs that are named by their path, with their lines.
        inputs: Those of them that have files of nobody's jobs.
        feeds: Names of the jobs whose outputs it reads.
        waits: Names of the jobs in `after`.
    """

    name: str
    entry: JobEntry
    values: dict[str, str]
    words: list[str] = field(default_factory=list)
    settings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    outputs: dict[str, Path] = field(default_factory=dict)
    written: dict[str, tuple[Path, int]] = field(default_factory=dict)
    paths: list[tuple[Path, int]] = field(default_factory=list)
    inputs: list[Path] = field(default_factory=list)
    feeds: dict[str, None] = field(default_factory=dict)
    waits: dict[str, None] = field(default_factory=dict)
