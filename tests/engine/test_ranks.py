"""One scene trained by several processes: real ones, started by torchrun, that exchange gradients over gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.io.scene_file import load_scene
from tests.ranked_training import HANDED, QUICK, STOPPED_AT, TRAININGS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="several processes are untested on Windows")
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "ranked_training.py"
WALKER = ROOT / "assets" / "clips" / "walker"
# steps during which rounding alone makes a difference
EARLY = 60


def torchrun(processes: int, *words: object, **more: Any) -> subprocess.Popen[str]:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes)
    return subprocess.Popen(
        [sys.executable, *map(str, (*launcher, *words))],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,
    )


def reported(folder: Path, processes: int, part: str, *words: str, script: Path = SCRIPT) -> dict[str, Any]:
    """What the first of some processes reports that run a part of a script."""
    report = folder / f"{processes}.{part}.json"
    process = torchrun(processes, script, report, part, *words)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return json.loads(report.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, Any]:
    return reported(folder, 1, "trainings")


@pytest.fixture(scope="module")
def two(folder: Path) -> dict[str, Any]:
    return reported(folder, 2, "trainings")


@pytest.mark.parametrize("name", [name for name in TRAININGS if name != "time limit"])
def test_two_processes_equal_one(one: dict[str, Any], two: dict[str, Any], name: str) -> None:
    alone, shared = one[name], two[name]
    assert shared["losses"][:EARLY] == pytest.approx(alone["losses"][:EARLY], rel=1e-4)
    assert len(shared["losses"]) == len(alone["losses"]) == TRAININGS[name].iterations
    # by then rounding may have moved a Gaussian that another run splits
    assert shared["losses"][-1] == pytest.approx(alone["losses"][-1], rel=0.05)
    assert shared["gaussians"] == pytest.approx(alone["gaussians"], rel=0.05)


def test_processes_end_after_the_same_step_where_time_ends_the_run(two: dict[str, Any]) -> None:
    report = two["time limit"]
    assert 0 < report["steps"] < TRAININGS["time limit"].iterations and report["steps"] == len(
        report["losses"]
    )


def test_one_process_that_is_asked_to_stop_stops_all(two: dict[str, Any]) -> None:
    assert two["asked to stop"]["stopped"] and len(two["asked to stop"]["losses"]) == 1


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_the_number_of_processes_may_change_at_a_resume(
    one: dict[str, Any], two: dict[str, Any], folder: Path, before: int, after: int
) -> None:
    report = reported(folder, after, HANDED[before])
    assert f"resumed at step {STOPPED_AT}" in report["note"]
    whole = one["fixed budget"]["losses"]
    assert len(report["losses"]) == QUICK.iterations - STOPPED_AT
    assert report["losses"][:30] == pytest.approx(whole[STOPPED_AT : STOPPED_AT + 30], rel=1e-3)
    assert report["losses"][-1] == pytest.approx(whole[-1], rel=0.05)


@pytest.mark.parametrize(
    ("name", "code"),
    [("own checkpoints", "TRN-055"), ("other settings", "TRN-054"), ("too few views", "TRN-053")],
)
def test_what_processes_do_not_share_is_refused_by_all(two: dict[str, Any], name: str, code: str) -> None:
    assert f"[GS4D-{code}]" in two[name]


def fit(out: Path, *more: object) -> tuple[object, ...]:
    few = ("--frame-count", 3, "--scale", 0.25, "--initial-count", 500, "--budget", 500, "--seed", 3)
    return ("-m", "engine", "fit-scene", "--data", WALKER, "--out", out, "--device", "cpu", *few, *more)


def lines_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the command ended without '{text}'")


def children(process: subprocess.Popen[str]) -> list[int]:
    """The trainings that torchrun started, by rank."""
    found: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        try:
            owner = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            variables = (entry / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if owner == str(process.pid):
            ranks = [v.decode()[5:] for v in variables if v.startswith(b"RANK=")]
            found |= {rank: int(entry.name) for rank in ranks}
    return [found[rank] for rank in sorted(found)]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes as Linux shows them")
def test_a_process_that_dies_is_started_again_and_training_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "scene.safetensors"
    words = fit(out, "--iterations", 400, "--checkpoint-seconds", 1)
    process = torchrun(2, "--max-restarts", 1, *words)
    checkpoint = tmp_path / "scene.training.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(children(process)[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "resumed at step" in output and "GS4D-TRN-051" in output
    assert load_scene(out).history[-1]["iterations"] == 400 and not checkpoint.exists()


def test_a_signal_to_torchrun_keeps_the_work(tmp_path: Path) -> None:
    out = tmp_path / "scene.safetensors"
    process = torchrun(2, *fit(out, "--iterations", 100_000))
    lines_until(process, " loss ")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0 and not out.exists()
    assert "scene.training.safetensors keeps the unfinished work" in output
    assert (tmp_path / "scene.training.safetensors").is_file()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes as Linux shows them")
def test_processes_whose_launcher_was_killed_keep_the_work_and_end(tmp_path: Path) -> None:
    process = torchrun(2, *fit(tmp_path / "scene.safetensors", "--iterations", 100_000))
    lines_until(process, " loss ")
    left = children(process)
    process.kill()
    # the pipe is theirs too
    output, _ = process.communicate(timeout=120)
    assert "scene.training.safetensors keeps the unfinished work" in output
    assert len(left) == 2 and (tmp_path / "scene.training.safetensors").is_file()


def test_a_verb_for_one_process_is_refused_under_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    assert main(["render", "--scene", "scene.safetensors", "--out", str(tmp_path / "a.mp4")]) == 1
    assert "CLI-011" in capsys.readouterr().err
