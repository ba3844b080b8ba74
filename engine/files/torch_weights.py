"""Weights that were published as pickles: opened once without running code, and written beside as .safetensors.

A pickle can name any class or function and have it called. torch's restricted reader builds tensors and plain containers
only; anything else is refused by name.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from .atomic import write_atomically
from .safetensors_header import HeaderError, read_header
from .safetensors_writer import DTYPES, write_tensors

LARGEST = 16 * 2**30  # bytes
# copies of the stored numbers that a state dict may name: weights are tied two or three times
MOST_TIES = 4
# name of the tensor in a file that holds nothing but one
ALONE = "tensor"
# metadata of a converted file: size and date of the pickle that it was made of
_SOURCE = "made_of"
# how torch's restricted reader names what it refuses
_REFUSED = re.compile(r"GLOBAL ([\w.]+)|class '?([\w.]+)'? (?:is|was) not")


def as_safetensors(path: Path) -> Path:
    """The .safetensors version of a weights file, made of a pickle on first use.

    Names lose the prefix `module.` of distributed training. The converted file lies beside the pickle, which is not opened
    again unless its size or date changes.

    Args:
        path: A .safetensors, or a .pt or .pth with a state dict or a single tensor.

    Returns:
        `path` itself, or the converted file.

    Raises:
        InputError: The file is missing, holds anything but tensors, or the converted one cannot be written.
    """
    name = f"{path.parent.name}/{path.name}"
    if path.suffix.lower() == ".safetensors":
        return path
    if not path.is_file():
        raise InputError("FIL-081", f"{name} is missing; put the weights file there.")
    found, target = path.stat(), path.with_suffix(".safetensors")
    size, source = found.st_size, f"{found.st_size} bytes, {found.st_mtime_ns} ns"
    if _is_made_of(target, source):
        return target
    if size > LARGEST:
        raise InputError(
            "FIL-082", f"{name} has {size:,} bytes, more than any supported model; choose another file."
        )
    tensors = {
        key.removeprefix("module."): tensor for key, tensor in read_pickled_tensors(path, name).items()
    }
    with write_atomically(target) as partial:
        write_tensors(partial, tensors, {_SOURCE: source})
    return target


def _unpacks_larger(path: Path) -> bool:
    """Whether a file of torch's zip format claims more bytes than it has: torch never compresses, so it is a bomb."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        # the older format, or a damaged file, which torch's reader names
        return False


def _overstated(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor that is not stored number by number, or that claims more than the file holds; None if all are.

    Strides of zero, or thousands of views of one storage, claim any size while storing one number. Nothing may be copied,
    converted or written before this is known.
    """
    stored: dict[int, int] = {}
    claimed = 0
    for name, value in tensors.items():
        if value.layout != torch.strided or value.device.type != "cpu" or value.dtype not in DTYPES:
            return name
        storage, size = value.untyped_storage(), value.numel() * value.element_size()
        stored[storage.data_ptr()] = storage.nbytes()
        claimed += size
        # tied weights occur; a tensor that is stored more than a few times does not
        if size > storage.nbytes() or claimed > MOST_TIES * sum(stored.values()):
            return name
    return None


def _is_made_of(target: Path, source: str) -> bool:
    """Whether there is a converted file of that pickle, or one that somebody else converted."""
    if not target.is_file():
        return False
    try:
        return read_header(target).metadata.get(_SOURCE, source) == source
    except HeaderError:
        return False


def read_pickled_tensors(path: Path, name: str) -> dict[str, Tensor]:
    """The state dict (or the one tensor, as `ALONE`) in a .pt or .pth, called `name` in messages.

    Raises InputError where it holds anything but plain tensors, or claims more than it stores.
    """
    if _unpacks_larger(path):
        raise InputError(
            "FIL-128",
            f"{name} would unpack to more bytes than it has; download the file from its own page again.",
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises many kinds, and none of them is more than a reason here
        refused = _REFUSED.search(str(error))
        if refused is not None and isinstance(error, pickle.UnpicklingError):
            what = next(part for part in refused.groups() if part)
            raise InputError(
                "FIL-083",
                f"{name} wants to create '{what[:80]}', which is not a tensor and could run any code; it was not opened. Use "
                "the file from the model's own page.",
            ) from error
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            "FIL-084", f"{name} is damaged or is not a weights file ({first[:120]}); download it again."
        ) from error
    tensors = {ALONE: found} if isinstance(found, Tensor) else found
    if not isinstance(tensors, dict) or not tensors:
        raise InputError(
            "FIL-085", f"{name} does not hold weights but {type(found).__name__}; choose another file."
        )
    for key, value in tensors.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(
                "FIL-086",
                f"{name}: '{str(key)[:60]}' is not a tensor but {type(value).__name__}, so the file is not a plain state dict; "
                "use the model's weights, not a training checkpoint.",
            )
    if (key := _overstated(tensors)) is not None:
        raise InputError(
            "FIL-087", f"{name}: '{key[:60]}' claims more numbers than it holds; download the file again."
        )
    return tensors
