"""Nodes between Scene4D and the host's SPLAT: a batch of splats is a sequence of moments."""

from __future__ import annotations

from typing import Any

from ..engine.scene import ActivatedGaussians, Gaussians
from ..engine.steps import sample_scene
from ..engine.steps import splat_to_scene as step
from . import fields, host
from .checks import checked
from .compat import io, make, schema, splat, splat_parts
from .types import SceneSocket, SplatSocket


@checked(sample_scene.parse_seconds, "times")
class SceneToSplat(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_SceneToSplat",
            display_name="4D Scene to Splat",
            category="4dgs/convert",
            description="Samples frames of a scene as a batch of splats for ComfyUI's own 3D nodes (render, "
            "transform, merge; preview and save take the first one).",
            inputs=[
                SceneSocket.Input("scene", tooltip="The scene to sample."),
                make(
                    io.String.Input,
                    "times",
                    default="all",
                    tooltip="Times in seconds, such as 0,0.5,1, or 'all' for every captured frame. More frames use more "
                    "memory.",
                ),
            ],
            outputs=[SplatSocket.Output("splat", display_name="splat")],
        )

    @classmethod
    def execute(cls, scene: Any, times: str) -> Any:
        with host.node_context():
            made = sample_scene.sample(scene, sample_scene.parse_times(times, scene))
            batch = splat(
                made["means"],
                made["scales"],
                made["quats"],
                made["opacities"][..., None].contiguous(),
                made["sh"],
            )
        moments, count = made["means"].shape[:2]
        return host.output(batch, notes=f"{moments} moments of {count} splats")


class SplatToScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_SplatToScene",
            display_name="Splat to 4D Scene",
            category="4dgs/convert",
            description="Converts a splat to a static scene, or a batch of splats to a moving one.",
            inputs=[
                SplatSocket.Input(
                    "splat",
                    tooltip="One splat, or one per frame. Frames with equally many Gaussians can be interpolated.",
                ),
                *fields.inputs(step.Config),
            ],
            outputs=[SceneSocket.Output("scene", display_name="scene")],
        )

    @classmethod
    def execute(cls, splat: Any, **numbers: Any) -> Any:
        with host.node_context():
            moments = [
                Gaussians.from_activated(ActivatedGaussians(means, quats, scales, opacities, sh))
                for means, scales, quats, opacities, sh in splat_parts(splat)
            ]
            scene = step.make(moments, fields.config_from(step.Config, numbers))
        return host.output(scene, notes=scene.summary())
