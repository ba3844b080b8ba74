"""The `.4dgs` container written chunk by chunk, with the records and grids of the package `fourdgs`.

The package's own writer takes all Gaussians of all frames at once and holds each in about 600 bytes. A file of windows that
do not overlap needs no more than one of them in memory: its bytes are those that `fourdgs.write` would give, which a test
compares.

Source:
    The format's specification, github.com/avala-ai/4dgs, sections 5 and 6.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError

Numbers = NDArray[Any]
# what is used of the package's modules
USED = {
    "opcode": ("A_POSITION", "A_FLAGS", "SH_BAND_STREAM"),
    "quantization": ("Bounds", "Steps", "life_class", "morton_order", "motion_steps", "quantize", "quantize_rotation"),
    "records": ("ChunkIndexEntry", "Footer", "Header", "Quantization", "WindowTable", "encode_chunk"),
    "serialization": ("MAGIC", "crc32", "encode_stream", "put_record", "put_u8"),
}  # fmt: skip
# first and last coefficient of each band of spherical harmonics above degree 0
BANDS = {1: (0, 3), 2: (3, 8), 3: (8, 15)}
# bits of a positive float32 that count in the median: exponent and 8 of the mantissa, so that it is off by 0.2 % at most
MEDIAN_SHIFT = 15


class MedianScale:
    """The median of scales that come in parts, from counts by size."""

    def __init__(self) -> None:
        self._counts = torch.zeros(1 << (31 - MEDIAN_SHIFT), dtype=torch.int64)

    def add(self, scales: Tensor, times: int = 1) -> None:
        """Count positive scales [...] (float32) this many times."""
        bits = scales.contiguous().view(torch.int32).flatten() >> MEDIAN_SHIFT
        self._counts += times * torch.bincount(bits, minlength=len(self._counts))

    def value(self) -> float:
        """The middle of the range that holds the median."""
        below = self._counts.cumsum(0)
        index = int(torch.searchsorted(below, (int(below[-1]) + 1) // 2))
        bits = torch.tensor((index << MEDIAN_SHIFT) + (1 << (MEDIAN_SHIFT - 1)), dtype=torch.int32)
        return float(bits.view(torch.float32))


@dataclass(frozen=True)
class Contents:
    """What the head of a file says about all of its chunks.

    Attributes:
        count: Gaussians of all chunks.
        low: Least coordinates [3] of their centers, float32.
        high: Largest coordinates [3].
        median_scale: Their median scale, from which the format's grids follow.
        sh_degree: Degree of their spherical harmonics.
        windows: (start, stop) in seconds of every chunk, ascending.
        duration: Seconds of the file.
        attributes: Further text by name.
    """

    count: int
    low: Numbers
    high: Numbers
    median_scale: float
    sh_degree: int
    windows: Sequence[tuple[float, float]]
    duration: float
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])


class ChunkWriter:
    """A .4dgs file that is written in one go: head, chunks, index.

    Args:
        file: Open for writing.
        contents: What the chunks will hold.

    Raises:
        InputError: The installed package is of a version that has other records.
    """

    def __init__(self, file: BinaryIO, contents: Contents) -> None:
        parts = {name: _module(name, used) for name, used in USED.items()}
        self._op: Any = parts["opcode"]
        self._grid: Any = parts["quantization"]
        self._records: Any = parts["records"]
        self._bytes: Any = parts["serialization"]
        self._file, self._contents, self._place = file, contents, 0
        self._index: list[Any] = []
        self._bounds = self._grid.Bounds.for_profile("default", median_scale=contents.median_scale)
        self._steps = self._grid.Steps.of(self._bounds)
        self._origin = contents.low.astype(np.float64)
        self._put(self._bytes.MAGIC)
        self._put(self._header())
        self._put(self._quantization())
        self._put(self._records.WindowTable(windows=list(contents.windows)).encode())

    def add(self, window: tuple[float, float], piece: Mapping[str, Numbers]) -> None:
        """Write the Gaussians of one window.

        Args:
            window: One of the contents' windows.
            piece: positions, scales, motions [n, 3], rotations [n, 4] xyzw, colors [n, 4], mu_t [n], sh [n, 3·coefficients].

        Raises:
            ValueError: A number is infinite, or too far from the others for the format's grids.
        """
        for name, values in piece.items():
            if not np.isfinite(values).all():
                raise ValueError(f"{name} are not finite")
        order = self._grid.morton_order(piece["positions"])
        # what is beyond 64 bits is beyond the 32 of a stream, which says so
        with np.errstate(invalid="ignore"):
            streams = b"".join(
                self._bytes.encode_stream(code, values[order], channels=values[0].size)
                for code, values in self._grids(window, piece)
            )
        chunk = self._records.encode_chunk(*window, 0, len(order), streams)
        place = self._put(chunk)
        bands: list[tuple[int, int, int]] = []
        coefficients = piece["sh"].shape[1] // 3
        for band, (first, last) in list(BANDS.items())[: self._contents.sh_degree]:
            columns = [c * coefficients + k for c in range(3) for k in range(first, last)]
            values = piece["sh"][np.ix_(order, columns)].astype(np.int64)
            code = self._op.SH_BAND_STREAM
            stream = self._bytes.encode_stream(code, values, channels=len(columns))
            record = self._bytes.put_record(code, self._bytes.put_u8(band) + stream)
            bands.append((band, self._put(record), len(record)))
        self._index.append(
            self._records.ChunkIndexEntry(
                t0=window[0],
                t1=window[1],
                chunk_offset=place,
                chunk_length=len(chunk),
                gaussian_count=len(order),
                bands=bands,
            )
        )

    def finish(self) -> None:
        """Write the index of the chunks."""
        start = self._place
        summary = b"".join(entry.encode() for entry in self._index)
        self._put(summary)
        footer = self._records.Footer(summary_start=start, summary_crc=self._bytes.crc32(summary))
        self._put(footer.encode())
        self._put(self._bytes.MAGIC)

    def _put(self, data: bytes) -> int:
        """Write bytes; returns where they start."""
        place = self._place
        self._file.write(data)
        self._place += len(data)
        return place

    def _header(self) -> bytes:
        contents = self._contents
        return self._records.Header(
            duration_sec=contents.duration,
            gaussian_count=contents.count,
            aabb=[float(v) for v in (*contents.low, *contents.high)],
            library="gs4d-studio",
            sh_degree=contents.sh_degree,
            attributes=dict(contents.attributes),
        ).encode()

    def _quantization(self) -> bytes:
        names = ("pos", "scale_log", "rot", "rgb", "alpha", "motion", "time", "sigma_log", "sh")
        return self._records.Quantization(
            scheme="uniform-v1",
            pos_origin=self._origin.tolist(),
            **{f"step_{name}": getattr(self._steps, name) for name in names},
            bounds=self._bounds.as_strings(),
        ).encode()

    def _grids(self, window: tuple[float, float], piece: Mapping[str, Numbers]) -> list[tuple[int, Numbers]]:
        """(attribute, whole numbers [n] or [n, c]) in the format's order."""
        op, grid, steps = self._op, self._grid, self._steps
        count = len(piece["positions"])
        # Gaussians that never fade have no sigma
        zeros, ones = np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64)
        scales = np.log(np.maximum(piece["scales"].astype(np.float64), 1e-30))
        largest, others = grid.quantize_rotation(piece["rotations"], steps.rot)
        r, g, b = grid.quantize(piece["colors"][:, :3], steps.rgb).T
        lifetime = np.full(count, window[1] - window[0])
        classes = grid.life_class(zeros, steps.sigma_log, ones.astype(bool), lifetime)
        speed = grid.motion_steps(classes, steps.motion)[:, None]
        return [
            (op.A_POSITION, grid.quantize(piece["positions"], steps.pos, self._origin)),
            (op.A_SCALE, grid.quantize(scales, steps.scale_log)),
            (op.A_ROTATION_INDEX, largest),
            (op.A_ROTATION, others),
            # green, and what red and blue differ from it
            (op.A_COLOR, np.stack([g, r - g, b - g], axis=1)),
            (op.A_OPACITY, grid.quantize(piece["colors"][:, 3], steps.alpha)),
            (op.A_MOTION, np.rint(piece["motions"].astype(np.float64) / speed).astype(np.int64)),
            (op.A_MU_T, np.rint(piece["mu_t"].astype(np.float64) / steps.time).astype(np.int64)),
            (op.A_SIGMA_T, zeros),
            (op.A_FLAGS, ones),
            (op.A_WINDOW_INDEX, np.full(count, self._contents.windows.index(window))),
        ]


def _module(name: str, used: Sequence[str]) -> ModuleType:
    """A module of the package, if it has what is used of it."""
    try:
        found = importlib.import_module(f"fourdgs.{name}")
    except ImportError:
        found = None
    if found is None or any(not hasattr(found, each) for each in used):
        raise InputError(
            "IO-092",
            "The installed package fourdgs is not of a version that this pack knows: install version 0.6.",
        )
    return found
