"""Mutated player files decoded by the player itself, under node.

A finding is anything but a value or a sentence of one line and at most 400 characters, within time and memory.
"""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from random import Random

from tests.fuzz.mutations import mutate
from tests.fuzz.runner import BATCH, LIMIT, LONGEST_SENTENCE, MEMORY, Finding
from tests.web import clips

NAME = "player under node"
# the first node with DecompressionStream
OLDEST = 20
DECODE = Path(__file__).with_name("decode.mjs")


def node() -> str | None:
    """The node to run, or None where there is none, or only an old one."""
    found = shutil.which("node")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    return found if int(version.strip().lstrip("v").split(".")[0]) >= OLDEST else None


def fuzz_player(seconds: float, seed: int) -> tuple[list[Finding], tuple[int, int]]:
    """Findings within `seconds`, one of each fault, and how many cases ran and how many were refused."""
    program = node()
    assert program is not None
    found: dict[str, Finding] = {}
    valid = _valid()
    end, case, refused = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory() as directory:
            paths = [mutated(Path(directory), valid, seed, case + i) for i in range(BATCH)]
            for finding, was_refused in decoded(program, paths):
                refused += was_refused
                if finding is not None:
                    found.setdefault(f"{finding.kind} {finding.detail[:40]}", finding)
        case += BATCH
    return list(found.values()), (case, refused)


def keep(name: str, case: int, seed: int, folder: Path) -> None:
    """Write the file of one case into `folder`, and print what comes of it."""
    program = node()
    assert program is not None
    folder.mkdir(parents=True, exist_ok=True)
    print(decoded(program, [mutated(folder, _valid(), seed, case)])[0][0])


def _valid() -> list[bytes]:
    return [clips.baked(scene, name) for name, scene in clips.scenes().items()]


def mutated(folder: Path, valid: list[bytes], seed: int, case: int) -> Path:
    """A damaged player file, named by its case."""
    choose = Random(f"{seed} {NAME} {case}")
    place = folder / f"{case}"
    place.mkdir()
    (place / "a.gs4dclip").write_bytes(valid[case % len(valid)])
    mutate(place, choose)
    # a mutation may also rename, remove or link the file, which does not concern the decoder
    path = folder / f"{case}.gs4dclip"
    files = [file for file in place.glob("*") if file.is_file() and not file.is_symlink()]
    path.write_bytes(files[0].read_bytes() if files else b"")
    return path


def decoded(program: str, paths: list[Path]) -> list[tuple[Finding | None, bool]]:
    """For each file the finding, if there is one, and whether it was refused in a sentence."""
    results: list[tuple[Finding | None, bool]] = []
    while len(results) < len(paths):
        rest = paths[len(results) :]
        command = [program, "--max-old-space-size=1024", str(DECODE), *map(str, rest)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
            reports, is_hung = _reports(process)
            if is_hung:
                process.kill()
            said = b"" if process.stderr is None else process.stderr.read()
        results += [_judged(report) for report in reports]
        if len(reports) < len(rest):
            case = int(rest[len(reports)].stem)
            kind, detail = (
                ("hang", f"over {LIMIT} s") if is_hung else ("crash", said.decode(errors="replace")[-300:])
            )
            results.append((Finding(NAME, case, kind, detail), False))
    return results


def _reports(process: subprocess.Popen[bytes]) -> tuple[list[dict[str, object]], bool]:
    """What node says of its files until it ends, and whether it is stuck."""
    assert process.stdout is not None
    reports: list[dict[str, object]] = []
    while True:
        if not select.select([process.stdout], [], [], LIMIT)[0]:
            return reports, True
        line = process.stdout.readline()
        if not line:
            return reports, False
        report = json.loads(line)
        if "start" not in report:
            reports.append(report)


def _judged(report: dict[str, object]) -> tuple[Finding | None, bool]:
    message, ended = str(report.get("message", "")), report["ended"]
    case = int(Path(str(report["path"])).stem)
    if ended == "exception":
        return Finding(NAME, case, "exception", message), False
    if ended == "sentence" and not (message.isprintable() and len(message) <= LONGEST_SENTENCE):
        return Finding(NAME, case, "sentence", f"{len(message)} characters: {message[:200]!r}"), True
    if float(str(report["seconds"])) > LIMIT / 2:
        return Finding(NAME, case, "slow", f"{report['seconds']} s"), ended == "sentence"
    if int(str(report["grown"])) > MEMORY:
        return Finding(
            NAME, case, "memory", f"{int(str(report['grown'])) >> 20} MB more"
        ), ended == "sentence"
    return None, ended == "sentence"
