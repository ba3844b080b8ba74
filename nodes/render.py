"""Nodes that move a camera through a scene and render what it sees."""

from __future__ import annotations

from typing import Any

from ..engine.steps import camera_path, render_scene
from . import fields, host
from .compat import blocked, combo, io, schema, video
from .types import CameraPathSocket, Load3DCameraSocket, SceneSocket

PATH_FIELDS = (
    "kind", "frames", "fps", "speed", "start_seconds", "turns", "elevation", "zoom", "view", "width", "height",
)  # fmt: skip
RENDER_FIELDS = ("background", "wants_depth", "wants_flow", "antialiased", "rasterizer")
ADVANCED_RENDER_FIELDS = ("antialiased", "rasterizer")


class CameraPathNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_CameraPath",
            display_name="Camera Path",
            category="4dgs/render",
            description="Chooses where the camera goes and how fast the scene's time runs: orbit, spiral, "
            "a flight through the "
            "captured views, or standing still.",
            search_aliases=["orbit", "spiral", "slow motion", "bullet time", "fly through"],
            inputs=[
                SceneSocket.Input("scene", tooltip="The scene that the camera looks at."),
                *fields.inputs(camera_path.Config, PATH_FIELDS),
                Load3DCameraSocket.Input(
                    "camera",
                    optional=True,
                    tooltip="A view framed by hand in Load 3D; it takes the place of the kind above.",
                ),
            ],
            outputs=[CameraPathSocket.Output("path", display_name="path")],
        )

    @classmethod
    def execute(cls, scene: Any, camera: dict[str, Any] | None = None, **numbers: Any) -> Any:
        with host.node_context():
            path = camera_path.make(scene, fields.config_from(camera_path.Config, numbers), camera)
        width, height = path.cameras.sizes[0]
        host.say(
            cls.hidden.unique_id, f"{len(path)} frames of {width}×{height}, {len(path) / path.fps:.2f} s"
        )
        return io.NodeOutput(path)


class Render4DScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_Render4DScene",
            display_name="Render 4D Scene",
            category="4dgs/render",
            description="Renders a scene along a camera path: pictures, mask, depth, motion and a video.",
            inputs=[
                SceneSocket.Input("scene", tooltip="The scene to render."),
                CameraPathSocket.Input("path", tooltip="Where the camera goes, from Camera Path."),
                *fields.inputs(render_scene.Config, RENDER_FIELDS, ADVANCED_RENDER_FIELDS),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="The frames, as a batch."),
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="How much of the scene covers each pixel."
                ),
                io.Image.Output(
                    "depth", display_name="depth", tooltip="Near is bright, far is dark, nothing is black."
                ),
                io.Image.Output(
                    "flow", display_name="flow", tooltip="Motion to the next frame: hue is its direction."
                ),
                io.Video.Output("clip", display_name="video", tooltip="The frames at the path's frame rate."),
            ],
        )

    @classmethod
    def execute(cls, scene: Any, path: Any, device: str, **numbers: Any) -> Any:
        from ..engine.figures.color_maps import depth_picture, flow_picture

        with host.node_context():
            config = fields.config_from(render_scene.Config, numbers)
            where = host.device(device, 500, config.rasterizer)
            made = host.follow(render_scene.run(scene, path, config, where), cls.hidden.unique_id)
            depth = (
                blocked("Render 4D Scene: turn 'render depth' on to use this output.")
                if made.depth is None
                else depth_picture(made.depth, made.alpha)
            )
            flow = (
                blocked("Render 4D Scene: turn 'render flow' on to use this output.")
                if made.flow is None
                else flow_picture(made.flow)
            )
        host.free()
        return io.NodeOutput(made.images, made.alpha, depth, flow, video(made.images, made.fps))
