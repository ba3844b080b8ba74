"""A video file's container: opened, its stream found, and the times of its frames, from the index or the packets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from .video_alpha import starts_alpha

# No playlists: they name other files
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts"
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
# Bytes up to which a file's packets are read to learn every frame's time
READ_WHOLE = 128 * 2**20
MOST_FRAMES = 2_000_000

# Presentation times ascending, numbers of the key frames
Times = tuple[tuple[int, ...], tuple[int, ...]]


def open_container(path: Path, name: str) -> Any:
    import av
    from av.error import FFmpegError

    try:
        return av.open(str(path), options=OPTIONS, metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        _check_there(path, name, error)
        raise InputError(
            "CAP-157",
            f"{name} cannot be opened as a video: its index is missing, it is cut short, or it is not a "
            "video. Copy or export it again.",
        ) from error


def _check_there(path: Path, name: str, error: Exception) -> None:
    """InputError where a file that could not be read is gone."""
    if not os.path.isfile(path):
        raise InputError(
            "CAP-198",
            f"{name} was removed or its drive was disconnected while it was in use. Restore it and run again.",
        ) from error


def video_stream(container: Any, name: str) -> Any:
    if not container.streams.video:
        raise InputError(
            "CAP-158", f"{name} does not contain a video stream. Check that it is not an audio file."
        )
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise InputError("CAP-159", f"{name} uses a codec that cannot be decoded here. Export it as H.264.")
    return stream


def guarded(frames: Iterator[Any], path: Path, name: str) -> Iterator[Any]:
    """The same frames, with a decoder's complaint turned into one sentence."""
    from av.error import FFmpegError

    try:
        yield from frames
    except (FFmpegError, OSError, ValueError) as error:
        _check_there(path, name, error)
        raise InputError(
            "CAP-160", f"{name} is damaged and cannot be decoded to the end. Copy or export it again."
        ) from error


def frame_times(container: Any, stream: Any, path: Path, name: str, alpha: str = "") -> Times:
    """Presentation times and key frame numbers, from the index where it is whole, else from the packets.

    With `alpha`, the decoder of `video_alpha`, key frames are those of colors and alpha.
    """
    length = path.stat().st_size
    entries = (
        [e for e in stream.index_entries if not e.is_discard] if hasattr(stream, "index_entries") else []
    )
    whole = bool(entries) and len(entries) == (stream.frames or -1)
    if whole:
        _check_index(entries, length, name)
    if len(entries) > MOST_FRAMES or stream.frames > MOST_FRAMES:
        raise InputError(
            "CAP-152",
            f"{name} claims {max(len(entries), stream.frames):,} frames; at most {MOST_FRAMES:,} are "
            "supported. Cut it into shorter videos.",
        )
    return (
        _from_index(stream, entries)
        if whole and length > READ_WHOLE and not alpha
        else _from_packets(container, stream, path, name, alpha)
    )


def _check_index(entries: list[Any], length: int, name: str) -> None:
    """InputError where a frame of the index lies beyond the end of the file, of `length` bytes."""
    lost = next((i for i, e in enumerate(entries) if e.pos + e.size > length), None)
    if lost is not None:
        raise InputError(
            "CAP-151",
            f"{name} is cut short: its index lists {len(entries)} frames, but the file ends in frame "
            f"{lost} ({length:,} bytes). Copy or export it again.",
        )


def _from_index(stream: Any, entries: list[Any]) -> Times:
    stamps = sorted(e.timestamp for e in entries)
    shift = (stream.start_time or 0) - stamps[0]
    return tuple(s + shift for s in stamps), tuple(i for i, e in enumerate(entries) if e.is_keyframe)


def _from_packets(container: Any, stream: Any, path: Path, name: str, alpha: str) -> Times:
    found: list[tuple[int, bool]] = []
    step = max(1, round(1 / float(stream.average_rate * stream.time_base))) if stream.average_rate else 1
    for packet in guarded(container.demux(stream), path, name):
        if packet.size == 0 or packet.is_discard:
            continue
        if packet.is_corrupt:
            raise InputError(
                "CAP-153", f"{name} is damaged near frame {len(found)}. Copy or export it again."
            )
        stamp = packet.pts if packet.pts is not None else packet.dts
        starts = packet.is_keyframe and (not alpha or starts_alpha(packet, alpha))
        found.append((stamp if stamp is not None else len(found) * step, starts))
        if len(found) > MOST_FRAMES:
            raise InputError(
                "CAP-154", f"{name} contains more than {MOST_FRAMES:,} frames. Cut it into shorter videos."
            )
    found.sort()
    return tuple(s for s, _ in found), tuple(i for i, (_, key) in enumerate(found) if key)
