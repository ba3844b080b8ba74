"""Samples over time that do not grow with it: beyond some megabytes, they lie in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import IO

import torch
from torch import Tensor

from ..errors import InputError

# bytes of all series together that stay in memory
IN_MEMORY = 64 << 20


class Scratch:
    """Where series keep their values: in memory, then in a file that nobody else sees and that vanishes with it."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)
        self._end = 0

    def close(self) -> None:
        """Give back memory and disk space; nothing can be read any more."""
        self._file.close()

    def write(self, values: Tensor) -> int:
        """Append float32 values; returns their place.

        Raises:
            InputError: The temporary file cannot be written, for lack of disk space for example.
        """
        place = self._end
        try:
            self._file.seek(place)
            # rows are a few megabytes at most
            self._file.write(values.contiguous().numpy().tobytes())
        except OSError as error:
            raise InputError(
                "PLB-028",
                f"The samples of this long scene cannot be written to the folder for temporary files, {tempfile.gettempdir()}: "
                f"{error.strerror or error}. Free some space there, or set TMPDIR to a folder of a larger disk.",
            ) from error
        self._end += values.numel() * 4
        return place

    def read(self, place: int, count: int) -> Tensor:
        """`count` float32 values [count] at a place."""
        self._file.seek(place)
        data = bytearray(self._file.read(4 * count))
        return torch.frombuffer(data, dtype=torch.float32) if data else torch.empty(0)


class Series:
    """Values [S, n, c] float32 at S times, appended row by row.

    A row that equals the first one, as the rows of what never changes do, takes no further space.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._places: list[int] = []
        # equal to each other where rows are
        self._first = torch.empty(0)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def shape(self) -> tuple[int, int, int]:
        """S, n, c."""
        count, channels = self._first.shape
        return len(self), count, channels

    def append(self, row: Tensor) -> None:
        """Add the values [n, c] at the next time."""
        if not self._places:
            self._first = row
        if self._places and torch.equal(row, self._first):
            self._places.append(self._places[0])
            return
        self._places.append(self._scratch.write(row))

    def row(self, index: int) -> Tensor:
        """Values [n, c] at one time."""
        if self.is_first(index):
            return self._first
        return self._scratch.read(self._places[index], self._first.numel()).view(self._first.shape)

    def is_first(self, index: int) -> bool:
        """Whether the values at a time are those at the first one."""
        return self._places[index] == self._places[0]

    def at(self, rows: Sequence[int]) -> Series:
        """The same values at some times [R]; they are not copied."""
        result = Series(self._scratch)
        result._first = self._first if not rows else self.row(rows[0])
        result._places = [self._places[i] for i in rows]
        return result

    def part(self, which: slice | Tensor) -> Tensor:
        """Values [S, m, c] of some of the n: a slice of them without step, or indices [m]."""
        count, channels = self._first.shape
        if isinstance(which, Tensor):
            return torch.stack([self.row(i)[which] for i in range(len(self))])
        start, stop, _ = which.indices(count)
        result = torch.empty(len(self), stop - start, channels)
        for i, place in enumerate(self._places):
            if self.is_first(i):
                result[i] = self._first[start:stop]
            else:
                numbers = self._scratch.read(place + 4 * channels * start, channels * (stop - start))
                result[i] = numbers.view(-1, channels)
        return result
