"""Player files in segments (version 2): long scenes that play while they load.

The header and the .spz of the first frame come first and are shared; each segment holds the tracks of some seconds in
a block of its own, which the header's index finds: start and end in seconds, offset, length and CRC-32. A segment is
complete: a player that jumps into the middle needs no other one. It begins with "GS4S", u32 version, u32 header length
and a JSON header that names the scene and its place in it, padded to a multiple of 16. Neighbors share the knot at their
border: the same numbers, on the same grid, so that nothing jumps there.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..files.jsonfile import parse_json
from .player_content import Motion, PlayerFile
from .player_header import AGAIN, PREFIX, SEGMENTED, content_of, explained, json_text, motion_from
from .tracks import Prediction, Track, best_prediction, lay_out

__all__ = ["Place", "SegmentedFile", "encode_segment", "read_segmented"]

MAGIC = b"GS4S"
# segments that a SegmentedFile keeps decoded
KEPT = 2
# segments, and bytes of one, that are read at most
MOST, LARGEST = 100_000, 1 << 31
# of a border's seconds, relative to the scene's times
SLACK = 1e-6
# gives bytes (offset, length) of a file; fewer at its end
Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Place:
    """Where a segment is.

    Attributes:
        start: Its first time in seconds.
        end: Its last time, which is the start of the next one.
        offset: Bytes from the beginning of the file's data.
        length: Bytes.
        crc: CRC-32 of these bytes.
    """

    start: float
    end: float
    offset: int
    length: int
    crc: int

    def entry(self) -> dict[str, Any]:
        """The entry of the header's index."""
        return {
            "start": self.start, "end": self.end, "offset": self.offset, "length": self.length, "crc32": self.crc,
        }  # fmt: skip


def encode_segment(
    scene: str,
    index: int,
    knots: Sequence[float],
    interpolation: str,
    tracks: Sequence[Track],
    predictions: Sequence[Prediction] | None = None,
) -> bytes:
    """Encode a segment.

    Args:
        scene: The scene's identifier, which the file's header has too.
        index: Number of the segment, from 0.
        knots: [K] seconds, ascending; the first and the last are the segment's borders.
        interpolation: "cubic", "linear" or "hold".
        tracks: Tracks in the file's axes.
        predictions: What is predicted of each track; None chooses what packs best. They fold.

    Returns:
        The segment's bytes.
    """
    predictions = predictions or [best_prediction(track) for track in tracks]
    entries, blocks = lay_out(list(zip(tracks, predictions, strict=True)), 0)
    text = json_text(
        {
            "scene": scene,
            "segment": index,
            "motion": {"knots": list(knots), "interpolation": interpolation, "tracks": entries},
        }
    )
    text += b" " * (-(PREFIX + len(text)) % 16)
    prefix = b"".join([MAGIC, SEGMENTED.to_bytes(4, "little"), len(text).to_bytes(4, "little")])
    return b"".join([prefix, text, *blocks])


def decode_segment(
    data: bytes, scene: str, index: int, place: Place, moving: int, names: Sequence[str]
) -> Motion:
    """The motion in a segment's bytes. Raises InputError (without the file's name) if they are not those of the index."""
    if len(data) != place.length:
        raise InputError(
            "PLB-030",
            f"it is cut short: segment {index + 1} has {len(data):,} of {place.length:,} bytes; {AGAIN}.",
        )
    about, start = _segment_header(data, index)
    if about.get("scene") != scene or about.get("segment") != index:
        raise InputError(
            "PLB-031",
            f"segment {index + 1} belongs to another scene or place; copy the file again or {AGAIN}.",
        )
    if zlib.crc32(data) != place.crc:
        raise InputError("PLB-032", f"segment {index + 1} is damaged; copy the file again or {AGAIN}.")
    motion = motion_from(about["motion"], memoryview(data)[start:], moving, is_segment=True)
    if sorted(motion.tracks) != sorted(names):
        raise InputError(
            "PLB-042",
            f"segment {index + 1} has the tracks {', '.join(motion.tracks)}, and the header names {', '.join(names)[:200]}; "
            f"{AGAIN}.",
        )
    ends = float(motion.knots[0]), float(motion.knots[-1])
    # motion that is held may change last before the end
    late = 0.0 if motion.interpolation == "hold" else abs(ends[1] - place.end)
    if max(abs(ends[0] - place.start), late) > SLACK * (1 + abs(place.end)):
        raise InputError(
            "PLB-033",
            f"the knots of segment {index + 1} go from {ends[0]:g} to {ends[1]:g} seconds, and the index says {place.start:g} to "
            f"{place.end:g}; {AGAIN}.",
        )
    return motion


def _segment_header(data: bytes, index: int) -> tuple[dict[str, Any], int]:
    """The header of a segment and where its data begins."""
    start = PREFIX + int.from_bytes(data[8:12], "little")
    about: Any = None
    if data[:4] == MAGIC and int.from_bytes(data[4:8], "little") == SEGMENTED and start <= len(data):
        try:
            about = parse_json(data[PREFIX:start])
        except ValueError:
            about = None
    if not isinstance(about, dict):
        raise InputError("PLB-034", f"segment {index + 1} is damaged; copy the file again or {AGAIN}.")
    return about, start


