"""A stopped batch on a real Ray: what runs saves its work, what waits does not begin, and no process is left."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.cluster import run
from engine.cluster.sessions import members
from engine.messages import JobUpdate, result
from tests.cluster.small_jobs import (
    ITERATIONS,
    ROOT,
    TEXT,
    bytes_of,
    small_jobs,
    wait_until,
    workers_of,
    write_jobs,
)

ray = pytest.importorskip("ray", reason="ray is not installed (pip install ray)")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="two nodes on one machine: Linux only")
# three fits that do not end in a test, and what needs one
LONG = TEXT.replace(ITERATIONS, "iterations: 200000\n    checkpoint_seconds: 1").replace(
    "[1, 2]", "[1, 2, 3]"
)


def states(report: Path) -> dict[str, str]:
    return {job["name"]: job["state"] for job in json.loads(report.read_text())["jobs"]}


def checkpoints(out: Path) -> dict[str, int]:
    """When each checkpoint was written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "fitted").glob("[0-9].*.safetensors")}


# batches of a test
started: list["Batch"] = []


class Batch:
    """The command, with Ray's files in a folder of its own."""

    def __init__(self, file: Path, address: str, place: str) -> None:
        self.report = file.with_name("report.json")
        self.place, self.out = Path(place), file.with_name("out")
        words = ["-m", "engine", "batch", str(file), "--address", address, "--report", str(self.report)]
        with open(self.place.with_suffix(".txt"), "wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=ROOT,
                stderr=said,
                stdout=said,
                env={**os.environ, "TMPDIR": place},
            )
        started.append(self)

    def said(self) -> str:
        return self.place.with_suffix(".txt").read_text()

    def driver(self) -> int:
        """Number of the process that speaks with Ray and leads a session; 0 before."""
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes()
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == self.process.pid and b"ray_driver.py" in words:
                return int(place.name)
        return 0

    def run_until(self, condition: Callable[[], object]) -> None:
        wait_until(lambda: self.process.poll() is not None or condition())
        assert self.process.poll() is None, self.said()

    def wait(self) -> int:
        code = self.process.wait(90)
        assert "Traceback" not in self.said(), self.said()
        return code


@pytest.fixture
def place() -> Generator[str, None, None]:
    """A folder for one batch, which does not outlive its test."""
    with tempfile.TemporaryDirectory(prefix="gs4d", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "t").mkdir()
        yield str(Path(folder) / "t")
        while started:
            batch = started.pop()
            driver = batch.driver()
            # the driver notices, and stops all
            batch.process.kill()
            batch.process.wait()
            wait_until(lambda driver=driver: not driver or not members(driver))


def test_ctrl_c_ends_jobs_and_the_ray_that_was_started_for_them(tmp_path: Path, place: str) -> None:
    batch = Batch(write_jobs(tmp_path, LONG), "local", place)
    batch.run_until(lambda: len(checkpoints(batch.out)) > 1)
    driver, at = batch.driver(), time.time_ns()
    assert len(members(driver)) > 5, "the driver and a Ray"
    batch.process.send_signal(signal.SIGINT)
    assert batch.wait() == 130
    assert "the same command continues" in batch.said()
    assert not members(driver) and not workers_of(batch.out)
    assert not list(batch.place.glob("gs4d-ray-*")) and not list(batch.out.glob(".gs4d-token-*"))
    found = states(batch.report)
    assert found["views"] == "done" and found["gold[1]"] == "waiting"
    stopped = [name for name, state in found.items() if state == "stopped"]
    assert len(stopped) > 1 and set(stopped) <= {"fit[1]", "fit[2]", "fit[3]"}
    assert all(when > at for when in checkpoints(batch.out).values()), "each was written at the end"
    assert len(checkpoints(batch.out)) == len(stopped)


def test_ctrl_c_while_ray_is_starting_leaves_nothing(tmp_path: Path, place: str) -> None:
    batch = Batch(write_jobs(tmp_path, LONG), "local", place)
    batch.run_until(lambda: len(members(batch.driver() or -1)) > 1)
    driver = batch.driver()
    batch.process.send_signal(signal.SIGINT)
    assert batch.wait() == 130
    assert not members(driver) and not list(batch.place.glob("gs4d-ray-*"))
    assert not list(batch.out.glob(".gs4d-token-*")) and set(states(batch.report).values()) == {"waiting"}


