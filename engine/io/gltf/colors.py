"""Base colors of a glTF primitive per vertex: the material's factor, vertex colors and texture.

Source: Khronos Group, glTF 2.0 specification, section 3.9.2.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import InputError
from ...files.images import check_size, pixels
from .accessors import read_accessor
from .document import Document

Array = NDArray[Any]

# pixels of a texture that count as one number, and pixels of a side beyond which it is made smaller
PIXELS, SIDE = 16, 2048


def vertex_colors(document: Document, primitive: dict[str, Any], count: int, label: str) -> Array:
    """[count, 3] in 0..1, display-referred; white without a material.

    A texture that cannot be decoded counts as white: colors are an aid, motion is what the file is read for.

    Raises:
        InputError: An accessor or an index is damaged.
    """
    attributes = primitive.get("attributes", {})
    colors = np.ones((count, 3))
    if "COLOR_0" in attributes:
        given = read_accessor(document, attributes["COLOR_0"], f"COLOR_0 of {label}", ("VEC3", "VEC4"), count)
        colors = given[:, :3].astype(np.float64)
    if "material" in primitive:
        material = document.item("materials", primitive["material"], label)
        surface = material.get("pbrMetallicRoughness", {})
        factor = surface.get("baseColorFactor", [1.0, 1.0, 1.0, 1.0]) if isinstance(surface, dict) else []
        if isinstance(factor, list) and len(factor) == 4 and all(type(f) in (int, float) for f in factor):
            colors = colors * np.array(factor[:3], np.float64)
        texture = surface.get("baseColorTexture") if isinstance(surface, dict) else None
        if isinstance(texture, dict):
            place = f"TEXCOORD_{texture.get('texCoord', 0)}"
            image = _image(document, texture.get("index"), label) if place in attributes else None
            if image is not None:
                uv = read_accessor(document, attributes[place], f"{place} of {label}", ("VEC2",), count)
                colors = colors * _to_linear(_sampled(image, uv))
    return _to_display(colors.clip(0, 1)).astype(np.float32)


def _image(document: Document, index: Any, label: str) -> Array | None:
    """[H, W, 3] uint8, the mean of blocks where it is very large; None where the image is of an unknown kind."""
    texture = document.item("textures", index, label)
    if "source" not in texture:
        return None
    number = texture["source"]
    entry = document.item("images", number, f"a texture of {label}")
    if number not in document.textures:
        document.textures[number] = _decoded(document, entry, f"image {number}")
    return document.textures[number]


def _decoded(document: Document, entry: dict[str, Any], where: str) -> Array | None:
    if "bufferView" in entry:
        data = bytes(document.view(entry["bufferView"], where)[0])
    else:
        data = document.resource(entry.get("uri"), where)
    try:
        with warnings.catch_warnings():
            # a large texture is measured below
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as opened:
                width, height = check_size(*opened.size, f"{document.name}: {where}")
                document.charge(width * height // PIXELS)
                return pixels(opened, "RGB", -(-max(width, height) // SIDE))
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _sampled(image: Array, uv: Array) -> Array:
    """Colors [V, 3] in 0..1 of the nearest texel, the texture repeated."""
    height, width = image.shape[:2]
    x = np.floor((uv[:, 0] % 1.0) * width).astype(np.int64).clip(0, width - 1)
    y = np.floor((uv[:, 1] % 1.0) * height).astype(np.int64).clip(0, height - 1)
    return image[y, x] / 255.0


def _to_linear(values: Array) -> Array:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _to_display(values: Array) -> Array:
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
