"""Accessors of a glTF document as arrays: strides, sparse values, normalized integers.

Source: Khronos Group, glTF 2.0 specification, section 3.6.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .document import Document

Array = NDArray[Any]

TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
# elements of an accessor without bytes of its own, which no file size bounds
MOST_IMPLIED = 5_000_000


def read_accessor(
    document: Document, index: Any, where: str, kinds: tuple[str, ...], count: int | None = None
) -> Array:
    """The values of an accessor; floats and normalized integers as float32, other integers in their own type.

    Args:
        document: The file.
        index: Of the accessor.
        where: What asks for it, for messages.
        kinds: Allowed types, such as ("VEC3",).
        count: How many elements are expected; None allows any.

    Returns:
        [count], or [count, components] where there is more than one.

    Raises:
        InputError: The accessor is of another type, has another count, claims more than the file holds, or uses its data too
            often (`Document.charge`).
    """
    entry = document.item("accessors", index, where)
    kind, number = entry.get("type"), entry.get("count")
    dtype = TYPES.get(entry.get("componentType"))  # pyright: ignore[reportArgumentType]
    if kind not in kinds or dtype is None or type(number) is not int or number < 0:
        raise InputError(
            "GLT-018",
            f"{document.name}: {where} is {str(kind)[:20]} of type {str(entry.get('componentType'))[:20]} instead of "
            f"{' or '.join(kinds)}. The file is damaged; export it again.",
        )
    if count is not None and number != count:
        raise InputError(
            "GLT-019",
            f"{document.name}: {where} has {number} elements instead of {count}. The number of vertices must not change; "
            "export the file again.",
        )
    columns = COMPONENTS[kind]
    if entry.get("bufferView") is not None:
        values = _elements(document, entry, number, columns, np.dtype(dtype), where)
    elif number > MOST_IMPLIED:
        raise InputError(
            "GLT-020",
            f"{document.name}: {where} claims {number:,} elements without data. The file is damaged; export it again.",
        )
    else:
        document.charge(number * columns)
        values = np.zeros((number, columns), dtype)
    if isinstance(entry.get("sparse"), dict):
        values = _with_sparse(document, entry["sparse"], values, where)
    if entry.get("normalized") and values.dtype.kind in "iu":
        values = np.maximum(values.astype(np.float32) / np.iinfo(values.dtype).max, -1.0)
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise InputError(
                "GLT-021", f"{document.name}: {where} contains NaN or infinite values. Export the file again."
            )
    return values[:, 0] if columns == 1 else values


def _elements(
    document: Document, entry: dict[str, Any], count: int, columns: int, dtype: np.dtype[Any], where: str
) -> Array:
    """[count, columns] of the buffer view that an entry names, after checking that it holds them."""
    data, stride = document.view(entry["bufferView"], where)
    size, start = columns * dtype.itemsize, entry.get("byteOffset", 0)
    stride = stride or size
    need = start + (count - 1) * stride + size if type(start) is int and count else 0
    if type(start) is not int or start < 0 or stride < size or need > len(data):
        raise InputError(
            "GLT-022",
            f"{document.name}: {where} claims {count:,} elements ({need:,} bytes), but its data has {len(data):,} bytes. The "
            "file is damaged or cut short; export it again.",
        )
    if count == 0:
        return np.zeros((0, columns), dtype)
    document.charge(count * columns)
    return np.ndarray((count, columns), dtype, data, start, (stride, dtype.itemsize)).copy()


def _with_sparse(document: Document, sparse: dict[str, Any], values: Array, where: str) -> Array:
    count, at, new = sparse.get("count", -1), sparse.get("indices", {}), sparse.get("values", {})
    dtype = TYPES.get(at.get("componentType"), "")
    is_known = type(count) is int and 0 <= count <= len(values) and dtype in ("<u1", "<u2", "<u4")
    if not is_known or "bufferView" not in at or "bufferView" not in new:
        raise InputError(
            "GLT-023", f"{document.name}: the sparse values of {where} are damaged. Export the file again."
        )
    rows = _elements(document, at, count, 1, np.dtype(dtype), where)[:, 0]
    changed = _elements(document, new, count, values.shape[1], values.dtype, where)
    if count and int(rows.max()) >= len(values):
        raise InputError(
            "GLT-024",
            f"{document.name}: a sparse value of {where} is element {int(rows.max())} of {len(values)}. The file is damaged; "
            "export it again.",
        )
    values[rows] = changed
    return values