def test_a_killed_batch_ends_the_ray_that_was_started_for_it_after_the_jobs_have_saved(
    tmp_path: Path, place: str
) -> None:
    batch = Batch(write_jobs(tmp_path, LONG), "local", place)
    batch.run_until(lambda: len(checkpoints(batch.out)) > 1)
    driver, at = batch.driver(), time.time_ns()
    batch.process.kill()
    assert batch.wait() == -signal.SIGKILL
    wait_until(lambda: not members(driver) and not workers_of(batch.out))
    assert all(when > at for when in checkpoints(batch.out).values())
    assert not list(batch.place.glob("gs4d-ray-*")) and not list(batch.out.glob(".gs4d-token-*"))


def test_what_was_stopped_goes_on_and_what_waited_does_not_begin(two_nodes: Any, tmp_path: Path) -> None:
    jobs, out, report = small_jobs(tmp_path, LONG), tmp_path / "out", tmp_path / "report.json"
    place: dict[str, Any] = {"on": "ray", "address": two_nodes.address}
    done: dict[str, int] = {}
    with closing(run(jobs, **place, report=report)) as stream:
        for message in stream:
            if isinstance(message, JobUpdate) and message.verb == "fit-edits" and message.done:
                done[message.name] = message.done
                if len(done) == 2:
                    break
    assert not workers_of(out)
    fits = {name: state for name, state in states(report).items() if name.startswith("fit")}
    waited = [name for name, state in fits.items() if state == "waiting"]
    assert len(waited) == 1 and sorted(fits.values()) == ["stopped", "stopped", "waiting"]
    assert len(checkpoints(out)) == 2
    again: dict[str, int] = {}
    with closing(run(jobs, **place)) as stream:
        for message in stream:
            if isinstance(message, JobUpdate) and message.name in done and message.done:
                again.setdefault(message.name, message.done)
                if len(again) == 2:
                    break
    assert all(again[name] > done[name] for name in done), "from the checkpoints"


@pytest.mark.parametrize("state", ["waiting", "running"])
def test_a_job_that_is_just_starting_is_stopped(cluster: Any, tmp_path: Path, state: str) -> None:
    jobs, out, report = small_jobs(tmp_path, LONG), tmp_path / "out", tmp_path / "report.json"
    with closing(run(jobs, on="ray", address=cluster.address, report=report)) as stream:
        for message in stream:
            if isinstance(message, JobUpdate) and (message.state, bool(message.note)) == (
                state,
                state == "waiting",
            ):
                break
    assert not workers_of(out) and not bytes_of(out)
    assert states(report)["views"] == ("stopped" if state == "running" else "waiting")


@pytest.mark.parametrize("kind", ["address", "local", "client"])
def test_a_second_ctrl_c_does_not_wait_for_a_job_that_hangs(
    cluster: Any, tmp_path: Path, place: str, kind: str
) -> None:
    if kind == "client":
        pytest.importorskip("grpc", reason="grpcio is not installed (pip install 'ray[client]')")
    address = {"address": cluster.address, "local": "local", "client": cluster.client}[kind]
    batch = Batch(write_jobs(tmp_path, LONG), address, place)
    batch.run_until(lambda: len(checkpoints(batch.out)) > 0)
    workers = workers_of(batch.out)
    driver = batch.driver()
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    batch.process.send_signal(signal.SIGINT)
    batch.run_until(lambda: "the same signal again stops at once" in batch.said())
    batch.process.send_signal(signal.SIGINT)
    assert batch.wait() == 130
    assert not members(driver) and not list(batch.place.glob("gs4d-ray-*"))
    wait_until(lambda: not workers_of(batch.out))
    assert "fit[1]" in states(batch.report)


def test_a_batch_through_a_ray_client_is_that_of_this_machine(
    cluster: Any, folder_of_jobs: Path, tmp_path: Path
) -> None:
    pytest.importorskip("grpc", reason="grpcio is not installed (pip install 'ray[client]')")
    jobs, out = small_jobs(tmp_path), tmp_path / "out"
    place: dict[str, Any] = {"on": "ray", "address": cluster.client}
    with closing(run(jobs, **place)) as stream:
        for message in stream:
            if isinstance(message, JobUpdate) and message.verb == "fit-edits" and message.done:
                break
    assert not workers_of(out) and len(checkpoints(out)) == 1
    report = result(run(jobs, **place))
    assert report["done"] == 3 and report["up_to_date"] == 1, report
    assert bytes_of(out) == bytes_of(folder_of_jobs / "out")
