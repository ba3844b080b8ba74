"""Decodes player files (`.gs4dclip`, versions 1 and 2) with Python's standard library alone.

A readable companion of docs/player_format.md, which its comments cite by section. It shares no code with the engine on
purpose: the tests compare the two. It is one file, longer than others here, so that you can copy it wherever you need it
(MIT, see LICENSE).

    python tools/player_decoder.py scene.gs4dclip                  # what the file contains
    python tools/player_decoder.py scene.gs4dclip --seconds 0.5    # its Gaussians at that time, as JSON

    with open("scene.gs4dclip", "rb") as file:
        splats = player_decoder.read(file).at(0.5)                 # of a long scene, reads one segment

Axes are the file's: x right, y up, z back. Quaternions are (x, y, z, w).
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
import zlib
from array import array
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

Vector = tuple[float, ...]

CHANNELS = {"position": 3, "rotation": 3, "scale": 3, "opacity": 1, "color": 3}
INTERPOLATIONS = ("cubic", "linear", "hold")
C0 = 0.28209479177387814
# limits of section 9: bytes of a header, Gaussians, and unpacked bytes (in all, for a small block, and per packed byte)
LONGEST_HEADER, MOST, LARGEST, SMALL, PER_BYTE = 1 << 28, 50_000_000, 1 << 31, 1 << 26, 1100
# of the times of segments, section 11: of a second's size
SLACK = 1e-6


class FormatError(ValueError):
    """The file is not a player file of version 1 or 2, or it is damaged; the message says where."""


@dataclass(frozen=True)
class Splats:
    """N Gaussians at one time.

    Attributes:
        centers: World units.
        rotations: Unit quaternions (x, y, z, w).
        scales: Standard deviations along the Gaussian's own axes, world units.
        opacities: 0 to 1.
        colors: (r, g, b), display-referred, before the harmonics of `Clip.harmonics` are added; not clamped.
    """

    centers: list[Vector]
    rotations: list[Vector]
    scales: list[Vector]
    opacities: list[float]
    colors: list[Vector]


@dataclass(frozen=True)
class Track:
    """Quantized values of the moving Gaussians at the knots: `planes[c][k * moving + m]` (section 6)."""

    bits: int
    low: list[float]
    high: list[float]
    planes: list[array[int]]

    def value(self, c: int, index: int) -> float:
        return self.low[c] + (self.high[c] - self.low[c]) * self.planes[c][index] / (2**self.bits - 1)


@dataclass(frozen=True)
class Clip:
    """The content of a player file of version 1, or of a segment.

    Attributes:
        header: The JSON header (section 4).
        base: The Gaussians of the first frame.
        harmonics: Per Gaussian, SH coefficients (r, g, b) of the bases after the first; the same at all times.
        moving: The first `moving` Gaussians have tracks.
        knots: Seconds.
        interpolation: "cubic", "linear" or "hold".
        tracks: By name.
    """

    header: dict[str, Any]
    base: Splats
    harmonics: list[list[Vector]]
    moving: int
    knots: list[float]
    interpolation: str
    tracks: dict[str, Track]

    def at(self, seconds: float) -> Splats:
        """The Gaussians at a time in seconds (section 7)."""
        base, now = self.base, {name: self.track_at(name, seconds) for name in self.tracks}
        centers, rotations, scales = list(base.centers), list(base.rotations), list(base.scales)
        opacities, colors = list(base.opacities), list(base.colors)
        for m in range(self.moving):
            if "position" in now:
                centers[m] = _sum(centers[m], now["position"][m])
            if "rotation" in now:
                rotations[m] = _product(now["rotation"][m], rotations[m])
            if "scale" in now:
                scales[m] = tuple(s * _exp(d) for s, d in zip(scales[m], now["scale"][m], strict=True))
            if "opacity" in now:
                opacities[m] = min(max(now["opacity"][m][0], 0.0), 1.0)
            if "color" in now:
                colors[m] = _sum(colors[m], now["color"][m])
        return Splats(centers, rotations, scales, opacities, colors)

    def track_at(self, name: str, seconds: float) -> list[Vector]:
        """A track's values at a time: one tuple per moving Gaussian; for "rotation" unit quaternions (x, y, z, w)."""
        track, blended = self.tracks[name], _blend(self.knots, self.interpolation, seconds)
        result: list[Vector] = []
        for m in range(self.moving):
            rows = [
                [track.value(c, knot * self.moving + m) for c in range(CHANNELS[name])] for knot, _ in blended
            ]
            if name == "rotation":
                rows = _aligned([_quaternion(row) for row in rows])
            total = [
                sum(w * row[c] for (_, w), row in zip(blended, rows, strict=True))
                for c in range(len(rows[0]))
            ]
            if name == "rotation":
                length = math.hypot(*total) or 1.0
                total = [v / length for v in total]
            result.append(tuple(total))
        return result


