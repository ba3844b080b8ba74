"""Writes the test vectors of docs/player_format.md: tiny player files, and what a decoder must make of them.

    python tests/player_format/write_vectors.py

The expected values come from the engine's decoder, in the file's axes. Files that are there already are never replaced:
decoders of other people test against them. Change the format's version, and add vectors of a new name.
"""

from __future__ import annotations

import json
import math
import sys
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
from engine.playback.tracks import Track, quantize, vectors_of
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


def file_of(name: str, degree: int, motion: dict[str, Any] | None, made: list[Track]) -> bytes:
    times = [0.0, 0.25, 0.5, 0.75, 1.0]
    header = {
        "format": "gs4d-clip", "version": 1, "title": f"vector: {name}", "gaussians": COUNT,
        "moving": MOVING if motion else 0, "times": times, "fps": 4.0, "up": [0.0, 1.0, 0.0],
        "center": [0.0, 0.0, 0.0], "radius": 2.0, "background": [0.1, 0.2, 0.3],
        "cameras": camera_entries(ring(2)), "motion": motion, "error": {"max": 0.0, "mean": 0.0},
        "notes": [f"test vector, {name}"],
    }  # fmt: skip
    return encode_player_file(header, encode_spz(base(degree), name), made)


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


def expected(content: PlayerFile, seconds: list[float]) -> dict[str, Any]:
    return {
        "gaussians": len(content.base),
        "moving": content.moving,
        "interpolation": content.motion.interpolation if content.motion else None,
        "tracks": sorted(content.motion.tracks) if content.motion else [],
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
    }


def main() -> None:
    for name, data in vectors().items():
        path = HERE / f"{name}.gs4dclip"
        if path.exists():
            print(f"{path.name} is there already")
            continue
        path.write_bytes(data)
        made = expected(decode_player_file(data, name), [-1.0, 0.0, 0.1, 0.25, 0.6, 0.9, 1.0, 7.0])
        text = json.dumps(made, separators=(",", ":")).replace('{"seconds"', '\n{"seconds"')
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        print(f"{path.name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
