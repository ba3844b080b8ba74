"""Inspect weight files without loading them: content and completeness of a .safetensors, and its fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..wording import is_utf8, shown
from . import safetensors_header
from .folders import visible
from .jsonfile import read_json
from .paths import inside, printable
from .safetensors_header import Header, HeaderError

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
# bytes up to which a whole file is hashed; larger files are sampled
_WHOLE = 64 << 20


def refuse_pickle(path: Path) -> None:
    """InputError if the file is a pickle, which can run code when it is opened."""
    if path.suffix.lower() in PICKLES:
        raise InputError(
            "DIF-044",
            f"{path.name} is a pickle, which can run any code when it is opened; use the same model as .safetensors.",
        )


def read_header(path: Path) -> Header:
    """Read names and shapes without loading a tensor.

    Raises:
        InputError: The file is cut short or is not a .safetensors file.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        return safetensors_header.read_header(path, name)
    except HeaderError as error:
        if error.flaw in ("no header", "header cut short"):
            raise InputError(
                "DIF-045",
                f"{name} is not a .safetensors file or was cut off at its start; download it again.",
            ) from error
        if error.flaw in ("not JSON", "bad entry"):
            raise InputError(
                "DIF-046",
                f"{name} is not a .safetensors file: its header cannot be read; download it again.",
            ) from error
        raise


def check_folder(folder: Path) -> None:
    """InputError for a folder whose path the libraries cannot open, and for one whose weights could be pickles.

    The libraries open each part of a model by its ending, so an index that names a .bin would have a pickle opened.
    """
    if not is_utf8(str(folder)):
        raise InputError(
            "DIF-104",
            f"The path of {folder.name} is not UTF-8, so its model cannot be loaded; rename the folder and those above it.",
        )
    for index in visible(folder, "*.safetensors.index*.json"):
        name = f"{folder.name}/{printable(index.name)}"
        parts = read_json(index, name).get("weight_map")
        for part in set(map(str, parts.values())) if isinstance(parts, dict) else ():
            if not inside(folder, part, name).name.endswith(".safetensors"):
                raise InputError(
                    "DIF-103",
                    f"{name} names {shown(part)} as a part of the model, which is not a .safetensors file and could run code "
                    "when it is opened; download the model with its .safetensors files.",
                )


def fingerprint(files: Sequence[Path]) -> str:
    """Hash of weight files that does not depend on their dates or folder.

    Files of more than 64 MB are distinguished by their headers, sizes and 256 evenly spaced blocks of 4 KB.
    """
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