@dataclass(frozen=True)
class Place:
    """Where a segment is (section 11): its times in seconds, its bytes from the body's beginning, and their CRC-32."""

    start: float
    end: float
    offset: int
    length: int
    crc32: int


@dataclass(frozen=True)
class SegmentedClip:
    """The content of a player file of version 2. Segments are read and checked when they are asked for.

    Attributes:
        header: The JSON header (sections 4 and 11).
        base: The Gaussians of the first frame.
        harmonics: As in `Clip`.
        moving: The first `moving` Gaussians have tracks.
        places: The segments, in the order of time.
    """

    header: dict[str, Any]
    base: Splats
    harmonics: list[list[Vector]]
    moving: int
    places: list[Place]
    body: _Body

    def at(self, seconds: float) -> Splats:
        """The Gaussians at a time in seconds. Reads one segment; raises FormatError if it is damaged."""
        return self.segment(self.index_at(seconds)).at(seconds)

    def index_at(self, seconds: float) -> int:
        """The number, from 0, of the segment of a time: the last one that does not start after it."""
        slack = SLACK * (1 + abs(seconds))
        return max([0, *(i for i, place in enumerate(self.places) if place.start <= seconds + slack)])

    def segment(self, index: int) -> Clip:
        """Read one segment, which is complete in itself. Raises FormatError if it is damaged or not the one of the index."""
        with _explained(f"segment {index + 1}: "):
            return _segment(self, index)


def decode(data: bytes) -> Clip | SegmentedClip:
    """Decode the bytes of a player file. Raises FormatError as `read`."""
    return read(io.BytesIO(data))


def read(file: BinaryIO) -> Clip | SegmentedClip:
    """Read a player file from an object with `seek` and `read`, for example an open file or one that asks a web server.

    Of version 2, only the header and the first frame are read; keep the file open for `SegmentedClip.at`.

    Raises:
        FormatError: The file contains what the format does not allow.
    """
    body = _Body(file, 0, file.seek(0, io.SEEK_END))
    version, header, start = _header(body, b"GS4C", (1, 2))
    _require(header.get("format") == "gs4d-clip", "not a player file")
    body = _Body(file, start, body.size - start)
    with _explained(""):
        return _content(header, body) if version == 1 else _segmented(header, body)


