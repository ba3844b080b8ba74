"""Animated meshes of glTF 2.0 files (.glb, .gltf): what others' programs write, read without trust."""

from .animated import action_names, read_animated_mesh
from .document import SUFFIXES, Document, open_document, parse_document
from .following import follow_mesh

__all__ = [
    "SUFFIXES",
    "Document",
    "action_names",
    "follow_mesh",
    "open_document",
    "parse_document",
    "read_animated_mesh",
]
