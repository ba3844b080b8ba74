"""What fuzzing does to a valid file: bits, lengths, numbers that do not fit, nesting, names, empty sizes, strides."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

NUMBERS: list[Any] = [
    float("nan"), float("inf"), float("-inf"), 1e300, -1e300, 1e-300, 1e39, -1, 0, -0.0, 0.5, 1.5, 2**31, 2**53 + 1,
    2**63, 2**64, -(2**63), 10**310, 10**4100, True, False, None,
]  # fmt: skip
TEXTS = [
    "", " ", "²", "٣", "1e999", "NaN", "-", "\0", "\n", "a\nb\x1b[31mc", "\u202e", "\ud800", "..", "../x", "/etc/passwd",
    "C:\\x", "http://x.y/z", "<img src=x onerror=alert(1)>", "x" * 300, "é" * 200, "y" * 100_000, "z/" * 500, "%s%n{}",
]  # fmt: skip
WORDS = [
    b"NaN", b"nan", b"inf", b"1e300", b"-1e300", b"-1", b"0", b"1e999", b"9223372036854775808", b"18446744073709551616",
    "²".encode(), "٣".encode(), b"", b"[]", b"null", b'"x"', b"1" * 5000, b"1.5", b"\xff", b"a" * 400, b"\x00", b"1_0",
]  # fmt: skip
PACKED = [
    struct.pack(form, value)
    for form, values in {
        "<f": (float("nan"), float("inf"), -1.0, 0.0, 3e38, 1e-45),
        "<d": (float("nan"), float("inf"), -1.0, 0.0, 1e300),
        "<i": (-1, 0, 1, 2**31 - 1, -(2**31)),
        "<q": (-1, 0, 2**63 - 1, -(2**63), 2**40),
    }.items()
    for value in values
]


def mutate(folder: Path, choose: Random) -> str:
    """Change one to three things in the files of `folder`, and say what."""
    done: list[str] = []
    for _ in range(choose.choice([1, 1, 1, 2, 3])):
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
        if not files:
            break
        # a folder has one description and many images: each kind of file is as likely
        kind = choose.choice(sorted({p.suffix for p in files}))
        path = choose.choice([p for p in files if p.suffix == kind])
        done.append(f"{path.relative_to(folder)}: {_change(path, choose)}")
    return "; ".join(done)


def _change(path: Path, choose: Random) -> str:
    if choose.random() < 0.04:
        return _move(path, choose)
    data = path.read_bytes()
    changes = [*BY_SUFFIX.get(path.suffix, []), *([_words] if _is_text(data) else [])]
    change = choose.choice(changes) if changes and choose.random() < 0.75 else _bytes
    try:
        path.write_bytes(change(data, choose))
    except Exception:
        # an earlier change left nothing that this one could work on, or this one cannot be written in the format
        change = _bytes
        path.write_bytes(change(data, choose))
    return change.__name__.strip("_")


def _move(path: Path, choose: Random) -> str:
    """Another name, or another kind of file under the same one."""
    kind = choose.randrange(4)
    if kind == 0:
        path.unlink()
        return "removed"
    if kind == 1:
        path.unlink()
        path.mkdir()
        return "a folder"
    if kind == 2:
        path.unlink()
        path.symlink_to(choose.choice([path.name, "/etc/hostname", "nowhere"]))
        return "a link"
    other = choose.choice(["a\nb", "<b>x", "w" * 200, "\x1b[31m", "-1", "9" * 60, "²"])
    path.rename(path.with_name(other + path.suffix))
    return "renamed"


def _is_text(data: bytes) -> bool:
    return b"\0" not in data[:4000] and re.search(rb"\d", data[:4000]) is not None


def _bytes(data: bytes, choose: Random) -> bytes:
    """Flip, cut, repeat, insert, or write a number in place."""
    at = choose.randrange(len(data) + 1)
    if choose.random() < 0.3:
        # the first bytes are where sizes are claimed
        at = choose.randrange(min(len(data), 64) + 1)
    kind = choose.randrange(7)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([choose.randrange(256)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + data[at : at + 40] * 2 + data[at + 40 :]
    if kind == 3:
        return data[:at] + bytes(choose.randrange(1, 60)) + data[at:]
    if kind == 4:
        return data[:at] + data[at + choose.randrange(1, 60) :]
    if kind == 5 and data:
        at = min(at, len(data) - 1)
        return data[:at] + bytes([data[at] ^ 1 << choose.randrange(8)]) + data[at + 1 :]
    packed = choose.choice(PACKED)
    at -= at % len(packed) if choose.random() < 0.7 else 0
    return data[:at] + packed + data[at + len(packed) :]


def _words(data: bytes, choose: Random) -> bytes:
    """A number or a name in a text becomes something else."""
    found = list(re.finditer(rb"[-+.\w]+", data[:50_000]))
    numbers = [m for m in found if m[0][:1].isdigit() or m[0][:1] == b"-"]
    match = choose.choice(numbers if numbers and choose.random() < 0.7 else found)
    word = choose.choice(WORDS)
    if choose.random() < 0.2:
        word = choose.choice(TEXTS).encode("utf-8", "surrogatepass")
    return data[: match.start()] + word + data[match.end() :]


# -- JSON -------------------------------------------------------------------------------------------------------------


def _json(data: bytes, choose: Random) -> bytes:
    return _dumped(change_value(json.loads(data), choose))


def _dumped(value: Any) -> bytes:
    # by parts: the interpreter refuses to print whole numbers of thousands of digits
    big = "a number of 4100 digits"
    text = json.dumps(_replaced(value, big))
    return text.replace(json.dumps(big), "9" * 4101).encode()


def _replaced(value: Any, big: str) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(v, big) for key, v in value.items()}
    if isinstance(value, list):
        return [_replaced(v, big) for v in value]
    return big if type(value) is int and abs(value) > 10**4000 else value


def odd_value(choose: Random) -> Any:
    """A value that some description should not hold."""
    kind = choose.randrange(5)
    if kind == 0:
        return choose.choice(TEXTS)
    if kind == 1:
        nested: Any = []
        for _ in range(choose.choice([1, 3, 90, 110])):
            nested = [nested]
        return choose.choice([[], {}, [[]], {"a": 1}, [1, "x"], [None], nested, [0] * 5000])
    return choose.choice(NUMBERS)


def change_value(value: Any, choose: Random) -> Any:
    """`value` with something in it replaced, left out, or added."""
    places: list[tuple[Any, Any]] = []

    def collect(holder: Any) -> None:
        for key in holder if isinstance(holder, dict) else range(len(holder)):
            places.append((holder, key))
            if isinstance(holder[key], dict | list):
                collect(holder[key])

    if not isinstance(value, dict | list) or not value:
        return odd_value(choose)
    collect(value)
    # keys before numbers in matrices: every key is as likely as all the numbers of one list
    named = [place for place in places if isinstance(place[0], dict)]
    holder, key = choose.choice(named if named and choose.random() < 0.6 else places)
    kind = choose.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.append(holder[key])
    elif kind == 1:
        holder[choose.choice(TEXTS)] = holder[key]
    elif kind == 2 and isinstance(holder[key], list):
        holder[key] = holder[key][: choose.randrange(len(holder[key]) + 1)]
    elif kind == 3 and isinstance(holder[key], int | float):
        holder[key] = holder[key] * choose.choice([-1, 0, 1e30, 1e-30, 1000])
    else:
        holder[key] = odd_value(choose)
    return value


# -- tensors ----------------------------------------------------------------------------------------------------------


def _safetensors(data: bytes, choose: Random) -> bytes:
    """The description, or the table of contents, changed; lengths stay right."""
    size = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + size])
    inner = [key for key, text in table.get("__metadata__", {}).items() if text[:1] in "{["]
    if inner and choose.random() < 0.8:
        key = choose.choice(inner)
        table["__metadata__"][key] = _dumped(
            change_value(json.loads(table["__metadata__"][key]), choose)
        ).decode()
    else:
        table = change_value(table, choose)
    text = _dumped(table)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _tensors(data: bytes, choose: Random) -> bytes:
    """One tensor of a .safetensors file changed."""
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size]).get("__metadata__")
    tensors = load(data)
    name = choose.choice(sorted(tensors))
    changed = odd_tensor(tensors[name], choose)
    del tensors[name]
    if changed is not None:
        tensors[name] = changed.contiguous()
    return save(tensors, metadata)


def odd_tensor(tensor: torch.Tensor, choose: Random) -> torch.Tensor | None:
    """`tensor` with a number, its shape or its type changed; None = left out."""
    kind = choose.randrange(8)
    if kind == 0:
        return None
    if kind == 1:
        return tensor[:0] if tensor.ndim else tensor.new_zeros(0)
    if kind == 2:
        return tensor[None] if choose.random() < 0.5 else tensor.flatten()
    if kind == 3:
        types = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
        return tensor.to(choose.choice(types))
    if kind == 4:
        return tensor[: max(len(tensor) - 1, 0)] if tensor.ndim else tensor
    result = tensor.clone()
    flat = result.view(-1)
    if not flat.numel():
        return result
    at = choose.randrange(flat.numel())
    if result.is_floating_point():
        flat[at] = choose.choice([float("nan"), float("inf"), 3e38, -3e38, 1e300, 1e-45, 0.0, -1.0])
    elif result.dtype != torch.bool:
        top = torch.iinfo(result.dtype)
        flat[at] = choose.choice([top.max, top.min, 0])
    if choose.random() < 0.3:
        flat[:] = flat[at].clone()
    return result


def _pth(data: bytes, choose: Random) -> bytes:
    """One tensor of torch's own file changed; strides of zero claim what is not stored."""
    state = torch.load(io.BytesIO(data), weights_only=True)
    name = choose.choice(sorted(state))
    kind = choose.randrange(5)
    one = torch.zeros(1)
    odd: list[Callable[[], Any]] = [
        lambda: one.expand(1 << 20, 1 << 12), lambda: torch.zeros(4, 4).to_sparse(), lambda: torch.zeros(3, 3, device="meta"),
        lambda: torch.zeros(3, dtype=torch.complex64), lambda: "text", lambda: None, lambda: [one],
        lambda: torch.quantize_per_tensor(one, 0.1, 0, torch.qint8), lambda: torch.zeros(2, 5).T, lambda: torch.tensor(1.0),
    ]  # fmt: skip
    changed = odd_tensor(state[name], choose) if kind < 3 else choose.choice(odd)()
    del state[name]
    if changed is not None:
        state[name] = changed
    if kind == 4 and choose.random() < 0.2:
        state = choose.choice([[1], {}, one, {1: one}, {"a": {"b": one}}])
    target = io.BytesIO()
    torch.save(state, target)
    return target.getvalue()


