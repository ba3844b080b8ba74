"""Weight files looked at from outside: what a .safetensors holds, whether it is whole, and what tells two apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..files import safetensors_header
from ..files.safetensors_header import Header, HeaderError

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_WHOLE = 64 << 20  # bytes; up to here a file is hashed whole, beyond it by samples


def refuse_pickle(path: Path) -> None:
    """InputError where the file is one that runs code when it is opened."""
    if path.suffix.lower() in PICKLES:
        raise InputError(
            "DIF-044",
            f"{path.name} is a pickle, which can run any code when it is opened: use the same model as .safetensors.",
        )


def read_header(path: Path) -> Header:
    """Names and shapes without loading a tensor. Raises InputError where the file is cut short or is none."""
    name = f"{path.parent.name}/{path.name}"
    try:
        return safetensors_header.read_header(path, name)
    except HeaderError as error:
        if error.flaw in ("no header", "header cut short"):
            raise InputError(
                "DIF-045", f"{name} is no .safetensors file, or was cut off at its start: download it again."
            ) from error
        if error.flaw in ("not JSON", "bad entry"):
            raise InputError(
                "DIF-046", f"{name} is no .safetensors file: its header cannot be read."
            ) from error
        raise


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
