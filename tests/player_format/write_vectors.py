"""Writes the test vectors of docs/player_format.md: tiny player files, and what a decoder must make of them.

    python tests/player_format/write_vectors.py

The expected values come from the engine's decoder, in the file's axes. Files that are there already are never replaced:
decoders of other people test against them. Change the format's version, and add vectors of a new name.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from engine.io.spz import encode_spz
from engine.io.spz_decoding import turned
from engine.playback.player_content import PlayerFile
from engine.playback.player_file import (
    camera_entries,
    decode_player_file,
    encode_player_file,
    in_file_axes,
)
from engine.playback.player_header import SEGMENTED, encode_header
from engine.playback.segments import Place, SegmentedFile, encode_segment
from engine.playback.tracks import PREDICTIONS, Track, quantize, vectors_of
from engine.scene import Gaussians, rotations
from engine.scene.harmonics import dc_to_rgb
from tests.scenes import ring

HERE = Path(__file__).resolve().parent
COUNT, MOVING = 6, 4


def waves(*shape: int, phase: float = 0.0) -> Tensor:
    """Numbers in -1..1 that look random and are the same everywhere."""
    count = math.prod(shape)
    return torch.tensor([math.sin(1.7 * i * i + 0.9 * i + phase) for i in range(count)]).reshape(shape)


def base(degree: int) -> Gaussians:
    return Gaussians(
        means=1.5 * waves(COUNT, 3),
        log_scales=-2 + waves(COUNT, 3, phase=1),
        quats=rotations.normalise(waves(COUNT, 4, phase=2)),
        logit_opacities=2 * waves(COUNT, phase=3),
        sh=0.9 * waves(COUNT, (degree + 1) ** 2, 3, phase=4),
    )


def turning(knots: int) -> Tensor:
    """[K, M, 4] unit quaternions wxyz; the first Gaussian passes 180°, where w changes its sign."""
    angles = torch.linspace(2.4, 4.2, knots)[:, None] * torch.tensor([1.0, 0.3, -0.6, 0.1])
    axes = torch.nn.functional.normalize(waves(MOVING, 3, phase=5), dim=-1)
    half = angles[..., None] / 2
    return torch.cat([half.cos(), half.sin() * axes], dim=-1)


def tracks(knots: int) -> list[Track]:
    time = torch.linspace(0, 1, knots)[:, None, None]
    born = torch.sigmoid(40 * (time[..., 0] - torch.linspace(0.1, 0.9, MOVING)))[..., None]
    return [
        quantize("position", time * waves(MOVING, 3) + 0.2 * waves(knots, MOVING, 3, phase=6), 11),
        quantize("rotation", in_file_axes("rotation", vectors_of(turning(knots))), 12),
        quantize("scale", 0.4 * waves(knots, MOVING, 3, phase=7), 8),
        quantize("opacity", born, 8),
        quantize("color", 0.3 * waves(knots, MOVING, 3, phase=8), 7),
    ]


def births() -> list[Track]:
    """Gaussians that appear and disappear, and are elsewhere when they do."""
    here = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]])[..., None]
    return [quantize("position", 0.5 * waves(3, MOVING, 3), 9), quantize("opacity", here.float(), 8)]


def header_of(name: str, version: int, moving: int, seconds: float) -> dict[str, Any]:
    """What both versions have, for a scene of four frames per second."""
    times = torch.linspace(0, seconds, round(4 * seconds) + 1).double().tolist()
    return {
        "format": "gs4d-clip", "version": version, "title": f"vector: {name}", "gaussians": COUNT,
        "moving": moving, "times": times, "fps": 4.0, "up": [0.0, 1.0, 0.0],
        "center": [0.0, 0.0, 0.0], "radius": 2.0, "background": [0.1, 0.2, 0.3],
        "cameras": camera_entries(ring(2)), "error": {"max": 0.0, "mean": 0.0},
        "notes": [f"test vector, {name}"],
    }  # fmt: skip


def file_of(name: str, degree: int, motion: dict[str, Any] | None, made: list[Track]) -> bytes:
    header = {**header_of(name, 1, MOVING if motion else 0, 1.0), "motion": motion}
    return encode_player_file(header, encode_spz(base(degree), name), made)


# -- version 2 --------------------------------------------------------------------------------------------------------

# of a segment: its knots and their interpolation, its end, its tracks, and which of PREDICTIONS the first one has
Piece = tuple[list[float], str, float, list[Track], int]


def cut(track: Track, first: int, last: int) -> Track:
    """The knots `first` to `last` of a track: neighbors that share a knot have the same numbers there."""
    return replace(track, whole=track.whole[first : last + 1])


def wide_tracks(knots: int) -> list[Track]:
    """As `tracks`, with positions of 16 bits that jump from one end to the other, so that differences wrap."""
    found = {track.name: track for track in tracks(knots)}
    positions = waves(knots, MOVING, 3, phase=6)
    positions[0, 0], positions[1, 0] = -1.0, 1.0
    return [*{**found, "position": quantize("position", positions, 16)}.values()]


def cubic_pieces() -> list[Piece]:
    """Two that are cubic, with other gaps between their knots, and a linear one."""
    made = wide_tracks(10)

    def part(first: int, last: int) -> list[Track]:
        return [cut(track, first, last) for track in made]

    return [
        ([0.0, 0.25, 0.5, 0.75, 1.0], "cubic", 1.0, part(0, 4), 0),
        ([1.0, 1.5, 2.0, 2.5], "cubic", 2.5, part(4, 7), 3),
        ([2.5, 2.75, 3.0], "linear", 3.0, part(7, 9), 2),
    ]


def held_pieces() -> list[Piece]:
    """Births and deaths: in a segment, at its border, and between the last knot of a segment and the border."""
    here = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 1], [0, 1, 1, 1]])[..., None].float()
    places = quantize("position", 0.5 * waves(4, MOVING, 3), 9)
    made = [places, quantize("opacity", here, 8)]
    return [
        ([0.0, 0.75], "hold", 1.25, [cut(track, 0, 1) for track in made], 1),
        ([1.25, 1.5], "hold", 2.0, [cut(track, 2, 3) for track in made], 2),
    ]


def in_segments(name: str, degree: int, pieces: list[Piece], is_backward: bool = False) -> bytes:
    """`is_backward`: the last segment comes first, and the .spz at the end."""
    spz = encode_spz(base(degree), name)
    datas = [
        encode_segment(name, i, knots, how, made, [PREDICTIONS[(first + k) % 4] for k in range(len(made))])
        for i, (knots, how, _, made, first) in enumerate(pieces)
    ]
    body, offsets = b"", []
    for data in reversed([spz, *datas]) if is_backward else [spz, *datas]:
        body += bytes(-len(body) % 16)
        offsets.append(len(body))
        body += data
    if is_backward:
        offsets.reverse()
    places = [
        Place(knots[0], end, offset, len(data), zlib.crc32(data))
        for (knots, _, end, _, _), offset, data in zip(pieces, offsets[1:], datas, strict=True)
    ]
    header = {
        **header_of(name, SEGMENTED, MOVING, pieces[-1][2]),
        "scene": name,
        "tracks": [track.name for track in pieces[0][3]],
        "spz": {"offset": offsets[0], "length": len(spz), "crc32": zlib.crc32(spz)},
        "segments": [place.entry() for place in places],
    }
    return encode_header(header, SEGMENTED) + body


# -- what a decoder must make of them ---------------------------------------------------------------------------------


def rounded(values: Tensor) -> Any:
    def short(value: Any) -> Any:
        return [short(v) for v in value] if isinstance(value, list) else float(f"{value:.7g}")

    return short(values.double().tolist())


def splats(gaussians: Gaussians) -> dict[str, Any]:
    """Activated values in the file's axes."""
    g = turned(gaussians)
    quats = rotations.normalise(g.quats)
    return {
        "centers": rounded(g.means),
        "rotations": rounded(torch.cat([quats[:, 1:], quats[:, :1]], dim=-1)),
        "scales": rounded(g.log_scales.exp()),
        "opacities": rounded(g.logit_opacities.sigmoid()),
        "colors": rounded(dc_to_rgb(g.sh[:, 0])),
    }