def _odd_array(array: Any, choose: Random) -> Any:
    kind = choose.randrange(7)
    if kind == 0:
        return array[:0] if array.ndim else array
    if kind == 1:
        return array[None] if choose.random() < 0.5 else array.reshape(-1)
    if kind == 2:
        with np.errstate(all="ignore"):
            return array.astype(choose.choice(["f2", ">f8", "i1", "u8", "c8", "U3", "?", "f4", "M8[s]"]))
    if kind == 3:
        return array[:-1] if array.ndim else array
    if kind == 4:
        return np.asfortranarray(array)
    array = array.copy()
    if array.size:
        numbers: list[Any] = (
            [float("nan"), float("inf"), 1e300, -1.0] if array.dtype.kind == "f" else [-1, 0, 2**31 - 1]
        )
        with np.errstate(all="ignore"):
            array.reshape(-1)[choose.randrange(array.size)] = np.array(choose.choice(numbers)).astype(
                array.dtype
            )
    return array


def _npy(data: bytes, choose: Random) -> bytes:
    target = io.BytesIO()
    np.save(target, _odd_array(np.load(io.BytesIO(data)), choose))
    return target.getvalue()


def _npz(data: bytes, choose: Random) -> bytes:
    with np.load(io.BytesIO(data)) as file:
        arrays = dict(file)
    name = choose.choice(sorted(arrays))
    if choose.random() < 0.2:
        del arrays[name]
    else:
        arrays[name] = _odd_array(arrays[name], choose)
    target = io.BytesIO()
    np.savez(target, **arrays)
    return target.getvalue()


