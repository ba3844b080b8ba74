"""Files of this pack that hold tensors and a description: one .safetensors, whole or not at all, doubted when read.

Layout: an unsigned 64-bit little-endian header length, the JSON header, the tensors (as the safetensors format has it).
`__metadata__` holds `format`, `version` and, under a name of the kind's own, the JSON text of everything else.
Floating-point numbers in it are written with the shortest digits that read back as the same float64.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import InputError
from ..finite import is_finite
from .atomic import write_atomically
from .jsonfile import json_text, parse_json
from .safetensors_header import HeaderError, read_header
from .safetensors_reader import read_tensors
from .safetensors_writer import write_tensors

# what other files of this pack are, and where they go
ELSEWHERE = {
    "gs4d-scene": "a 4D scene. Train a latent field from it first (train-latents)",
    "gs4d-latent-field": "a latent field. Use it in delta-edit or decode-latents, or convert it to a scene with latents-to-scene",
    "gs4d-selection": "a selection of Gaussians. Use it as the selection of an edit",
    "gs4d-training": "a training checkpoint. Run the step that wrote it again to continue",
}


@dataclass(frozen=True)
class SafetensorsFormat:
    """One of the pack's file formats."""

    format: str
    version: int
    key: str  # of the description in the header
    noun: str  # "4D scene"
    source: str  # "Save 4D Scene wrote": which files are of this kind
    again: str  # "export it again": what to do about a damaged one

    def write(self, path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Under a temporary name, then renamed. Raises InputError for NaN and where the file cannot be written."""
        for name, tensor in tensors.items():
            if not is_finite(tensor):
                raise InputError(
                    "FIL-050",
                    f"{path.name} was not written: '{name}' of the {self.noun} contains NaN or infinite values, "
                    "so the step that produced it failed. Run it again with a lower learning rate.",
                )
        metadata = {
            "format": self.format,
            "version": str(self.version),
            self.key: json_text(about, default=str).decode(),
        }
        with write_atomically(path) as partial:
            write_tensors(partial, tensors, metadata)

    def read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and description. Raises InputError: missing, cut short, another kind, newer, damaged, NaN."""
        about = self._description(path)
        try:
            tensors = read_tensors(path)
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise InputError(
                "FIL-051", f"{path.name} is damaged ({_short(error)}); copy or {self.again}."
            ) from error
        for name, tensor in tensors.items():
            if not is_finite(tensor):
                raise InputError(
                    "FIL-052",
                    f"{path.name}: '{name}' contains NaN or infinite values. The file is damaged; {self.again}.",
                )
        return tensors, about

    @contextmanager
    def assembling(self, path: Path) -> Generator[None, None, None]:
        """Inside, what was read is put together; whatever does not fit becomes an InputError that names the file.

        Sentences inside leave the file's name out: it is put before each.
        """
        try:
            yield
        except InputError as error:
            raise error.at(path.name) from error
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
            raise InputError(
                "FIL-053",
                f"{path.name}: its description does not match its tensors ({type(error).__name__}: "
                f"{_short(error)}). The file is damaged; {self.again}.",
            ) from error

    def tensor(
        self, tensors: dict[str, Tensor], name: str, shape: tuple[int | None, ...], dtype: torch.dtype
    ) -> Tensor:
        """One of `tensors`, if it has this shape (None = any length) and type; call it inside `assembling`."""
        tensor = tensors.get(name)
        found = None if tensor is None else tuple(tensor.shape)
        if tensor is None or found is None or not _fits(found, shape):
            wanted = " × ".join("any" if size is None else str(size) for size in shape)
            raise InputError(
                "FIL-054",
                f"'{name}' has shape {found}, but {wanted} is expected. The file is damaged; {self.again}.",
            )
        if tensor.dtype != dtype:
            raise InputError(
                "FIL-055",
                f"'{name}' is {tensor.dtype}, but {dtype} is expected. The file is damaged; {self.again}.",
            )
        return tensor

    def _description(self, path: Path) -> dict[str, Any]:
        """The JSON text; every claim of the header was held against the file's size before anything is allocated."""
        if not path.is_file():
            found = "is a folder" if path.is_dir() else "does not exist"
            raise InputError(
                "FIL-056",
                f"The {self.noun} file {path.name} {found}. Choose a .safetensors file that this pack saved.",
            )
        not_one = InputError(
            "FIL-057", f"{path.name} is not a {self.noun} of this pack. Choose a file that {self.source}."
        )
        try:
            header = read_header(path)
        except HeaderError as error:
            if error.flaw in ("no header", "not JSON"):
                raise not_one from error
            raise
        metadata = header.metadata
        claimed = metadata.get("format", "")
        if claimed != self.format:
            other = ELSEWHERE.get(claimed)
            raise (
                not_one
                if other is None
                else InputError("FIL-058", f"{path.name} is not a {self.noun} but {other}.")
            )
        version = metadata.get("version", "")
        # isdigit alone lets other scripts' digits through, which int refuses in part
        if not (version.isascii() and version.isdigit() and len(version) < 10 and int(version) >= 1):
            raise InputError(
                "FIL-059",
                f"{path.name}: its version '{version[:20]}' cannot be read. The file is damaged; {self.again}.",
            )
        if int(version) > self.version:
            raise InputError(
                "FIL-060",
                f"{path.name} was written by a newer version of this pack (file format {version}, supported "
                f"up to {self.version}). Update the pack to open it.",
            )
        try:
            about = parse_json(metadata[self.key])
        except (KeyError, ValueError) as error:
            raise InputError(
                "FIL-061", f"{path.name}: its description is missing or damaged; {self.again}."
            ) from error
        if not isinstance(about, dict):
            raise InputError("FIL-062", f"{path.name}: its description is damaged; {self.again}.")
        return about


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(found) == len(wanted) and all(w in (None, f) for w, f in zip(wanted, found, strict=True))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
