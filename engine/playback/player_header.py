"""The header of player files: its JSON, the values in it, and the conversion between the file's axes and this pack's."""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..files.jsonfile import parse_json
from ..io.spz import decode_spz
from ..scene import Cameras
from ..scene.cameras import Origin, origin_from
from .player_content import Motion, PlayerFile
from .tracks import CHANNELS, FROM_KNOT, INTERPOLATIONS, Prediction, Track, aligned, quats_of, unpack

# versions: one piece, and in segments
MAGIC, VERSION, SEGMENTED = b"GS4C", 1, 2
# bytes before the header's text
PREFIX = 12
# rotation by 180° about x; its own inverse
FLIP = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
# tracks whose vectors rotate with the axes
TURNED = ("position", "rotation")
AGAIN = "export it again"


def camera_entries(cameras: Cameras) -> list[dict[str, Any]]:
    """The header's cameras: pinholes with camera_to_world in OpenGL axes (right, up, back), row-major."""
    turn = torch.diag(torch.cat([FLIP, torch.ones(1, dtype=torch.float64)]))
    c2w = turn @ cameras.camera_to_world.double() @ turn
    return [
        {
            "name": name,
            "width": w,
            "height": h,
            "fx": float(K[0, 0]),
            "fy": float(K[1, 1]),
            "cx": float(K[0, 2]),
            "cy": float(K[1, 2]),
            "camera_to_world": pose.flatten().tolist(),
        }
        for name, (w, h), K, pose in zip(cameras.names, cameras.sizes, cameras.K.double(), c2w, strict=True)
    ]


def encode_header(header: dict[str, Any], version: int) -> bytes:
    """A file's first bytes, up to its data. Raises InputError if the header contains NaN."""
    try:
        text = json_text(header)
    except ValueError as error:
        raise InputError(
            "PLB-003",
            "The scene's cameras, times or bounds contain NaN or infinite values; load or train it again.",
        ) from error
    # a file name may contain characters that UTF-8 cannot encode
    text += b" " * (-(PREFIX + len(text)) % 16)
    return b"".join([MAGIC, version.to_bytes(4, "little"), len(text).to_bytes(4, "little"), text])


def json_text(values: dict[str, Any]) -> bytes:
    """Compact JSON. Raises ValueError for NaN."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        errors="replace"
    )


def in_file_axes(name: str, values: Tensor) -> Tensor:
    """Values of a track converted to the file's axes, or back."""
    return values * FLIP.to(values) if name in TURNED else values


def played(track: Track) -> Tensor:
    """[K, M, c]: the values of a track in this pack's axes, ready to be interpolated."""
    values = in_file_axes(track.name, track.values())
    return aligned(quats_of(values)) if track.name == "rotation" else values


def read_header(data: bytes, name: str) -> tuple[int, dict[str, Any], int]:
    """The version, the header and where the data begins. Raises InputError for other files and damaged headers."""
    if data[:4] != MAGIC[: len(data)] or not data:
        raise InputError("PLB-008", f"{name} is not a player file of this pack; select a .gs4dclip file.")
    if len(data) < PREFIX:
        raise InputError("PLB-009", f"{name} is cut short; {AGAIN}.")
    version, length = (int.from_bytes(data[i : i + 4], "little") for i in (4, 8))
    if version not in (VERSION, SEGMENTED):
        raise InputError(
            "PLB-010",
            f"{name} is a player file of version {version}, but this pack supports versions {VERSION} and {SEGMENTED}; update "
            f"the pack or {AGAIN}.",
        )
    if PREFIX + length > len(data):
        raise InputError("PLB-011", f"{name} is cut short inside its header; {AGAIN}.")
    try:
        about = parse_json(data[PREFIX : PREFIX + length])
    except ValueError as error:
        raise InputError("PLB-012", f"{name}: its header is damaged; {AGAIN}.") from error
    if not isinstance(about, dict) or about.get("format") != "gs4d-clip":
        raise InputError("PLB-013", f"{name} is not a player file of this pack; select a .gs4dclip file.")
    return version, about, PREFIX + length


@contextmanager
def explained(name: str) -> Generator[None, None, None]:
    """Name the file in errors, and turn those of a header that does not match its content into InputError."""
    try:
        yield
    except InputError as error:
        raise error.at(name) from error
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        RuntimeError,
        OverflowError,
    ) as error:
        short = " ".join(str(error).split())[:100]
        raise InputError(
            "PLB-007",
            f"{name}: its header does not match its content ({type(error).__name__}: {short}); {AGAIN}.",
        ) from error


def check_moving(moving: int, count: int, fits: bool) -> None:
    """Raise InputError unless the number of moving Gaussians fits the rest of the file."""
    if not fits:
        raise InputError(
            "PLB-015",
            f"it claims {moving:,} moving Gaussians of {count:,}, which does not match its tracks; {AGAIN}.",
        )


