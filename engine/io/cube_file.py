"""Color look-up tables as `.cube` files (Adobe, Cube LUT Specification 1.0, 2013; DaVinci Resolve's input ranges too)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from ..color import ColorTable
from ..errors import InputError
from ..files.paths import open_regular
from ..wording import printable

SUFFIX = ".cube"
# entries along a side; the specification allows 256, which no program writes
LARGEST_LATTICE, LONGEST_CURVE = 129, 65_536
MOST_BYTES = 128 * 2**20
MOST_HEADER_LINES, LONGEST_LINE = 10_000, 4_000
# colors are 0..1, some tables reach beyond; hundreds are code values of another format
FARTHEST = 16.0
SIZES = {"LUT_1D_SIZE": LONGEST_CURVE, "LUT_3D_SIZE": LARGEST_LATTICE}
RANGES = ("DOMAIN_MIN", "DOMAIN_MAX", "LUT_1D_INPUT_RANGE", "LUT_3D_INPUT_RANGE")
AGAIN = "export it again as a .cube with 3D size 33"


def read_cube(path: Path | str) -> ColorTable:
    """Read a color look-up table.

    Args:
        path: A `.cube` file with one table: a curve for each channel (LUT_1D_SIZE), or a lattice (LUT_3D_SIZE).

    Returns:
        The table, indexed by red, green and blue.

    Raises:
        InputError: The file cannot be opened, is not a `.cube`, or not a whole one; or its values cannot be displayed colors.

    Source:
        Adobe, Cube LUT Specification 1.0 (2013).
    """
    path = Path(path)
    name = printable(path.name)
    if path.suffix.lower() != SUFFIX:
        raise InputError(
            "GRD-001",
            f"'{name}' is not a .cube file; export the look-up table as .cube from your grading program.",
        )
    try:
        return _read(path, name)
    except OSError as error:
        raise InputError(
            "GRD-017",
            f"{name} cannot be read: {error.strerror or error}. Check that it exists and that its disk works.",
        ) from error


def _read(path: Path, name: str) -> ColorTable:
    with open_regular(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if size > MOST_BYTES:
            raise InputError(
                "GRD-002",
                f"{name} has {size / 2**20:.0f} MB, and tables up to {MOST_BYTES >> 20} MB are read; {AGAIN}.",
            )
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace")
        header, first = _header(text, name)
        kind, side = _size(header, name)
        domain = _domain(header, kind, name)
        rows = side if kind == "LUT_1D_SIZE" else side**3
        values = _rows(chain([first], text), rows, name)
    table = torch.from_numpy(values)
    # red runs fastest in the file
    table = (
        table if kind == "LUT_1D_SIZE" else table.view(side, side, side, 3).permute(2, 1, 0, 3).contiguous()
    )
    title = re.sub(r'^"|"$', "", header.get("TITLE", "").strip())
    return ColorTable(table, domain, printable(title)[:80])


def _header(text: io.TextIOWrapper, name: str) -> tuple[dict[str, str], str]:
    """What stands behind each keyword, and the first line of numbers."""
    found: dict[str, str] = {}
    for _ in range(MOST_HEADER_LINES):
        line = text.readline(LONGEST_LINE)
        if not line:
            break
        word, _, rest = line.strip().replace("\t", " ").partition(" ")
        if not word or word.startswith("#"):
            continue
        if re.match(r"[-+.]?\d", word) or word.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            return found, line
        if word not in ("TITLE", *SIZES, *RANGES) or word in found:
            raise InputError(
                "GRD-003",
                f"{name}: '{printable(word)[:40]}' {'stands there twice' if word in found else 'is not known in .cube files'}; "
                f"{AGAIN}.",
            )
        found[word] = rest if word == "TITLE" else rest.partition("#")[0]
    raise InputError("GRD-014", f"{name} does not contain the rows of a table; {AGAIN}.")


def _size(header: dict[str, str], name: str) -> tuple[str, int]:
    """LUT_1D_SIZE or LUT_3D_SIZE, and its number."""
    given = [word for word in SIZES if word in header]
    if len(given) != 1:
        raise InputError(
            "GRD-004",
            f"{name} {'has two tables, a curve and a lattice' if given else 'does not say LUT_1D_SIZE or LUT_3D_SIZE'}; {AGAIN}.",
        )
    kind = given[0]
    words, most = header[kind].split(), SIZES[kind]
    if len(words) != 1 or not re.fullmatch(r"[0-9]{1,9}", words[0]) or not 2 <= int(words[0]) <= most:
        raise InputError(
            "GRD-005",
            f"{name}: {kind} is '{printable(header[kind].strip())[:40]}', not from 2 to {most}; {AGAIN}.",
        )
    return kind, int(words[0])


def _domain(header: dict[str, str], kind: str, name: str) -> torch.Tensor:
    """[2, 3] the inputs of the first and last entry."""
    corners = [
        _numbers(header, "DOMAIN_MIN", [0.0] * 3, name),
        _numbers(header, "DOMAIN_MAX", [1.0] * 3, name),
    ]
    reach = kind.replace("SIZE", "INPUT_RANGE")
    if reach in header:
        corners = [[end] * 3 for end in _numbers(header, reach, [0.0, 1.0], name)]
    widths = [high - low for low, high in zip(*corners, strict=True)]
    if min(widths) < 1e-3 or max(abs(end) for corner in corners for end in corner) > FARTHEST:
        shown = " to ".join(" ".join(f"{end:g}" for end in corner) for corner in corners)
        raise InputError(
            "GRD-006",
            f"{name}: its inputs run from {shown}, and displayed colors from 0 to 1; {AGAIN} and the domain 0 to 1.",
        )
    return torch.tensor(corners)


def _numbers(header: dict[str, str], word: str, default: list[float], name: str) -> list[float]:
    """The numbers behind a keyword."""
    if word not in header:
        return default
    parts = header[word].split()
    try:
        found = [float(part) for part in parts]
    except ValueError:
        found = []
    if len(found) != len(default) or not np.isfinite(found).all():
        raise InputError(
            "GRD-015",
            f"{name}: {word} is '{printable(header[word].strip())[:60]}', not {len(default)} numbers; {AGAIN}.",
        )
    return found


def _rows(lines: Iterator[str], count: int, name: str) -> np.ndarray:
    """[count, 3] float32, checked."""
    filled = (line for line in lines if (stripped := line.strip()) and not stripped.startswith("#"))
    try:
        # one row more than expected, to find what is left over
        values = np.loadtxt(filled, dtype=np.float32, comments="#", max_rows=count + 1, ndmin=2)
    except ValueError as error:
        raise InputError(
            "GRD-007", f"{name}: a row is not three numbers ({printable(str(error))[:90]}); {AGAIN}."
        ) from error
    if values.shape != (count, 3):
        more = " or more" if len(values) > count else ""
        columns = "" if values.shape[1:] == (3,) else f" of {values.shape[1]} numbers"
        raise InputError(
            "GRD-008",
            f"{name} has {len(values)}{more} rows{columns}, and its size says {count} of 3; it was cut off or changed, {AGAIN}.",
        )
    # NaN compares as false
    if not bool((np.abs(values) <= FARTHEST).all()):
        worst = values[~(np.abs(values) <= FARTHEST)][0]
        raise InputError(
            "GRD-012", f"{name} contains the value {worst:g}, and displayed colors are from 0 to 1; {AGAIN}."
        )
    return values
