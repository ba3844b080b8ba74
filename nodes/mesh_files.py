"""Animated meshes: the files that a list offers."""

from __future__ import annotations

from pathlib import Path

from ..engine.errors import InputError
from ..engine.io.gltf import SUFFIXES
from . import folders


def meshes() -> list[str]:
    """Bundled animated meshes, then glTF files in input, output and models/gs4d, newest first."""
    return [*folders.bundled("*.glb"), *folders.files(SUFFIXES)]


def mesh_file(choice: str) -> Path:
    """The path of a chosen animated mesh; raises InputError if it is missing or outside the readable folders."""
    if choice.startswith("demo: "):
        return folders.bundled_file(choice)
    if not choice.strip():
        raise InputError(
            "NOD-052",
            "No animated mesh is selected; put a .glb into ComfyUI's input folder and refresh the list.",
        )
    path = folders.readable(choice)
    if not path.is_file():
        raise InputError("NOD-053", f"'{choice}' is not a file; choose a .glb or .gltf file.")
    return path
