"""Every flag of every verb with values that nobody should give it, as the command line's own parsers declare them.

    python -m tests.faults.command_lines --seconds 600 --seed 1 [--verb export] [--accepted]

A finding is anything but an end with one sentence of at most 400 characters: a traceback, a wait for a pipe, a sentence that
names nothing, and whatever is written outside of the output folder. `--accepted` lists the bad values that a verb took.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from engine.cli import _parser, main
from engine.cli.arguments import frame_rate
from engine.wording import LONGEST_SENTENCE, printable
from tests.faults.every_command import FOREIGN, VERBS, WRITTEN, Bench, flags_of, is_written

# metavars of flags that name a file or a folder
PATHS = {"FILE", "DIR", "PATH", "DIR|FILE", "FILE|DIR"}
# seconds: a command with a bad path hangs, one with another value has begun to work
HANGS, WORKS = 180, 2
NUMBERS = ("nan", "inf", "-inf", "-1", "0", "1e300", "-1e300", "9" * 400, "text", "")
TEXTS = (
    "",
    FOREIGN,
    "x" * 5000,
    "a\nb",
    "9" * 400,
    "-1",
    "1e999",
    "0-99999999999",
    "<b>",
    "[" * 5000,
    "1e300",
    "-1e300 0 0 1e300 1e300 1e300",
)


@dataclass(frozen=True)
class Case:
    """One flag of a verb with one value."""

    verb: str
    flag: str
    value: str
    # path, text, number, choice
    kind: str
    # what is known of the end: "refused", "done", "" for either
    expected: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.flag} {printable(self.value)[:60]!r}"


@dataclass(frozen=True)
class End:
    """How a command ended: its exit code, what it said on stderr, and what is wrong with that."""

    code: int
    said: str
    fault: str = ""


# -- cases ------------------------------------------------------------------------------------------------------------


def cases_of(verb: str, bench: Bench) -> Iterator[Case]:
    """Every flag of a verb with every value of its kind."""
    for action in flags_of(verb):
        flag = action.option_strings[0]
        if action.choices is not None:
            yield from (
                Case(verb, flag, value, "choice", "refused") for value in ("unknown", "", FOREIGN, "x" * 5000)
            )
        elif action.type in (int, float, frame_rate):
            yield from (Case(verb, flag, value, "number") for value in NUMBERS)
        elif action.metavar in PATHS:
            yield from _paths(verb, action, bench)
        else:
            yield from (Case(verb, flag, value, "text") for value in TEXTS)


def _paths(verb: str, action: argparse.Action, bench: Bench) -> Iterator[Case]:
    flag, bad = action.option_strings[0], bench.folder / "bad"
    ending = Path(bench.output(verb)).suffix if flag == "--out" else ".safetensors"
    named = [
        bad / "missing" / f"a{ending}",
        bad / f"{'x' * 300}{ending}",
        "x/" * 3000 + "a",
        bad / f"loop{ending}",
    ]
    named += [bad / "text.safetensors" / f"a{ending}", bad / "pipe.safetensors", bad / "loop.safetensors"]
    named += [
        bad / "device",
        "/proc/self/mem",
        bad / "loop.safetensors" / f"a{ending}",
        bad / "secret.safetensors",
    ]
    named += [f"/proc/a{ending}", bad / "locked" / f"a{ending}"]
    for value in (".", "..", "/", "//", ""):
        yield Case(verb, flag, value, "path")
    for value in (*named, bad / "text.safetensors", bad / "empty"):
        yield Case(verb, flag, str(value), "path")
    if is_written(action):
        yield Case(verb, flag, str(bench.out / f"{FOREIGN}{ending}"), "path")
    elif flag in bench.values:
        yield Case(verb, flag, str(bench.foreign(flag)), "path")


# -- running ----------------------------------------------------------------------------------------------------------


def run(case: Case, bench: Bench) -> End:
    """Run a command in this process, in an empty folder."""
    out = bench.output(case.verb)
    words = [*bench.command(case.verb), *(["--out", out] if out else []), case.flag, case.value]
    if case.verb == "demo" or case.kind != "path":
        limit = WORKS
    else:
        limit = HANGS
    if is_root_of_disk(case):
        # only the parser is asked: a fault would write there
        code, said, fault = ended(words, limit, lambda words: int(bool(_parser().parse_args(words))) - 1)
        return End(code, said, fault or _fault(case, code, said))
    before = _seen(bench)
    place = bench.folder / "work" / "here"
    place.mkdir(parents=True)
    home = os.getcwd()
    os.chdir(place)
    try:
        code, said, fault = ended(words, limit)
    finally:
        os.chdir(home)
        shutil.rmtree(bench.folder / "work")
        shutil.rmtree(bench.out, ignore_errors=True)
        bench.out.mkdir()
    fault = fault or _fault(case, code, said)
    if case.kind == "path" and code == 128 + signal.SIGALRM and case.verb != "demo":
        fault = fault or f"works for more than {HANGS} s"
    changed = {name for name, state in _seen(bench).items() if before.get(name) != state}
    if changed:
        bench.make_bad()
        if not fault and (code in (1, 2) or not all(_is_of(name, case.value) for name in changed)):
            fault = f"wrote {', '.join(map(printable, sorted(changed)[:5]))}"
    return End(code, said, fault)


def is_root_of_disk(case: Case) -> bool:
    """Whether a flag that is written to names the root of the disk."""
    return WRITTEN.fullmatch(case.flag) is not None and os.path.realpath(case.value) == "/"


def ended(words: list[str], limit: float, run: Callable[[list[str]], int] = main) -> tuple[int, str, str]:
    """Exit code, stderr and a traceback of a command that is stopped after `limit` seconds."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    logging.root.handlers.clear()
    fault, code = "", 0

    def stop(*_: object) -> None:
        # at the very end of a command nobody hears it, and it would end this process
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, stop)
    # again and again: the first may come where an exception is swallowed or a step is finished first
    signal.setitimer(signal.ITIMER_REAL, limit, 1)
    try:
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            try:
                code = run(words)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException as error:
                frames = [f for f in traceback.extract_tb(error.__traceback__) if "/engine/" in f.filename]
                last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
                place = f"{last.filename.rpartition('/engine/')[2]}:{last.lineno}"
                fault = f"{type(error).__name__} at {place}: {printable(str(error))[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    for stream in streams:
        stream.flush()
    said = streams[1].buffer.getvalue().decode("utf-8")  # pyright: ignore
    return 128 + signal.SIGALRM if code == 128 + signal.SIGTERM else code, said, fault


