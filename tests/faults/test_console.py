"""A report is written in every encoding, and whoever stops reading it stops nothing else."""

import io
import os
import subprocess
import sys

import pytest

from engine.cli.console import prepare_console, tell
from engine.errors import InputError
from tests.faults.commands import CLIP, ROOT

TEXT = "12 views × 30 frames → 2.5 σ … 日"
PREFLIGHT = [sys.executable, "-m", "engine", "preflight", "--data", str(CLIP), "--moments", "1"]


def test_control_characters_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    tell("a\x1b[31m \u202eb\r\n\tc", sys.stdout)
    assert capsys.readouterr().out == "a\\x1b[31m \\u202eb\\r\n\\tc\n"


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("cp1252", "12 views × 30 frames -> 2.5 sigma … \\u65e5"),
        ("ascii", "12 views x 30 frames -> 2.5 sigma ... \\u65e5"),
        ("utf-8", TEXT),
    ],
)
def test_what_an_encoding_lacks_is_written_plainly(
    monkeypatch: pytest.MonkeyPatch, encoding: str, written: str
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    prepare_console()
    tell(TEXT, stream)
    assert stream.buffer.getvalue().decode(encoding) == written + os.linesep  # pyright: ignore


def test_a_full_disk_under_the_report_is_said_once() -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="report was not written: No space left"):
        tell("text", Full())


def run(command: list[str], **more: str) -> tuple[int, bytes, str]:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **more},
        capture_output=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def test_a_report_is_written_under_ascii() -> None:
    code, out, said = run(PREFLIGHT, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert code == 0 and "Traceback" not in said
    assert "12 views x 30 frames" in out.decode("ascii") and "Ready to train" in out.decode("ascii")


@pytest.mark.skipif(os.name == "nt", reason="no head")
@pytest.mark.parametrize("words", [PREFLIGHT, [*PREFLIGHT, "--json"], [*PREFLIGHT[:3], "--help"]])
def test_a_reader_that_has_gone_ends_quietly(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    os.close(writing)
    said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 0 and "Traceback" not in said and "Broken" not in said, said
