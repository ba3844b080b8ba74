"""Color look-up tables in .cube files: what is read, and the one sentence for each that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.color import ColorTable
from engine.errors import InputError
from engine.io.cube_file import MOST_BYTES, read_cube


def write_cube(path: Path, table: ColorTable, header: str = "") -> Path:
    """The table as programs write it: red runs fastest, six decimals."""
    rows = table.values if table.is_curve else table.values.permute(2, 1, 0, 3).reshape(-1, 3)
    kind = "LUT_1D_SIZE" if table.is_curve else "LUT_3D_SIZE"
    lines = [header, f"{kind} {table.size}", *("{:.6f} {:.6f} {:.6f}".format(*row) for row in rows.tolist())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def bent(colors: torch.Tensor) -> torch.Tensor:
    """A smooth grade that mixes channels."""
    turned = colors @ torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.0, 0.2, 0.8]])
    return turned**2 * 0.9 + 0.05


def random_colors(count: int = 4000) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [2, 17, 33])
def test_a_lattice_round_trips_against_the_formula(tmp_path: Path, size: int) -> None:
    plain = ColorTable.identity(size)
    table = read_cube(write_cube(tmp_path / "a.cube", ColorTable.lattice(bent(plain.values)), 'TITLE "Warm"'))
    assert table.title == "Warm" and table.size == size
    torch.testing.assert_close(table.values, bent(plain.values), atol=1e-6, rtol=0)
    colors = random_colors()
    # linear interpolation is off by the curvature times the square of the cell
    torch.testing.assert_close(table.apply(colors), bent(colors), atol=0.5 / (size - 1) ** 2 + 1e-5, rtol=0)


def test_the_lattice_is_exact_at_its_points_for_each_channel_order() -> None:
    values = torch.rand(4, 4, 4, 3, generator=torch.Generator().manual_seed(1))
    for r, g, b in [(0, 1, 3), (3, 0, 1), (2, 2, 0), (3, 3, 3)]:
        color = torch.tensor([[r, g, b]]) / 3
        torch.testing.assert_close(ColorTable.lattice(values).apply(color)[0], values[r, g, b])


def test_grays_stay_gray_where_the_table_keeps_them_gray() -> None:
    values = torch.rand(5, 5, 5, 3, generator=torch.Generator().manual_seed(2))
    for i in range(5):
        values[i, i, i] = values[i, i, i, :1]
    made = ColorTable.lattice(values).apply(torch.linspace(0, 1, 41)[:, None].expand(41, 3))
    assert float((made - made[:, :1]).abs().max()) < 1e-6


def test_a_curve_is_read_for_each_channel_and_over_its_domain(tmp_path: Path) -> None:
    steps = torch.linspace(-1, 1, 101)
    curve = torch.stack([steps**2, steps.abs(), steps], dim=-1)
    path = tmp_path / "a.CUBE"
    rows = ["\ufeffDOMAIN_MIN -1 -1 -1", "# a remark", "DOMAIN_MAX 1 1 1", "LUT_1D_SIZE 101", ""]
    rows += ["{:.6f}\t{:.6f} {:.6f}".format(*row) for row in curve.tolist()]
    path.write_text("\r\n".join(rows), encoding="utf-8")
    table = read_cube(path)
    colors = torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.25, 2.0]])
    wanted = torch.tensor([[0.25, 0.5, 0.5], [0.0, 0.25, 1.0]])
    torch.testing.assert_close(table.apply(colors), wanted, atol=1e-5, rtol=0)


def test_resolves_input_range_is_the_domain(tmp_path: Path) -> None:
    path = tmp_path / "a.cube"
    path.write_text("LUT_1D_SIZE 2\nLUT_1D_INPUT_RANGE 0 2\n0 0 0\n1 1 1 # white\n", encoding="utf-8")
    torch.testing.assert_close(read_cube(path).apply(torch.full((1, 3), 0.5)), torch.full((1, 3), 0.25))


@pytest.mark.parametrize("size", [2, 7, 33, 65])
def test_an_identity_is_told_from_six_decimals(tmp_path: Path, size: int) -> None:
    assert read_cube(write_cube(tmp_path / "a.cube", ColorTable.identity(size))).is_identity
    assert read_cube(write_cube(tmp_path / "b.cube", ColorTable.identity(size, True))).is_identity
    assert not ColorTable.lattice(ColorTable.identity(size).values + 1e-3).is_identity


def test_a_table_of_size_128_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.cube"
    path.write_bytes(b"LUT_3D_SIZE 128\n" + b"0.250000 0.500000 1.000000\n" * 128**3)
    table = read_cube(path)
    assert table.size == 128
    torch.testing.assert_close(table.apply(random_colors(9)), torch.tensor([[0.25, 0.5, 1.0]]).expand(9, 3))


ROWS = "0 0 0\n" * 7 + "1 1 1\n"
BAD = {
    "another format": ("a.3dl", ROWS, "GRD-001"),
    "an unknown keyword": ("a.cube", "LUT_3D_SIZE 2\nLUT_IN_VIDEO_RANGE\n" + ROWS, "GRD-003"),
    "a keyword twice": ("a.cube", "LUT_3D_SIZE 2\nLUT_3D_SIZE 2\n" + ROWS, "GRD-003"),
    "no size": ("a.cube", ROWS, "GRD-004"),
    "two tables": ("a.cube", "LUT_1D_SIZE 2\nLUT_3D_SIZE 2\n" + ROWS, "GRD-004"),
    "a size of one": ("a.cube", "LUT_3D_SIZE 1\n" + ROWS, "GRD-005"),
    "a size of hundreds": ("a.cube", "LUT_3D_SIZE 256\n" + ROWS, "GRD-005"),
    "a curve of millions": ("a.cube", "LUT_1D_SIZE 99999999\n" + ROWS, "GRD-005"),
    "a size in words": ("a.cube", "LUT_3D_SIZE two\n" + ROWS, "GRD-005"),
    "a wide domain": ("a.cube", "LUT_3D_SIZE 2\nDOMAIN_MAX 1023 1023 1023\n" + ROWS, "GRD-006"),
    "a domain without extent": ("a.cube", "LUT_3D_SIZE 2\nDOMAIN_MIN 1 0 0\n" + ROWS, "GRD-006"),
    "a row of two": ("a.cube", "LUT_3D_SIZE 2\n" + ROWS + "0 0\n", "GRD-007"),
    "a word in a row": ("a.cube", "LUT_3D_SIZE 2\n" + ROWS.replace("1 1", "one 1"), "GRD-007"),
    "too few rows": ("a.cube", "LUT_3D_SIZE 3\n" + ROWS, "GRD-008"),
    "too many rows": ("a.cube", "LUT_3D_SIZE 2\n" + ROWS * 2, "GRD-008"),
    "rows of four": ("a.cube", "LUT_3D_SIZE 2\n" + ROWS.replace("\n", " 0\n"), "GRD-008"),
    "NaN": ("a.cube", "LUT_3D_SIZE 2\n" + ROWS.replace("1 1 1", "1 nan 1"), "GRD-012"),
    "infinity": ("a.cube", "LUT_3D_SIZE 2\n" + ROWS.replace("1 1 1", "1 1e999 1"), "GRD-012"),
    "code values": ("a.cube", "LUT_3D_SIZE 2\n" + ROWS.replace("1", "1023"), "GRD-012"),
    "only a header": ("a.cube", 'TITLE "x"\nLUT_3D_SIZE 2\n', "GRD-014"),
    "an empty file": ("a.cube", "", "GRD-014"),
    "a domain of two numbers": ("a.cube", "LUT_3D_SIZE 2\nDOMAIN_MIN 0 0\n" + ROWS, "GRD-015"),
    "a domain of NaN": ("a.cube", "LUT_3D_SIZE 2\nDOMAIN_MIN 0 0 nan\n" + ROWS, "GRD-015"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    name, text, code = BAD[case]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as found:
        read_cube(path)
    said = str(found.value)
    assert found.value.code == code, said
    assert name in said and said.isprintable() and len(said) <= 400


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.cube"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match="GRD-002"):
        read_cube(path)
