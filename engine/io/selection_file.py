"""A selection of Gaussians that an edit may change, as a .safetensors file: `weights` [N] in 0..1."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.safetensors_header import read_header
from ..files.safetensors_reader import read_tensors
from ..files.safetensors_writer import write_tensors
from ..scene import Selection

FORMAT = "gs4d-selection"


def save_selection(selection: Selection, path: Path | str) -> Path:
    """Save a selection, atomically. Raises InputError if the file cannot be written."""
    path = Path(path)
    weights = selection.weights.detach().float().cpu().contiguous().clone()
    with write_atomically(path) as partial:
        write_tensors(partial, {"weights": weights}, {"format": FORMAT})
    return path


def load_selection(path: Path | str) -> Selection:
    """Load a selection that `save_selection` wrote.

    Raises InputError: missing, damaged, not a selection, or values outside 0..1.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            "IO-028", f"{path.name} does not exist; create it with lift-mask, or omit --selection."
        )
    try:
        header = read_header(path)
        known = header.metadata.get("format") == FORMAT and "weights" in header.tensors
        weights = read_tensors(path)["weights"] if known else None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError("IO-029", f"{path.name} is damaged; create it again with lift-mask.") from error
    if weights is None or weights.ndim != 1 or weights.dtype != torch.float32:
        raise InputError(
            "IO-030", f"{path.name} is not a selection of Gaussians; choose a file that lift-mask created."
        )
    if not bool(((weights >= 0) & (weights <= 1)).all()):
        raise InputError(
            "IO-031", f"{path.name} contains weights outside 0 to 1; create it again with lift-mask."
        )
    return Selection(weights)
