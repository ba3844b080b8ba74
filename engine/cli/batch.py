"""The verb `batch`: jobs of a file, on this machine or on a Ray cluster."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

from ..cluster import Verbs, read_jobs, run, standing
from ..cluster.running import UP_TO_DATE
from ..cluster.verbs import Role
from ..files.atomic import check_writable
from ..messages import Finished, JobUpdate, Started
from .arguments import AddVerb, Arguments, add_path, say
from .console import tell
from .job_table import JobTable

VERB = "batch"
KEPT = "stopped; finished outputs and checkpoints are kept, and the same command continues from them"


def batch(arguments: Arguments, verbs: Callable[[], Verbs]) -> dict[str, Any]:
    arguments.unfinished.kept = KEPT
    if arguments.address and arguments.on == "local":
        arguments.on = "ray"
    if arguments.report and not arguments.dry_run:
        check_writable(arguments.report)
    jobs = read_jobs(arguments.jobs, verbs(), arguments.folder)
    if arguments.dry_run:
        states = standing(jobs, arguments.again, arguments.report)
        for job in jobs.jobs:
            is_done = " (up to date)" if states[job.name] == UP_TO_DATE else ""
            say(f"{job.name}{is_done}: {shlex.join(job.words)}", arguments)
        return {
            "jobs": [{"name": j.name, "words": list(j.words), "state": states[j.name]} for j in jobs.jobs]
        }
    report: dict[str, Any] = {}
    table = None if arguments.json else JobTable()
    stream = run(
        jobs, arguments.on, arguments.address, arguments.pack or "", arguments.again, arguments.report
    )
    try:
        with closing(stream):
            for message in stream:
                if isinstance(message, Started) and not arguments.json:
                    tell(message.note, sys.stderr)
                elif isinstance(message, JobUpdate) and table is not None:
                    table.update(message)
                elif isinstance(message, Finished):
                    report = message.value
    finally:
        if table is not None:
            table.close()
    unfinished = report["failed"] + report["not_run"]
    arguments.exit_code = 1 if unfinished else 0
    done = report["done"] + report["up_to_date"]
    before = f", {report['up_to_date']} of them before" if report["up_to_date"] else ""
    say(f"{done} of {len(jobs.jobs)} jobs are done{before}", arguments)
    for job in report["jobs"]:
        if job["state"] == "failed":
            code = f" [{job['code']}]" if job["code"] else ""
            tell(f"error: {job['name']}: {job['note']}{code}", sys.stderr)
    return report


def add_batch(add_verb: AddVerb, verbs: Callable[[], Verbs]) -> None:
    """The verb with its flags; `verbs` gives those that jobs may run."""
    sub = add_verb(
        VERB,
        lambda arguments: batch(arguments, verbs),
        "Run the jobs of a file in order, on this machine or on a Ray cluster; finished ones are skipped.",
    )
    add_path(sub, "jobs", metavar="JOBS.yaml", help="job file (docs/scale.md)")
    on = "where the jobs run: one after the other on this machine, or on Ray"
    sub.add_argument("--on", choices=("local", "ray"), default="local", help=on)
    address = (
        "Ray cluster: auto, local (a new one), HOST:PORT or ray://HOST:PORT (default: the one of this machine, else a new one); "
        "implies --on ray"
    )
    sub.add_argument("--address", default="", metavar="ADDRESS", help=address)
    folder = "folder for the outputs (default: as the job file says)"
    add_path(sub, "--folder", metavar="DIR", role=Role.KEPT, help=folder)
    pack = "folder of GS4D Studio on the machines of the cluster (default: where it is here)"
    add_path(sub, "--pack", metavar="DIR", help=pack)
    again = "make all outputs anew, and overwrite outputs that were changed or made by others"
    sub.add_argument("--again", action="store_true", help=again)
    sub.add_argument(
        "--dry-run",
        action="store_true",
        help="check the file and list its commands and which of them are done, without running them",
    )
    add_path(
        sub, "--report", metavar="FILE", role=Role.OUTPUT, help="JSON file to write: what became of each job"
    )
