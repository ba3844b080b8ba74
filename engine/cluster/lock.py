"""The lock that keeps a second batch out of a folder of outputs. Its owner shows in it, every few seconds, that it lives."""

from __future__ import annotations

import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.atomic import is_running, machine_name, make_folder, temporary_beside
from ..files.jsonfile import json_text, read_json
from ..files.paths import printable

LOCK = ".gs4d-batch.lock"
# locks of this process
_held: set[str] = set()
# seconds between two signs of life, and after which a lock without them is left over
SIGN, ABANDONED = 5.0, 60.0


@contextmanager
def locked(folder: Path) -> Generator[Callable[[], None], None, None]:
    """Inside, no other batch works in the folder. Raises InputError where one does.

    Gives what raises InputError if another batch took the folder over meanwhile: one that was paused shows no life.
    """
    make_folder(folder)
    path = folder / LOCK
    own = _take(path)
    _held.add(os.path.realpath(path))
    ended = threading.Event()
    threading.Thread(target=_show_life, args=(path, own, ended), daemon=True).start()

    def check() -> None:
        if not _holds(path, own):
            raise InputError(
                "CLU-057",
                f"Another batch has taken over {printable(folder.name)}, since this one showed no life for more than "
                f"{ABANDONED:.0f} seconds, or its {LOCK} was removed. Wait for it, and run this one again.",
            )

    try:
        yield check
    finally:
        ended.set()
        _held.discard(os.path.realpath(path))
        if _holds(path, own):
            with suppress(OSError):
                path.unlink()


def _holds(path: Path, own: bytes) -> bool:
    """Whether a lock is ours. One that cannot be read just now is."""
    try:
        return path.read_bytes() == own
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _take(path: Path) -> bytes:
    """Write a lock; returns what it says, which no other does."""
    machine = {"machine": machine_name(), "start": _start_of_machine(), "name": platform.node()}
    own = json_text({**machine, "process": os.getpid(), "number": secrets.token_hex(8)})
    for _ in range(3):
        try:
            with open(path, "xb") as file:
                try:
                    file.write(own)
                    file.flush()
                except OSError:
                    # the disk is full: half a lock would keep everybody out
                    path.unlink()
                    raise
            return own
        except FileExistsError:
            _remove_abandoned(path)
        except OSError as error:
            raise InputError(
                "CLU-043",
                f"The folder {printable(path.parent)} cannot be written to ({error.strerror}). Choose another one.",
            ) from error
    raise InputError(
        "CLU-044", f"{LOCK} in {printable(path.parent)} cannot be replaced. Remove it if no batch is running."
    )


def _remove_abandoned(path: Path) -> None:
    """Remove a lock whose batch has ended; InputError where it runs."""
    owner: dict[str, Any] = {}
    try:
        owner = read_json(path, LOCK)
    except InputError:
        # removed meanwhile, just being written, or damaged
        time.sleep(0.2)
        with suppress(InputError):
            owner = read_json(path, LOCK)
    if not path.exists():
        return
    process = owner.get("process")
    is_here = (owner.get("machine"), owner.get("start")) == (machine_name(), _start_of_machine())
    if not is_here or not isinstance(process, int) or os.name == "nt":
        is_left = _age(path) > ABANDONED
    elif process == os.getpid():
        # in a container that was started again, a killed batch may have had this number
        is_left = os.path.realpath(path) not in _held
    else:
        is_left = not is_running(process)
    if not is_left:
        where = f"machine {printable(str(owner.get('name', 'unknown')))}, process {printable(str(process or 'unknown'))}"
        raise InputError(
            "CLU-045",
            f"Another batch works in {printable(path.parent.name)} ({where}). Wait for it, or stop it.",
        )
    with suppress(OSError):
        path.unlink()


def _age(path: Path) -> float:
    """Seconds since a file was written, by the clock of its disk: that of this machine may differ. 0 where it is gone."""
    with suppress(OSError), temporary_beside(path) as probe:
        probe.write_bytes(b"")
        return probe.stat().st_mtime - path.stat().st_mtime
    return 0.0


def _start_of_machine() -> str:
    """Differs between machines that have the same name, and after each start of one. Empty where it is not known."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _show_life(path: Path, own: bytes, ended: threading.Event) -> None:
    while not ended.wait(SIGN):
        if _holds(path, own):
            with suppress(OSError):
                os.utime(path)
