"""Animated meshes: the files that a list offers, and ComfyUI's FILE_3D, a model on disk or in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..engine.errors import InputError
from ..engine.files.folders import changed, walk
from ..engine.files.paths import printable
from ..engine.io.gltf import SUFFIXES, Document, open_document, parse_document
from . import folders

FORMATS = ("glb", "gltf", "vrm", "")


def meshes() -> list[str]:
    """Bundled animated meshes, then glTF files in input, output and models/gs4d, newest first."""
    found = [
        (changed(path), f"{word}/{path.relative_to(root).as_posix()}")
        for word, group in folders.roots().items()
        for root in group
        for path in walk(root)
        if path.suffix.lower() in SUFFIXES
    ]
    bundled = [f"demo: {path.name}" for path in sorted(folders.PUPPETS.glob("*/*.glb"))]
    return [*bundled, *folders.listable(name for _, name in sorted(found, reverse=True))]


def mesh_file(choice: str) -> Path:
    """The path of a chosen animated mesh; raises InputError if it is missing or outside the readable folders."""
    if choice.startswith("demo: "):
        return folders.bundled_puppet(choice)
    if not choice.strip():
        raise InputError(
            "NOD-052",
            "No animated mesh is selected; put a .glb into ComfyUI's input folder and refresh the list.",
        )
    path = folders.readable(choice)
    if not path.is_file():
        raise InputError("NOD-053", f"'{choice}' is not a file; choose a .glb or .gltf file.")
    return path


def model_document(value: Any) -> Document:
    """The glTF document in a FILE_3D: of its `format`, a path or bytes. Raises InputError."""
    kind = str(getattr(value, "format", "")).lower()
    source = value.get_source() if hasattr(value, "get_source") else value
    if kind not in FORMATS:
        raise InputError(
            "NOD-050",
            f"The connected 3D model is a .{printable(kind)[:10]} file, but an animated mesh must be glTF. Connect or save it "
            "as .glb.",
        )
    if isinstance(source, str | Path):
        return open_document(Path(source))
    if hasattr(value, "get_bytes"):
        return parse_document(value.get_bytes(), "the connected model")
    raise InputError(
        "NOD-051",
        f"The connected 3D model is {type(value).__name__}, not a 3D file. Connect a node that gives a .glb.",
    )
