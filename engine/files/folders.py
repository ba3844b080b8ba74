"""Folders that people fill: which are below, what files they hold, whether anything changed. Links that go round in
circles, unreadable folders and names that are not UTF-8 are passed over, never raised."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

# of a number in a name that are looked at
MOST_DIGITS = 4000
# listed by `subfolders`
MOST_FOLDERS = 2000
# folders that `walk` looks into
MOST_WALKED, DEEPEST_WALKED = 20_000, 16


def is_within(path: Path, root: Path) -> bool:
    """Whether `path`, with links followed, lies in `root`."""
    # realpath, since resolve raises where links go round in circles
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def visible(folder: Path, pattern: str = "*") -> list[Path]:
    """What `folder` holds, by name, without hidden entries; empty if it is not a folder.

    Disks that macOS wrote to hold a `._NAME` beside every NAME, with the same suffix.
    """
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def natural_key(name: str) -> list[str | int]:
    """Sorts cam2 before cam10, and seconds since 1970 by their decimals."""
    parts = re.split(r"(\d+)", name)
    for i in range(3, len(parts), 2):
        if parts[i - 1] == "." and len(parts[i - 2]) == 10:
            parts[i] = parts[i].ljust(20, "0")
    # int refuses texts of thousands of digits, which a name inside a file may have
    return [int(part[-MOST_DIGITS:]) if i % 2 else part.lower() for i, part in enumerate(parts)]


def subfolders(root: Path, depth: int) -> list[Path]:
    """Folders up to `depth` levels below `root`, without hidden ones and links that lead out of it."""
    found: list[Path] = []
    level = [root]
    for _ in range(depth):
        below: list[Path] = []
        for folder in level:
            try:
                entries = sorted(e.path for e in os.scandir(folder) if not e.name.startswith("."))
            except OSError:
                continue
            # isdir, since an entry raises for links that go round in circles
            entries = filter(os.path.isdir, entries)
            below += [Path(entry) for entry in entries if is_within(Path(entry), root)]
            if len(found) + len(below) > MOST_FOLDERS:
                return found
        found += below
        level = below
    return sorted(found)


def walk(root: Path) -> Iterator[Path]:
    """Every file below `root`, without hidden files and folders; at most MOST_WALKED folders, DEEPEST_WALKED levels deep."""
    for number, (top, folders, names) in enumerate(os.walk(root)):
        if number >= MOST_WALKED:
            return
        folder = Path(top)
        is_deepest = len(folder.relative_to(root).parts) >= DEEPEST_WALKED
        folders[:] = [] if is_deepest else [f for f in folders if not f.startswith(".")]
        yield from (folder / name for name in names if not name.startswith("."))


def marked_folders(root: Path, marks: set[str], depth: int) -> Iterator[str]:
    """Names, relative to `root`, of the folders up to `depth` levels below it that hold one of `marks`: a file's name, or
    a folder's with a slash at its end. Links are followed; hidden folders, and those inside of one found, are left out.
    """
    for top, folders, names in os.walk(root, followlinks=True):
        inside = Path(top).relative_to(root)
        is_marked = not marks.isdisjoint([*names, *(f"{folder}/" for folder in folders)])
        if is_marked and inside.parts:
            yield inside.as_posix()
        is_last = is_marked or len(inside.parts) >= depth
        folders[:] = [] if is_last else [f for f in folders if not f.startswith(".")]


def changed(path: Path) -> int:
    """When a file was written last, in nanoseconds; 0 where it has disappeared."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def fingerprint(path: Path) -> str:
    """Changes when a file at or below `path` is added, removed, resized or rewritten; hidden files do not count."""
    digest = hashlib.sha256()
    files: Iterable[Path] = [path]
    if path.is_dir():
        below = (Path(top) / name for top, _, names in sorted(os.walk(path)) for name in sorted(names))
        files = (f for f in below if not any(part.startswith(".") for part in f.relative_to(path).parts))
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            continue
        # a name need not be UTF-8
        digest.update(os.fsencode(file) + f"|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