def content_of(about: dict[str, Any], spz: bytes) -> PlayerFile:
    """What the header and the first frame say; without motion. Raises InputError, KeyError, TypeError and ValueError."""
    base = decode_spz(spz, "its splat")
    count, moving = int(about["gaussians"]), int(about["moving"])
    if count != len(base):
        raise InputError("PLB-014", f"it claims {count:,} Gaussians and holds {len(base):,}; {AGAIN}.")
    times = ascending(about["times"], "times")
    check_moving(moving, count, 0 <= moving <= count)
    return PlayerFile(
        title=str(about["title"]),
        times=times,
        fps=positive(about["fps"], "fps"),
        up=numbers_of(about["up"], 3, "up") * FLIP,
        center=numbers_of(about["center"], 3, "center") * FLIP,
        radius=positive(about["radius"], "radius"),
        background=numbers_of(about["background"], 3, "background").float(),
        cameras=cameras_from(about["cameras"], origin_from(about.get("origin"))),
        base=base,
        moving=moving,
        motion=None,
        max_error=float(about["error"]["max"]),
        mean_error=float(about["error"]["mean"]),
        notes=tuple(str(note) for note in about["notes"]),
    )


def motion_from(about: dict[str, Any], body: memoryview, moving: int, is_segment: bool = False) -> Motion:
    """Knots, interpolation and tracks; those of segments say how they were packed. Raises as `content_of`."""
    knots, interpolation = ascending(about["knots"], "knots"), str(about["interpolation"])
    if interpolation not in INTERPOLATIONS:
        raise InputError(
            "PLB-016", f"it is interpolated by '{interpolation[:20]}', which is not supported; {AGAIN}."
        )
    even = torch.linspace(float(knots[0]), float(knots[-1]), len(knots), dtype=torch.float64)
    gap = float(knots[-1] - knots[0]) / max(len(knots) - 1, 1)
    if interpolation != "hold" and float((knots - even).abs().max()) > 0.01 * gap:
        raise InputError("PLB-017", f"its knots are not evenly spaced; {AGAIN}.")
    tracks: dict[str, Tensor] = {}
    for entry in about["tracks"]:
        key, channels, bits = str(entry["name"]), int(entry["channels"]), int(entry["bits"])
        if CHANNELS.get(key) != channels or not 1 <= bits <= 16 or key in tracks or moving < 1:
            raise InputError(
                "PLB-018",
                f"its track '{key[:20]}' of {channels} channels with {bits} bits is not supported; {AGAIN}.",
            )
        low, high = (numbers_of(entry[side], channels, f"{side} of {key}") for side in ("low", "high"))
        packed = block_of(entry, body, f"track '{key}'")
        # other entries of version 1 are ignored, whatever their names
        prediction = _prediction(entry) if is_segment else FROM_KNOT
        track = unpack(packed, key, bits, low, high, (len(knots), moving, channels), prediction)
        tracks[key] = played(track)
    return Motion(knots, interpolation, tracks)


def _prediction(entry: dict[str, Any]) -> Prediction:
    """What the entry of a segment's track says of it."""
    order, spatial = entry["order"], entry["spatial"]
    if isinstance(order, bool) or order not in (1, 2) or not isinstance(spatial, bool):
        raise InputError(
            "PLB-041",
            f"its track '{str(entry['name'])[:20]}' is predicted in an unsupported way; update the pack.",
        )
    return Prediction(order, spatial, folds=True)


def block_of(entry: dict[str, Any], body: memoryview, what: str) -> bytes:
    offset, length = int(entry["offset"]), int(entry["length"])
    if offset < 0 or length < 0 or offset + length > len(body):
        raise InputError(
            "PLB-019",
            f"it is cut short: {len(body):,} bytes do not hold its {what} at {offset:,} + {length:,}; {AGAIN}.",
        )
    return bytes(body[offset : offset + length])


def numbers_of(values: Any, count: int, what: str) -> Tensor:
    result = torch.tensor([float(v) for v in values], dtype=torch.float64)
    if len(result) != count or not bool(torch.isfinite(result).all()):
        raise InputError("PLB-020", f"its {what} is not {count} numbers; {AGAIN}.")
    return result


def ascending(values: Any, what: str) -> Tensor:
    result = torch.tensor([float(v) for v in values], dtype=torch.float64)
    if len(result) == 0 or not bool(torch.isfinite(result).all()) or bool((result.diff() <= 0).any()):
        raise InputError("PLB-021", f"its {len(result)} {what} are not in ascending order; {AGAIN}.")
    return result


def positive(value: Any, what: str) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise InputError("PLB-022", f"its {what} is {number}, not a positive number; {AGAIN}.")
    return number


def cameras_from(entries: list[dict[str, Any]], origin: Origin) -> Cameras:
    turn = torch.diag(torch.cat([FLIP, torch.ones(1, dtype=torch.float64)]))
    Ks, poses = torch.zeros(len(entries), 3, 3).double(), torch.eye(4).double().repeat(len(entries), 1, 1)
    for i, entry in enumerate(entries):
        fx, fy, cx, cy = numbers_of([entry[k] for k in ("fx", "fy", "cx", "cy")], 4, "camera")
        Ks[i] = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        c2w = turn @ numbers_of(entry["camera_to_world"], 16, "camera_to_world").reshape(4, 4) @ turn
        poses[i, :3, :3] = c2w[:3, :3].T
        poses[i, :3, 3] = -c2w[:3, :3].T @ c2w[:3, 3]
    return Cameras(
        poses,
        Ks,
        tuple((int(e["width"]), int(e["height"])) for e in entries),
        tuple(str(e["name"]) for e in entries),
        origin,
    )
