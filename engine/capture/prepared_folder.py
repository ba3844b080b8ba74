"""The folder of prepared frames: a limited size, the least recently used files go first, never one that is in use."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.atomic import ABANDONED, is_running, machine_name

SUFFIX = ".frames"
# bytes of the disk that are left to others
RESERVE = 2 << 30
# a text file that names the files which one reader uses
_MARK = re.compile(r"\.in-use\.([0-9a-f]{6})-(\d{1,10})-[0-9a-f]{8}")
# names of the marks that this process made
_marks: set[str] = set()


def default_folder() -> Path:
    """Where the command line prepares frames: a folder of this user alone in the system's folder for large temporary files."""
    # /tmp often lies in memory; TMPDIR is what somebody chose
    chosen = "TMPDIR" in os.environ or not os.path.isdir("/var/tmp")
    parent = Path(tempfile.gettempdir() if chosen else "/var/tmp")
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    names = (f"gs4d-frames-{user}{'' if i == 0 else f'-{i}'}" for i in itertools.count())
    return next(parent / name for name in names if _is_own(parent / name))


def _is_own(folder: Path) -> bool:
    """Whether nobody else can have put files into a folder, which need not exist."""
    if not hasattr(os, "getuid"):
        return True
    try:
        facts = os.lstat(folder)
    except OSError:
        return True
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o022


@dataclass(frozen=True)
class PreparedFolder:
    """Files of prepared frames by key, at most `limit` bytes of them."""

    path: Path
    limit: int

    def file(self, key: str) -> Path:
        """Where the frames of a key lie, if they are prepared."""
        return self.path / f"{key}{SUFFIX}"

    def mark(self, owner: Any) -> Path:
        """A file that names what `owner` uses; it goes with its owner."""
        mark = self.path / f".in-use.{machine_name()}-{os.getpid()}-{secrets.token_hex(4)}"
        _marks.add(mark.name)
        weakref.finalize(owner, _remove, mark)
        return mark

    def hold(self, mark: Path, keys: Iterable[str]) -> None:
        """Name files as in use, and as used just now. Nobody can remove them from a folder that cannot be written."""
        names = [f"{key}{SUFFIX}" for key in keys]
        for name in names:
            with suppress(OSError):
                os.utime(self.path / name)
        with suppress(OSError), open(mark, "a", encoding="ascii") as file:
            file.writelines(f"{name}\n" for name in names)

    def make_room(self, needed: int, keep: Iterable[str]) -> str:
        """Remove what was used least recently until `needed` bytes fit.

        Args:
            needed: Bytes of what is about to be written.
            keep: Keys that stay, beside those that others use.

        Returns:
            Why that is not possible, as a part of a sentence, else nothing. Then nothing was removed.
        """
        # what is filmed is nobody else's business; writing says what is wrong with the folder
        with suppress(OSError):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = sorted(self._files())
        stays = self._held() | {f"{key}{SUFFIX}" for key in keep}
        total = sum(size for _, size, _ in files)
        removable = [(size, name) for _, size, name in files if name not in stays]
        spare = sum(size for size, _ in removable)
        free = self._free()
        if total - spare + needed > self.limit:
            used = f", of which {(total - spare) / 1e9:.1f} GB are in use" if total > spare else ""
            return f"they need {needed / 1e9:.1f} GB, and the limit of prepared frames is {self.limit / 1e9:.1f} GB{used}"
        if needed + RESERVE > free + spare:
            return f"they need {needed / 1e9:.1f} GB, and the disk has {max(free + spare - RESERVE, 0) / 1e9:.1f} GB to spare"
        for size, name in removable:
            if total + needed <= self.limit and needed + RESERVE <= free:
                break
            _remove(self.path / name)
            total, free = total - size, free + size
        return ""

    def _files(self) -> list[tuple[int, int, str]]:
        """(last use, size, name) of every file."""
        found: list[tuple[int, int, str]] = []
        with suppress(OSError):
            for entry in os.scandir(self.path):
                if entry.name.endswith(SUFFIX):
                    with suppress(OSError):
                        facts = entry.stat(follow_symlinks=False)
                        found.append((facts.st_mtime_ns, facts.st_size, entry.name))
        return found

    def _held(self) -> set[str]:
        """Names of the files in use, by any process; marks of processes that ended are removed."""
        held: set[str] = set()
        with suppress(OSError):
            for entry in os.scandir(self.path):
                match = _MARK.fullmatch(entry.name)
                if match is None:
                    continue
                with suppress(OSError):
                    if _has_ended(entry.name, match[1], int(match[2]), entry.stat().st_mtime):
                        _remove(Path(entry.path))
                    else:
                        held.update(Path(entry.path).read_text(encoding="ascii").split())
        return held

    def _free(self) -> int:
        """Bytes that the disk has left."""
        there = self.path
        while not there.exists() and there != there.parent:
            there = there.parent
        try:
            return shutil.disk_usage(there).free
        except OSError:
            return 0


def _has_ended(mark: str, machine: str, process: int, since: float) -> bool:
    """Whether the process that left a mark is gone; where it cannot be seen, its age decides."""
    if machine == machine_name() and os.name != "nt":
        # in a container that was started again, the number of the killed process may be this one's
        return mark not in _marks if process == os.getpid() else not is_running(process)
    return time.time() - since > ABANDONED


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
