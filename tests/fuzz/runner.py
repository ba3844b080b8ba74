"""Runs mutated inputs in forked workers: a crash, a hang or a blow-up of memory ends one worker and is a finding.

    python -m tests.fuzz --seconds 60 --seed 1
    python -m tests.fuzz --only scene --case 17 --keep folder     one case again, its files kept

A finding is anything but a value or an `InputError` whose text is one line of at most 400 characters.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from engine.errors import InputError
from tests.fuzz.mutations import mutate
from tests.fuzz.parsers import PARSERS, Parser
from tests.memory import peak, start_measuring

LONGEST_SENTENCE = 400
# bytes; what one case may hold beyond the valid input's
MEMORY = 500 * 2**20
# bytes of address space beyond what the worker starts with: above MEMORY, so that a peak is measured and not only refused
ADDRESSES = 3 * 2**30
# seconds; slower is a hang
LIMIT = 10
BATCH = 25


@dataclass(frozen=True)
class Finding:
    """One case that ended in something else than a value or a sentence."""

    parser: str
    case: int
    kind: str  # traceback, sentence, slow, memory, crash, hang
    detail: str
    place: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal for cases that show one fault."""
        return self.kind, self.place, "" if self.place else self.parser

    def __str__(self) -> str:
        return f"{self.parser} case {self.case}: {self.kind} {self.place} {self.detail}"


def sentence_fault(error: InputError) -> str:
    """What is wrong with an error's text, or nothing."""
    text = str(error)
    if len(text) > LONGEST_SENTENCE:
        return f"{len(text)} characters: {text[:100]!r}"
    return "" if text.isprintable() else f"control characters: {text[:200]!r}"


def run_case(parser: Parser, base: Path, folder: Path, seed: int, case: int) -> dict[str, Any]:
    """The report of one case: what was done, and the finding if there is one."""
    choose = Random(f"{seed} {parser.name} {case}")
    shutil.copytree(base, folder, symlinks=True)
    report: dict[str, Any] = {"case": case, "done": mutate(folder, choose) if parser.mutates_files else ""}
    before = start_measuring()
    start = time.monotonic()
    try:
        parser.read(folder, choose)
        report["ended"] = "value"
    except InputError as error:
        report["ended"] = "sentence"
        if fault := sentence_fault(error):
            report |= {"kind": "sentence", "detail": fault, "place": error.code}
    except BaseException as error:
        report |= {
            "kind": "traceback",
            "detail": f"{type(error).__name__}: {str(error)[:160]}",
            "place": _place(error),
        }
    if time.monotonic() - start > LIMIT / 2 and "kind" not in report:
        report |= {"kind": "slow", "detail": f"{time.monotonic() - start:.1f} s"}
    grown = peak() - before
    if grown > MEMORY and "kind" not in report:
        report |= {"kind": "memory", "detail": f"{grown / 2**20:.0f} MB more"}
    return report


def _place(error: BaseException) -> str:
    """The last line of this project that the error came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/engine/" in f.filename]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{re.sub(r'.*/engine/', 'engine/', last.filename)}:{last.lineno}"


def _work(parser: Parser, base: Path, scratch: Path, seed: int, cases: range, out: int) -> None:
    """In the worker: all cases, with a line before and after each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    warnings.simplefilter("ignore")
    with open("/proc/self/statm", encoding="ascii") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ADDRESSES, held + ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for case in cases:
        os.write(out, json.dumps({"start": case}).encode() + b"\n")
        folder = scratch / f"{parser.name}_{case}"
        report = run_case(parser, base, folder, seed, case)
        os.write(out, json.dumps(report).encode() + b"\n")
        shutil.rmtree(folder, ignore_errors=True)


def run_batch(parser: Parser, base: Path, scratch: Path, seed: int, cases: range) -> list[dict[str, Any]]:
    """The reports of `cases`, in one worker or, after one ended in the middle, in several."""
    reports: list[dict[str, Any]] = []
    while len(cases):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            try:
                _work(parser, base, scratch, seed, cases, write)
                os._exit(0)
            except BaseException as error:
                # a fault of the fuzzer itself, such as a mutation that raises
                os.write(write, json.dumps({"broken": repr(error), "case": cases.stop}).encode() + b"\n")
                os._exit(1)
        os.close(write)
        current, is_hung = _collect(read, reports, cases.start)
        os.close(read)
        if is_hung:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if is_hung:
            reports.append({"case": current, "kind": "hang", "detail": f"over {LIMIT} s"})
        elif len(reports) and reports[-1]["case"] == cases.stop - 1:
            return reports
        else:
            reports.append(
                {"case": current, "kind": "crash", "detail": f"signal {status & 127}, status {status >> 8}"}
            )
        shutil.rmtree(scratch / f"{parser.name}_{current}", ignore_errors=True)
        cases = range(current + 1, cases.stop)
    return reports


def _collect(read: int, reports: list[dict[str, Any]], current: int) -> tuple[int, bool]:
    """Reports until the worker ends. Returns the case it was last at, and whether it is stuck there."""
    rest = b""
    while True:
        if not select.select([read], [], [], LIMIT)[0]:
            return current, True
        data = os.read(read, 1 << 16)
        if not data:
            return current, False
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            report = json.loads(line)
            if "broken" in report:
                raise RuntimeError(f"the fuzzer failed at case {current}: {report['broken']}")
            if "start" in report:
                current = report["start"]
            else:
                reports.append(report)


def fuzz(
    seconds: float, seed: int, only: Sequence[str] = (), verbose: bool = False
) -> tuple[list[Finding], dict[str, tuple[int, int]]]:
    """Findings within `seconds`, one of each fault, and for each parser how many cases ran and how many were refused."""
    torch.set_num_threads(1)
    chosen = [p for p in PARSERS if not only or p.name in only]
    found: dict[tuple[str, str, str], Finding] = {}
    counts = {p.name: (0, 0) for p in chosen}
    root = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=root) as directory:
        bases = {p.name: Path(directory) / "valid" / p.name for p in chosen}
        for parser in chosen:
            bases[parser.name].mkdir(parents=True)
            parser.build(bases[parser.name])
            if not parser.mutates_files:
                continue
            # what is not valid to begin with finds nothing
            check = Path(directory) / "check"
            shutil.copytree(bases[parser.name], check)
            parser.read(check, Random(0))
            shutil.rmtree(check)
        scratch = Path(directory) / "scratch"
        scratch.mkdir()
        end, turn = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            for parser in chosen:
                if time.monotonic() >= end:
                    break
                cases = range(turn * BATCH, (turn + 1) * BATCH)
                reports = run_batch(parser, bases[parser.name], scratch, seed, cases)
                ran, refused = counts[parser.name]
                refused += sum(r.get("ended") == "sentence" for r in reports)
                counts[parser.name] = ran + len(reports), refused
                for report in (r for r in reports if "kind" in r):
                    finding = Finding(
                        parser.name, report["case"], report["kind"], report["detail"], report.get("place", "")
                    )
                    if finding.key not in found and verbose:
                        print(finding, file=sys.stderr, flush=True)
                    found.setdefault(finding.key, finding)
            turn += 1
    return list(found.values()), counts


def repeat(name: str, case: int, seed: int, folder: Path) -> None:
    """One case in this process, its input kept in `folder`."""
    parser = next(p for p in PARSERS if p.name == name)
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory) / "valid"
        base.mkdir()
        parser.build(base)
        choose = Random(f"{seed} {parser.name} {case}")
        shutil.copytree(base, folder, symlinks=True)
        print(mutate(folder, choose) if parser.mutates_files else "")
        parser.read(folder, choose)
