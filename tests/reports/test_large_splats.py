"""Splat and point files that claim much in few bytes: refused, or read at the cost of what they hold."""

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from engine.files.ply_header import read_vertices
from engine.io.spz import decode_spz
from tests.memory import bounded, needs_linux

pytestmark = needs_linux


def packed_spz(count: int, claimed: int | None = None, degree: int = 3) -> bytes:
    """Gaussians that are all the same."""
    header = struct.pack("<IIIBBBB", 0x5053474E, 3, claimed or count, degree, 12, 0, 0)
    return gzip.compress(header + bytes(count * (20 + 3 * ((degree + 1) ** 2 - 1))), 9)


def test_spz_costs_its_gaussians_and_its_bytes() -> None:
    # 236 bytes of float32 for each Gaussian, and 65 unpacked
    data = packed_spz(500_000)
    bounded(lambda: decode_spz(data, "a.spz"), "value", 320 * 0.5 + 30)


@pytest.mark.parametrize("count, claimed", [(9, 5_000_000), (9, 50_000_000), (5_000_000, 5_000_000)])
def test_spz_that_claims_what_no_splat_packs_to_is_refused(count: int, claimed: int) -> None:
    data = packed_spz(count, claimed)
    assert len(data) < 400_000
    bounded(lambda: decode_spz(data, "a.spz"), "IO-089", 30)


def test_spz_larger_than_the_free_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.backends.free_memory", lambda: 25e6)
    assert len(decode_spz(packed_spz(80_000), "a.spz")) == 80_000
    with pytest.raises(InputError, match="IO-090"):
        decode_spz(packed_spz(100_000), "a.spz")


def text_ply(path: Path, names: Sequence[str], type_: str, rows: int, word: str = "0") -> Path:
    header = "".join(f"property {type_} {name}\n" for name in names)
    line = " ".join([word] * len(names)) + "\n"
    path.write_text(f"ply\nformat ascii 1.0\nelement vertex {rows}\n{header}end_header\n" + line * rows)
    return path


@pytest.mark.parametrize(
    "count, type_, rows, word",
    [(3, "float", 2_000_000, "0"), (2500, "double", 4000, "0"), (2500, "char", 4000, "0"), (62, "float", 100_000, "0.12345")],
)  # fmt: skip
def test_text_ply_costs_what_its_numbers_do(
    count: int, type_: str, rows: int, word: str, tmp_path: Path
) -> None:
    path = text_ply(tmp_path / "a.ply", [f"p{i}" for i in range(count)], type_, rows, word)
    size = {"float": 4, "double": 8, "char": 1}[type_] * count * rows
    bounded(lambda: read_vertices(path, "a.ply"), "value", size / 2**20 + 120)


@pytest.mark.parametrize(
    "text, code",
    [("1 2\n3 4\n", ""), ("1 2 9\n3 4 9", ""), ("nan -inf\r\n 1e999\t1_0\n", ""), ("1 2\n", "FIL-048"), ("1 2\n3\n", "FIL-048"),
     ("1\n2 3 4\n", "FIL-049"), ("1 2 3\n4 x\n", "FIL-049"), ("\n1 2 3 4\n", "FIL-049"), ("1 2\n0x1 2\n", "FIL-049")],
)  # fmt: skip
@pytest.mark.parametrize("part", [1, 1 << 22])
def test_lines_of_text_ply_are_taken_for_themselves(
    text: str, code: str, part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.files.ply_header.TEXT", part)
    path = tmp_path / "a.ply"
    header = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty double y\nend_header\n"
    path.write_bytes((header + text).encode())
    if code:
        with pytest.raises(InputError, match=code):
            read_vertices(path, "a.ply")
        return
    words = [line.split()[:2] for line in text.splitlines()]
    expected = np.array([[float(word) for word in line] for line in words])
    rows = read_vertices(path, "a.ply")
    assert np.array_equal(np.stack([rows["x"], rows["y"]], axis=1), expected, equal_nan=True)
