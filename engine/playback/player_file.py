"""Player files (`.gs4dclip`): a moving scene in the size of a short video, for players that evaluate motion on the GPU.

docs/player_format.md specifies the format. One binary file, little endian: "GS4C", u32 version, u32 header length, the
JSON header padded so that the data begins at a multiple of 16, then blocks: an .spz of the first frame and, for the
first `moving` Gaussians, tracks of knots.
The file's axes are x right, y up, z back (OpenGL, three.js): this pack's world rotated by 180° about x. Everything
in `PlayerFile` is in this pack's axes; this module converts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.jsonfile import parse_json
from ..files.paths import read_regular
from ..io.spz import decode_spz
from ..scene import Cameras
from ..scene.cameras import Origin, origin_from
from .player_content import Motion, PlayerFile
from .tracks import CHANNELS, INTERPOLATIONS, Track, aligned, pack, quats_of, unpack

__all__ = ["decode_player_file", "encode_player_file", "read_player_file", "write_player_file"]

MAGIC, VERSION = b"GS4C", 1
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


def encode_player_file(header: dict[str, Any], spz: bytes, tracks: Iterable[Track]) -> bytes:
    """Encode a player file.

    Args:
        header: The complete header except for the positions of the blocks; its "motion" has no tracks yet, or is None.
        spz: The first frame as an .spz.
        tracks: Tracks in the file's axes (`in_file_axes`).

    Returns:
        The file's bytes.

    Raises:
        ValueError: The header contains NaN.
    """
    blocks, end = [spz], len(spz)
    header = {**header, "spz": {"offset": 0, "length": len(spz)}}
    if header["motion"] is not None:
        entries: list[dict[str, Any]] = []
        for track in tracks:
            packed = pack(track)
            padding = -end % 16
            blocks += [b"\0" * padding, packed]
            entries.append(
                {
                    "name": track.name,
                    "channels": track.whole.shape[2],
                    "bits": track.bits,
                    "low": track.low.tolist(),
                    "high": track.high.tolist(),
                    "offset": end + padding,
                    "length": len(packed),
                }
            )
            end += padding + len(packed)
        header["motion"] = {**header["motion"], "tracks": entries}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # a file name may contain characters that UTF-8 cannot encode
    text = text.encode(errors="replace")
    text += b" " * (-(12 + len(text)) % 16)
    return b"".join([MAGIC, VERSION.to_bytes(4, "little"), len(text).to_bytes(4, "little"), text, *blocks])


def in_file_axes(name: str, values: Tensor) -> Tensor:
    """Values of a track converted to the file's axes, or back."""
    return values * FLIP.to(values) if name in TURNED else values


def played(track: Track) -> Tensor:
    """[K, M, c]: the values of a track in this pack's axes, ready to be interpolated."""
    values = in_file_axes(track.name, track.values())
    return aligned(quats_of(values)) if track.name == "rotation" else values


def write_player_file(data: bytes, path: Path | str) -> Path:
    """Write the bytes of a player file atomically.

    Args:
        data: The bytes that `encode_player_file` returned.
        path: The file; it is replaced if it exists.

    Returns:
        The path.

    Raises:
        InputError: The file cannot be written.
    """
    path = Path(path)
    with write_atomically(path) as partial:
        partial.write_bytes(data)
    return path


def read_player_file(path: Path | str) -> PlayerFile:
    """Read a player file.

    Args:
        path: A `.gs4dclip` file.

    Returns:
        Its content in this pack's axes.

    Raises:
        InputError: The file is missing, of another format or a newer version, cut short, or inconsistent.

    Example:
        >>> read_player_file("scene.gs4dclip").at(0.5).means.shape
        torch.Size([8000, 3])
    """
    path = Path(path)
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputError(
            "PLB-006", f"{path.name} cannot be read: {error.strerror}; check the path."
        ) from error
    return decode_player_file(data, path.name)


def decode_player_file(data: bytes, name: str) -> PlayerFile:
    """Decode the bytes of a player file; `name` identifies it in errors. Raises InputError as `read_player_file`."""
    about, body = _header(data, name)
    try:
        return _assemble(about, body)
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


def _header(data: bytes, name: str) -> tuple[dict[str, Any], memoryview]:
    if data[:4] != MAGIC[: len(data)] or not data:
        raise InputError("PLB-008", f"{name} is not a player file of this pack; select a .gs4dclip file.")
    if len(data) < 12:
        raise InputError("PLB-009", f"{name} is cut short; {AGAIN}.")
    version, length = (int.from_bytes(data[i : i + 4], "little") for i in (4, 8))
    if version != VERSION:
        raise InputError(
            "PLB-010",
            f"{name} is a player file of version {version}, but this pack supports version {VERSION}; update the pack or "
            f"{AGAIN}.",
        )
    if 12 + length > len(data):
        raise InputError("PLB-011", f"{name} is cut short inside its header; {AGAIN}.")
    try:
        about = parse_json(data[12 : 12 + length])
    except ValueError as error:
        raise InputError("PLB-012", f"{name}: its header is damaged; {AGAIN}.") from error
    if not isinstance(about, dict) or about.get("format") != "gs4d-clip":
        raise InputError("PLB-013", f"{name} is not a player file of this pack; select a .gs4dclip file.")
    return about, memoryview(data)[12 + length :]


