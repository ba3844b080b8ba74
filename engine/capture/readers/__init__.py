"""Readers of multi-view video: every layout ends in one MultiViewVideo."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...errors import InputError
from ...files.paths import existing_folder, printable
from ...scene.video import MultiViewVideo
from ..assembly import assemble
from ..bounds import scene_bounds
from ..cameras_json import write_cameras_json
from ..description import Capture
from ..options import LAYOUTS, LoadOptions
from . import avatar, colmap, dnerf, dynerf, folder, hypernerf, nerfstudio

__all__ = ["LAYOUTS", "LoadOptions", "detect_layout", "load_video", "scene_bounds", "write_cameras_json"]

Reader = tuple[Callable[[Path], bool], Callable[[Path, LoadOptions], Capture], str]

# In the order in which they are tried; the sentence part says what each is recognised by.
READERS: dict[str, Reader] = {
    "avatar": (
        avatar.recognises,
        avatar.read,
        "canonical_flame_param.npz or flame_param_path in transforms_train.json (GaussianAvatars, VHAP)",
    ),
    "folder": (folder.recognises, folder.read, "cameras.json (the pack's own folder of videos)"),
    "nerfstudio": (nerfstudio.recognises, nerfstudio.read, "transforms.json (nerfstudio, instant-ngp)"),
    "dnerf": (dnerf.recognises, dnerf.read, "transforms_train.json (D-NeRF)"),
    "dynerf": (dynerf.recognises, dynerf.read, "poses_bounds.npy with a video per camera (DyNeRF)"),
    "hypernerf": (hypernerf.recognises, hypernerf.read, "dataset.json with a folder camera (HyperNeRF)"),
    "colmap": (
        colmap.recognises,
        colmap.read,
        "sparse/0 or sparse_ with cameras.bin or cameras.txt (COLMAP)",
    ),
}


def detect_layout(path: str | os.PathLike[str]) -> str:
    """The layout's name, from which files the folder holds. InputError that lists what was looked for."""
    root = existing_folder(path)
    for name, (recognises, _, _) in READERS.items():
        if recognises(root):
            return name
    wanted = "; ".join(sentence for _, _, sentence in READERS.values())
    names = sorted(printable(p.name) for p in root.iterdir())
    held = f"it contains {', '.join(names[:6])}{' …' if len(names) > 6 else ''}" if names else "it is empty"
    raise InputError(
        "CAP-077",
        f"'{printable(root.name)}' is not recognized as a multi-view video: {held}. Expected one of: "
        f"{wanted}.",
    )


def load_video(path: str | os.PathLike[str], options: LoadOptions | None = None) -> MultiViewVideo:
    """The multi-view video in a folder. Frames are decoded when they are asked for, not here.

    InputError is one sentence that names the file or view at fault; what is odd but usable is in `warnings`.
    """
    chosen = options or LoadOptions()
    root = existing_folder(path)
    layout = detect_layout(root) if chosen.layout == "auto" else chosen.layout
    capture = READERS[layout][1](root, chosen)
    return assemble(capture, chosen)