# -- containers -------------------------------------------------------------------------------------------------------


def _gzip(data: bytes, choose: Random) -> bytes:
    return gzip.compress(_bytes(gzip.decompress(data), choose), 1)


def _glb(data: bytes, choose: Random) -> bytes:
    size = int.from_bytes(data[12:16], "little")
    text = _dumped(change_value(json.loads(data[20 : 20 + size]), choose))
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    return data[:8] + struct.pack("<III", 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest


def _player_file(data: bytes, choose: Random) -> bytes:
    """The header changed; its length stays right, and blocks lie where they did."""
    size = int.from_bytes(data[8:12], "little")
    text = _dumped(change_value(json.loads(data[12 : 12 + size]), choose))
    return data[:8] + len(text).to_bytes(4, "little") + text + data[12 + size :]


def _png(data: bytes, choose: Random) -> bytes:
    """Another size or kind of pixel in the header, with a right checksum."""
    header = bytearray(data[16:29])
    if choose.random() < 0.6:
        at = choose.choice([0, 4])
        header[at : at + 4] = struct.pack(">I", choose.choice([0, 1, 7, 12_300, 65_535, 2**31 - 1]))
    else:
        header[8:10] = bytes([choose.choice([1, 2, 4, 8, 16]), choose.choice([0, 2, 3, 4, 6, 9])])
    return data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]


BY_SUFFIX: dict[str, list[Callable[[bytes, Random], bytes]]] = {
    ".json": [_json, _json],
    ".gltf": [_json, _json],
    ".glb": [_glb, _glb],
    ".safetensors": [_safetensors, _tensors, _tensors],
    ".pth": [_pth, _pth],
    ".npy": [_npy],
    ".npz": [_npz],
    ".spz": [_gzip, _gzip],
    ".png": [_png],
    ".gs4dclip": [_player_file, _player_file, _player_file],
}
