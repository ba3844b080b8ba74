"""Pickles from strangers, such as FLAME's: arrays and texts are taken out, and nothing that they name is ever called.

Every class that such a file may name is replaced by a stand-in that only remembers what it was given; what the stand-ins
hold becomes arrays here. SciPy and chumpy are not needed. Any other class is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.paths import open_regular, printable

LARGEST = 500 * 10**6  # bytes; FLAME has 50 to 150 million
MOST_NUMBERS = LARGEST // 4  # of one array that is stored as a sparse one


class _Inert:
    """Remembers what a pickle would have made an object of."""

    args: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Inert): ...


class _DType(_Inert): ...


class _Scalar(_Inert): ...


class _Columns(_Inert):
    """A sparse matrix by columns."""


class _Rows(_Inert):
    """A sparse matrix by rows."""


class _Chumpy(_Inert): ...


class _Object(_Inert): ...


class _Call:
    """A function that a pickle may call: a harmless one of ours. It takes no attributes."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function was given a state")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in an unknown encoding")
    return text.encode("latin1")


def _reconstructor(kind: Any, *_: Any) -> _Inert:
    # not whatever class it is, but one of the stand-ins
    if not (isinstance(kind, type) and issubclass(kind, _Inert)):
        raise pickle.UnpicklingError("an object of an unknown class")
    return kind()


_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_SPARSE = {"csc": _Columns, "csr": _Rows}
_KNOWN: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): _Array for module in _ARRAY_MODULES},
    **{(module, "scalar"): _Scalar for module in _ARRAY_MODULES},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _Call(_encode),
    ("copy_reg", "_reconstructor"): _Call(_reconstructor),
    ("copyreg", "_reconstructor"): _Call(_reconstructor),
    ("__builtin__", "object"): _Object,
    ("builtins", "object"): _Object,
    **{(f"scipy.sparse.{n}", f"{n}_matrix"): kind for n, kind in _SPARSE.items()},
    **{(f"scipy.sparse._{n}", f"{n}_matrix"): kind for n, kind in _SPARSE.items()},
    ("chumpy.ch", "Ch"): _Chumpy,
    ("collections", "OrderedDict"): _Call(lambda *pairs: dict(*pairs)),
}
# what chumpy computed lies in these modules under many names; all become the same stand-in
_CHUMPY = ("chumpy.reordering", "chumpy.ch_ops")


# the interpreter's own C unpickler takes memory for whatever index a file claims
class _Unpickler(pickle._Unpickler):  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportUntypedBaseClass, reportAttributeAccessIssue]
    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")  # pyright: ignore[reportUnknownMemberType]
        self._file_name = name

    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get((module, name))
        if found is None and module in _CHUMPY:
            found = _Chumpy
        if found is None:
            raise InputError(
                "HED-004",
                f"{self._file_name} names {printable(f'{module}.{name}')[:120]}, which a head model does not need and "
                "could run code. Nothing was run; use a file from the official source.",
            )
        return found


def read_pickle(path: Path, name: str) -> dict[str, Any]:
    """The dictionary in a pickle, its values not yet arrays (`array_of`). InputError where it is unsafe or damaged."""
    with open_regular(path) as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise too_large(name)
    try:
        value = _Unpickler(data, name).load()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    except InputError:
        raise
    # a damaged pickle fails in every way that its instructions can
    except Exception as error:
        raise InputError(
            "HED-005",
            f"{name} cannot be read as a pickle ({type(error).__name__}). It is damaged or of another kind; download it "
            "again.",
        ) from error
    if not isinstance(value, dict):
        raise InputError("HED-006", f"{name} does not hold a dictionary of arrays; select another file.")
    return {key: item for key, item in value.items() if isinstance(key, str)}  # pyright: ignore[reportUnknownVariableType]


def too_large(name: str) -> InputError:
    """The error for a file above LARGEST."""
    return InputError(
        "HED-007",
        f"{name} has more than {LARGEST // 10**6} MB, far more than a head model or its parameters need. Select another "
        "file.",
    )


def array_of(value: Any, name: str) -> NDArray[Any]:
    """The array that `value` of `read_pickle` stands for; `name` (file and key) is for messages. Raises InputError."""
    if isinstance(value, _Chumpy):
        state: Any = value.state
        if not isinstance(state, dict) or isinstance(state.get("x"), _Chumpy | None):
            raise InputError(
                "HED-008",
                f"{name} is a chumpy expression instead of stored numbers; use the model file without chumpy, or export "
                "it as .npz.",
            )
        return array_of(state["x"], name)
    try:
        if isinstance(value, _Array):
            return _array(value, name)
        if isinstance(value, _Rows | _Columns):
            return _dense(value, name)
        if isinstance(value, _Scalar):
            kind, data = value.args
            return np.frombuffer(_raw(data), _dtype(kind, name), 1).reshape(())
        made = np.asarray(value)
    except InputError:
        raise
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError, RecursionError) as error:
        raise InputError("HED-009", f"{name} is damaged; download the file again.") from error
    if made.dtype.kind not in "iuf":
        raise _no_numbers(name)
    return made


def _no_numbers(name: str) -> InputError:
    return InputError("HED-010", f"{name} holds Python objects instead of numbers, which are not read.")


def _dtype(value: Any, name: str) -> np.dtype[Any]:
    text = value.args[0] if isinstance(value, _DType) and value.args else ""
    text = text.decode("latin1") if isinstance(text, bytes) else text
    if not isinstance(text, str) or not re.fullmatch(r"[<>|=]?([iu][1248]|f[248])", text):
        raise _no_numbers(name)
    order = value.state[1] if value.state is not None else "="
    dtype = np.dtype(text)
    return dtype.newbyteorder(order) if order in ("<", ">") else dtype


def _raw(data: Any) -> bytes:
    # Python 2 pickles have texts where bytes are meant
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _array(value: _Array, name: str) -> NDArray[Any]:
    state: tuple[Any, ...] = tuple(value.state or ())
    shape, kind, by_columns, data = state[-4:]
    dtype = _dtype(kind, name)
    if isinstance(data, list):
        raise _no_numbers(name)
    sizes = [int(n) for n in shape]
    raw = _raw(data)
    if any(n < 0 for n in sizes) or math.prod(sizes) * dtype.itemsize != len(raw):
        raise ValueError("the array's size is not that of its data")
    flat = np.frombuffer(raw, dtype)
    return flat.reshape(sizes, order="F" if by_columns else "C").astype(dtype.newbyteorder("="))


def _dense(value: _Inert, name: str) -> NDArray[Any]:
    """A sparse matrix written out."""
    state: Any = value.state
    rows, columns = (int(n) for n in state.get("_shape", state.get("shape")))
    data, indices, starts = (array_of(state[key], name) for key in ("data", "indices", "indptr"))
    along, across = (columns, rows) if isinstance(value, _Columns) else (rows, columns)
    counts = np.diff(starts)
    fits = (
        min(rows, columns) >= 0
        and rows * columns <= MOST_NUMBERS
        and len(starts) == along + 1
        and bool((counts >= 0).all())
        and int(starts[0]) == 0
        and int(starts[-1]) == len(data) == len(indices)
        and (len(indices) == 0 or 0 <= int(indices.min()) <= int(indices.max()) < across)
    )
    if not fits:
        raise ValueError("the sparse matrix contradicts itself")
    made = np.zeros((along, across), data.dtype)
    np.add.at(made, (np.repeat(np.arange(along), counts), indices), data)
    return made.T if isinstance(value, _Columns) else made
