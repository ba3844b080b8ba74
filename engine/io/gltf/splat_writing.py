"""Gaussians of one frame as `.glb` with the extension KHR_gaussian_splatting.

Without compression every attribute is float32 and nothing is lost; programs without the extension show colored points.
Compressed, the file holds an .spz of version 2 (KHR_gaussian_splatting_compression_spz_2, a draft), and needs a program
with both extensions. The axes are glTF's: x left, y up, z front.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.atomic import write_atomically
from ...scene import Gaussians, harmonics
from ..half_turns import Z, half_turned
from ..spz import encode_spz
from ..spz_decoding import decode_spz
from ..writable import writable
from .document import BINARY_CHUNK, JSON_CHUNK, MAGIC
from .splat_extension import (
    DISPLAY,
    ELLIPSE,
    OPACITY,
    POINTS,
    ROTATION,
    SCALE,
    SPLATTING,
    SPZ_2,
    coefficients,
)

FLOAT, BYTE, ARRAY_BUFFER = 5126, 5121, 34962
KINDS = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
LARGEST = 2**32 - 1
Array = NDArray[Any]


def write_glb(gaussians: Gaussians, path: Path | str, compresses: bool = False) -> Path:
    """Write the Gaussians of one frame, atomically.

    Args:
        gaussians: N Gaussians, at least one.
        path: The .glb file; it is replaced if it exists.
        compresses: Store an .spz of version 2 instead of attributes: about a tenth of the size, rounded as `spz` says.

    Returns:
        The path.

    Raises:
        InputError: There are no Gaussians or more than 4 GB of them, a value is not finite, or the file cannot be written.

    Example:
        >>> write_glb(scene.at(0.5), "frame.glb")
    """
    path = Path(path)
    g = writable(gaussians, path.name)
    content: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "GS4D Studio"},
        "extensionsUsed": [SPLATTING],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
    }
    extension: dict[str, Any] = {"kernel": ELLIPSE, "colorSpace": DISPLAY}
    if compresses and len(g):
        packed = encode_spz(g, path.name, version=2)
        attributes = _attributes(decode_spz(packed, path.name))
        extension["extensions"] = {SPZ_2: {"bufferView": 0}}
        content["extensionsUsed"] = content["extensionsRequired"] = [SPLATTING, SPZ_2]
        views, blob = [{"buffer": 0, "byteLength": len(packed)}], _padded(packed, b"\0")
    else:
        attributes = _attributes(g)
        views, blob = _views(list(attributes.values()))
    if not 0 < len(g) or len(blob) > LARGEST - (1 << 20):
        raise InputError(
            "GLT-043",
            f"{path.name} was not written: a .glb holds 1 Gaussian to 4 GB, but the scene has {len(g):,} Gaussians. Export a "
            ".ply instead.",
        )
    content["bufferViews"], content["buffers"] = views, [{"byteLength": len(blob)}]
    content["accessors"] = [
        _accessor(name, values, None if compresses else i)
        for i, (name, values) in enumerate(attributes.items())
    ]
    primitive = {"attributes": {name: i for i, name in enumerate(attributes)}, "mode": POINTS}
    content["meshes"] = [{"primitives": [primitive | {"extensions": {SPLATTING: extension}}]}]
    text = _padded(json.dumps(content, separators=(",", ":")).encode(), b" ")
    chunks = struct.pack("<II", len(text), JSON_CHUNK) + text + struct.pack("<II", len(blob), BINARY_CHUNK)
    with write_atomically(path) as partial, open(partial, "wb") as file:
        file.write(MAGIC + struct.pack("<II", 2, 12 + len(chunks) + len(blob)) + chunks)
        file.write(blob)
    return path


def _attributes(gaussians: Gaussians) -> dict[str, Array]:
    """Arrays [N, components] by name, activated and in glTF's axes."""
    g = half_turned(gaussians, Z)
    a = g.activated()
    rgb = (g.sh[:, 0] * harmonics.C0 + 0.5).clamp(0, 1).numpy()
    # colors of points are linear, those of Gaussians are as on a display
    rgb = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    color = np.concatenate([rgb, a.opacities[:, None].numpy()], axis=1)
    made: dict[str, Array] = {
        "POSITION": a.means.numpy(),
        "COLOR_0": np.rint(color * 255).astype(np.uint8),
        ROTATION: a.quats[:, [1, 2, 3, 0]].numpy(),
        SCALE: a.scales.numpy(),
        OPACITY: a.opacities[:, None].numpy(),
    }
    made |= {name: g.sh[:, i].numpy() for i, name in enumerate(coefficients(g.sh_degree))}
    return {
        name: np.ascontiguousarray(values if values.dtype == np.uint8 else values.astype("<f4"))
        for name, values in made.items()
    }


def _views(arrays: list[Array]) -> tuple[list[dict[str, Any]], bytes]:
    """A buffer view for each array, and the buffer."""
    views: list[dict[str, Any]] = []
    place = 0
    for values in arrays:
        views.append({"buffer": 0, "byteOffset": place, "byteLength": values.nbytes, "target": ARRAY_BUFFER})
        # rows of four bytes and more keep all of them aligned
        place += values.nbytes
    return views, b"".join(values.tobytes() for values in arrays)


def _accessor(name: str, values: Array, view: int | None) -> dict[str, Any]:
    made: dict[str, Any] = {} if view is None else {"bufferView": view}
    made |= {"componentType": BYTE if values.dtype == np.uint8 else FLOAT, "count": len(values)}
    made["type"] = KINDS[values.shape[1]]
    if values.dtype == np.uint8:
        made["normalized"] = True
    if name == "POSITION":
        # numbers of float32 in decimals that give the same float32
        made |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
    return made


def _padded(data: bytes, filler: bytes) -> bytes:
    return data + filler * (-len(data) % 4)
