"""Weight files looked at from outside: what a .safetensors holds, whether it is whole, and what tells two apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_LARGEST_HEADER = 100 << 20  # bytes; the format's own limit
_WHOLE = 64 << 20  # bytes; up to here a file is hashed whole, beyond it by samples


@dataclass(frozen=True)
class Header:
    """The table of contents of one .safetensors file."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def refuse_pickle(path: Path) -> None:
    """InputError where the file is one that runs code when it is opened."""
    if path.suffix.lower() in PICKLES:
        raise InputError(
            f"{path.name} is a pickle, which can run any code when it is opened: use the same model as .safetensors."
        )


def read_header(path: Path) -> Header:
    """Names and shapes without loading a tensor. Raises InputError where the file is cut short or is none."""
    size, name = path.stat().st_size, f"{path.parent.name}/{path.name}"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(_LARGEST_HEADER, size - 8):
            raise InputError(
                f"{name} is no .safetensors file, or was cut off at its start ({size} bytes): download it again."
            )
        try:
            table = json.loads(file.read(length))
            metadata = table.pop("__metadata__", {})
            shapes = {key: tuple(map(int, entry["shape"])) for key, entry in table.items()}
            end = max((int(entry["data_offsets"][1]) for entry in table.values()), default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise InputError(f"{name} is no .safetensors file: its header cannot be read.") from error
    if size < 8 + length + end:
        raise InputError(
            f"{name} is cut short: {size} of {8 + length + end} bytes are there; download it again."
        )
    return Header(shapes, {str(k): str(v) for k, v in metadata.items()})


def fingerprint(files: Sequence[Path]) -> str:
    """Changes when the weights do, and not with a file's date or folder. Files of more than 64 MB are told apart by
    their tables, sizes and 256 evenly spread blocks of 4 KB."""
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as file:
            if size <= _WHOLE:
                digest.update(file.read())
                continue
            digest.update(file.read(1 << 20))
            for i in range(256):
                file.seek(i * (size - 4096) // 255)
                digest.update(file.read(4096))
    return digest.hexdigest()[:16]
