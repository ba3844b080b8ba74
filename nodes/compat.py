"""The only file that imports comfy_api: hides what ComfyUI 0.3.75 lacks and 0.33 has.

Keyword arguments that an older ComfyUI does not know are dropped by looking at its signatures; socket types that it has
no class for are named by their string.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from comfy_api import latest  # pyright: ignore[reportMissingImports]
from torch import Tensor

from ..engine.files.mp4 import mp4_writer
from .search import aliases

__all__ = [
    "ComfyExtension",
    "blocked",
    "combo",
    "io",
    "make",
    "schema",
    "socket",
    "splat",
    "splat_parts",
    "video",
]

# of x264, where nothing is asked for
CRF = 23
# Any: ComfyUI's types are missing when the pack is checked without it
ComfyExtension: Any = latest.ComfyExtension
io: Any = latest.io


def _known(target: Any) -> set[str] | None:
    """Keyword names that `target` accepts; None if it accepts any."""
    if is_dataclass(target):
        return {f.name for f in fields(target)}
    parameters = inspect.signature(target).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def make(target: Any, *args: Any, **keywords: Any) -> Any:
    """`target(*args, **keywords)` without the keywords that this ComfyUI does not support."""
    known = _known(target)
    made = target(*args, **{k: v for k, v in keywords.items() if known is None or k in known})
    if keywords.get("advanced") and known is not None and "advanced" not in known:
        # the frontend knows it longer than this class does
        made.extra_dict["advanced"] = True
    return made


def schema(**keywords: Any) -> Any:
    """An io.Schema that knows its node's id, which progress messages need, and its graph, and is found by artists' words."""
    pack, _, menu = keywords["category"].partition("/")
    # languages translate menus by their words alone, for all of ComfyUI: those of the pack must be of its own
    keywords["category"] = f"{pack}/4D {menu}"
    keywords["search_aliases"] = aliases(keywords["node_id"], keywords.get("search_aliases", ()))
    keywords["hidden"] = [io.Hidden.unique_id, io.Hidden.extra_pnginfo]
    return make(io.Schema, **keywords)


def socket(name: str) -> Any:
    """The socket type called `name`, whether or not this ComfyUI has a class for it."""
    return io.Custom(name)


def combo(name: str, options: list[str], default: str | None = None, **keywords: Any) -> Any:
    return make(io.Combo.Input, name, options=options, default=default, **keywords)


def blocked(reason: str) -> Any:
    """An output without a value: nodes connected to it stop with `reason`."""
    from comfy_execution.graph_utils import ExecutionBlocker  # pyright: ignore[reportMissingImports]

    return ExecutionBlocker(reason)


def video(images: Tensor, fps: float) -> Any:
    """A VIDEO of images [F, H, W, 3]; an odd last row or column is cropped, because H.264 cannot store it.

    Saved as an .mp4, it says what its colors are, with the quality of ComfyUI's own. What that writes is BT.601 and says nothing
    (0.3.75), so that players and editors shift the colors of large videos.
    """
    from comfy_api.latest import InputImpl, Types  # pyright: ignore[reportMissingImports]

    base: Any = InputImpl.VideoFromComponents

    class TaggedVideo(base):
        def save_to(
            self, path: Any, format: Any = "auto", codec: Any = "auto", metadata: Any = None, **more: Any
        ) -> None:
            is_usual = format in ("auto", "mp4") and codec in ("auto", "h264") and not more
            if not is_usual or not isinstance(path, str | PathLike) or Path(path).suffix.lower() != ".mp4":
                super().save_to(path, format=format, codec=codec, metadata=metadata, **more)
                return
            parts = self.get_components()
            told = {key: json.dumps(value) for key, value in (metadata or {}).items()}
            with mp4_writer(float(parts.frame_rate), Path(path), CRF, told) as add:
                for image in parts.images:
                    add(image)

    even = images[:, : max(images.shape[1] // 2 * 2, 1), : max(images.shape[2] // 2 * 2, 1)]
    rate = Fraction(fps).limit_denominator(1001)
    return TaggedVideo(Types.VideoComponents(images=even, frame_rate=rate))


@dataclass(eq=False)
class _Splat:
    """Replacement for SPLAT if ComfyUI has no such class, with the same attributes."""

    positions: Tensor
    scales: Tensor
    rotations: Tensor
    opacities: Tensor
    sh: Tensor
    counts: Tensor | None = None


def splat(positions: Tensor, scales: Tensor, rotations: Tensor, opacities: Tensor, sh: Tensor) -> Any:
    """A SPLAT batch: [B, N, 3], linear scales [B, N, 3], wxyz [B, N, 4], 0..1 [B, N, 1], sh [B, N, K, 3]."""
    try:
        from comfy_api.latest._util import SPLAT  # pyright: ignore[reportMissingImports]
    except ImportError:
        SPLAT = _Splat
    return SPLAT(positions, scales, rotations, opacities, sh)


def splat_parts(value: Any) -> list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """The frames of a SPLAT batch without their padding: positions, scales, rotations, opacities [n], sh; cloned."""
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
    for b in range(value.positions.shape[0]):
        n = value.positions.shape[1] if value.counts is None else int(value.counts[b])
        parts.append(
            (
                value.positions[b, :n].float().clone(),
                value.scales[b, :n].float().clone(),
                value.rotations[b, :n].float().clone(),
                value.opacities[b, :n].reshape(n).float().clone(),
                torch.as_tensor(value.sh[b, :n]).float().clone(),
            )
        )
    return parts