# -- section 3: container ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Body:
    """The `size` bytes of a file from `start` on, of which blocks are read."""

    file: BinaryIO
    start: int
    size: int

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. Nothing is read unless all of them are there."""
        _require(offset + length <= self.size, "cut short: a block lies beyond the end")
        self.file.seek(self.start + offset)
        data = self.file.read(length)
        _require(len(data) == length, "cut short while it was read")
        return data

    def block(self, entry: dict[str, Any]) -> bytes:
        return self.bytes_at(_whole(entry["offset"], "offset"), _whole(entry["length"], "length"))


def _header(body: _Body, magic: bytes, versions: tuple[int, ...]) -> tuple[int, dict[str, Any], int]:
    """The version, the JSON, and where the data after it begins: of a file or of a segment."""
    what = "a player file" if magic == b"GS4C" else "a segment"
    first = body.bytes_at(0, min(12, body.size))
    _require(first[:4] == magic, f"not {what}")
    _require(len(first) == 12, "cut short")
    version, length = (int.from_bytes(first[i : i + 4], "little") for i in (4, 8))
    known = " and ".join(map(str, versions))
    _require(version in versions, f"version {version}; this decoder reads {known}")
    _require(length <= LONGEST_HEADER and 12 + length <= body.size, "cut short inside the header")
    try:
        header = json.loads(body.bytes_at(12, length).decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError("the header is not JSON") from error
    _require(isinstance(header, dict), f"not {what}")
    return version, header, 12 + length


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


# -- section 4: header ------------------------------------------------------------------------------------------------


def _content(header: dict[str, Any], body: _Body) -> Clip:
    count, moving = _counts(header)
    base, harmonics = _spz(body.block(header["spz"]), count)
    if header["motion"] is None:
        _require(moving == 0, "moving Gaussians without motion")
        return Clip(header, base, harmonics, 0, [0.0], "hold", {})
    return Clip(header, base, harmonics, moving, *_motion(header["motion"], body, moving, is_segment=False))


def _counts(header: dict[str, Any]) -> tuple[int, int]:
    """Check what versions 1 and 2 have in common. Returns N and M."""
    count, moving = _whole(header["gaussians"], "gaussians"), _whole(header["moving"], "moving")
    _require(moving <= count <= MOST, f"{moving} moving Gaussians of {count}")
    _ascending(header["times"], "times")
    for name in ("fps", "radius"):
        _require(_numbers([header[name]], 1, name)[0] > 0, f"{name} is not positive")
    for name in ("up", "center", "background"):
        _numbers(header[name], 3, name)
    for camera in header["cameras"]:
        _require(all(_whole(camera[n], n) > 0 for n in ("width", "height")), "a camera without pixels")
        intrinsics = _numbers([camera[n] for n in ("fx", "fy", "cx", "cy")], 4, "camera")
        _require(intrinsics[0] > 0 and intrinsics[1] > 0, "a camera without a focal length")
        _numbers(camera["camera_to_world"], 16, "camera_to_world")
        _require(isinstance(camera["name"], str), "a camera without a name")
    _numbers([header["error"]["max"], header["error"]["mean"]], 2, "error")
    _require(isinstance(header["title"], str), "title is not text")
    _require(
        isinstance(header["notes"], list) and all(isinstance(n, str) for n in header["notes"]), "bad notes"
    )
    return count, moving


def _motion(
    motion: dict[str, Any], body: _Body, moving: int, is_segment: bool
) -> tuple[list[float], str, dict[str, Track]]:
    """Knots, interpolation and tracks."""
    knots, interpolation = _ascending(motion["knots"], "knots"), motion["interpolation"]
    _require(interpolation in INTERPOLATIONS, f"unknown interpolation {interpolation!r}")
    if interpolation != "hold" and len(knots) > 2:
        gap = (knots[-1] - knots[0]) / (len(knots) - 1)
        even = all(abs(k - knots[0] - i * gap) <= 0.01 * gap for i, k in enumerate(knots))
        _require(even, "knots are not evenly spaced")
    tracks: dict[str, Track] = {}
    for entry in motion["tracks"]:
        name, bits = entry["name"], _whole(entry["bits"], "bits")
        known = CHANNELS.get(name) == entry["channels"] and name not in tracks
        _require(known and 1 <= bits <= 16 and moving > 0, f"track {name!r} is not supported")
        low, high = (_numbers(entry[side], CHANNELS[name], side) for side in ("low", "high"))
        predicted = _prediction(entry) if is_segment else None
        planes = _planes(body.block(entry), bits, CHANNELS[name], len(knots), moving, predicted)
        tracks[name] = Track(bits, low, high, planes)
    return knots, interpolation, tracks


# -- section 5: the first frame, an .spz ------------------------------------------------------------------------------


def _spz(packed: bytes, count: int) -> tuple[Splats, list[list[Vector]]]:
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    head = _inflate(unpacker, packed, 16, "splat", exactly=False)
    magic, version, says = (int.from_bytes(head[i : i + 4], "little") for i in (0, 4, 8))
    degree, fraction_bits = head[12], head[13]
    _require(magic == 0x5053474E and version in (2, 3), "the splat is not an .spz of version 2 or 3")
    _require(says == count, f"the splat holds {says} Gaussians, not {count}")
    _require(degree <= 3 and fraction_bits <= 23, "the splat's header is impossible")
    bases = (degree + 1) ** 2 - 1
    widths = [9, 1, 3, 3, 4 if version == 3 else 3, 3 * bases]
    wanted = count * sum(widths)
    _require(wanted <= min(LARGEST, SMALL + PER_BYTE * len(packed)), "the splat claims too much")
    rest = _inflate(unpacker, unpacker.unconsumed_tail, wanted, "splat")
    blocks, start = [], 0
    for width in widths:
        blocks.append(rest[start : start + count * width])
        start += count * width
    positions, alphas, colors, scales, turns, sh = blocks
    fixed = [
        int.from_bytes(positions[i : i + 3], "little", signed=True) / 2**fraction_bits
        for i in range(0, 9 * count, 3)
    ]
    quaternion = _smallest_three if version == 3 else _three_bytes
    width = widths[4]
    splats = Splats(
        centers=_triples(fixed),
        rotations=[quaternion(turns[i * width : (i + 1) * width]) for i in range(count)],
        scales=_triples([math.exp(b / 16 - 10) for b in scales]),
        opacities=[b / 255 for b in alphas],
        colors=_triples([0.5 + C0 * (b / 255 - 0.5) / 0.15 for b in colors]),
    )
    coefficients = _triples([(b - 128) / 128 for b in sh])
    return splats, [coefficients[i * bases : (i + 1) * bases] for i in range(count)]


def _smallest_three(data: bytes) -> Vector:
    word = int.from_bytes(data, "little")
    largest, q = word >> 30, [0.0] * 4
    # the last one written is in the lowest bits
    for axis in (3, 2, 1, 0):
        if axis != largest:
            magnitude = (word & 511) / 511 / math.sqrt(2)
            q[axis] = -magnitude if word >> 9 & 1 else magnitude
            word >>= 10
    q[largest] = math.sqrt(max(0.0, 1 - sum(v * v for v in q)))
    return _unit(q)


def _three_bytes(data: bytes) -> Vector:
    q = [b / 127.5 - 1 for b in data]
    return _unit([*q, math.sqrt(max(0.0, 1 - sum(v * v for v in q)))])


# -- section 6: tracks ------------------------------------------------------------------------------------------------


def _planes(
    packed: bytes, bits: int, channels: int, knots: int, moving: int, predicted: tuple[int, bool] | None
) -> list[array[int]]:
    size = knots * moving
    count, wide = channels * size, 1 if bits <= 8 else 2
    _require(count * wide <= min(LARGEST, SMALL + PER_BYTE * len(packed)), "a track claims too much")
    data = _inflate(zlib.decompressobj(), packed, count * wide, "track")
    planes: list[array[int]] = []
    for c in range(channels):
        low = data[c * size : (c + 1) * size]
        plane = array("H", list(low))
        if wide == 2:
            high = data[count + c * size : count + (c + 1) * size]
            plane = array("H", [a | b << 8 for a, b in zip(low, high, strict=True)])
        _unpredict(plane, moving, (1 << 8 * wide) - 1, predicted)
        _require(max(plane) < 1 << bits, f"a track contains numbers of more than {bits} bits")
        planes.append(plane)
    return planes


def _unpredict(plane: array[int], moving: int, mask: int, predicted: tuple[int, bool] | None) -> None:
    """Make the numbers of a channel those of the track; sums are modulo mask + 1."""
    if predicted is not None:
        # section 11, steps 1 to 3
        order, spatial = predicted
        if mask > 255:
            for i, d in enumerate(plane):
                plane[i] = d // 2 if d % 2 == 0 else mask - d // 2
        if spatial:
            for i in range(len(plane)):
                if i % moving:
                    plane[i] = (plane[i] + plane[i - 1]) & mask
        if order == 2:
            for i in range(2 * moving, len(plane)):
                plane[i] = (plane[i] + plane[i - moving]) & mask
    for i in range(moving, len(plane)):
        plane[i] = (plane[i] + plane[i - moving]) & mask


def _inflate(unpacker: Any, packed: bytes, wanted: int, what: str, exactly: bool = True) -> bytes:
    """`wanted` bytes; if `exactly`, they are all that is left. No more than one byte beyond them is ever unpacked."""
    try:
        # zero would mean no limit
        result = unpacker.decompress(packed, wanted + 1 if exactly else wanted)
    except zlib.error as error:
        raise FormatError(f"the {what} is damaged") from error
    _require(len(result) == wanted, f"the {what} holds {len(result)} of {wanted} bytes")
    # of a checksum that is cut off, and of bytes that follow the stream
    ends = unpacker.eof and not unpacker.unused_data
    _require(not exactly or ends, f"the {what} is cut short or longer than it says")
    return result


# -- section 7: values between the knots ------------------------------------------------------------------------------


def _blend(knots: list[float], interpolation: str, seconds: float) -> list[tuple[int, float]]:
    """(knot, weight) of the knots that count at a time, in ascending order; the weights sum to 1."""
    last = len(knots) - 1
    if last == 0:
        return [(0, 1.0)]
    span = knots[last] - knots[0]
    if interpolation == "hold":
        slack = 1e-6 * span / last
        return [(max([0, *(i for i, knot in enumerate(knots) if knot <= seconds + slack)]), 1.0)]
    where = min(max((seconds - knots[0]) / span * last, 0.0), float(last))
    i = min(math.floor(where), last - 1)
    f = where - i
    if interpolation == "linear":
        return [(i, 1 - f), (i + 1, f)]
    weights = [
        0.5 * (-f + 2 * f**2 - f**3),
        0.5 * (2 - 5 * f**2 + 3 * f**3),
        0.5 * (f + 4 * f**2 - 3 * f**3),
        0.5 * (f**3 - f**2),
    ]
    # the knot before the first is 2·p₀ − p₁, the one after the last 2·p_last − p_before
    if i == 0:
        weights = [0.0, weights[1] + 2 * weights[0], weights[2] - weights[0], weights[3]]
    if i == last - 1:
        weights = [weights[0], weights[1] - weights[3], weights[2] + 2 * weights[3], 0.0]
    return [(i + j - 1, w) for j, w in enumerate(weights) if 0 <= i + j - 1 <= last]


def _quaternion(v: list[float]) -> list[float]:
    square = sum(x * x for x in v)
    shorten = max(1.0, math.sqrt(square))
    return [*(x / shorten for x in v), math.sqrt(max(0.0, 1 - square))]


def _aligned(quaternions: list[list[float]]) -> list[list[float]]:
    """Each with the sign nearest to the one before: q and −q are the same rotation."""
    result = quaternions[:1]
    for q in quaternions[1:]:
        dot = sum(a * b for a, b in zip(q, result[-1], strict=True))
        result.append([-v for v in q] if dot < 0 else q)
    return result


def _product(a: Vector, b: Vector) -> Vector:
    """The rotation b followed by a."""
    (ax, ay, az, aw), (bx, by, bz, bw) = a, b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def _exp(x: float) -> float:
    # where math.exp raises OverflowError: a file may have any numbers
    return math.exp(x) if x < 709 else math.inf


def _unit(q: list[float]) -> Vector:
    length = math.hypot(*q) or 1.0
    return tuple(v / length for v in q)


def _sum(a: Vector, b: Vector) -> Vector:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _triples(values: list[float]) -> list[Vector]:
    return [tuple(values[i : i + 3]) for i in range(0, len(values), 3)]


# -- section 11: segments ---------------------------------------------------------------------------------------------


def _segmented(header: dict[str, Any], body: _Body) -> SegmentedClip:
    count, moving = _counts(header)
    _require(isinstance(header["scene"], str), "scene is not text")
    names = header["tracks"]
    _require(isinstance(names, list) and all(isinstance(n, str) for n in names), "tracks are not texts")
    places = _places(header["segments"], header["times"], body.size)
    _require(moving > 0, "segments in which nothing moves")
    packed = body.block(header["spz"])
    _require(zlib.crc32(packed) == header["spz"]["crc32"], "the splat is damaged: its CRC-32 is another one")
    return SegmentedClip(header, *_spz(packed, count), moving, places, body)


def _places(entries: Any, times: list[float], size: int) -> list[Place]:
    _require(isinstance(entries, list) and len(entries) > 0, "the index has no segments")
    places: list[Place] = []
    for i, entry in enumerate(entries):
        start, end = _numbers([entry["start"], entry["end"]], 2, "a segment's start and end")
        offset, length, crc = (
            _whole(entry[name], f"{name} of segment {i + 1}") for name in ("offset", "length", "crc32")
        )
        _require(
            0 < length <= LARGEST and offset + length <= size,
            f"cut short: segment {i + 1} lies beyond the end",
        )
        border = places[-1].end if places else times[0]
        _require(_meet(start, border) and start < end, f"segment {i + 1} does not start at {border:g} s")
        places.append(Place(start, end, offset, length, crc))
    _require(_meet(places[-1].end, times[-1]), f"the segments do not end at {times[-1]:g} s")
    return places


def _meet(a: float, b: float) -> bool:
    return abs(a - b) <= SLACK * (1 + abs(b))


def _segment(clip: SegmentedClip, index: int) -> Clip:
    place = clip.places[index]
    data = clip.body.bytes_at(place.offset, place.length)
    whole = _Body(io.BytesIO(data), 0, len(data))
    _, header, start = _header(whole, b"GS4S", (2,))
    _require(header["scene"] == clip.header["scene"], "it belongs to another scene")
    _require(_whole(header["segment"], "segment") == index, "it is another segment of the scene")
    _require(zlib.crc32(data) == place.crc32, "its CRC-32 is not the one of the index")
    body = _Body(whole.file, start, len(data) - start)
    knots, interpolation, tracks = _motion(header["motion"], body, clip.moving, is_segment=True)
    _require(sorted(tracks) == sorted(clip.header["tracks"]), "its tracks are not those of the header")
    # motion that is held may change last before the end
    ends = _meet(knots[0], place.start) and (interpolation == "hold" or _meet(knots[-1], place.end))
    _require(ends, f"its knots go from {knots[0]:g} to {knots[-1]:g} s, other times than in the index")
    return Clip(clip.header, clip.base, clip.harmonics, clip.moving, knots, interpolation, tracks)


def _prediction(entry: dict[str, Any]) -> tuple[int, bool]:
    order, spatial = _whole(entry["order"], "order"), entry["spatial"]
    _require(order in (1, 2) and isinstance(spatial, bool), "a track is predicted in an unknown way")
    return order, spatial


# -- checks -----------------------------------------------------------------------------------------------------------


@contextmanager
def _explained(where: str) -> Generator[None, None, None]:
    """Say where an error was found, and make one of what a header lacks."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{where}{error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{where}the header lacks an entry or has one of another type: {error}") from error


