"""The container of a glTF 2.0 file: JSON, binary chunk and buffers; every claim is held against what is there.

Source: Khronos Group, glTF 2.0 specification, sections 3.2, 3.6.1 and 4.
"""

from __future__ import annotations

import base64
import binascii
import os
import struct
import urllib.parse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.jsonfile import parse_json
from ...files.paths import inside, open_regular, printable, require_file

SUFFIXES = (".glb", ".gltf", ".vrm")
LARGEST = 1 << 30  # bytes of one file
# numbers beyond a file's bytes that may come of using the same data again and again; each takes up to 50 bytes while it is read
MOST_REPEATED = 10_000_000
MAGIC, JSON_CHUNK, BINARY_CHUNK = b"glTF", 0x4E4F534A, 0x004E4942
# required extensions that leave geometry and motion alone, by the beginning of their names
HARMLESS = (
    "KHR_materials_",
    "KHR_texture_",
    "EXT_texture_",
    "KHR_lights_",
    "KHR_xmp",
    "KHR_mesh_quantization",
    "VRM",
)
COMPRESSED = {
    "KHR_draco_mesh_compression": "Draco compression",
    "EXT_meshopt_compression": "meshopt compression",
    "KHR_meshopt_compression": "meshopt compression",
}


@dataclass
class Claims:
    """How many numbers have been made of a file."""

    numbers: int = 0


@dataclass(frozen=True, eq=False)
class Document:
    """An opened glTF file.

    Args:
        name: For messages.
        data: The JSON object.
        blob: The binary chunk of a .glb; None where there is none.
        folder: Where files named by the document lie; None allows none.
        size: Bytes of the file itself.
        claims: What has been made of it.
    """

    name: str
    data: dict[str, Any]
    blob: bytes | None = None
    folder: Path | None = None
    size: int = 0
    claims: Claims = field(default_factory=Claims)
    # of buffers with a data URI, by number, and of files
    _inline: dict[int, bytes] = field(default_factory=dict[int, bytes])
    _files: dict[Path, bytes] = field(default_factory=dict[Path, bytes])
    # decoded textures [H, W, 3] uint8 by number; None where one is of an unknown kind
    textures: dict[int, NDArray[np.uint8] | None] = field(
        default_factory=dict[int, "NDArray[np.uint8] | None"]
    )
    _lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])

    def reread(self) -> Document:
        """The same document, of which nothing has been made."""
        return replace(self, claims=Claims())

    @property
    def total(self) -> int:
        """Bytes of the file and of those that it named so far."""
        return self.size + sum(map(len, self._files.values()))

    def charge(self, numbers: int) -> None:
        """Count numbers before they are made. InputError where they are many more than the file has bytes.

        Data that is used once has at least a byte for each number, and a stranger's file may use the same data without end.
        """
        self.claims.numbers += numbers
        size = self.total
        if self.claims.numbers > size + MOST_REPEATED:
            raise InputError(
                "GLT-041",
                f"{self.name} has {size:,} bytes, but uses the same data so often that more than "
                f"{(size + MOST_REPEATED) // 10**6:,} million numbers come of it. Remove copies of nodes and primitives, or join "
                "them into one mesh.",
            )

    def items(self, kind: str) -> list[dict[str, Any]]:
        """The objects of a top-level list such as "meshes"; empty where there is none. Raises InputError."""
        if kind in self._lists:
            return self._lists[kind]
        found = self.data.get(kind, [])
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise InputError(
                "GLT-001", f"{self.name}: '{kind}' is not a list of objects. Export the file again."
            )
        self._lists[kind] = found
        return found

    def item(self, kind: str, index: Any, where: str) -> dict[str, Any]:
        """Object `index` of a list; `where` names what points to it. Raises InputError."""
        found = self.items(kind)
        if type(index) is not int or not 0 <= index < len(found):
            raise InputError(
                "GLT-002",
                f"{self.name}: {where} points to {kind} {printable(str(index))[:20]}, but there are {len(found)}. The file is "
                "damaged; export it again.",
            )
        return found[index]

    def view(self, index: Any, where: str) -> tuple[memoryview, int]:
        """The bytes of a buffer view and its stride (0 where elements follow each other). Raises InputError."""
        entry = self.item("bufferViews", index, where)
        buffer = self._buffer(entry.get("buffer"), where)
        start, length = entry.get("byteOffset", 0), entry.get("byteLength")
        stride = entry.get("byteStride", 0)
        if not all(type(n) is int and n >= 0 for n in (start, length, stride)) or start + length > len(
            buffer
        ):
            raise InputError(
                "GLT-003",
                f"{self.name}: buffer view {index} claims bytes {start} to {start}+{length} of a buffer with {len(buffer)}. The "
                "file is damaged or cut short; export it again.",
            )
        return memoryview(buffer)[start : start + length], stride

    def _buffer(self, index: Any, where: str) -> bytes:
        entry = self.item("buffers", index, where)
        uri = entry.get("uri")
        if uri is None and index == 0 and self.blob is not None:
            return self.blob
        if isinstance(uri, str) and uri.startswith("data:"):
            if index not in self._inline:
                self._inline[index] = self.resource(uri, f"buffer {index}")
            return self._inline[index]
        return self.resource(uri, f"buffer {index}")

    def resource(self, uri: Any, what: str) -> bytes:
        """The bytes that a URI names: in the URI itself, or in a file in the document's folder. Raises InputError."""
        if not isinstance(uri, str) or not uri:
            raise InputError(
                "GLT-004",
                f"{self.name}: {what} has no data. Export the file again, as .glb or with embedded buffers.",
            )
        if uri.startswith("data:"):
            head, _, body = uri.partition(",")
            try:
                if not head.endswith(";base64"):
                    return urllib.parse.unquote_to_bytes(body)
                return base64.b64decode(body, validate=True)
            except (binascii.Error, ValueError) as error:
                raise InputError(
                    "GLT-005", f"{self.name}: the data of {what} is not valid base64. Export the file again."
                ) from error
        if self.folder is None:
            raise InputError(
                "GLT-006",
                f"{self.name}: {what} is in another file, {printable(uri)[:60]}, which a connected model does not bring along. "
                "Save the model as .glb.",
            )
        path = inside(self.folder, urllib.parse.unquote(uri), f"{self.name} ({what})")
        # several buffers may name one file
        if path not in self._files:
            require_file(path, self.folder, f"put it beside {self.name} again, or export as .glb")
            self._files[path] = _read(path, printable(path.name))
        return self._files[path]


