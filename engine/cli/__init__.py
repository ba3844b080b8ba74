"""The command line: one verb per step, the same configs and functions as the nodes.

Exit codes: 0 done, 1 the input cannot be used (one sentence on stderr), 2 wrong arguments, 130 stopped by Ctrl-C and 143 by
SIGTERM (a sentence says which checkpoint keeps what was trained). With `--json` the last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..backends import explains_memory
from ..cluster import Verbs
from ..cluster.verbs import Role
from ..errors import InputError
from ..files.paths import explains_files
from ..steps import all_steps
from ..steps.step import Input
from ..train import ranks
from .arguments import (
    Arguments,
    NameCheck,
    Parser,
    add_config,
    add_path,
    check_configs,
    check_names,
    config_from,
    follow,
)
from .batch import VERB as BATCH
from .batch import add_batch
from .console import UNREPORTED, prepare_console, tell
from .edit import add_edit
from .kinds import add_input
from .progress import JSON, TEXT, set_progress
from .scenes import add_scene_verbs
from .step_verb import add_step
from .stopping import Stopped, Unfinished, ignore_signals, stoppable
from .verbs import QuietParser, described

__all__ = ["add_config", "config_from", "follow", "main", "verbs"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    prepare_console()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit:
        # the help may be piped too
        tell("", sys.stdout, end="")
        raise
    arguments.unfinished = Unfinished()
    is_quiet = arguments.json or not ranks.leads()
    logging.basicConfig(level=logging.WARNING if is_quiet else logging.INFO, format="%(message)s")
    with stoppable():
        set_progress(arguments.progress)
        try:
            report = _report(arguments)
            if arguments.json and ranks.leads():
                tell(json.dumps(report), sys.stdout)
            return getattr(arguments, "exit_code", 0)
        except InputError as error:
            if arguments.json and error.code != UNREPORTED:
                tell(json.dumps({"error": error.message, "code": f"GS4D-{error.code}"}), sys.stdout)
            tell(f"error: {error}", sys.stderr)
            return 1
        except KeyboardInterrupt as stop:
            ignore_signals()
            if ranks.leads():
                tell(arguments.unfinished.sentence(), sys.stderr)
            return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def _report(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the verb found; memory that ran out and files that cannot be read on the way are InputErrors too."""
    with explains_files(), explains_memory("working"):
        if ranks.launched() and not getattr(arguments, "shares_views", False):
            raise InputError(
                "CLI-011",
                "Only training a scene (fit-scene) runs on several processes. Start this command without torchrun.",
            )
        check_configs(arguments)
        check_names(arguments)
        return arguments.verb(arguments)


def verbs() -> Verbs:
    """The verbs that the jobs of `engine.cluster` may run."""
    return described(_parser(QuietParser), leave_out=(BATCH,))


def _parser(kind: type[Parser] = Parser) -> argparse.ArgumentParser:
    parser = kind(
        prog="python -m engine", description="Train, edit, render, evaluate and convert 4D Gaussian scenes."
    )
    choices = parser.add_subparsers(required=True, metavar="VERB")

    def add_verb(
        name: str,
        run: Callable[[Arguments], dict[str, Any]],
        text: str,
        *,
        aliases: Sequence[str] = (),
        inputs: Sequence[Input] = (),
        out: str = "",
        check_out: NameCheck | None = None,
        has_device: bool = False,
        configs: Sequence[type[Any]] = (),
    ) -> argparse.ArgumentParser:
        """A verb with a flag for each input and each field of the configs; `out` explains its `--out`, and
        `check_out` checks the name given there."""
        sub = choices.add_parser(name, help=text, description=text, aliases=list(aliases))
        sub.set_defaults(verb=run)
        sub.add_argument(
            "--json", action="store_true", help="print one JSON object as the last line, and nothing else"
        )
        how = "how progress is told on stderr: lines for people, or one JSON object a line"
        sub.add_argument("--progress", choices=(TEXT, JSON), default=TEXT, help=how)
        for declared in inputs:
            add_input(sub, declared)
        if out:
            add_path(sub, "--out", "-o", role=Role.OUTPUT, required=True, check=check_out, help=out)
        if has_device:
            devices = (
                "auto, cpu, cuda, or cuda:1 for the second GPU; auto uses CUDA where gsplat or Warp works"
            )
            sub.add_argument("--device", default="auto", metavar="NAME", help=devices)
        for config in configs:
            add_config(sub, config)
        return sub

    add_scene_verbs(add_verb)
    add_edit(add_verb)
    for step in all_steps():
        if step.verb:
            add_step(add_verb, step)
    add_batch(add_verb, verbs)
    return parser
