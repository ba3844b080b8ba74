"""glTF documents made in code: a few triangles with the animation that a test computes by hand."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np

TYPES = {"f4": 5126, "u1": 5121, "i1": 5120, "u2": 5123, "i2": 5122, "u4": 5125}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Gltf:
    """A document with one buffer that grows with each accessor."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {"asset": {"version": "2.0"}}
        self.bytes = b""

    def add(self, kind: str, **entry: Any) -> int:
        self.data.setdefault(kind, []).append(entry)
        return len(self.data[kind]) - 1

    def view(self, data: bytes, stride: int = 0) -> int:
        self.bytes += b"\0" * (-len(self.bytes) % 4)
        start = len(self.bytes)
        self.bytes += data
        more = {"byteStride": stride} if stride else {}
        return self.add("bufferViews", buffer=0, byteOffset=start, byteLength=len(data), **more)

    def array(self, values: Any, dtype: str = "f4", normalized: bool = False, stride: int = 0) -> int:
        rows = np.asarray(values, f"<{dtype}")
        rows = rows.reshape(len(rows), -1)
        data, size = rows.tobytes(), rows.shape[1] * rows.dtype.itemsize
        if stride:
            data = b"".join(row.tobytes() + b"\xee" * (stride - size) for row in rows)
        more = {"normalized": True} if normalized else {}
        return self.add(
            "accessors", bufferView=self.view(data, stride), componentType=TYPES[dtype], count=len(rows),
            type=KINDS[rows.shape[1]], **more,
        )  # fmt: skip

    def animate(
        self, node: int, path: str, times: Any, values: Any, mode: str = "LINEAR", name: str = "move"
    ) -> None:
        """One more channel of the animation `name`."""
        values = np.asarray(values, np.float32)
        if path == "weights":
            values = values.reshape(-1)
        found = next((a for a in self.data.get("animations", []) if a["name"] == name), None)
        if found is None:
            self.add("animations", name=name, samplers=[], channels=[])
            found = self.data["animations"][-1]
        width = 1 if path == "weights" else 4 if path == "rotation" else 3
        found["samplers"].append(
            {
                "input": self.array(times),
                "output": self.array(values.reshape(-1, width)),
                "interpolation": mode,
            }
        )
        found["channels"].append(
            {"sampler": len(found["samplers"]) - 1, "target": {"node": node, "path": path}}
        )

    def glb(self) -> bytes:
        data = {**self.data, "buffers": [{"byteLength": len(self.bytes)}]}
        text = json.dumps(data).encode()
        text += b" " * (-len(text) % 4)
        blob = self.bytes + b"\0" * (-len(self.bytes) % 4)
        body = (
            struct.pack("<II", len(text), 0x4E4F534A)
            + text
            + struct.pack("<II", len(blob), 0x004E4942)
            + blob
        )
        return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body

    def gltf(self, uri: str | None = None) -> bytes:
        """The JSON form; its buffer in a data URI, or in the file `uri`."""
        uri = uri or "data:application/octet-stream;base64," + base64.b64encode(self.bytes).decode()
        return json.dumps({**self.data, "buffers": [{"byteLength": len(self.bytes), "uri": uri}]}).encode()


TRIANGLE = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)


def triangle(**node: Any) -> Gltf:
    """One triangle on node 0, without animation."""
    made = Gltf()
    position = made.array(TRIANGLE)
    made.add("meshes", name="triangle", primitives=[{"attributes": {"POSITION": position}}])
    made.add("nodes", name="carrier", mesh=0, **node)
    made.add("scenes", nodes=[0])
    return made
