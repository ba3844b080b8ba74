"""How jobs end, and what a batch remembers of its folder: what is done, what may be replaced, and who works there."""

import contextlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from engine.cli import verbs
from engine.cluster import Jobs, read_jobs, run, running
from engine.cluster.jobs import Job
from engine.cluster.local import Local
from engine.cluster.lock import ABANDONED, LOCK, locked
from engine.cluster.place import Began, Ended
from engine.cluster.record import RECORD
from engine.errors import InputError
from engine.messages import JobUpdate, result
from tests.cluster.pretend_pack import pretend
from tests.cluster.small_jobs import wait_until

VERBS = verbs()
TEXT = "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, preset: gold, out: x.safetensors}\n"
# a scene that says "broken" is refused
WORK = """
if scene.read_text() == "broken":
    print(json.dumps({"error": "it is broken", "code": "GS4D-X"}))
    sys.exit(1)
out.write_text(word["--preset"])
print(json.dumps({"gaussians": 60}))
"""


def jobs_of(folder: Path, text: str = TEXT) -> Jobs:
    for name in ("a", "broken"):
        if not (folder / f"{name}.safetensors").exists():
            (folder / f"{name}.safetensors").write_text(name)
    (folder / "jobs.yaml").write_text(text, encoding="utf-8")
    return read_jobs(folder / "jobs.yaml", VERBS)


def state(report: dict[str, Any]) -> str:
    return report["jobs"][0]["state"]


def test_a_file_put_in_place_of_a_failed_jobs_output_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path / "pack", monkeypatch, WORK)
    out = tmp_path / "out" / "x.safetensors"
    assert state(result(run(jobs_of(tmp_path)))) == "done"
    broken = TEXT.replace("scene: a.", "scene: broken.")
    assert state(result(run(jobs_of(tmp_path, broken)))) == "failed"
    assert state(result(run(jobs_of(tmp_path)))) == "up to date", "the first settings made what is there"
    night = broken.replace("gold", "night")
    assert state(result(run(jobs_of(tmp_path, night)))) == "failed"
    out.write_text("painted by hand")
    for text in (TEXT, broken, TEXT.replace("gold", "night")):
        with pytest.raises(InputError, match="was changed since it was made"):
            result(run(jobs_of(tmp_path, text)))
    assert out.read_text() == "painted by hand"


def test_a_job_that_was_done_when_it_was_stopped_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that has written its scene has no checkpoint any more."""
    reported, report = tmp_path / "reported", tmp_path / "report.json"
    after = f"sys.stdout.flush()\npathlib.Path({str(reported)!r}).touch()\ntime.sleep(600)\n"
    pretend(tmp_path / "pack", monkeypatch, WORK + after)
    jobs = jobs_of(tmp_path)
    with contextlib.closing(run(jobs, report=report)) as stream:
        for message in stream:
            if isinstance(message, JobUpdate) and message.state == "running":
                break
        wait_until(reported.exists)
    assert state(json.loads(report.read_text())) == "done"
    assert state(result(run(jobs))) == "up to date"


def test_a_stopped_job_that_left_a_file_may_replace_it_and_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path / "pack", monkeypatch, 'out.write_text("early")\ntime.sleep(600)\n')
    jobs, out = jobs_of(tmp_path), tmp_path / "out" / "x.safetensors"
    with contextlib.closing(run(jobs)) as stream:
        for message in stream:
            if isinstance(message, JobUpdate) and message.state == "running":
                break
        wait_until(out.exists)
    pretend(tmp_path / "other", monkeypatch, WORK)
    before = out.stat()
    out.write_text("painted by hand")
    with pytest.raises(InputError, match="was changed since it was made"):
        result(run(jobs))
    out.write_text("early")
    os.utime(out, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert state(result(run(jobs))) == "done" and out.read_text() == "gold"


class Overtaken(Local):
    """A place whose jobs are done before it is told that they began, as messages of a cluster may come."""

    def start(self, job: Job) -> None:
        job.outputs[0].write_text("gold")
        self.events.put(Ended(job.name, 0, "{}", ""))
        self.events.put(Began(job.name, "far away"))


def test_a_job_whose_end_overtakes_its_start_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "Local", Overtaken)
    second = "  b: {run: grade, scene: a.safetensors, out: y.safetensors}\n"
    jobs = jobs_of(tmp_path, TEXT + second)
    assert result(run(jobs))["done"] == 2
    assert json.loads((tmp_path / "out" / RECORD).read_text())["begun"] == {}


def test_a_command_that_cannot_be_started_fails_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path / "pack", monkeypatch, WORK)
    shutil.rmtree(tmp_path / "pack")
    report = result(run(jobs_of(tmp_path)))
    assert state(report) == "failed" and "it could not be started" in report["jobs"][0]["note"]


def test_progress_that_cannot_be_read_does_not_block_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe holds 64 kB: if nobody emptied it, the command would wait for ever."""
    lines = """
for line in ['{"event": ' + "[" * 100_000, '{"event": NaN}', '{"event"', *["text " * 20] * 3000]:
    print(line, file=sys.stderr, flush=True)
"""
    pretend(tmp_path / "pack", monkeypatch, lines + WORK)
    assert state(result(run(jobs_of(tmp_path)))) == "done"


