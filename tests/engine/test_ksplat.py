"""`.ksplat` files that are damaged or lie are refused with one sentence (their values: test_splat_judges)."""

import struct
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.io.splats import read_splat
from tests.splat_bytes import ksplat_bytes, varied

WHOLE = ksplat_bytes(varied(60, 1), 1, (20, 40))


def with_number(place: int, value: int, kind: str = "<I") -> bytes:
    packed = struct.pack(kind, value)
    return WHOLE[:place] + packed + WHOLE[place + len(packed) :]


@pytest.mark.parametrize(
    "data, code",
    [
        (b"", "IO-122"),
        (WHOLE[:4000], "IO-122"),
        (WHOLE[:5000], "IO-122"),
        (WHOLE[:-1], "IO-122"),
        # version, compression
        (with_number(0, 1, "<B"), "IO-121"),
        (with_number(20, 3, "<H"), "IO-121"),
        # sections, Gaussians
        (with_number(4, 2**31), "IO-122"),
        (with_number(8, 3), "IO-122"),
        (with_number(16, 2**31), "IO-122"),
        # of the first section: Gaussians, most of them, buckets, bytes of a center, other buckets, degree
        (with_number(4096, 2**31), "IO-122"),
        (with_number(4096 + 4, 2**31), "IO-122"),
        (with_number(4096 + 4, 10), "IO-122"),
        (with_number(4096 + 12, 2**31), "IO-122"),
        (with_number(4096 + 20, 0, "<H"), "IO-122"),
        (with_number(4096 + 36, 2**31), "IO-122"),
        (with_number(4096 + 40, 60000, "<H"), "IO-122"),
    ],
)
def test_a_ksplat_that_lies_is_one_sentence(data: bytes, code: str, tmp_path: Path) -> None:
    (tmp_path / "a.ksplat").write_bytes(data)
    with pytest.raises(InputError, match=code):
        read_splat(tmp_path / "a.ksplat")


def test_buckets_that_hold_too_few_are_one_sentence(tmp_path: Path) -> None:
    # the sizes of the last buckets stand first in a section
    first = 4096 + 2 * 1024
    (tmp_path / "a.ksplat").write_bytes(with_number(first, 1))
    with pytest.raises(InputError, match=r"buckets for 15 of 20 .*IO-122"):
        read_splat(tmp_path / "a.ksplat")
