"""Kernels compiled in child processes: which ones, under which names, by whom, and which folders of older ones go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.train import compile_ahead

pytest.importorskip("numba", reason="numba is not installed")

from engine.kernels import cache

# types that each kernel was used with, before and after real work
KINDS = """
import gc, json
from numba.core.dispatcher import Dispatcher
from engine.train import compile_ahead

for use in compile_ahead.USES:
    use()

def kinds():
    found = [o for o in gc.get_objects() if isinstance(o, Dispatcher) and o.py_func.__module__.startswith("engine.")]
    return {f"{o.py_func.__name__}{s}" for o in found if o.stats.cache_path for s in o.signatures}

ahead = kinds()
from engine.messages import result
from engine.steps import bake_clip, fit_edits, fit_scene
from tests.edit_scenes import edited_views
from tests.scenes import capture_of, moving_scene

video = capture_of(moving_scene())
scene = result(fit_scene.run(video, fit_scene.Config(iterations=12, preview_every=0)))
result(fit_edits.run(scene, edited_views(scene, (1, 2)), fit_edits.Config(iterations=4, preview_every=0)))
result(bake_clip.run(scene))
print(json.dumps(sorted(kinds() - ahead)))
"""

# one kernel, in two processes at once
RACE = """
from engine.render.numba.tiles import bin_tiles
from engine.train import compile_ahead
compile_ahead._use_rasterizer()
print(sum(bin_tiles.stats.cache_misses.values()), sum(bin_tiles.stats.cache_hits.values()))
"""

# a parent that starts its child, as ComfyUI names the pack, and tells its number and the folder that both use
PARENT = """
import importlib, sys, time, types
pack = types.ModuleType("/custom_nodes/a_x_b")
pack.__path__ = [sys.argv[1]]
sys.modules[pack.__name__] = pack
ahead = importlib.import_module("/custom_nodes/a_x_b.engine.train.compile_ahead")
ahead.cores = lambda: 2
started = ahead.start()
print(len(started), len(ahead.start()), started[0].pid if started else 0, ahead._stamp().parent, flush=True)
time.sleep(float(sys.argv[2]))
"""


def environment(**changed: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", compile_ahead.VARIABLE)}
    return {**kept, **changed}


def run(root: Path, *words: str, **changed: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", *words],
        cwd=root,
        env=environment(**changed),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> list[str]:
    """The words of its last line."""
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return out.splitlines()[-1].split()


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def waits_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def test_training_editing_and_playing_use_no_kernel_that_is_not_compiled_ahead(root):
    out, _ = run(root, KINDS).communicate(timeout=600)
    assert json.loads(out.splitlines()[-1]) == [], "add their use to USES in engine/train/compile_ahead.py"


@pytest.mark.slow
def test_of_two_processes_one_compiles_a_kernel_and_the_other_one_loads_it(root, tmp_path):
    both = [run(root, RACE, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    counts = [[int(word) for word in finished(process)] for process in both]
    assert sorted(counts) == [[0, 1], [1, 0]]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
def test_a_child_compiles_under_the_name_of_the_pack_and_ends_with_its_parent(root, tmp_path):
    process = run(root, PARENT, str(root), "600", NUMBA_CACHE_DIR=str(tmp_path))
    assert process.stdout is not None
    count, again, number, folder = process.stdout.readline().split()
    assert (count, again) == ("1", "0")
    try:
        # the child's kernels come where the parent looks for them
        assert waits_until(lambda: any(Path(folder).rglob("*.lock")) or not is_running(int(number)))
        assert os.getpriority(os.PRIO_PROCESS, int(number)) == compile_ahead.NICENESS
        assert is_running(int(number)) and [path.name for path in tmp_path.iterdir()] == [Path(folder).name]
    finally:
        process.kill()
        process.communicate()
    # however long a busy machine takes, it ended because of its parent: with its work done it would leave its stamp
    assert waits_until(lambda: not is_running(int(number)))
    assert not list(Path(folder).glob("*.ready"))


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """The state before the first call, on a machine with two cores and without compiled kernels."""
    monkeypatch.setattr(compile_ahead, "_begun", threading.Event())
    monkeypatch.setattr(compile_ahead, "cores", lambda: 2)
    monkeypatch.setattr(compile_ahead, "_stamp", lambda: tmp_path / "all.ready")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv(compile_ahead.VARIABLE, raising=False)
    started = list[bool]()
    monkeypatch.setattr(compile_ahead, "_start", started.append)
    return started


def test_one_child_is_started_on_two_cores_and_two_from_opposite_ends_on_four(fresh, monkeypatch):
    compile_ahead.start()
    compile_ahead.start()
    assert fresh == [False]
    compile_ahead._begun.clear()
    monkeypatch.setattr(compile_ahead, "cores", lambda: 4)
    compile_ahead.start()
    assert fresh == [False, False, True]


@pytest.mark.parametrize(
    "why", ["one core", "compiled", "turned off", "no folder", "GPU", "frozen", "no numba"]
)
def test_no_child_is_started_where_it_is_of_no_use(fresh, monkeypatch, tmp_path, why):
    match why:
        case "one core":
            monkeypatch.setattr(compile_ahead, "cores", lambda: 1)
        case "compiled":
            (tmp_path / "all.ready").touch()
        case "turned off":
            monkeypatch.setenv(compile_ahead.VARIABLE, "0")
        case "no folder":
            monkeypatch.setattr(compile_ahead, "_stamp", lambda: None)
        case "GPU":
            monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        case "frozen":
            monkeypatch.setattr(sys, "frozen", True, raising=False)
        case _:
            monkeypatch.setattr(compile_ahead.backends, "installed", lambda package: package != "numba")
    compile_ahead.start()
    assert fresh == []


def test_a_child_that_cannot_be_started_costs_nothing(fresh, monkeypatch, caplog):
    def refuse(backwards: bool) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(compile_ahead, "_start", refuse)
    with caplog.at_level("DEBUG", "gs4d"):
        assert compile_ahead.start() == []
    assert "no more processes" in caplog.text


def test_what_a_failing_child_says_last_is_logged_for_those_who_look(fresh, monkeypatch, caplog):
    monkeypatch.undo()
    monkeypatch.setattr(compile_ahead, "CALL", "raise SystemExit('no kernels')")
    with caplog.at_level("DEBUG", "gs4d"):
        process = compile_ahead._start(False)
        assert waits_until(lambda: "no kernels" in caplog.text)
    assert process.returncode == 1 and {record.levelname for record in caplog.records} == {"DEBUG"}


# ---- old folders -----------------------------------------------------------------------------------------------------


def folder_of(
    parent: Path, number: int, days: float, name: str = "kernels_1/tiles.cover-1.py311.1.nbc"
) -> Path:
    """A folder of compiled kernels that was last used some days ago."""
    folder = parent / f"{number:016x}"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(b"code")
    os.utime(folder, (time.time() - 86400 * days,) * 2)
    return folder


def test_kernels_of_other_versions_are_removed_after_a_month(tmp_path):
    current, used, unused = (folder_of(tmp_path, i, days) for i, days in enumerate((90, 29, 31)))
    cache.remove_old([tmp_path, tmp_path / "missing"], current)
    assert current.exists() and used.exists() and not unused.exists()


def test_a_few_folders_are_kept_for_longer_than_a_day(tmp_path):
    folders = [folder_of(tmp_path, i, 0.5 + 0.1 * i) for i in range(12)]
    cache.remove_old([tmp_path], tmp_path / "current")
    assert [folder.exists() for folder in folders] == [
        i < cache.KEPT_FOLDERS or 0.5 + 0.1 * i < 1 for i in range(12)
    ]


def test_what_others_keep_in_the_same_place_stays(tmp_path):
    with_more = folder_of(tmp_path, 1, 90, "notes.txt")
    (named := tmp_path / "other_pack_0123456789abcdef").mkdir()
    os.utime(named, (0, 0))
    outside = folder_of(tmp_path / "elsewhere", 2, 90)
    (linked := tmp_path / f"{3:016x}").symlink_to(outside)
    cache.remove_old([tmp_path], tmp_path / "current")
    assert with_more.exists() and named.exists() and linked.exists() and any(outside.rglob("*.nbc"))


def test_using_a_folder_renews_its_date(root, tmp_path):
    script = "from engine.kernels.cache import cache_folder; print(cache_folder())"
    folder = Path(finished(run(root, script, NUMBA_CACHE_DIR=str(tmp_path)))[0])
    os.utime(folder, (0, 0))
    old = folder_of(tmp_path, 1, 90)
    assert finished(run(root, script, NUMBA_CACHE_DIR=str(tmp_path))) == [str(folder)]
    assert time.time() - folder.stat().st_mtime < 600
    # old ones are looked for when a version is used for the first time
    assert old.exists()
