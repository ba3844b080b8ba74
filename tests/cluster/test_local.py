"""Jobs on this machine: in order, not again when they are done, and never over what others made."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main, verbs
from engine.cluster import read_jobs, run, standing
from engine.cluster.lock import LOCK
from engine.cluster.record import RECORD
from engine.errors import InputError
from engine.io.scene_file import load_scene
from engine.messages import JobUpdate, result
from tests.cluster.pretend_pack import COMMAND, FITS, write_pack
from tests.cluster.small_jobs import (
    ITERATIONS,
    ROOT,
    SCENES,
    TEXT,
    bytes_of,
    small_jobs,
    wait_until,
    workers_of,
    write_jobs,
)

POSIX = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def states(report: dict[str, Any]) -> dict[str, str]:
    return {job["name"]: job["state"] for job in report["jobs"]}


@pytest.fixture
def folder(folder_of_jobs: Path, tmp_path: Path) -> Path:
    """Finished jobs, with their times."""
    return shutil.copytree(folder_of_jobs, tmp_path / "jobs", copy_function=shutil.copy2)


def test_jobs_run_after_what_they_need_and_their_files_are_scenes(folder_of_jobs: Path) -> None:
    made = bytes_of(folder_of_jobs / "out")
    assert tuple(name for name in made if name.endswith(".safetensors")) == SCENES, (
        "and no checkpoint is left"
    )
    assert all(len(load_scene(folder_of_jobs / "out" / name).canonical) == 60 for name in SCENES)
    assert made[SCENES[0]] != made[SCENES[1]], "each has its own seed"


def test_finished_outputs_are_not_made_again(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.safetensors")}
    jobs = small_jobs(folder)
    assert set(standing(jobs).values()) == {"up to date"} and set(standing(jobs, again=True).values()) == {
        "waiting"
    }
    report = result(run(jobs))
    assert set(states(report).values()) == {"up to date"}
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert report["jobs"][1]["report"]["gaussians"] == 60, "what their verbs reported is still known"


@POSIX
def test_a_training_is_shared_by_processes_stopped_and_resumed(tmp_path: Path) -> None:
    text = f"""
folder: out
jobs:
  train:
    run: fit-scene
    processes: 2
    data: {ROOT / "assets" / "clips" / "walker"}
    frame_count: 3
    scale: 0.25
    initial_count: 300
    budget: 300
    iterations: 400
    device: cpu
    out: scene.safetensors