def test_a_damaged_record_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path / "pack", monkeypatch, WORK)
    jobs, record = jobs_of(tmp_path), tmp_path / "out" / RECORD
    result(run(jobs))
    whole = record.read_text()
    for text in (
        whole.replace('"seconds": ', '"seconds": NaN, "_": '),
        whole.replace('"gaussians": 60', '"gaussians": 1e999'),
        whole.replace('"format": 1', '"format": 2'),
        whole.replace('"begun": {}', '"begun": []'),
    ):
        assert text != whole
        record.write_text(text)
        with pytest.raises(InputError) as caught:
            result(run(jobs_of(tmp_path, TEXT.replace("gold", "night"))))
        assert caught.value.code == "CLU-041"


def test_a_lock_keeps_others_out_while_its_batch_lives(tmp_path: Path) -> None:
    lock = tmp_path / LOCK

    def is_free() -> bool:
        try:
            with locked(tmp_path):
                return True
        except InputError as error:
            assert error.code == "CLU-045", error
            return False

    with locked(tmp_path):
        own = json.loads(lock.read_text())
        assert not is_free()
    assert is_free() and not lock.exists()
    ended = 2**22 + 1
    old = time.time() - ABANDONED - 10
    for content, when, free in (
        ({**own, "process": ended}, None, True),
        # processes of a machine with the same name, or before it was started again, cannot be seen
        ({**own, "process": ended, "start": "another"}, None, False),
        ({**own, "process": ended, "start": "another"}, old, True),
        ({**own, "machine": "another"}, None, False),
        ({**own, "machine": "another"}, old, True),
        # half of one, as a full disk leaves it
        ("", None, False),
        ("", old, True),
    ):
        lock.write_text(json.dumps(content) if content else "")
        if when is not None:
            os.utime(lock, (when, when))
        assert is_free() == free, (content, when)
        assert lock.exists() != free
        lock.unlink(missing_ok=True)


def test_a_batch_whose_folder_was_taken_over_stops_and_leaves_the_others_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was paused for more than a minute: another one saw no life in it."""
    pretend(tmp_path / "pack", monkeypatch, WORK)
    stream, lock = run(jobs_of(tmp_path)), tmp_path / "out" / LOCK
    next(stream)
    others = json.dumps({**json.loads(lock.read_text()), "number": "another"})
    lock.write_text(others)
    with pytest.raises(InputError, match="has taken over out") as caught:
        result(stream)
    assert caught.value.code == "CLU-057" and lock.read_text() == others
