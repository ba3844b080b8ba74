"""Prepared frames on disk: uncompressed images one after the other, then where each of them lies.

Files are read into memory of their own instead of being mapped: memory in use stays that of one frame however large the file,
and a disk that fails raises an error instead of ending the process.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import IO, NamedTuple

import torch

from ..scene.video import Frame

FORMAT = b"gs4d-frames-1"
# at the end of a file: bytes of the index before it, and FORMAT
_END = struct.Struct(f"<Q{len(FORMAT)}s")


class Place(NamedTuple):
    """Where one frame lies: depth [H, W] float32, image [H, W, 3] and mask [H, W] uint8, those that it has."""

    offset: int
    height: int
    width: int
    has_mask: bool
    has_depth: bool

    @property
    def size(self) -> int:
        """Bytes."""
        return self.height * self.width * (3 + self.has_mask + 4 * self.has_depth)


class FrameWriter:
    """Writes frames to an open file; `finish` completes it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: list[Place] = []
        self._end = 0

    def add(self, frame: Frame) -> None:
        """Append a frame. Raises OSError (a full disk …)."""
        height, width = frame.image.shape[:2]
        place = Place(self._end, height, width, frame.mask is not None, frame.depth is not None)
        for plane in (frame.depth, frame.image, frame.mask):
            if plane is not None:
                self._file.write(plane.contiguous().numpy().data)
        self._places.append(place)
        self._end += place.size

    def finish(self) -> None:
        """Append the index. Raises OSError."""
        index = json.dumps(self._places).encode()
        self._file.write(index + _END.pack(len(index), FORMAT))


def read_index(path: Path) -> list[Place]:
    """Where the frames of a file lie. Raises OSError, and ValueError where it is not whole."""
    with open(path, "rb") as file:
        total = file.seek(0, os.SEEK_END)
        file.seek(max(total - _END.size, 0))
        tail = file.read()
        if len(tail) != _END.size:
            raise ValueError("too short")
        size, kind = _END.unpack(tail)
        if kind != FORMAT or size > total - _END.size:
            raise ValueError("not a file of frames")
        file.seek(total - _END.size - size)
        places = [Place(*entry) for entry in json.loads(file.read(size))]
    if sum(place.size for place in places) != total - _END.size - size:
        raise ValueError("damaged")
    return places


def read_frame(path: Path, place: Place) -> Frame:
    """One frame, bit for bit as it was written. Raises OSError."""
    memory = torch.empty(place.size, dtype=torch.uint8)
    # unbuffered, straight into the tensor; another process may remove the file afterward
    with open(path, "rb", buffering=0) as file:
        file.seek(place.offset)
        rest = memory.numpy().data
        while rest:
            count = file.readinto(rest)
            if not count:
                raise OSError(f"{path.name} ends early")
            rest = rest[count:]
    shape, pixels = (place.height, place.width), place.height * place.width
    start = 4 * pixels if place.has_depth else 0
    depth = memory[:start].view(torch.float32).view(shape) if place.has_depth else None
    image = memory[start : start + 3 * pixels].view(*shape, 3)
    mask = memory[start + 3 * pixels :].view(shape) if place.has_mask else None
    return Frame(image, mask, depth)
