"""The node that takes a scene to other programs."""

from __future__ import annotations

from typing import Any

from ..engine.steps import bake_clip
from ..engine.steps import export_scene as step
from . import fields, folders, host
from .checks import checked
from .compat import io, make, schema
from .types import SceneSocket


@checked(folders.check_prefix, "filename_prefix")
class Export4DScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_Export4DScene",
            display_name="Export 4D Scene",
            category="4dgs/convert",
            description="Exports a scene to ComfyUI's output folder: one frame or a sequence of .ply or .spz, .4dgs, "
            "a player file, or a web page with the player.",
            search_aliases=["ply", "spz", "4dgs", "splat", "html", "web page", "share"],
            inputs=[
                SceneSocket.Input("scene", tooltip="The scene to export."),
                make(
                    io.String.Input,
                    "filename_prefix",
                    default="gs4d/export",
                    display_name="file name",
                    tooltip="Name of the file or folder in ComfyUI's output folder. A number is added, so nothing is "
                    "overwritten.",
                ),
                *fields.inputs(step.Config),
                SceneSocket.Input(
                    "compare",
                    optional=True,
                    tooltip="For html: optional second scene for before/after comparison (right of the divider).",
                ),
                *fields.inputs(bake_clip.Config, optional=True),
            ],
            outputs=[
                io.String.Output("paths", display_name="path", tooltip="Path of the first exported file.")
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, scene: Any, filename_prefix: str, compare: Any = None, **numbers: Any) -> Any:
        with host.node_context():
            config = fields.config_from(step.Config, numbers)
            clip = fields.config_from(bake_clip.Config, numbers)
            target = folders.output_target(filename_prefix, step.suffix(config))
            written = host.follow(step.run(scene, config, target, compare, clip), cls.hidden.unique_id)
        names = [f"output/{folders.relative(path)}" for path in written]
        shown = names if len(names) <= 3 else [names[0], "…", names[-1]]
        return host.output(str(written[0]), notes="\n".join([*shown, *written.notes]))
