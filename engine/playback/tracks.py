"""Tracks of a player file: values at knots, their interpolation and their compression.

A track stores c numbers for each of M Gaussians at each of K knots, rounded to whole numbers of `bits` bits between the
lowest and the highest value per channel. Packing stores differences to the previous knot, channel by channel, low bytes
before high bytes, and deflates them; adjacent knots are similar, so most bytes are small. Segments of long scenes may
also predict along a straight line, and from a neighbor in space (`Prediction`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError

CHANNELS = {"position": 3, "rotation": 3, "scale": 3, "opacity": 1, "color": 3}
INTERPOLATIONS = ("cubic", "linear", "hold")
# bytes that one unpacked track may have: in all, and for its packed ones beyond a few (deflate makes at most 1032 of one)
LARGEST, SMALL, PER_BYTE = 1 << 32, 1 << 26, 1100
# zlib level, memory level and strategy; the smaller stream is kept. What trained motion leaves is noise, in which repeated
# bytes are a coincidence: looking for runs alone and adapting the codes every 2048 numbers packs it 7 % better and faster
PACKERS = ((7, 8, zlib.Z_DEFAULT_STRATEGY), (7, 5, zlib.Z_RLE))


@dataclass(frozen=True, eq=False)
class Track:
    """Quantized values: value = low + (high − low) · whole / (2^bits − 1).

    Attributes:
        name: One of CHANNELS.
        bits: 1 to 16.
        low: [c] float64.
        high: [c] float64.
        whole: [K, M, c] uint8 if bits ≤ 8, else uint16.
    """

    name: str
    bits: int
    low: Tensor
    high: Tensor
    whole: NDArray[Any]

    def values(self, which: slice = slice(None)) -> Tensor:
        """[K, M, c] float32, or those of some of the M."""
        step = (self.high - self.low) / (2**self.bits - 1)
        whole = torch.from_numpy(self.whole[:, which].astype(np.float32))
        return whole * step.float() + self.low.float()


def quantize(name: str, values: Tensor, bits: int) -> Track:
    """The track of `values` [K, M, c], each channel between its own extremes."""
    flat = values.reshape(-1, values.shape[-1])
    low, high = flat.amin(0).double(), flat.amax(0).double()
    span = torch.where(high > low, high - low, 1.0)
    result = np.empty(tuple(values.shape), dtype=_dtype(bits))
    # knot by knot, since all of them in double precision are large
    for whole, row in zip(result, values, strict=True):
        whole[:] = ((row.double() - low) / span * (2**bits - 1)).round().clamp(0, 2**bits - 1).numpy()
    return Track(name, bits, low, high, result)


@dataclass(frozen=True)
class Prediction:
    """What packing subtracts from a track's whole numbers before it deflates them.

    Attributes:
        order: 1 subtracts the previous knot, 2 what the two previous knots predict along a straight line.
        is_spatial: Whether the same of the previous Gaussian, a neighbor in space, is subtracted from the result.
        folds: Whether signed results of 16 bits are stored as 0, −1, 1, −2, … → 0, 1, 2, 3, …
    """

    order: int = 1
    is_spatial: bool = False
    folds: bool = False

    def left(self, values: NDArray[Any]) -> NDArray[Any]:
        """What is left of whole numbers [K, M], which wrap around."""
        left = values.copy()
        left[1:] -= values[:-1]
        if self.order == 2:
            left[2:] = left[2:] - left[1:-1]
        if self.is_spatial:
            left[:, 1:] = left[:, 1:] - left[:, :-1]
        if self.folds and left.itemsize == 2:
            signed = left.view(np.int16)
            return ((signed << 1) ^ (signed >> 15)).view(np.uint16)
        return left

    def values(self, left: NDArray[Any]) -> NDArray[Any]:
        """The whole numbers [K, M] of which `left` is left."""
        if self.folds and left.itemsize == 2:
            left = (left >> 1) ^ (0 - (left & 1)).astype(np.uint16)
        if self.is_spatial:
            left = np.cumsum(left, axis=1, dtype=left.dtype)
        if self.order == 2:
            left = np.concatenate([left[:1], np.cumsum(left[1:], axis=0, dtype=left.dtype)])
        return np.cumsum(left, axis=0, dtype=left.dtype)


# version 1 of the player file
FROM_KNOT = Prediction()
# of which `best_prediction` chooses
PREDICTIONS = tuple(Prediction(order, spatial, True) for order in (1, 2) for spatial in (False, True))
# Gaussians that are packed to choose
TRIED = 2048


def best_prediction(track: Track) -> Prediction:
    """The one of PREDICTIONS that packs some of the Gaussians best."""
    start = max(0, (track.whole.shape[1] - TRIED) // 2)
    some = Track(track.name, track.bits, track.low, track.high, track.whole[:, start : start + TRIED])
    return min(PREDICTIONS, key=lambda each: len(pack(some, each)))


def pack(
    track: Track, prediction: Prediction = FROM_KNOT, packers: Sequence[tuple[int, int, int]] = PACKERS
) -> bytes:
    """The track's whole numbers as a zlib stream, the smallest that one of `packers` makes."""
    made = [
        (zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, memory, strategy), list[bytes]())
        for level, memory, strategy in packers
    ]
    # channel by channel, since copies of all of them are large
    for shift in range(0, 8 * track.whole.itemsize, 8):
        for c in range(track.whole.shape[2]):
            left = prediction.left(track.whole[..., c])
            plane = (left >> shift).astype(np.uint8).tobytes()
            for packer, packed in made:
                packed.append(packer.compress(plane))
    return min((b"".join([*packed, packer.flush()]) for packer, packed in made), key=len)