def _require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise FormatError(otherwise)


def _whole(value: Any, what: str) -> int:
    _require(type(value) is int and value >= 0, f"{what} is not a whole number")
    return value


def _numbers(values: Any, count: int, what: str) -> list[float]:
    _require(isinstance(values, list) and len(values) == count, f"{what} is not {count} numbers")
    for value in values:
        try:
            finite = type(value) in (int, float) and math.isfinite(value)
        except OverflowError:
            finite = False
        _require(finite, f"{what} is not {count} finite numbers")
    return [float(value) for value in values]


def _ascending(values: Any, what: str) -> list[float]:
    _require(isinstance(values, list) and len(values) > 0, f"{what} is not a list of numbers")
    numbers = _numbers(values, len(values), what)
    rises = all(a < b for a, b in pairwise(numbers))
    _require(rises, f"{what} are not in ascending order")
    return numbers


def main() -> int:
    parser = argparse.ArgumentParser(description="Decode a player file (.gs4dclip).")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, help="print the Gaussians at this time as JSON")
    arguments = parser.parse_args()
    try:
        with open(arguments.file, "rb") as file:
            return _show(read(file), arguments.seconds)
    except (OSError, FormatError) as error:
        print(f"{arguments.file.name}: {error}", file=sys.stderr)
        return 1


def _show(clip: Clip | SegmentedClip, seconds: float | None) -> int:
    if seconds is not None:
        print(json.dumps(vars(clip.at(seconds))))
        return 0
    times, bases = clip.header["times"], 1 + len((clip.harmonics or [[]])[0])
    print(f"{clip.header['title']!a}: {len(clip.base.centers)} Gaussians, {clip.moving} of them moving")
    print(f"{len(times)} frames from {times[0]} to {times[-1]} s; SH bases: {bases}")
    pieces = [clip] if isinstance(clip, Clip) else [clip.segment(i) for i in range(len(clip.places))]
    for piece in pieces:
        names = ", ".join(piece.tracks) or "none"
        print(f"{len(piece.knots)} knots from {piece.knots[0]} s, {piece.interpolation}; tracks: {names}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
