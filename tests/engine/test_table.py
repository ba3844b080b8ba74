"""Figures of benchmarks as one picture: read from what was printed, put into tables, drawn; bad files are one sentence."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import table
from benchmarks.table_picture import Table, tables_picture
from engine.errors import InputError

ENV = {"machine": "a machine", "device": "cpu", "seed": 3, "versions": {"torch": "2", "gsplat": None}}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["table.py", *map(str, arguments)])
    table.main()


def test_a_picture_is_made_of_what_two_benchmarks_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, psnr in (("first", 31.25), ("second", 9.5)):
        printed = f"step 1\n{json.dumps({'psnr': psnr, 'gaussians': 5000, 'env': ENV})}\n"
        (tmp_path / f"{name}.json").write_text(printed)
    out = tmp_path / "table.png"
    run(
        monkeypatch,
        tmp_path / "first.json",
        tmp_path / "second.json",
        "--out",
        out,
        "--json",
        "--title",
        "Title",
    )
    format_number = json.loads(capsys.readouterr().out)
    assert (format_number["tables"], format_number["rows"]) == (1, 2) and format_number[
        "bytes"
    ] == out.stat().st_size < 60_000
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape[0] > 150 and 0.005 < (pixels < 128).mean() < 0.2, "letters on paper"


def test_files_with_the_same_figures_share_a_table_and_variants_get_their_own() -> None:
    report = {
        "variants": {"a": {"psnr": 30.0, "seconds": 1.5}, "b": {"psnr": 28.125}},
        "by_moments": {"8": 1, "16": 2},
    }
    made = table.tables({"edit": report, "x": {"psnr": 1.0}, "y": {"psnr": 2.5}}, [])
    shared, variants, moments = made
    assert shared.columns == ("", "PSNR (dB)") and shared.rows == (("x", "1.0"), ("y", "2.5"))
    assert variants.columns == ("", "PSNR (dB)", "seconds")
    assert variants.rows == (("a", "30.00", "1.5"), ("b", "28.12", "–"))
    assert moments.columns == ("", "8", "16") and moments.rows == (("by moments", "1", "2"),)
    only = table.tables({"edit": report}, ["psnr"])
    assert [t.columns for t in only] == [("", "PSNR (dB)")]


def test_many_figures_stand_below_each_other() -> None:
    (made,) = table.tables({"one": {f"n{i}": i for i in range(12)}}, [])
    assert len(made.rows) == 12 and made.columns == ("", "one")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (None, "–"),
        (12345678, "12\u202f345\u202f678"),
        (0.12345, "0.1235"),
        (2884.4, "2884"),
        ([1, 2.5], "1, 2.5"),
    ],
)
def test_values_are_told_in_few_letters(value: object, text: str) -> None:
    assert table.cell(value) == text


def test_machine_and_versions_are_told_once() -> None:
    assert table.notes({"a": {"env": ENV}, "b": {"env": ENV}}) == ["a machine · cpu · seed 3 · torch 2"]
    other = {**ENV, "device": "cuda"}
    assert len(table.notes({"a": {"env": ENV}, "b": {"env": other}})) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not contain a JSON object"),
        ("[1, 2]", "not contain a JSON object"),
        ('{"error": "no capture"}', "no capture"),
        ("{}", "no figure"),
    ],
)
def test_a_file_without_figures_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(SystemExit, match=said):
        run(monkeypatch, tmp_path / "bad.json", "--out", tmp_path / "t.png")
    assert not list(tmp_path.glob("*.png"))


def test_a_file_that_is_not_there_or_not_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00\x80")
    for name in ("missing.json", "b.json"):
        with pytest.raises(InputError, match=name):
            table.read(tmp_path / name)


def test_a_row_with_too_few_cells_is_refused_and_wide_tables_grow() -> None:
    with pytest.raises(InputError, match="1 cells for 2"):
        tables_picture([Table("t", ("", "a"), (("x",),))])
    narrow = tables_picture([Table("", ("", "a"), (("x", "1"),))])
    wide = tables_picture([Table("", ("", *"abcdefgh"), (("a long name of a row", *["123456"] * 8),))])
    assert wide.width > narrow.width + 500 and wide.height == narrow.height
