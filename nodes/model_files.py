"""ComfyUI's FILE_3D, a 3D model on disk or in memory, as a glTF document. Does not import ComfyUI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..engine.errors import InputError
from ..engine.files.paths import printable
from ..engine.io.gltf import Document, open_document, parse_document

FORMATS = ("glb", "gltf", "vrm", "")


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
