"""The node that reads a video: one of one camera, as image-to-4D models take it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..engine.errors import InputError
from ..engine.files.folders import changed, walk
from . import folders, host
from .checks import checked
from .compat import blocked, combo, io, make, schema


def videos() -> list[str]:
    """Bundled videos of one camera, then video files in input and output, newest first."""
    from ..engine.capture.single_video import is_video

    found = [
        (changed(path), f"{word}/{path.relative_to(root).as_posix()}")
        for word in ("input", "output")
        for root in folders.roots()[word]
        for path in walk(root)
        if is_video(path)
    ]
    return [*folders.bundled("*.mp4"), *folders.listable(name for _, name in sorted(found, reverse=True))]


def video_file(choice: str) -> Path:
    """The path of a chosen video; raises InputError if it is missing or outside the readable folders."""
    if choice.startswith("demo: "):
        return folders.bundled_file(choice)
    path = folders.readable(choice)
    if not path.is_file():
        raise InputError("NOD-056", f"'{choice}' is not a file; choose a video.")
    return path


def _watched(choice: str) -> tuple[Path, ...]:
    """The video, and the folder of its depth images if there is one."""
    from ..engine.capture.single_video import depth_beside

    path = video_file(choice)
    return tuple(filter(None, (path, depth_beside(path))))


@checked(_watched, "clip", watches=True)
class LoadVideoClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_LoadVideoClip",
            display_name="Load Video Clip",
            category="4dgs/generate",
            description="Reads the frames of a video of one camera: the bundled video, a file, or another node's video.",
            search_aliases=["video to 4d", "load video", "gvfdiffusion"],
            inputs=[
                combo(
                    "clip",
                    videos(),
                    "demo: toy.mp4",
                    tooltip="Video in ComfyUI's input or output folder, or the bundled one.",
                ),
                make(
                    io.Video.Input,
                    "video",
                    optional=True,
                    tooltip="A video of another node, such as Load Video. If connected, it is used instead of the file "
                    "above.",
                ),
            ],
            outputs=[
                make(
                    io.Image.Output,
                    "images",
                    display_name="images",
                    tooltip="All frames, with alpha if the file has it.",
                ),
                make(
                    io.Float.Output,
                    "fps",
                    display_name="frames per second",
                    tooltip="Frame rate of the video.",
                ),
                make(
                    io.Image.Output,
                    "depth",
                    display_name="depth",
                    tooltip="Depth of each frame, for Lift Video to 4D: images in a folder beside the file that is named like it "
                    "and ends in _depth. Gray images of 16 bits hold millimeters.",
                ),
            ],
        )

    @classmethod
    def execute(cls, clip: str, video: Any = None) -> Any:
        from ..engine.capture.depth_maps import UNIT
        from ..engine.capture.single_video import depth_beside, load_clip
        from ..engine.io.image_files import load_depth_images

        with host.node_context():
            depth: Any = blocked(
                "This video has no depth. Put depth images into a folder beside its file that is named like it and ends in "
                "_depth, or connect a depth node."
            )
            more: tuple[str, ...] = ()
            if video is not None:
                parts = video.get_components()
                frames, fps = parts.images, float(parts.frame_rate)
            else:
                frames, fps, more = load_clip(video_file(clip))
                folder = depth_beside(video_file(clip))
                if folder is not None:
                    depth = load_depth_images(folder, UNIT)
                    depth = depth if depth.ndim == 4 else depth[..., None].repeat(1, 1, 1, 3)
        height, width = frames.shape[1:3]
        notes = f"{len(frames)} frames of {width}×{height} at {fps:g} per second"
        return host.output(frames, fps, depth, notes="\n".join([notes, *more]))
