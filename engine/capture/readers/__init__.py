"""Readers of multi-view video: every layout ends in one MultiViewVideo."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...errors import InputError
from ...files.folders import visible
from ...files.paths import existing_folder
from ...scene.video import MultiViewVideo
from ...wording import shown
from ..assembly import assemble
from ..bounds import scene_bounds
from ..cameras_json import write_cameras_json
from ..description import Capture
from ..options import LAYOUTS, LoadOptions
from ..prepared_folder import PreparedFolder
from ..single_video import is_video
from . import avatar, colmap, dnerf, dynerf, folder, hypernerf, nerfstudio, technicolor

__all__ = ["LAYOUTS", "LoadOptions", "detect_layout", "load_video", "scene_bounds", "write_cameras_json"]

Reader = tuple[Callable[[Path], bool], Callable[[Path, LoadOptions], Capture], str]

# In the order in which they are tried; the sentence part says what each is recognized by.
READERS: dict[str, Reader] = {
    "avatar": (
        avatar.recognizes,
        avatar.read,
        "canonical_flame_param.npz (GaussianAvatars)",
    ),
    "folder": (folder.recognizes, folder.read, "cameras.json (this pack)"),
    "nerfstudio": (nerfstudio.recognizes, nerfstudio.read, "transforms.json (nerfstudio)"),
    "dnerf": (dnerf.recognizes, dnerf.read, "transforms_train.json (D-NeRF)"),
    "dynerf": (dynerf.recognizes, dynerf.read, "poses_bounds.npy (DyNeRF)"),
    "hypernerf": (hypernerf.recognizes, hypernerf.read, "dataset.json (HyperNeRF)"),
    "technicolor": (
        technicolor.recognizes,
        technicolor.read,
        "cameras_parameters.txt (Technicolor)",
    ),
    "colmap": (
        colmap.recognizes,
        colmap.read,
        "sparse/0/cameras.bin (COLMAP)",
    ),
}


def detect_layout(path: str | os.PathLike[str]) -> str:
    """Detect the layout of a capture from the files in its folder.

    Args:
        path: The folder of the capture.

    Returns:
        One of `LAYOUTS`.

    Raises:
        InputError: No layout fits; the message lists the files that were expected.
    """
    root = _folder(path)
    for name, (recognizes, _, _) in READERS.items():
        if recognizes(root):
            return name
    found = visible(root)
    if len(found) == 1 and is_video(found[0]):
        raise _without_cameras(shown(found[0].name))
    wanted = "; ".join(sentence for _, _, sentence in READERS.values())
    names = [shown(p.name, 32) for p in visible(root)]
    held = f"it contains {', '.join(names[:3])}{' …' if len(names) > 3 else ''}" if names else "it is empty"
    raise InputError(
        "CAP-077",
        f"{shown(root.name)} is not recognized as a multi-view video: {held}. Expected one of: {wanted}.",
    )


def _folder(path: str | os.PathLike[str]) -> Path:
    """The folder of a capture. Raises InputError where there is none."""
    given = Path(path)
    if is_video(given) and given.is_file():
        raise _without_cameras(shown(given.name))
    return existing_folder(path)


def _without_cameras(what: str) -> InputError:
    return InputError(
        "CAP-240",
        f"{what} comes without cameras, which training needs: where each camera stood. Calibrate with COLMAP (section 3 of "
        "docs/guide.md), or turn a single video into a scene with Lift Video to 4D.",
    )


def load_video(
    path: str | os.PathLike[str], options: LoadOptions | None = None, prepared: Path | None = None
) -> MultiViewVideo:
    """Open a folder of multi-view video; frames are decoded when they are read, not here.

    Args:
        path: The folder of the capture, in any of `LAYOUTS`.
        options: Layout, scale, frames and background; the defaults suit most captures.
        prepared: A folder in which training prepares frames that do not fit into the options' cache, in at most
            `options.prepared_gigabytes`. None reads all frames from the capture's files.

    Returns:
        V views of T frames with their cameras. What is unusual but usable is listed in its `warnings`.

    Raises:
        InputError: Names the file or view that is missing or damaged.

    Example:
        video = load_video("captures/dance", LoadOptions(scale=0.5))
        image = video.source.read(view=0, moment=0).image  # [H, W, 3] uint8
    """
    chosen = options or LoadOptions()
    root = _folder(path)
    layout = detect_layout(root) if chosen.layout == "auto" else chosen.layout
    capture = READERS[layout][1](root, chosen)
    limit = round(chosen.prepared_gigabytes * 1e9)
    return assemble(capture, chosen, PreparedFolder(prepared, limit) if prepared and limit else None)
