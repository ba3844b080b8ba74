"""A file is the old one or the new one whatever happens at its end, and what a kill leaves is removed by the next run."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from engine.cli.kinds import WRITERS
from engine.errors import InputError
from engine.files import atomic
from engine.files.atomic import check_writable, write_atomically
from engine.io.selection_file import load_selection, save_selection
from engine.scene import Selection
from engine.steps.step import Kind

ROOT = Path(__file__).resolve().parents[2]
ERRORS = (
    errno.EIO, errno.ENOENT, errno.EBUSY, errno.ENOSPC, errno.EROFS, errno.EXDEV, errno.EACCES, errno.ESTALE,
)  # fmt: skip


def partials(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".partial"))


def in_another_process(script: str) -> subprocess.Popen[bytes]:
    head = f"import os, signal, sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom engine.files.atomic import write_atomically\n"
    return subprocess.Popen([sys.executable, "-c", head + script], stdout=subprocess.PIPE)


@pytest.fixture
def unseen_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process, which has not cleaned any folder yet."""
    monkeypatch.setattr(atomic, "_cleaned", set[str]())


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_at_the_end_is_one_sentence_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    path = tmp_path / "scene.safetensors"
    path.write_text("old")

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(InputError, match=r"scene\.safetensors was not written") as caught:
        with write_atomically(path) as partial:
            partial.write_text("new")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_a_kill_leaves_is_removed_by_the_next_run(
    tmp_path: Path, call: str, unseen_folders: None
) -> None:
    path = tmp_path / "scene.safetensors"
    path.write_text("old")
    script = f"os.{call} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    script += f"with write_atomically({str(path)!r}) as partial: partial.write_text('half')"
    assert in_another_process(script).wait(60) == -signal.SIGKILL
    assert path.read_text() == "old" and len(partials(tmp_path)) == 1
    # whatever it writes there
    check_writable(tmp_path / "other.safetensors")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="other processes cannot be asked")
def test_temporary_files_at_work_and_files_of_others_stay(tmp_path: Path, unseen_folders: None) -> None:
    script = (
        f"with write_atomically({str(tmp_path / 'a')!r}) as partial:\n    partial.write_text('half')\n    "
    )
    writer = in_another_process(script + "print(flush=True); __import__('time').sleep(60)")
    try:
        assert writer.stdout is not None and writer.stdout.readline()
        now = [f".b.0123ab-{os.getpid()}-01234567.partial", ".download.partial", "notes.partial"]
        for name in now:
            (tmp_path / name).write_text("")
        old = tmp_path / ".c.01234567.partial"
        old.write_text("")
        then = time.time() - 2 * atomic.ABANDONED
        os.utime(old, (then, then))
        check_writable(tmp_path / "other")
        left = partials(tmp_path)
        assert set(now) < set(left) and len(left) == len(now) + 1 and old.name not in left
    finally:
        writer.kill()
        writer.wait()


def test_a_target_that_cannot_be_replaced_is_known_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("x" * 300, "folder"):
        with pytest.raises(InputError, match="not written"), write_atomically(tmp_path / name):
            raise AssertionError("the work began")
    long = tmp_path / ("ä" * 120)
    with write_atomically(long) as partial:
        partial.write_text("new")
    assert long.read_text() == "new"


def test_a_check_asks_for_the_room_that_the_file_will_need(tmp_path: Path) -> None:
    check_writable(tmp_path / "small", 1_000_000)
    with pytest.raises(InputError, match="scene was not written"):
        check_writable(tmp_path / "scene", 1 << 60)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no modes")
def test_selections_and_depth_maps_can_be_read_by_whom_the_mask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_selection(Selection(torch.tensor([0.0, 1.0])), tmp_path / "a.safetensors")
        WRITERS[Kind.DEPTH_MAPS].write(torch.ones(1, 2, 2), tmp_path / "depth.npy")
    finally:
        os.umask(before)
    assert load_selection(tmp_path / "a.safetensors").weights.tolist() == [0.0, 1.0]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}
