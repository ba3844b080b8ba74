"""Several processes share the test files as tests/parallel.py says: a real run of pytest with two of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parallel import LONGEST, TOGETHER

REPOSITORY = Path(__file__).resolve().parents[2]
CONFTEST = """
from tests import parallel
from tests.conftest import pytest_collection_modifyitems, pytest_xdist_make_scheduler
parallel.TOGETHER, parallel.LONGEST = ("rooms",), ("test_long.py", "rooms")
"""
# writes down who runs it; a test of the longest file lasts until another process has begun, too
TEST = """
import json, os, time
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({count}))
def test(number):
    told = Path(os.environ["TOLD"])
    words = [Path(__file__).name, os.environ["PYTEST_XDIST_WORKER"], os.environ["OMP_NUM_THREADS"]]
    with open(told, "a") as file:
        file.write(json.dumps(words) + chr(10))
    until = time.monotonic() + 60
    while {waits} and len({{json.loads(line)[1] for line in told.read_text().splitlines()}}) < 2:
        assert time.monotonic() < until, "one process does everything"
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str]]:
    """(file, process, OMP_NUM_THREADS) of each test, in the order in which they began."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "rooms").mkdir()
    (folder / "pytest.ini").touch()
    (folder / "conftest.py").write_text(CONFTEST)
    # many small files that are collected first, and would be handed out first
    counts = {
        "test_a.py": 9,
        "test_b.py": 9,
        "test_long.py": 3,
        "rooms/test_one.py": 4,
        "rooms/test_two.py": 4,
    }
    for name, count in counts.items():
        (folder / name).write_text(TEST.format(count=count, waits=name == "test_long.py"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider"],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "TOLD": str(folder / "told.txt"),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [tuple(json.loads(line)) for line in (folder / "told.txt").read_text().splitlines()]
    assert len(found) == sum(counts.values())
    return found


def test_files_that_share_a_server_run_in_one_process(told: list[tuple[str, str, str]]) -> None:
    assert len({process for file, process, _ in told if file in ("test_one.py", "test_two.py")}) == 1


def test_the_longest_work_is_handed_out_first(told: list[tuple[str, str, str]]) -> None:
    first: dict[str, str] = {}
    for file, process, _ in told:
        first.setdefault(process, file)
    assert sorted(first.values()) == ["test_long.py", "test_one.py"]


def test_every_process_computes_on_one_thread(told: list[tuple[str, str, str]]) -> None:
    assert {(process, threads) for _, process, threads in told} == {("gw0", "1"), ("gw1", "1")}


def test_what_is_named_as_long_or_shared_is_there() -> None:
    assert [name for name in (*LONGEST, *TOGETHER) if not (REPOSITORY / name).exists()] == []
