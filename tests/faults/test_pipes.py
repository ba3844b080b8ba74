"""A named pipe, a device or a broken link in place of any file of any input: nothing waits, nothing is read for ever."""

import os
import shutil
import signal
import sys
from collections.abc import Generator
from itertools import product
from pathlib import Path
from random import Random

import pytest

from engine.errors import InputError
from engine.files.paths import explains_files
from tests.fuzz.parsers import PARSERS, Parser

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes and devices of Linux")
# seconds
LIMIT = 20
REPLACEMENTS = {
    "a pipe": os.mkfifo,
    "an endless device": lambda path: os.symlink("/dev/zero", path),
    "a link to itself": lambda path: os.symlink(path, path),
    "a link to a name that is too long": lambda path: os.symlink("x" * 300, path),
    "a file that cannot be read": lambda path: os.symlink("/proc/self/mem", path),
}


@pytest.fixture
def limited() -> Generator[None, None, None]:
    def stop(*_: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("limited")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("parser", [p for p in PARSERS if p.mutates_files], ids=lambda p: p.name)
def test_what_is_no_file_is_refused(tmp_path: Path, parser: Parser) -> None:
    valid = tmp_path / "valid"
    valid.mkdir()
    parser.build(valid)
    found = sorted(path.relative_to(valid) for path in valid.rglob("*") if path.is_file())
    # one of each kind
    kinds = {(path.parent, path.suffix): path for path in reversed(found)}
    refused = 0
    for file, (name, replace) in product(kinds.values(), REPLACEMENTS.items()):
        folder = tmp_path / "changed"
        shutil.copytree(valid, folder)
        (folder / file).unlink()
        replace(folder / file)
        try:
            # as the command line and the nodes do
            with explains_files():
                parser.read(folder, Random(0))
        except InputError as error:
            refused += 1
            assert len(str(error)) <= 400 and "it waits" not in str(error), (file, name)
        shutil.rmtree(folder)
    # a checkpoint that is none is as one that is missing
    assert refused or parser.name == "checkpoint"
