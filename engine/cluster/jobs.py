"""What a place is given to run: commands with what they read, write and need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One command to run.

    Attributes:
        name: "edit[a, make it gold]"; different for all jobs.
        entry: Name of the job in the file, and `values` those of its matrix.
        words: The verb and its flags, with absolute paths.
        settings: The same as written in the file, for the fingerprint: flag to values.
        outputs: What is there when it is done.
        inputs: Files and folders that it reads and no job makes, or not all of what is in them.
        feeds: Names of the jobs whose outputs it reads.
        needs: Names of all jobs that must be done before.
        processes: That share the work on its machine; their number changes results by rounding only.
    """

    name: str
    entry: str
    values: dict[str, str]
    words: tuple[str, ...]
    settings: dict[str, tuple[str, ...]]
    outputs: tuple[Path, ...]
    inputs: tuple[Path, ...]
    feeds: tuple[str, ...]
    needs: tuple[str, ...]
    gpus: float
    cpus: float
    retries: int
    where: str
    processes: int = 1

    @property
    def verb(self) -> str:
        return self.words[0]


@dataclass(frozen=True)
class Jobs:
    """The jobs of a file in an order in which they can run, the folder of their outputs, and all that they write, with links
    followed."""

    file: Path
    folder: Path
    jobs: tuple[Job, ...]
    written: frozenset[str]