def _assemble(about: dict[str, Any], body: memoryview) -> PlayerFile:
    base = decode_spz(_block(about["spz"], body, "splat"), "its splat")
    count, moving = int(about["gaussians"]), int(about["moving"])
    if count != len(base):
        raise InputError("PLB-014", f"it claims {count:,} Gaussians and holds {len(base):,}; {AGAIN}.")
    times = _ascending(about["times"], "times")
    motion = None if about["motion"] is None else _motion(about["motion"], body, moving)
    if not 0 <= moving <= count or (motion is None and moving):
        raise InputError(
            "PLB-015",
            f"it claims {moving:,} moving Gaussians of {count:,}, which does not match its tracks; {AGAIN}.",
        )
    return PlayerFile(
        title=str(about["title"]),
        times=times,
        fps=_positive(about["fps"], "fps"),
        up=_numbers(about["up"], 3, "up") * FLIP,
        center=_numbers(about["center"], 3, "center") * FLIP,
        radius=_positive(about["radius"], "radius"),
        background=_numbers(about["background"], 3, "background").float(),
        cameras=_cameras(about["cameras"], origin_from(about.get("origin"))),
        base=base,
        moving=moving,
        motion=motion,
        max_error=float(about["error"]["max"]),
        mean_error=float(about["error"]["mean"]),
        notes=tuple(str(note) for note in about["notes"]),
    )


def _motion(about: dict[str, Any], body: memoryview, moving: int) -> Motion:
    knots, interpolation = _ascending(about["knots"], "knots"), str(about["interpolation"])
    if interpolation not in INTERPOLATIONS:
        raise InputError(
            "PLB-016", f"it is interpolated by '{interpolation[:20]}', which is not supported; {AGAIN}."
        )
    gaps = knots.diff()
    if interpolation != "hold" and len(gaps) and float(gaps.max() - gaps.min()) > 1e-3 * float(gaps.mean()):
        raise InputError("PLB-017", f"its knots are not evenly spaced; {AGAIN}.")
    tracks: dict[str, Tensor] = {}
    for entry in about["tracks"]:
        key, channels, bits = str(entry["name"]), int(entry["channels"]), int(entry["bits"])
        if CHANNELS.get(key) != channels or not 1 <= bits <= 16 or key in tracks or moving < 1:
            raise InputError(
                "PLB-018",
                f"its track '{key[:20]}' of {channels} channels with {bits} bits is not supported; {AGAIN}.",
            )
        low, high = (_numbers(entry[side], channels, f"{side} of {key}") for side in ("low", "high"))
        packed = _block(entry, body, f"track '{key}'")
        track = unpack(packed, key, bits, low, high, (len(knots), moving, channels))
        tracks[key] = played(track)
    return Motion(knots, interpolation, tracks)


def _block(entry: dict[str, Any], body: memoryview, what: str) -> bytes:
    offset, length = int(entry["offset"]), int(entry["length"])
    if offset < 0 or length < 0 or offset + length > len(body):
        raise InputError(
            "PLB-019",
            f"it is cut short: {len(body):,} bytes do not hold its {what} at {offset:,} + {length:,}; {AGAIN}.",
        )
    return bytes(body[offset : offset + length])


def _numbers(values: Any, count: int, what: str) -> Tensor:
    result = torch.tensor([float(v) for v in values], dtype=torch.float64)
    if len(result) != count or not bool(torch.isfinite(result).all()):
        raise InputError("PLB-020", f"its {what} is not {count} numbers; {AGAIN}.")
    return result


def _ascending(values: Any, what: str) -> Tensor:
    result = torch.tensor([float(v) for v in values], dtype=torch.float64)
    if len(result) == 0 or not bool(torch.isfinite(result).all()) or bool((result.diff() <= 0).any()):
        raise InputError("PLB-021", f"its {len(result)} {what} are not in ascending order; {AGAIN}.")
    return result


def _positive(value: Any, what: str) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise InputError("PLB-022", f"its {what} is {number}, not a positive number; {AGAIN}.")
    return number


def _cameras(entries: list[dict[str, Any]], origin: Origin) -> Cameras:
    turn = torch.diag(torch.cat([FLIP, torch.ones(1, dtype=torch.float64)]))
    Ks, poses = torch.zeros(len(entries), 3, 3).double(), torch.eye(4).double().repeat(len(entries), 1, 1)
    for i, entry in enumerate(entries):
        fx, fy, cx, cy = _numbers([entry[k] for k in ("fx", "fy", "cx", "cy")], 4, "camera")
        Ks[i] = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        c2w = turn @ _numbers(entry["camera_to_world"], 16, "camera_to_world").reshape(4, 4) @ turn
        poses[i, :3, :3] = c2w[:3, :3].T
        poses[i, :3, 3] = -c2w[:3, :3].T @ c2w[:3, 3]
    return Cameras(
        poses,
        Ks,
        tuple((int(e["width"]), int(e["height"])) for e in entries),
        tuple(str(e["name"]) for e in entries),
        origin,
    )
