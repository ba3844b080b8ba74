"""Nodes that load captures and scenes, and save scenes."""

from __future__ import annotations

from typing import Any

from ..engine.capture.readers import LoadOptions
from . import fields, folders, host, pictures
from .checks import about, checked
from .compat import combo, io, make, schema
from .types import MultiViewVideoSocket, SceneSocket

LOAD_FIELDS = (
    "layout scale first_frame frame_count frame_step frames_per_second background hold_out cache_megabytes "
    "prepared_gigabytes"
)
FIRST_CLIP = "demo: walker"


def _capture(clip: str, folder: str) -> Any:
    """The capture's folder or zip; a folder that is set hides the list."""
    with about("folder" if folder.strip() else "clip"):
        return folders.capture_source(clip, folder)


@checked(_capture, "clip", "folder", watches=True)
class LoadMultiViewVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        clips = folders.captures()
        return schema(
            node_id="GS4D_LoadMultiViewVideo",
            display_name="Load Multi-View Video",
            category="4dgs/load",
            description="Loads a capture: synchronized videos or frames of one moving subject with their cameras, or "
            "one moving camera.",
            search_aliases=[
                "4d",
                "gaussian splatting",
                "dynerf",
                "d-nerf",
                "colmap",
                "nerfstudio",
                "multi camera",
            ],
            inputs=[
                combo(
                    "clip",
                    clips,
                    FIRST_CLIP if FIRST_CLIP in clips else None,
                    display_name="capture",
                    tooltip="The demo capture, or a folder or zip file in ComfyUI's input folder with videos or images and "
                    "their cameras.",
                ),
                make(
                    io.String.Input,
                    "folder",
                    default="",
                    display_name="or folder",
                    tooltip="Path of a capture in input, output or models/gs4d. If set, overrides the list above.",
                ),
                *fields.inputs(LoadOptions, LOAD_FIELDS),
            ],
            outputs=[
                MultiViewVideoSocket.Output(
                    "video",
                    display_name="video",
                    tooltip="The capture: synchronized videos and their cameras, for Train 4D Scene.",
                )
            ],
        )

    @classmethod
    def execute(cls, clip: str, folder: str, **options: Any) -> Any:
        from ..engine.capture.readers import load_video

        with host.node_context():
            chosen = fields.config_from(LoadOptions, options)
            video = load_video(folders.capture(clip, folder), chosen, folders.prepared_frames())
            shown = pictures.capture(video)
        return host.output(
            video, notes="\n".join([video.summary(), *video.notes, *video.warnings[:5]]), ui=shown
        )


@checked(folders.scene_file, "scene_file", watches=True)
class Load4DScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        names = folders.scenes()
        return schema(
            node_id="GS4D_Load4DScene",
            display_name="Load 4D Scene",
            category="4dgs/load",
            description="Loads a scene saved by Save 4D Scene, or the bundled one.",
            inputs=[
                combo(
                    "scene_file",
                    names,
                    names[0] if names else None,
                    display_name="scene file",
                    tooltip="The demo scene, or a scene in ComfyUI's output or input folder or in models/gs4d; newest first.",
                )
            ],
            outputs=[SceneSocket.Output("scene", display_name="scene", tooltip="The loaded scene.")],
        )

    @classmethod
    def execute(cls, scene_file: str) -> Any:
        from ..engine.io.scene_file import load_scene

        with host.node_context():
            scene = load_scene(folders.scene_file(scene_file))
        return host.output(scene, notes=scene.summary())


@checked(folders.check_prefix, "filename_prefix")
class Save4DScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_Save4DScene",
            display_name="Save 4D Scene",
            category="4dgs/load",
            description="Saves a scene losslessly as one .safetensors file in ComfyUI's output folder.",
            inputs=[
                SceneSocket.Input("scene", tooltip="The scene to save."),
                make(
                    io.String.Input,
                    "filename_prefix",
                    default="gs4d/scene",
                    display_name="file name",
                    tooltip="File name in ComfyUI's output folder. A number is added, so nothing is overwritten.",
                ),
            ],
            outputs=[io.String.Output("path", display_name="path", tooltip="Path of the saved file.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, scene: Any, filename_prefix: str) -> Any:
        from ..engine.io.scene_file import save_scene

        with host.node_context():
            target = folders.output_target(filename_prefix, ".safetensors")
            save_scene(scene, target)
        return host.output(
            str(target), notes=f"output/{folders.relative(target)}", ui=folders.as_download([target])
        )