def _is_of(name: str, output: str) -> bool:
    """Whether a path is an output, lies in it, or is a folder above it."""
    return Path(name).is_relative_to(output) or Path(output).is_relative_to(name)


def _fault(case: Case, code: int, said: str) -> str:
    """What is wrong with the end of a command that raised nothing."""
    if code not in (0, 1, 2, 128 + signal.SIGALRM):
        return f"exit code {code}"
    if case.expected == "refused" and code not in (1, 2):
        return f"exit code {code} instead of a refusal"
    if code not in (1, 2):
        return ""
    lines = said.rstrip("\n").split("\n")
    sentence = lines[-1]
    if "Traceback" in said or len(sentence) > LONGEST_SENTENCE or not sentence.isprintable():
        return f"no sentence: {printable(said)[-300:]}"
    # a name that is missing from its sentence
    if code == 1 and not re.fullmatch(r"error: ['\w“<./(\[].*\[GS4D-[A-Z]+-\d+\]", sentence):
        return f"an odd sentence: {sentence}"
    if code == 1 and re.search(r"  |: :|\bNone\b", sentence.removeprefix("error: ")):
        return f"an odd sentence: {sentence}"
    return ""


def _seen(bench: Bench) -> Mapping[str, tuple[int, int]]:
    """Every file and folder that a command must leave alone."""
    found: dict[str, tuple[int, int]] = {}
    for top, folders, names in os.walk(bench.folder):
        if top == str(bench.folder):
            folders[:] = [name for name in folders if name not in ("work", "out")]
        for name in (*folders, *names):
            path = os.path.join(top, name)
            state = os.lstat(path)
            found[path] = state.st_size, state.st_mtime_ns if name in names else 0
    return found


def draw(bench: Bench, seed: int, only: str = "") -> list[Case]:
    """All cases, in an order that `seed` decides, so that the first ones are a fair sample."""
    found = [case for verb in VERBS if not only or verb == only for case in cases_of(verb, bench)]
    Random(seed).shuffle(found)
    return found


def try_all(bench: Bench, cases: list[Case], seconds: float) -> tuple[list[str], list[tuple[Case, End]]]:
    """Findings, one of each kind and place, and every end, of as many cases as `seconds` allow."""
    found: dict[str, str] = {}
    ends: list[tuple[Case, End]] = []
    until = time.monotonic() + seconds
    for case in cases:
        if time.monotonic() > until:
            break
        end = run(case, bench)
        ends.append((case, end))
        if end.fault:
            values = r"/\S+|\d{2,}|--[a-z-]+|'[^']*'|engine [a-z-]+|\w+\.\w{3,}"
            found.setdefault(re.sub(values, "", end.fault), f"{case}: {end.fault}")
    return list(found.values()), ends


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verb", default="")
    parser.add_argument("--accepted", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        findings, ends = try_all(bench, draw(bench, options.seed, options.verb), options.seconds)
    for case, end in ends if options.accepted else ():
        if end.code == 0:
            print("accepted", case)
    for finding in findings:
        print(finding)
    print(
        f"{len(ends)} command lines, {sum(bool(end.fault) for _, end in ends)} faults of {len(findings)} kinds"
    )
    return bool(findings)


if __name__ == "__main__":
    sys.exit(_main())