def motion_said(content: PlayerFile) -> dict[str, Any]:
    if isinstance(content, SegmentedFile):
        parts = [
            {"start": place.start, "end": place.end, "interpolation": content.segment(i).interpolation}
            for i, place in enumerate(content.places)
        ]
        return {"segments": parts, "tracks": sorted(content.track_names)}
    return {
        "interpolation": content.motion.interpolation if content.motion else None,
        "tracks": sorted(content.motion.tracks) if content.motion else [],
    }


def expected(content: PlayerFile, seconds: list[float]) -> dict[str, Any]:
    return {
        "gaussians": len(content.base),
        "moving": content.moving,
        **motion_said(content),
        "harmonics": rounded(turned(content.base).sh[:, 1:]),
        "base": splats(content.base),
        "frames": [{"seconds": s, **splats(content.at(s))} for s in seconds],
    }


def vectors() -> dict[str, bytes]:
    def even(interpolation: str, knots: int) -> dict[str, Any]:
        return {"knots": torch.linspace(0, 1, knots).double().tolist(), "interpolation": interpolation}

    held = {"knots": [0.0, 0.25, 0.75], "interpolation": "hold"}
    return {
        "cubic": file_of("cubic", 1, even("cubic", 5), tracks(5)),
        "linear": file_of("linear", 0, even("linear", 3), tracks(3)),
        "hold": file_of("hold", 2, held, births()),
        "still": file_of("still", 3, None, []),
        "segments_cubic": in_segments("segments_cubic", 1, cubic_pieces()),
        "segments_hold": in_segments("segments_hold", 2, held_pieces(), is_backward=True),
        "segments_one": in_segments("segments_one", 3, [([0.0, 0.5], "linear", 0.5, wide_tracks(2), 3)]),
    }


def asked(content: PlayerFile) -> list[float]:
    """Eight times: before the first knot, on and between knots, at borders and around them, and after the last."""
    if not isinstance(content, SegmentedFile):
        return [-1.0, 0.0, 0.1, 0.25, 0.6, 0.9, 1.0, 7.0]
    border, end = content.places[0].end, content.places[-1].end
    # less than 10⁻⁶ s before a border is at the border
    return [-1.0, 0.0, 0.4, border - 0.01, border - 5e-7, border + 0.1, 0.9 * end, 7.0]


def main() -> None:
    for name, data in vectors().items():
        path = HERE / f"{name}.gs4dclip"
        if path.exists():
            print(f"{path.name} is there already")
            continue
        path.write_bytes(data)
        content = decode_player_file(data, name)
        made = expected(content, asked(content))
        text = json.dumps(made, separators=(",", ":")).replace('{"seconds"', '\n{"seconds"')
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        print(f"{path.name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