def lay_out(
    tracks: Iterable[tuple[Track, Prediction | None]], start: int
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Pack tracks into blocks that begin at multiples of 16.

    Args:
        tracks: Each with what is predicted; None for version 1, which does not name it.
        start: Where the first one may begin, in bytes.

    Returns:
        Their entries in a header, and the bytes that follow `start`, with padding.
    """
    entries: list[dict[str, Any]] = []
    blocks: list[bytes] = []
    end = start
    for track, prediction in tracks:
        packed = pack(track, prediction or FROM_KNOT)
        padding = -end % 16
        blocks += [b"\0" * padding, packed]
        said = {} if prediction is None else {"order": prediction.order, "spatial": prediction.is_spatial}
        entries.append(
            {
                "name": track.name,
                "channels": track.whole.shape[2],
                "bits": track.bits,
                "low": track.low.tolist(),
                "high": track.high.tolist(),
                **said,
                "offset": end + padding,
                "length": len(packed),
            }
        )
        end += padding + len(packed)
    return entries, blocks


def unpack(
    packed: bytes,
    name: str,
    bits: int,
    low: Tensor,
    high: Tensor,
    shape: tuple[int, int, int],
    prediction: Prediction = FROM_KNOT,
) -> Track:
    """The track of `shape` (K, M, c) that `pack` packed.

    Raises InputError (without the file's name, which the caller adds) if the bytes are damaged or their number does not
    match the shape; no more than that is unpacked.
    """
    knots, moving, channels = shape
    wide = 1 if bits <= 8 else 2
    wanted = knots * moving * channels * wide
    if wanted > min(LARGEST, SMALL + PER_BYTE * len(packed)):
        raise InputError(
            "PLB-024", f"its track '{name}' claims {wanted:,} bytes, more than can be read; export it again."
        )
    unpacker = zlib.decompressobj()
    try:
        body = unpacker.decompress(packed, wanted + 1)
        # a checksum that is cut off is not an error for zlib, nor are bytes that follow the stream
        if len(body) == wanted and (not unpacker.eof or unpacker.unused_data):
            raise zlib.error
    except zlib.error as error:
        raise InputError(
            "PLB-025", f"its track '{name}' is damaged or cut short; export it again."
        ) from error
    if len(body) != wanted:
        raise InputError(
            "PLB-026", f"its track '{name}' holds {len(body):,} of {wanted:,} bytes; export it again."
        )
    data = np.frombuffer(body, dtype=np.uint8)
    if wide == 2:
        change = data[: wanted // 2].astype(np.uint16) | data[wanted // 2 :].astype(np.uint16) << 8
    else:
        change = data
    planes = [prediction.values(plane) for plane in change.reshape(channels, knots, moving)]
    whole = np.stack(planes, axis=-1) if planes else np.empty(shape, dtype=_dtype(bits))
    if bits not in (8, 16) and wanted and int(whole.max()) >= 1 << bits:
        raise InputError(
            "PLB-027", f"its track '{name}' contains numbers of more than {bits} bits; export it again."
        )
    return Track(name, bits, low, high, whole)


def vectors_of(quats: Tensor) -> Tensor:
    """[..., 3]: vector parts of unit quaternions [..., 4] wxyz, each with the sign that makes w ≥ 0."""
    return torch.where(quats[..., :1] < 0, -quats, quats)[..., 1:].contiguous()


def quats_of(vectors: Tensor) -> Tensor:
    """Unit quaternions [..., 4] wxyz with w ≥ 0 from their vector parts [..., 3]; vectors longer than 1 are shortened to 1."""
    squares = vectors.square().sum(-1, keepdim=True)
    vectors = vectors / squares.clamp(min=1).sqrt()
    return torch.cat([(1 - squares.clamp(max=1)).sqrt(), vectors], dim=-1)


def aligned(quats: Tensor) -> Tensor:
    """Quaternions [K, M, 4], each with the sign nearest to the previous one: q and −q are the same rotation.

    Interpolation between them then takes the short way, also through 180°, where w ≥ 0 would jump.
    """
    same = torch.where((quats[1:] * quats[:-1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    first = torch.where(quats[:1, :, :1] < 0, -1.0, 1.0)
    return quats * torch.cat([first, same]).cumprod(0)


def weights(seconds: Tensor, knots: Tensor, interpolation: str) -> Tensor:
    """[S, K] float64: weight of each knot at each of `seconds` [S]; every row sums to 1.

    "hold" uses the last knot that is not later; "linear" and "cubic" need evenly spaced knots. Cubic is the uniform
    Catmull-Rom spline (Catmull & Rom 1974, tension ½), extended by reflection: p₋₁ = 2p₀ − p₁. Times before the first or
    after the last knot use that knot.
    """
    s, count = seconds.double(), len(knots)
    rows = torch.arange(len(s))
    result = torch.zeros(len(s), count, dtype=torch.float64)
    if count == 1:
        return result + 1
    if interpolation == "hold":
        # a rounded time still belongs to its own knot
        slack = 1e-6 * float((knots[-1] - knots[0]) / (count - 1))
        result[rows, (torch.searchsorted(knots, s + slack, right=True) - 1).clamp(min=0)] = 1
        return result
    where = ((s - knots[0]) / (knots[-1] - knots[0]) * (count - 1)).clamp(0, count - 1)
    first = where.floor().long().clamp(max=count - 2)
    f = where - first
    if interpolation == "linear":
        result[rows, first], result[rows, first + 1] = 1 - f, f
        return result
    # one additional knot at either end
    around = torch.zeros(len(s), count + 2, dtype=torch.float64)
    for offset, weight in enumerate(
        (
            0.5 * (-f + 2 * f**2 - f**3),
            0.5 * (2 - 5 * f**2 + 3 * f**3),
            0.5 * (f + 4 * f**2 - 3 * f**3),
            0.5 * (f**3 - f**2),
        )
    ):
        around[rows, first + offset] += weight
    result = around[:, 1:-1].clone()
    result[:, 0] += 2 * around[:, 0]
    result[:, 1] -= around[:, 0]
    result[:, -1] += 2 * around[:, -1]
    result[:, -2] -= around[:, -1]
    return result


def _dtype(bits: int) -> Any:
    return np.uint8 if bits <= 8 else np.uint16
