"""Why a command ended, from its exit code and what it said."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..backends import names_full_memory
from ..wording import brief
from .place import Ended
from .worker import ending_signal

# exit codes of the command line: the input cannot be used, wrong arguments
ANSWERS = (1, 2)
# of a stop by SIGINT and SIGTERM
STOPS = (130, 143)
# memory may be free again; one of several processes ended
PASSING = ("GS4D-ENG-002", "GS4D-TRN-051")
# characters of a sentence in the table
LONGEST = 300


@dataclass(frozen=True)
class Outcome:
    """`report` of a command that ended well; else `reason` with its `code`, and whether trying again may help."""

    report: dict[str, Any] | None
    reason: str = ""
    code: str = ""
    may_pass: bool = False


def outcome_of(ended: Ended) -> Outcome:
    said: dict[str, Any] = {}
    with suppress(ValueError):
        # NaN is not JSON to other programs
        parsed = json.loads(ended.last, parse_constant=lambda _: None)
        said = parsed if isinstance(parsed, dict) else {}
    is_cut_short = ended.code < 0 or ended.code in STOPS
    # the report is the last that a command does: a signal that comes then takes nothing away
    if ended.code == 0 or (is_cut_short and said and "error" not in said):
        return Outcome(said)
    last = ended.said.splitlines()[-1] if ended.said else ""
    if isinstance(said.get("error"), str):
        code = str(said.get("code", ""))
        return Outcome(None, brief(said["error"], LONGEST), code, may_pass=code in PASSING)
    name = ending_signal(ended.code) if ended.code < 0 else ""
    if name == "SIGKILL" or names_full_memory(ended.said):
        return Outcome(None, "the system ended the command; its memory probably ran out", may_pass=True)
    if name:
        return Outcome(None, f"the command was ended by {name}", may_pass=True)
    why = last.removeprefix("error: ") or f"the command ended with code {ended.code}"
    return Outcome(None, brief(why, LONGEST), may_pass=ended.code not in ANSWERS)