@dataclass(frozen=True, eq=False)
class SegmentedFile(PlayerFile):
    """The content of a player file in segments, which are read when `at` needs them.

    `motion` is None; `motion_at` gives that of a time.

    Attributes:
        name: What errors call the file.
        scene: The scene's identifier.
        track_names: The tracks that every segment has.
        places: The segments, in order.
        read_segment: Gives the bytes of a segment by its place.
    """

    name: str
    scene: str
    track_names: tuple[str, ...]
    places: tuple[Place, ...]
    read_segment: Callable[[Place], bytes]
    _kept: OrderedDict[int, Motion] = field(default_factory=OrderedDict[int, Motion], repr=False)

    @property
    def moves(self) -> bool:
        """Whether anything moves."""
        return self.moving > 0

    @property
    def knot_count(self) -> int:
        """Knots of all segments; reads them all."""
        return sum(len(self.segment(i).knots) for i in range(len(self.places)))

    def segment_at(self, seconds: float) -> int:
        """Index of the segment of a time; at a border, of the one that begins there."""
        slack = SLACK * (1 + abs(seconds))
        later = [i for i, place in enumerate(self.places) if place.start <= seconds + slack]
        return later[-1] if later else 0

    def motion_at(self, seconds: float) -> Motion | None:
        """The motion around a time. Raises InputError if its segment cannot be read or is damaged."""
        return self.segment(self.segment_at(seconds))

    def segment(self, index: int) -> Motion:
        """The motion of a segment; the last few stay decoded. Raises InputError as `motion_at`."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        place = self.places[index]
        with explained(self.name):
            try:
                data = self.read_segment(place)
            except OSError as error:
                raise InputError(
                    "PLB-035",
                    f"segment {index + 1} cannot be read: {error.strerror}; check that the file is still there.",
                ) from error
            motion = decode_segment(data, self.scene, index, place, self.moving, self.track_names)
        while len(self._kept) >= KEPT:
            self._kept.popitem(last=False)
        self._kept[index] = motion
        return motion


def read_segmented(about: dict[str, Any], read: Read, start: int, size: int, name: str) -> SegmentedFile:
    """The content behind the header `about` of version 2, whose data begins at `start` of a file of `size` bytes.

    Raises InputError, KeyError, TypeError and ValueError.
    """
    splat = about["spz"]
    offset, length = int(splat["offset"]), int(splat["length"])
    _check_bytes("splat", offset, length, size - start)
    spz = read(start + offset, length)
    if len(spz) != length or zlib.crc32(spz) != int(splat["crc32"]):
        raise InputError("PLB-036", f"its splat is damaged; copy the file again or {AGAIN}.")
    content = content_of(about, spz)
    places = _places(about["segments"], content, size - start)
    return SegmentedFile(
        **{name: getattr(content, name) for name in PlayerFile.__dataclass_fields__},
        name=name,
        scene=str(about["scene"]),
        track_names=tuple(str(each) for each in about["tracks"]),
        places=places,
        read_segment=lambda place: read(start + place.offset, place.length),
    )


def _places(entries: list[dict[str, Any]], content: PlayerFile, room: int) -> tuple[Place, ...]:
    if not 1 <= len(entries) <= MOST or content.moving < 1:
        raise InputError(
            "PLB-037",
            f"its index has {len(entries):,} segments for {content.moving:,} moving Gaussians; {AGAIN}.",
        )
    places: list[Place] = []
    border = float(content.times[0])
    for i, each in enumerate(entries):
        place = Place(
            float(each["start"]),
            float(each["end"]),
            int(each["offset"]),
            int(each["length"]),
            int(each["crc32"]),
        )
        _check_bytes(f"segment {i + 1}", place.offset, place.length, room)
        slack = SLACK * (1 + abs(border))
        if not (abs(place.start - border) <= slack and place.start < place.end < math.inf):
            raise InputError(
                "PLB-038",
                f"its index has segment {i + 1} from {place.start:g} to {place.end:g} seconds after one that ends at {border:g}; "
                f"{AGAIN}.",
            )
        border = place.end
        places.append(place)
    if abs(border - float(content.times[-1])) > SLACK * (1 + abs(border)):
        raise InputError(
            "PLB-039",
            f"its segments end at {border:g} seconds, and its frames at {float(content.times[-1]):g}; {AGAIN}.",
        )
    return tuple(places)


def _check_bytes(what: str, offset: int, length: int, room: int) -> None:
    if offset < 0 or not 0 < length <= LARGEST or offset + length > room:
        raise InputError(
            "PLB-040",
            f"it is cut short: {max(room, 0):,} bytes do not hold its {what} at {offset:,} + {length:,}; copy the file again or "
            f"{AGAIN}.",
        )
