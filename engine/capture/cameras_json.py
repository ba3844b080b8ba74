"""Writing the cameras.json of the pack's own layout; `readers.folder` reads it and describes its entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.jsonfile import write_json
from ..files.paths import inside
from ..scene.cameras import AT_ZERO, Cameras
from .undistort import Distortion

CAMERAS = "cameras.json"
FORMAT = "multiview-video"
VERSION = 1
MASK_KEYS = {"video": "mask", "frames": "masks"}


def write_cameras_json(
    folder: str | Path,
    cameras: Cameras,
    fps: float,
    *,
    videos: Sequence[str] | None = None,
    frames: Sequence[str] | None = None,
    masks: Sequence[str | None] | None = None,
    frame_count: int | None = None,
    near: float | None = None,
    far: float | None = None,
    background: Sequence[float] | None = None,
    hold_out: Sequence[str] = (),
    hold_out_frames: Sequence[int] = (),
    points: str | None = None,
    distortions: Sequence[Distortion | None] | None = None,
    depths: Sequence[str | None] | None = None,
    depth_unit: float | None = None,
    tracks: str | None = None,
) -> Path:
    """Write the cameras.json of a folder of videos or images, whole or not at all.

    Args:
        folder: The folder that holds the videos or images; all paths below are relative to it, with forward slashes.
        cameras: The rig, V cameras; they are written in the world's coordinates, without the rig's own origin.
        fps: Frames per second.
        videos: V video files. Give either `videos` or `frames`.
        frames: V folders of images, or patterns such as "images/cam00/%05d.png".
        masks: V mask videos (with `videos`) or folders and patterns (with `frames`); None where a view has none.
        frame_count: Frames per view.
        near: Nearest depth to render, in world units.
        far: Farthest depth to render, in world units.
        background: 3 numbers in 0..1: the color behind masked subjects.
        hold_out: Names of the cameras to hold out for evaluation.
        hold_out_frames: Indices of the frames to hold out in every view, from 0.
        points: A .ply file of initial points.
        distortions: V lenses, where the images are not undistorted yet.
        depths: V folders or patterns of depth maps; None where a view has none.
        depth_unit: World units per unit of the depth maps; None is 0.001.
        tracks: An .npz file of tracks; see `readers.folder`.

    Returns:
        The path of the file.

    Raises:
        InputError: A list does not have one entry per camera, or names a file outside the folder.
    """
    root = Path(folder)
    cameras = cameras.with_origin(AT_ZERO)
    contents = videos if videos is not None else frames
    if contents is None or (videos is not None and frames is not None):
        raise InputError("CAP-109", "write_cameras_json: exactly one of videos and frames must be given.")
    lists = {"pictures": contents, "masks": masks, "distortions": distortions, "depths": depths}
    _check_counts(len(cameras), lists)
    kind = "video" if videos is not None else "frames"
    listed: list[dict[str, Any]] = []
    for i, content in enumerate(contents):
        inside(root, content, CAMERAS)
        entry: dict[str, Any] = {"name": cameras.names[i], kind: content}
        mask = masks[i] if masks is not None else None
        if mask is not None:
            inside(root, mask, CAMERAS)
            entry[MASK_KEYS[kind]] = mask
        depth = depths[i] if depths is not None else None
        if depth is not None:
            inside(root, depth, CAMERAS)
            entry["depths"] = depth
        listed.append(entry | _geometry(cameras, i, distortions[i] if distortions is not None else None))
    optional = {
        "frame_count": frame_count,
        "near": near,
        "far": far,
        "background": None if background is None else [float(c) for c in background],
        "hold_out": list(hold_out) or None,
        "hold_out_frames": list(hold_out_frames) or None,
        "points": points,
        "depth_unit": depth_unit,
        "tracks": tracks,
    }
    data: dict[str, Any] = {"format": FORMAT, "version": VERSION, "fps": float(fps), "camera_axes": "opencv"}
    data |= {key: value for key, value in optional.items() if value is not None}
    write_json(root / CAMERAS, data | {"cameras": listed})
    return root / CAMERAS


def _check_counts(cameras: int, given: Mapping[str, Sequence[Any] | None]) -> None:
    for what, entries in given.items():
        if entries is not None and len(entries) != cameras:
            raise InputError(
                "CAP-110",
                f"write_cameras_json: {len(entries)} {what} were given for {cameras} cameras. Give one entry "
                "per camera.",
            )


def _geometry(cameras: Cameras, i: int, lens: Distortion | None) -> dict[str, Any]:
    """Size, K, pose and lens of camera `i` as the file stores them."""
    entry: dict[str, Any] = {}
    entry["width"], entry["height"] = cameras.sizes[i]
    entry["K"] = cameras.K[i].double().tolist()
    entry["w2c"] = cameras.world_to_camera[i].double().tolist()
    if lens is not None and not lens.is_identity:
        entry["distortion"] = {"model": lens.model, "params": list(lens.params)}
    return entry
