"""The live table: what names say does not move the cursor."""

import re

import pytest

from engine.cli.job_table import JobTable, fitted
from engine.messages import JobUpdate

# moves of the table itself
MOVES = re.compile(r"\x1b\[(2K|J|\d+A)|[\r\n]")


def test_wide_characters_count_twice_in_a_row() -> None:
    assert fitted("gold", 3) == "gol" and fitted("金の像", 4) == "金の" and fitted("a金の像", 4) == "a金"


@pytest.mark.parametrize("redraws", [False, True])
def test_names_and_notes_are_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, redraws: bool
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: redraws, raising=False)
    # rows are cut at the terminal's width
    monkeypatch.setenv("COLUMNS", "120")
    table = JobTable()
    note = "b\r\n\x1b]0;title\x07"
    table.update(JobUpdate("a\x1b[2J", "grade", "failed", machine="m\x9b2J", note=note))
    table.close()
    said = MOVES.sub("", capsys.readouterr().err)
    assert r"a\x1b[2J" in said and r"m\x9b2J" in said and r"\x1b]0;title\x07" in said and said.isprintable()
