"""What a command will write is tried before it works: outputs, and the checkpoint that lies beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError
from ..files.atomic import check_folder_writable, check_writable
from ..files.mp4 import check_video
from ..steps.step import Kind

# kinds that are written as a folder
FOLDERS = (Kind.VIEWS, Kind.MASKS, Kind.FRAMES)


def check_outputs(
    outputs: Iterable[tuple[Kind, Path]], checkpoints: Iterable[Path] = (), size: int = 1
) -> None:
    """Try to write every output, and a checkpoint beside the first; each is expected to have `size` bytes at least.

    Raises InputError, naming the file or folder, where one cannot be written, or two are the same.
    """
    outputs, checkpoints = list(outputs), list(checkpoints)
    taken: set[str] = set()
    for path in (*(path for _, path in outputs), *checkpoints):
        if os.path.realpath(path) in taken:
            raise InputError(
                "CLI-010",
                f"{path.name} would be written twice. Give every output and the checkpoint a path of its own.",
            )
        taken.add(os.path.realpath(path))
    for kind, path in outputs:
        if kind in FOLDERS:
            check_folder_writable(path)
        elif kind is Kind.VIDEO:
            check_video(path)
        else:
            check_writable(path, size)
    for path in checkpoints:
        # at the end both lie there
        check_writable(path, 2 * size if size > 1 else 1)