"""
    jobs, out = small_jobs(tmp_path / "jobs", text), tmp_path / "jobs" / "out"
    with contextlib.closing(run(jobs)) as stream:
        update = next(each for each in stream if isinstance(each, JobUpdate) and each.done > 0)
        # the launcher and the two that it started
        assert update.total == 400 and len(workers_of(out)) == 3
    assert workers_of(out) == [] and (out / "scene.training.safetensors").is_file()
    assert states(result(run(jobs))) == {"train": "done"}
    assert load_scene(out / "scene.safetensors").history[-1]["iterations"] == 400
    assert set(bytes_of(out)) == {"scene.safetensors"}


def test_what_a_change_concerns_is_made_again_and_nothing_else(folder: Path) -> None:
    before = bytes_of(folder / "out")
    jobs = small_jobs(folder, TEXT.replace("preset: gold", "preset: night").replace("[1, 2]", "[1]"))
    assert standing(jobs) == {"views": "up to date", "fit[1]": "up to date", "gold[1]": "waiting"}
    report = result(run(jobs))
    assert states(report) == {"views": "up to date", "fit[1]": "up to date", "gold[1]": "done"}
    after = bytes_of(folder / "out")
    assert {name for name in after if after[name] != before.get(name)} == {"gold 1.safetensors"}
    assert set(after) == set(before), "what the file names no more stays"


def test_outputs_of_others_are_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out" / "gold 1.safetensors").write_bytes(b"painted by hand")
    with pytest.raises(InputError, match=r"gold 1\.safetensors.*was changed since") as caught:
        result(run(small_jobs(folder)))
    assert caught.value.code == "CLU-042"
    (folder / "out" / RECORD).unlink()
    assert main(["batch", str(folder / "jobs.yaml"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "GS4D-CLU-042"
    assert (folder / "out" / "gold 1.safetensors").read_bytes() == b"painted by hand"


def test_a_failed_job_stops_only_what_needs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not a scene")
    file = write_jobs(
        tmp_path,
        """
        folder: out
        jobs:
          broken: {run: grade, scene: broken.safetensors, out: broken.safetensors}
          needs: {run: export, scene: "${broken.out}", out: needs.ply}
          whole: {run: export, scene: scene.safetensors, out: whole.ply}
        """,
    )
    words = ["batch", str(file), "--json", "--report", str(tmp_path / "report.json")]
    assert main(words) == 1
    report = json.loads(capsys.readouterr().out)
    assert states(report) == {"broken": "failed", "needs": "not run", "whole": "done"}
    assert states(json.loads((tmp_path / "report.json").read_text())) == states(report)
    broken, needs, whole = report["jobs"]
    assert broken["code"].startswith("GS4D-") and "broken.safetensors" in broken["note"]
    assert broken["tries"] == 1, "a sentence is an answer: trying again gives the same"
    assert needs["note"] == "needs broken" and whole["outputs"] == ["whole.ply"]
    (tmp_path / "out" / "broken.safetensors").write_bytes(b"somebody else's")
    with pytest.raises(InputError, match="was not made by this batch"):
        result(run(read_jobs(file, verbs())))


@POSIX
def test_on_a_terminal_the_jobs_are_a_table_that_is_redrawn(folder: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    (folder / "out" / "gold 1.safetensors").unlink()
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    words = [sys.executable, "-m", "engine", "batch", str(folder / "jobs.yaml")]
    process = subprocess.Popen(
        words, cwd=ROOT, stderr=end, stdout=subprocess.DEVNULL, env={**os.environ, "COLUMNS": ""}
    )
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):
        # the end of a terminal is an error
        while part := os.read(terminal, 1 << 16):
            shown += part
    os.close(terminal)
    assert process.wait() == 0
    tables = shown.decode().split("\x1b[J")
    assert (
        len(tables) > 2 and "\x1b[5A" not in tables[0] and all("\x1b[5A" in table for table in tables[2:-1])
    )
    assert any(re.search("grade +running", table) for table in tables), (
        "before its command has anything to tell"
    )
    rows = [row.split("\x1b[2K")[1] for row in tables[-2].splitlines() if "\x1b[2K" in row]
    assert len(rows) == 5 and max(map(len, rows)) <= 59, "a longer one would be two"
    assert "gold[1]" in tables[-2] and "grade" in tables[-2] and "4 jobs: 1 done, 3 up to date" in tables[-2]


@POSIX
def test_jobs_do_not_need_the_terminal_they_were_started_in(tmp_path: Path) -> None:
    import pty

    text = """
        folder: out
        jobs:
          a: {run: export, scene: scene.safetensors, out: a.ply}
          b: {run: export, scene: scene.safetensors, out: b.ply}
        """
    file, said = write_jobs(tmp_path, text), tmp_path / "said.txt"
    pack = write_pack(tmp_path / "pack", f"time.sleep(1)\n{FITS}")
    terminal, end = pty.openpty()
    words = [sys.executable, "-c", COMMAND, str(pack), "batch", str(file)]
    with open(said, "wb") as out:
        process = subprocess.Popen(words, cwd=ROOT, stderr=end, stdout=out)
    os.close(end)
    shown = b""
    while b"running" not in shown:
        shown += os.read(terminal, 1 << 16)
    os.close(terminal)
    assert process.wait(90) == 0
    assert said.read_text() == "2 of 2 jobs are done\n"


@POSIX
def test_a_second_ctrl_c_does_not_wait_for_a_command_that_hangs(tmp_path: Path) -> None:
    file = write_jobs(
        tmp_path, "folder: out\njobs:\n  a: {run: export, scene: scene.safetensors, out: a.ply}\n"
    )
    pack = write_pack(
        tmp_path / "pack", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nout.touch()\ntime.sleep(120)"
    )
    words = [sys.executable, "-c", COMMAND, str(pack), "batch", str(file)]
    with open(tmp_path / "said.txt", "wb") as out:
        process = subprocess.Popen(words, cwd=ROOT, stderr=out, stdout=out)
    wait_until((tmp_path / "out" / "a.ply").exists)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: b"the same signal again stops at once" in (tmp_path / "said.txt").read_bytes())
    assert workers_of(tmp_path / "out")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    wait_until(lambda: not workers_of(tmp_path / "out"), 10)
    assert not (tmp_path / "out" / LOCK).exists()


def batch(file: Path) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "engine", "batch", str(file)]
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


@POSIX
def test_stopped_and_killed_batches_leave_nothing_that_works_and_go_on_to_the_same_files(
    folder_of_jobs: Path, folder: Path
) -> None:
    file, out = write_jobs(folder, TEXT.replace(ITERATIONS, "iterations: 4000")), folder / "out"
    for name in SCENES:
        (out / name).unlink()
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        process = batch(file)
        wait_until(lambda: workers_of(out / "fitted"))
        process.send_signal(number)
        _, said = process.communicate(timeout=90)
        assert process.returncode == code, said
        assert "the same command continues" in said or number == signal.SIGKILL
        wait_until(lambda: not workers_of(out))
        assert (out / LOCK).exists() == (number == signal.SIGKILL)
    # with other iterations, their checkpoints are not those of these jobs
    jobs, seen = small_jobs(folder), list[JobUpdate]()
    stream = run(jobs)
    for message in stream:
        if isinstance(message, JobUpdate) and message.done:
            seen.append(message)
            break
    with pytest.raises(InputError, match="Another batch"):
        result(run(jobs))
    stream.close()
    assert seen and not workers_of(out)
    report = result(run(jobs))
    assert states(report) == {"views": "up to date", "fit[1]": "done", "fit[2]": "done", "gold[1]": "done"}
    assert bytes_of(out) == bytes_of(folder_of_jobs / "out")
