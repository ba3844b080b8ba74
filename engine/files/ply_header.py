"""PLY (Turk 1994): one parser of the header, and the vertices as a table.

An untrusted file never makes more memory be allocated than it has bytes: the claims of its header are compared with
its size first.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .paths import open_regular, printable

TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "float64": "f8",
}  # fmt: skip
BYTE_ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
MAX_HEADER_BYTES = 1 << 16
# bytes of text that are taken apart at a time
TEXT = 1 << 22


@dataclass(frozen=True)
class PlyProperty:
    """One property line, types as the file spells them."""

    name: str
    type: str
    length_type: str = ""  # of a list's length; empty for a single number

    def __str__(self) -> str:
        types = f"list {self.length_type} {self.type}" if self.length_type else self.type
        return f"property {types} {self.name}"


@dataclass(frozen=True)
class PlyElement:
    """One element: `count` entries of `properties`."""

    name: str
    count: int
    properties: tuple[PlyProperty, ...] = ()


@dataclass(frozen=True)
class PlyHeader:
    """What stands before the data."""

    format: str  # a key of BYTE_ORDERS
    elements: tuple[PlyElement, ...]
    size: int  # bytes, the last line's end included: the data starts here
    comments: tuple[tuple[str, ...], ...] = ()  # the words of each

    @property
    def vertices(self) -> PlyElement:
        """The vertex element, of a header that was `checked`."""
        return self.elements[0]

    def checked(self, name: str) -> PlyHeader:
        """This header. Raises InputError where another element than the vertices comes first."""
        if self.vertices.name != "vertex":
            raise InputError(
                "FIL-042",
                f"{name}: the element '{printable(self.vertices.name)[:80]}' comes before the vertices. Export "
                "it with the vertices first.",
            )
        return self


def read_header(path: Path, name: str, starts_with_vertices: bool = True) -> PlyHeader:
    """The header of a file that starts with its vertices, or with any element; `name` is for messages. Raises InputError."""
    with _opened(path, name) as file:
        lines = _header_lines(file, name)
        comments = tuple(tuple(words[1:]) for words in lines if words[:1] == ["comment"])
        header = PlyHeader(*_elements(lines, name), file.tell(), comments)
    return header.checked(name) if starts_with_vertices else header


def read_vertices(path: Path, name: str, header: PlyHeader | None = None) -> NDArray[Any]:
    """The vertex element of a .ply as a structured array [P] in the file's own types.

    Args:
        path: The file.
        name: The file's name for messages.
        header: What `read_header` gave for this file, where the caller looked at it first.

    Raises:
        InputError: Missing, something else, damaged, cut short, or a vertex with a list.
    """
    header = (header or read_header(path, name)).checked(name)
    count, row = header.vertices.count, _row(header, name)
    with _opened(path, name) as file:
        rest = os.fstat(file.fileno()).st_size - header.size
        file.seek(header.size)
        if header.format == "ascii":
            return _ascii_rows(file, count, row, rest, name)
        # a claim that the file cannot hold is not read at all
        data = file.read(count * row.itemsize) if count * row.itemsize <= rest else b""
    if len(data) < count * row.itemsize:
        raise InputError(
            "FIL-037",
            f"{name} claims {count} vertices but contains {rest // row.itemsize}; it is cut short. Copy "
            "or export it again.",
        )
    return np.frombuffer(data, dtype=row, count=count) if count else np.zeros(0, dtype=row)


def read_elements(path: Path, name: str) -> dict[str, NDArray[Any]]:
    """All elements of a binary .ply, by name, as structured arrays in the file's own types.

    Args:
        path: The file.
        name: The file's name for messages.

    Raises:
        InputError: As `read_vertices`, or the file is text.
    """
    with _opened(path, name) as file:
        form, elements = _elements(_header_lines(file, name), name)
        if form == "ascii":
            raise InputError(
                "FIL-120", f"{name} is a .ply in text, where binary data is needed; export it again."
            )
        found: dict[str, NDArray[Any]] = {}
        rest = os.fstat(file.fileno()).st_size - file.tell()
        for element in elements:
            row = _row(PlyHeader(form, (element,), 0), name)
            size = element.count * row.itemsize
            # a claim that the file cannot hold is not read at all
            data = file.read(size) if size <= rest else b""
            if len(data) < size:
                raise InputError(
                    "FIL-121",
                    f"{name} claims {element.count} entries of '{printable(element.name)[:80]}' but is cut short. Copy or "
                    "export it again.",
                )
            rest -= size
            found[element.name] = np.frombuffer(data, dtype=row, count=element.count)
    return found


def header_bytes(count: int, properties: list[tuple[str, str]], comments: Sequence[str] = ()) -> bytes:
    """The header of `count` vertices in little-endian binary; `properties` are (type, name), as PLY spells them."""
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {each}" for each in comments)]
    lines += [f"element vertex {count}"]
    lines += [f"property {type} {name}" for type, name in properties]
    return "\n".join([*lines, "end_header", ""]).encode("ascii")


def _opened(path: Path, name: str) -> BinaryIO:
    if not path.is_file():
        raise InputError("FIL-038", f"The file {name} does not exist. Check the path.")
    try:
        return open_regular(path)
    except OSError as error:
        raise InputError(
            "FIL-039", f"{name} cannot be opened ({error.strerror}). Check its permissions."
        ) from error


def _header_lines(file: BinaryIO, name: str) -> list[list[str]]:
    """The words of each line before `end_header`."""
    lines: list[list[str]] = []
    while file.tell() < MAX_HEADER_BYTES and (line := file.readline(MAX_HEADER_BYTES)).endswith(b"\n"):
        words = line.decode("ascii", "replace").split()
        if not lines and words != ["ply"]:
            break
        if words == ["end_header"]:
            return lines
        lines.append(words)
    raise InputError("FIL-040", f"{name} is not a .ply file, or its header is cut short. Export it again.")


def _elements(lines: list[list[str]], name: str) -> tuple[str, tuple[PlyElement, ...]]:
    """Format and elements, at least one."""
    form = ""
    elements: list[PlyElement] = []
    for words in lines:
        if words[:1] == ["format"] and len(words) > 1:
            form = words[1]
        elif words[:1] == ["element"]:
            elements.append(_element(words, name))
        elif words[:1] == ["property"] and elements:
            last = elements[-1]
            elements[-1] = replace(last, properties=(*last.properties, _property(words, name)))
    if not elements:
        raise InputError("FIL-041", f"{name}: the header lists no vertices. Export it again.")
    if form not in BYTE_ORDERS:
        raise InputError(
            "FIL-043",
            f"{name}: the format '{printable(form)[:80]}' is not supported. Use {', '.join(BYTE_ORDERS)}.",
        )
    return form, tuple(elements)


def _element(words: list[str], name: str) -> PlyElement:
    if len(words) != 3 or not re.fullmatch(r"[0-9]{1,12}", words[2]):
        raise InputError(
            "FIL-044",
            f"{name}: the element line '{printable(' '.join(words))[:80]}' cannot be read. Export it again.",
        )
    return PlyElement(words[1], int(words[2]))


def _property(words: list[str], name: str) -> PlyProperty:
    if len(words) == 3:
        return PlyProperty(words[2], words[1])
    if len(words) == 5 and words[1] == "list":
        return PlyProperty(words[4], words[3], words[2])
    raise InputError(
        "FIL-045",
        f"{name}: the property line '{printable(' '.join(words))[:80]}' cannot be read. Export it again.",
    )


def _row(header: PlyHeader, name: str) -> np.dtype[Any]:
    """The type of one vertex. InputError where a property is a list, of an unknown type or there twice."""
    fields: dict[str, str] = {}
    for each in header.vertices.properties:
        if each.length_type or each.type not in TYPES or each.name in fields:
            raise InputError(
                "FIL-046",
                f"{name}: the property line '{printable(str(each))[:80]}' cannot be read. Export it again.",
            )
        fields[each.name] = BYTE_ORDERS[header.format] + TYPES[each.type]
    if not fields:
        raise InputError("FIL-047", f"{name}: the header lists no vertices. Export it again.")
    return np.dtype(list(fields.items()))


def _ascii_rows(file: BinaryIO, count: int, row: np.dtype[Any], rest: int, name: str) -> NDArray[Any]:
    columns = len(row.names or ())
    cut_short = InputError(
        "FIL-048",
        f"{name} claims {count} vertices but contains fewer; it is cut short. Copy or export it again.",
    )
    # Every number takes a digit and a separator, but for the last one: a larger claim is not read at all.
    if count * columns * 2 - 1 > rest:
        raise cut_short
    result, start = np.zeros(count, dtype=row), 0
    # some at a time, since words are many times larger than the numbers that are made of them
    while start < count:
        lines = file.readlines(TEXT)[: count - start]
        if not lines or (start + len(lines) == count and len(lines[-1].split(None, columns)) < columns):
            raise cut_short
        table = _table(lines, columns)
        if table is None:
            raise InputError("FIL-049", f"{name}: a vertex line is not a list of numbers. Export it again.")
        _fill(result[start : start + len(lines)], table, start, name)
        start += len(lines)
    return result


def _table(lines: list[bytes], columns: int) -> NDArray[np.float64] | None:
    """The first numbers of each line, [P, columns]; None where there are fewer, or others than numbers."""
    text = b"".join(lines)
    codes = np.frombuffer(text, np.uint8)
    blank = (codes == 32) | ((codes >= 9) & (codes <= 13))
    starts = np.flatnonzero(~blank & np.concatenate([[True], blank[:-1]]))
    ends = np.cumsum([len(line) for line in lines])
    if bool((np.diff(np.searchsorted(starts, ends), prepend=0) == columns).all()):
        try:
            with warnings.catch_warnings():
                # what NumPy says of a word that is not a number
                warnings.simplefilter("error")
                table = np.fromstring(text, np.float64, sep=" ")
            if len(table) == len(starts):
                return table.reshape(-1, columns)
        except (ValueError, DeprecationWarning):
            pass
    # slower, and settles it
    try:
        table = np.array([line.split(None, columns)[:columns] for line in lines], dtype=np.float64)
        return table.reshape(len(lines), columns)
    except ValueError:
        return None


def _fill(rows: NDArray[Any], table: NDArray[np.float64], first: int, name: str) -> None:
    """Write numbers [P, properties] into `rows`, of which the first is vertex `first` of the file."""
    for i, column in enumerate(rows.dtype.names or ()):
        values, type_ = table[:, i], rows.dtype[column]
        if type_.kind in "iu":
            limits = np.iinfo(type_)
            # NumPy would wrap what does not fit: −1 in a byte becomes 255; NaN fits nowhere
            wrong = ~((values >= limits.min) & (values <= limits.max))
            if wrong.any():
                raise InputError(
                    "FIL-129",
                    f"{name}: vertex {first + int(wrong.argmax())} has {printable(column)[:80]} {values[wrong][0]:g}, but its "
                    f"type holds {limits.min} to {limits.max}. Export it again.",
                )
        # a number that float32 cannot hold becomes infinite, which the caller names
        with np.errstate(over="ignore"):
            rows[column] = values
