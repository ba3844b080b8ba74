"""Samples from WebDataset shards (tar files) or a folder, in an order that any process can go on with at any place.

Shards are read by position: their headers are listed once, so that each process knows the length of all. An epoch is a
permutation of the shards; every process reads an equal, contiguous part of it, wherever shards begin and end in it, and goes on
with the next epoch when it has read its own: none waits, and each sample is read once per epoch.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import InputError
from engine.files.paths import printable

from .decoding import SampleKind
from .processes import Processes
from .share import WHOLE, Share

log = logging.getLogger("gs4d")
T = TypeVar("T")
# samples whose order is mixed within a shard; reading stays nearly sequential
WINDOW = 256
# samples of which one must be usable
TRIED = 1000
# broken samples that are named
NAMED = 5
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_REMOTE = re.compile(r"^(?:[a-z][a-z0-9+.-]+:)", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """Where a sample is.

    Args:
        place: Shard and key, printable, for messages.
        files: Path, first byte and size of each of its files, by what follows the key in their names.
    """

    place: str
    files: dict[str, tuple[Path, int, int]]

    def read(self) -> dict[str, bytes]:
        """The bytes of its files. Raises ValueError where a file is cut short or gone."""
        found: dict[str, bytes] = {}
        for name, (path, first, size) in self.files.items():
            try:
                with open(path, "rb") as file:
                    # before memory is set aside for what is not there
                    if os.fstat(file.fileno()).st_size < first + size:
                        raise ValueError(f"{name} is cut short")
                    file.seek(first)
                    found[name] = file.read(size)
            except OSError as error:
                raise ValueError(f"{name} cannot be read ({error.strerror})") from error
            if len(found[name]) < size:
                raise ValueError(f"{name} is cut short")
        return found


def open_samples(source: str, kind: SampleKind[T], seed: int = 0) -> Samples[T]:
    """Open a source; the main process prints what is in it. InputError where processes find different numbers of samples."""
    processes = Processes()
    samples = Samples(source, kind, seed, processes)
    processes.check_same(len(samples), "The number of samples")
    if processes.is_main:
        found = {"samples": len(samples), "shards": len(samples.shards)}
        print(json.dumps(found | ({"empty": samples.empty} if samples.empty else {})), flush=True)
    return samples


class Samples(Generic[T]):
    """Samples of a source, each process its own part.

    Args:
        source: A folder with shards or loose files, one .tar file, or several as "name-{000..099}.tar".
        kind: Of the samples.
        seed: Of their order.
        processes: Those that share the samples; None: those of this training.

    Attributes:
        shards: Names of the shards that have samples, with their number; loose files are shards of one.
        empty: Names of the shards that have none.

    Raises:
        InputError: The source is missing or remote, or has no samples, fewer than there are processes, or none that can be
            used.
    """

    def __init__(
        self, source: str, kind: SampleKind[T], seed: int = 0, processes: Processes | None = None
    ) -> None:
        self.kind, self.seed = kind, seed
        processes = processes or Processes()
        self.count, self.index = processes.count, processes.index
        paths = _paths(source)
        listed = [(path.name, _entries(path)) for path in paths] if paths else _loose(Path(source))
        self.empty = [name for name, entries in listed if not entries]
        self._shards = [entries for _, entries in listed if entries]
        self.shards = {name: len(entries) for name, entries in listed if entries}
        self._sizes = dict(kind.sizes)
        self._epoch, self._at, self._skipped, self._missed = 0, 0, 0, 0
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self._entries = [entry for entries in self._shards for entry in entries]
        self._check(source)

    def __len__(self) -> int:
        return len(self._entries)

    def first(self, count: int) -> list[T]:
        """The first samples that can be used, the same in all processes."""
        found: list[T] = []
        for entry in self._entries:
            if len(found) == count:
                break
            try:
                found.append(self.kind.read(entry.read(), self._sizes))
            except ValueError:
                continue
        return found

    def draw(self, count: int, _: torch.Generator | None = None, share: Share = WHOLE) -> list[T]:
        """The next samples of this process; randomness and share are for what draws at random in its place."""
        return [self._next() for _ in range(count)]

    def place(self) -> Tensor:
        """Epoch, samples of it that this process has read, samples that it has skipped."""
        return torch.tensor([self._epoch, self._at, self._skipped])

    def go_to(self, places: Tensor) -> None:
        """Go on where processes were, [P, 3]; with another number of them, about where they were together."""
        rows: list[list[int]] = places.tolist()
        if len(rows) == self.count:
            self._epoch, self._at, self._skipped = rows[self.index]
            return
        lengths = [_piece(len(self), i, len(rows)) for i in range(len(rows))]
        read = sum(row[0] * len(piece) + row[1] for row, piece in zip(rows, lengths, strict=True))
        self._epoch, rest = divmod(read, len(self))
        self._at = rest // self.count
        self._skipped = sum(row[2] for row in rows) if self.index == 0 else 0

    def _next(self) -> T:
        while True:
            own = _piece(len(self), self.index, self.count)
            if self._at >= len(own):
                self._epoch, self._at = self._epoch + 1, 0
            entry = self._entries[self._chosen(own)]
            self._at += 1
            try:
                sample = self.kind.read(entry.read(), self._sizes)
            except ValueError as error:
                self._skipped += 1
                self._missed += 1
                if self._skipped <= NAMED:
                    log.warning("skipped %s: %s", entry.place, error)
                if self._missed > len(own):
                    raise InputError(
                        "NET-004",
                        f"None of the {len(own)} samples of process {self.index} can be used; the last one, {entry.place}, "
                        f"{error}. Write the shards again.",
                    ) from error
                continue
            self._missed = 0
            return sample

    def _chosen(self, own: range) -> int:
        """The sample at the current place."""
        order = self._permuted(self._epoch)[own.start : own.stop]
        block = self._at // WINDOW
        window = order[block * WINDOW : (block + 1) * WINDOW]
        mixed = np.random.default_rng([self.seed, self._epoch, own.start, block]).permutation(len(window))
        return int(window[mixed[self._at - block * WINDOW]])

    def _permuted(self, epoch: int) -> NDArray[np.int64]:
        """Indices of all samples, shard after shard, in the order of an epoch."""
        if self._order is None or self._order[0] != epoch:
            starts = np.cumsum([0, *(len(entries) for entries in self._shards)])
            shards = np.random.default_rng([self.seed, epoch]).permutation(len(self._shards))
            order = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in shards])
            self._order = epoch, order
        return self._order[1]

    def _check(self, source: str) -> None:
        if not self._entries:
            what = f"the shards {', '.join(self.empty[:3])} have none" if self.empty else "it has none"
            raise InputError(
                "NET-005",
                f"{source} has no samples: {what}. Samples are files KEY.NAME.npy, .png, .json or .safetensors, in a folder or "
                "in .tar files; training/shards.py writes some.",
            )
        if len(self._entries) < self.count:
            raise InputError(
                "NET-006",
                f"{source} has {len(self._entries)} samples for {self.count} processes; start at most as many processes.",
            )
        # sizes that the network leaves open are those of the first sample; it must be the same one in all processes
        reasons: list[str] = []
        for entry in self._entries[:TRIED]:
            try:
                self.kind.read(entry.read(), self._sizes)
                return
            except ValueError as error:
                reasons.append(f"{entry.place} {error}")
        raise InputError(
            "NET-007",
            f"{source} begins with no sample that can be used as {self.kind.name}: {'; '.join(reasons[:2])}. Write the shards "
            "again for this network and configuration.",
        )


def _piece(samples: int, index: int, count: int) -> range:
    """The places of a process in an epoch."""
    return range(index * samples // count, (index + 1) * samples // count)


def _paths(source: str) -> list[Path]:
    """The shards of a source, sorted; empty for a folder of loose files."""
    # "C:" of Windows is a drive
    if _REMOTE.match(source) and not re.match(r"^[a-z]:[\\/]", source, re.IGNORECASE):
        raise InputError(
            "NET-008",
            f"{source} is an address or a command; copy the shards to a disk and give their folder.",
        )
    found = _RANGE.search(source)
    if found:
        low, high = int(found[1]), int(found[2])
        names = [f"{n:0{len(found[1])}d}" for n in range(low, high + 1)]
        # a range that ends before it begins is a name that does not exist
        paths = [Path(source[: found.start()] + name + source[found.end() :]) for name in names] or [
            Path(source)
        ]
    elif Path(source).is_dir():
        paths = sorted(p for p in Path(source).iterdir() if p.suffix == ".tar" and not p.name.startswith("."))
    else:
        paths = [Path(source)]
    missing = [p.name for p in paths if not p.is_file()]
    if missing:
        raise InputError("NET-009", f"{missing[0]} does not exist; check the name of the data.")
    compressed = [p.name for p in paths if p.suffix != ".tar"]
    if compressed:
        raise InputError(
            "NET-010",
            f"{compressed[0]} is not a .tar file; unpack compressed shards, which cannot be read by position.",
        )
    return paths


def _entries(path: Path) -> list[Entry]:
    """The samples of a shard: files next to each other with the same key, which ends at the first dot."""
    found: list[Entry] = []
    last = ""
    for name, first, size in _members(path):
        folder, _, file = name.rpartition("/")
        stem, _, ending = file.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if not stem or not ending:
            continue
        if key != last or not found:
            found.append(Entry(printable(f"{path.name}: {key}"), {}))
        found[-1].files[ending], last = (path, first, size), key
    return found


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, first byte and size of the files in a tar file; damaged headers are passed over, as are files with holes, whose
    bytes are not next to each other."""
    last = -1
    try:
        with tarfile.open(path, "r:", ignore_zeros=True) as tar:
            for member in tar:
                if member.offset <= last:
                    raise tarfile.ReadError("a header has a negative size")
                last = member.offset
                if member.isreg() and member.sparse is None and member.size >= 0:
                    yield member.name, member.offset_data, member.size
                # members are not kept, or a long shard would fill the memory
                tar.members.clear()
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        log.warning("%s: the rest cannot be read (%s)", printable(path.name), error)


def _loose(folder: Path) -> list[tuple[str, list[Entry]]]:
    """The samples of a folder without shards, one by one."""
    found: dict[str, Entry] = {}
    for path in sorted(folder.iterdir()):
        stem, _, ending = path.name.partition(".")
        if stem and ending and path.is_file():
            found.setdefault(stem, Entry(printable(stem), {})).files[ending] = (path, 0, path.stat().st_size)
    return [(key, [entry]) for key, entry in found.items()]
