"""Kills, small disks and little memory, at random: nothing half written, nothing lost, one sentence. `make test-faults`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from random import Random

import pytest

from engine.files.atomic import check_writable
from tests.faults.commands import ENDINGS, RESUMED, ROOT, Inputs, is_one_sentence, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals, mounts and limits of Linux")
ITERATIONS = 200
# a result's history records it
OFTEN = ("--checkpoint-seconds", "1")


def finished(words: list[str]) -> str:
    process = start(words)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="session")
def undisturbed(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Verb → the bytes that it writes when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    found: dict[str, bytes] = {}
    for verb in RESUMED:
        out = folder / f"{verb}.safetensors"
        finished([*inputs.command(verb, out, ITERATIONS), *OFTEN])
        found[verb] = out.read_bytes()
    return found


@pytest.mark.parametrize("verb", RESUMED)
def test_a_killed_command_ends_with_the_same_bytes(
    inputs: Inputs, undisturbed: dict[str, bytes], tmp_path: Path, verb: str, draw: int
) -> None:
    random = Random(f"kill {verb} {draw}")
    out = tmp_path / "a.safetensors"
    words = [*inputs.command(verb, out, ITERATIONS), *OFTEN]
    process = start(words)
    time.sleep(random.uniform(1, 8))
    process.kill()
    process.communicate()
    finished(words)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert out.read_bytes() == undisturbed[verb]


@pytest.mark.parametrize("verb", RESUMED)
def test_a_kill_at_the_end_of_a_write_leaves_the_old_file_or_the_new(
    inputs: Inputs, undisturbed: dict[str, bytes], tmp_path: Path, verb: str, draw: int
) -> None:
    random = Random(f"end {verb} {draw}")
    call = random.choice(["fsync", "replace"])
    out = tmp_path / "a.safetensors"
    words = [*inputs.command(verb, out, ITERATIONS), *OFTEN]
    # the first writes are the checks of outputs
    count = random.randint(1, 12)
    script = f"""
import os, signal, sys
own, left = os.{call}, [{count}]
def last(*words):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return own(*words)
os.{call} = last
from engine.cli import main
from engine.train import loop
loop._Checkpoints.save_if_due = lambda self: self.save()
sys.exit(main({words!r}))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=300)
    assert done.returncode in (0, -signal.SIGKILL)
    finished(words)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert out.read_bytes() == undisturbed[verb]


@pytest.fixture
def small_disk(tmp_path: Path, draw: int) -> Generator[Path, None, None]:
    """A disk of a few blocks, in memory; only root can mount one."""
    size = Random(f"disk {draw}").choice([8, 16, 32, 64, 128, 256])
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", place], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("verb", list(ENDINGS))
def test_a_full_disk_is_one_sentence(inputs: Inputs, small_disk: Path, verb: str) -> None:
    process = start(inputs.command(verb, small_disk / f"a{ENDINGS[verb]}", 5))
    said = process.communicate(timeout=300)[1]
    left = [path.name for path in small_disk.iterdir()]
    assert not [name for name in left if name.endswith(".partial")]
    assert process.returncode in (0, 1) and (process.returncode == 0 or "the disk is full" in said), said
    assert process.returncode == 0 or is_one_sentence(said)


@pytest.mark.parametrize("verb", list(ENDINGS))
def test_a_read_only_disk_is_known_at_once(inputs: Inputs, small_disk: Path, verb: str) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    process = start(inputs.command(verb, small_disk / f"a{ENDINGS[verb]}", 100_000))
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "Read-only file system" in said and is_one_sentence(said)
    assert "rasterizer" not in said, "the work had begun"


@pytest.mark.parametrize("verb", list(ENDINGS))
def test_little_memory_is_one_sentence_with_figures(
    inputs: Inputs, tmp_path: Path, verb: str, draw: int
) -> None:
    megabytes = Random(f"memory {verb} {draw}").randint(1500, 4000)
    words = inputs.command(verb, tmp_path / f"a{ENDINGS[verb]}", 5)
    if verb == "render":
        words += ["--width", "4096", "--height", "4096"]
    script = f"""
import resource, sys
from engine.cli import main
resource.setrlimit(resource.RLIMIT_AS, ({megabytes} << 20,) * 2)
sys.exit(main({words!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr
    assert "0.0 GB" not in done.stderr and "Traceback" not in done.stderr
    if done.returncode:
        assert is_one_sentence(done.stderr) and "this process may use" in done.stderr, done.stderr


def test_two_writers_of_one_file_leave_a_whole_one(tmp_path: Path, draw: int) -> None:
    path = tmp_path / "a"
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from engine.files.atomic import write_atomically
for _ in range(200):
    with write_atomically({str(path)!r}) as partial:
        partial.write_bytes(sys.argv[1].encode() * 100_000)
"""
    writers = [subprocess.Popen([sys.executable, "-c", script, letter]) for letter in "xyz"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            text = path.read_bytes()
            assert len(text) == 100_000 and len(set(text)) == 1
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    check_writable(path)
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
