"""The node that refines an edited scene with a diffusion model."""

from __future__ import annotations

from typing import Any

from ..engine.figures.training_curves import TrainingCurves
from ..engine.steps import refine_score
from . import fields, folders, host, pictures
from .compat import combo, io, schema
from .edit import SELECTION_TIP, input_fingerprint, notes
from .guidance import Guidance
from .load import describe
from .types import GuidanceSocket, MultiViewVideoSocket, SceneSocket, SelectionSocket

# Append only: workflows store positions.
REFINE_FIELDS = (
    "prompt", "iterations", "guidance_scale", "image_guidance_scale", "preset", "mutes_appearance", "max_seconds",
    "preview_every", "seed", "negative", "images_per_step", "weighting", "min_timestep", "max_timestep", "anneals",
    "condition", "resolution", "saves_memory", "position_rate", "color_rate", "opacity_rate", "scale_rate",
    "rotation_rate", "trains_deformation", "rasterizer", "checkpoint_seconds",
)  # fmt: skip
ADVANCED_REFINE_FIELDS = REFINE_FIELDS[REFINE_FIELDS.index("negative") :]


class RefineScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_RefineScore",
            display_name="Refine with Score Distillation",
            category="4dgs/edit",
            description="Improves an edited scene at all moments and from all views by asking the diffusion model what it "
            "would change in its pictures. Cancel keeps what was done: queue again to go on.",
            search_aliases=["instruct-4dgs", "stage 2", "sds", "score distillation"],
            inputs=[
                SceneSocket.Input("scene", tooltip="The edited scene, from Fit Scene to Edited Views."),
                GuidanceSocket.Input("guidance", tooltip="The model that the views were edited with."),
                *fields.inputs(refine_score.Config, REFINE_FIELDS, ADVANCED_REFINE_FIELDS),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
                MultiViewVideoSocket.Input(
                    "video",
                    optional=True,
                    tooltip="The capture that the scene was trained on: the model looks at its pictures, not at renders.",
                ),
                SelectionSocket.Input("selection", optional=True, tooltip=SELECTION_TIP),
                SceneSocket.Input(
                    "original",
                    optional=True,
                    tooltip="The scene before this edit: the model looks at its renders where there is no video, or where "
                    "the scene had been edited before.",
                ),
                *fields.inputs(refine_score.Config, ("force",), later=("force",)),
            ],
            outputs=[SceneSocket.Output("scene_out", display_name="scene")],
        )

    @classmethod
    def execute(
        cls,
        scene: Any,
        guidance: Guidance,
        device: str,
        video: Any = None,
        selection: Any = None,
        original: Any = None,
        **numbers: Any,
    ) -> Any:
        with host.node_context():
            config = fields.config_from(refine_score.Config, numbers)
            where = host.device(device, 1500, config.rasterizer)
            with guidance.in_use() as backbone:
                checkpoint = folders.checkpoint(
                    "refine score",
                    fields.identity(config),
                    str(where),
                    backbone.fingerprint,
                    *input_fingerprint(scene, selection, video),
                    None if original is None else input_fingerprint(original),
                )
                stream = refine_score.run(
                    scene, backbone, config, video, selection, where, checkpoint, original
                )
                record = TrainingCurves()
                made = host.follow(stream, cls.hidden.unique_id, record=record)
        host.free()
        host.say(cls.hidden.unique_id, "\n".join([describe(made), *notes(made)]))
        return io.NodeOutput(made, ui=pictures.curves(record))
