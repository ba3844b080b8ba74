"""Jobs in an order in which each comes after those it needs."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..files.paths import printable
from .jobs import Job


def in_order(jobs: Sequence[Job], file: str) -> list[Job]:
    """The jobs in their own order as far as what they need allows it. InputError that names a cycle."""
    left, done, found = list(jobs), set[str](), list[Job]()
    while left:
        waiting: list[Job] = []
        for job in left:
            if done.issuperset(job.needs):
                done.add(job.name)
                found.append(job)
            else:
                waiting.append(job)
        if len(waiting) == len(left):
            cycle = _cycle(waiting)
            raise InputError(
                "CLU-040",
                f"{printable(file)}: these jobs wait for each other: {' → '.join(job.name for job in cycle)} "
                f"({cycle[0].where}). Remove one of the references.",
            )
        left = waiting
    return found


def _cycle(jobs: Sequence[Job]) -> list[Job]:
    """Jobs each of which needs the next; the last is the first."""
    by_name = {job.name: job for job in jobs}
    path: list[Job] = [jobs[0]]
    while True:
        # what cannot run needs another that cannot
        following = next(by_name[name] for name in path[-1].needs if name in by_name)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)
