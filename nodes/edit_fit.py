"""The node that carries edited pictures into the moving scene."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from ..engine.figures.training_curves import TrainingCurves
from ..engine.steps import fit_edits
from . import fields, folders, host, pictures
from .compat import combo, io, schema
from .edit import SELECTION_TIP, input_fingerprint
from .load import describe
from .types import SceneSocket, SelectionSocket, ViewsSocket

# Append only: workflows store positions.
FIT_FIELDS = (
    "preset", "iterations", "strength", "views_per_step", "mutes_appearance", "max_seconds", "preview_every", "seed",
    "ssim_weight", "position_rate", "color_rate", "opacity_rate", "scale_rate", "rotation_rate", "densifies",
    "trains_deformation", "rasterizer", "checkpoint_seconds",
)  # fmt: skip
ADVANCED_FIT_FIELDS = FIT_FIELDS[FIT_FIELDS.index("ssim_weight") :]


class FitEdits(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_FitEdits",
            display_name="Fit Scene to Edited Views",
            category="4dgs/edit",
            description="Gives the scene the look of its edited pictures at every moment; its motion stays as it is. "
            "Cancel keeps what was done: queue again to go on.",
            search_aliases=["instruct-4dgs", "stage 1", "edit scene"],
            inputs=[
                SceneSocket.Input(
                    "scene", tooltip="The scene that the pictures were taken of; it stays as it is."
                ),
                ViewsSocket.Input("views", tooltip="From Edit Views with Prompt, or from Scene Views."),
                *fields.inputs(fit_edits.Config, FIT_FIELDS, ADVANCED_FIT_FIELDS),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Pictures of the same views from any other node, in the same order; they take the place of "
                    "the edited ones.",
                ),
                SelectionSocket.Input("selection", optional=True, tooltip=SELECTION_TIP),
            ],
            outputs=[SceneSocket.Output("scene_out", display_name="scene")],
        )

    @classmethod
    def execute(
        cls, scene: Any, views: Any, device: str, images: Any = None, selection: Any = None, **numbers: Any
    ) -> Any:
        from ..engine.train.state import fingerprint_of

        with host.node_context():
            config = fields.config_from(fit_edits.Config, numbers)
            if images is not None:
                views = replaced(views, images)
            where = host.device(device, 1500, config.rasterizer)
            checkpoint = folders.checkpoint(
                "fit edits",
                asdict(config),
                str(where),
                *input_fingerprint(scene, selection),
                fingerprint_of(views.images, views.originals),
                [views.cameras.to_json(), list(views.seconds)],
            )
            stream = fit_edits.run(scene, views, config, selection, where, checkpoint)
            record = TrainingCurves()
            made = host.follow(stream, cls.hidden.unique_id, record=record)
        host.free()
        host.say(cls.hidden.unique_id, describe(made))
        return io.NodeOutput(made, ui=pictures.curves(record))


def replaced(views: Any, images: Any) -> Any:
    """The views with pictures that another node made, and a word of that in what they tell."""
    return replace(
        views.with_images(host.detach(images)), edit={**(views.edit or {}), "images": "replaced by hand"}
    )
