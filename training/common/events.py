"""TensorBoard files of a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.backends import require
from engine.files.atomic import check_folder_writable


class Events:
    """Writes numbers into TensorBoard's event files.

    Args:
        folder: Of the files; None: nothing is written.
        step: The step that the training goes on from; what an interrupted run wrote after it is hidden.

    Raises:
        InputError: tensorboard is missing, or the folder is not writable.
    """

    def __init__(self, folder: Path | None, step: int = 0) -> None:
        self._writer: Any = None
        if folder is None:
            return
        require("tensorboard")
        check_folder_writable(folder)
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of a step, such as `{"loss/photo": 0.1}`."""
        if self._writer is None:
            return
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        # what a killed run has written is not lost
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