def open_document(path: Path, supported: tuple[str, ...] = ()) -> Document:
    """Open a .glb or .gltf file.

    Args:
        path: The file.
        supported: Names of extensions that it may require, besides those that leave geometry alone.

    Raises:
        InputError: It is missing, cut short, not glTF 2.0, or needs an extension that is not supported.
    """
    name = printable(path.name)
    return parse_document(_read(path, name), name, Path(os.path.abspath(path)).parent, supported)


def parse_document(
    data: bytes, name: str, folder: Path | None = None, supported: tuple[str, ...] = ()
) -> Document:
    """As `open_document`, from the bytes of a file; `folder` is where files that it names may lie."""
    blob, size = None, len(data)
    if data[:4] == MAGIC:
        data, blob = _chunks(data, name)
    try:
        content = parse_json(data.decode("utf-8-sig"))
    except ValueError as error:
        raise InputError(
            "GLT-007", f"{name} is not a glTF file: its JSON cannot be read. Choose a .glb or .gltf file."
        ) from error
    asset = content.get("asset") if isinstance(content, dict) else None
    version = str(asset.get("version", "")) if isinstance(asset, dict) else ""
    if not version.startswith("2."):
        found = f"version {printable(version)[:20]}" if version else "no version"
        raise InputError(
            "GLT-008", f"{name} is not a glTF 2.0 file ({found} found). Export it as glTF 2.0 (.glb)."
        )
    _check_extensions(content, name, supported)
    return Document(name, content, blob, folder, size)


def _chunks(data: bytes, name: str) -> tuple[bytes, bytes | None]:
    """The JSON and the binary chunk of a .glb."""
    if len(data) < 20:
        raise InputError(
            "GLT-009", f"{name} is cut short: {len(data)} bytes are present. Copy or download it again."
        )
    _, version, length = struct.unpack_from("<4sII", data)
    if version != 2:
        raise InputError("GLT-010", f"{name} is a .glb of version {version}. Export it as glTF 2.0.")
    if length > len(data):
        raise InputError(
            "GLT-011",
            f"{name} is cut short: {len(data)} of {length} bytes are present. Copy or download it again.",
        )
    found: dict[int, bytes] = {}
    place = 12
    while place + 8 <= length:
        size, kind = struct.unpack_from("<II", data, place)
        if place + 8 + size > length:
            raise InputError(
                "GLT-012", f"{name} is damaged: a chunk ends behind the file's end. Copy or export it again."
            )
        found.setdefault(kind, data[place + 8 : place + 8 + size])
        place += 8 + size
    if JSON_CHUNK not in found:
        raise InputError("GLT-013", f"{name} is a .glb without JSON. Copy or export it again.")
    return found[JSON_CHUNK], found.get(BINARY_CHUNK)


def _check_extensions(content: dict[str, Any], name: str, supported: tuple[str, ...]) -> None:
    required = content.get("extensionsRequired", [])
    required = [str(each) for each in required] if isinstance(required, list) else []
    for extension in required:
        if extension in COMPRESSED:
            raise InputError(
                "GLT-014",
                f"{name} uses {COMPRESSED[extension]} ({extension}), which is not supported. Export it without compression.",
            )
    refused = [
        printable(each)[:60] for each in required if not each.startswith(HARMLESS) and each not in supported
    ]
    if refused:
        raise InputError(
            "GLT-015",
            f"{name} requires the glTF extension {', '.join(refused[:3])}, which is not supported. Export it without.",
        )


def _read(path: Path, name: str) -> bytes:
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST:
                raise InputError(
                    "GLT-016",
                    f"{name} has {size / 2**30:.1f} GB; up to {LARGEST / 2**30:.0f} GB are read. Reduce the mesh.",
                )
            return file.read(size)
    except OSError as error:
        raise InputError(
            "GLT-017", f"{name} cannot be read: {error.strerror}. Check the file and its permissions."
        ) from error
