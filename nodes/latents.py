"""Nodes that work on a scene seen through a diffusion model's autoencoder: ED-NeRF's way to edit."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..engine.figures.training_curves import TrainingCurves
from ..engine.steps import decode_latents, delta_edit, latents_to_scene, train_latents
from . import fields, folders, host, pictures
from .compat import combo, io, schema
from .edit import SELECTION_TIP, input_fingerprint, notes
from .guidance import Guidance
from .load import describe
from .types import (
    GuidanceSocket,
    LatentFieldSocket,
    MultiViewVideoSocket,
    SceneSocket,
    SelectionSocket,
    ViewsSocket,
)

# Append only: workflows store positions.
TRAIN_FIELDS = (
    "iterations", "refiner", "resolution", "originals", "max_seconds", "preview_every", "seed", "images_per_step",
    "moments", "depends_on_direction", "warm_up", "field_weight", "refiner_weight", "feature_rate", "refiner_rate",
    "samples", "scale_floor", "rasterizer", "checkpoint_seconds",
)  # fmt: skip
ADVANCED_TRAIN_FIELDS = TRAIN_FIELDS[TRAIN_FIELDS.index("images_per_step") :]
DELTA_FIELDS = (
    "source_prompt", "prompt", "iterations", "guidance_scale", "image_guidance_scale", "frees", "method", "max_seconds",
    "preview_every", "seed", "negative", "looks_at", "originals", "images_per_step", "inside_weight", "outside_weight",
    "mask_threshold", "dilation", "final_guidance_scale", "min_timestep", "max_timestep", "anneals", "weighting", "optimizer",
    "feature_rate", "trains_refiner", "refiner_rate", "position_rate", "scale_rate", "rotation_rate", "opacity_rate",
    "views", "moments", "saves_memory", "rasterizer", "checkpoint_seconds",
)  # fmt: skip
ADVANCED_DELTA_FIELDS = DELTA_FIELDS[DELTA_FIELDS.index("negative") :]
DECODE_FIELDS = ("views", "moments", "is_refined", "detail", "background", "originals", "rasterizer")
SCENE_FIELDS = (
    "views", "moments", "iterations", "detail", "background", "strength", "preset", "mutes_appearance", "max_seconds",
    "preview_every", "seed", "views_per_step", "ssim_weight", "position_rate", "color_rate", "opacity_rate",
    "scale_rate", "rotation_rate", "densifies", "trains_deformation", "rasterizer", "checkpoint_seconds",
)  # fmt: skip
ADVANCED_SCENE_FIELDS = SCENE_FIELDS[SCENE_FIELDS.index("views_per_step") :]
MODEL_TIP = "The model whose autoencoder the latent field was trained with."


class TrainLatentField(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_TrainLatentField",
            display_name="Train Latent Field",
            category="4dgs/edit",
            description="Teaches the scene's Gaussians the latents of a diffusion model, so that it can be edited without "
            "decoding a picture. Cancel keeps what was done: queue again to go on.",
            search_aliases=["ed-nerf", "latent nerf", "latent field", "refinement layer"],
            inputs=[
                SceneSocket.Input("scene", tooltip="The scene to edit later; it stays as it is."),
                GuidanceSocket.Input(
                    "guidance", tooltip="The model to edit with; its autoencoder makes the latents."
                ),
                *fields.inputs(
                    train_latents.Config,
                    TRAIN_FIELDS,
                    ADVANCED_TRAIN_FIELDS,
                    labels={"originals": "what is encoded"},
                ),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
                MultiViewVideoSocket.Input(
                    "video",
                    optional=True,
                    tooltip="The capture that the scene was trained on: its pictures are encoded instead of renders.",
                ),
            ],
            outputs=[
                LatentFieldSocket.Output(
                    "field_out", display_name="latent field", tooltip="For Delta Edit in Latent Space."
                )
            ],
        )

    @classmethod
    def execute(cls, scene: Any, guidance: Guidance, device: str, video: Any = None, **numbers: Any) -> Any:
        with host.node_context():
            config = fields.config_from(train_latents.Config, numbers)
            where = host.device(device, 1500, config.rasterizer)
            with guidance.in_use() as backbone:
                checkpoint = folders.checkpoint(
                    "train latents",
                    asdict(config),
                    str(where),
                    backbone.fingerprint,
                    *input_fingerprint(scene, None, video),
                )
                stream = train_latents.run(scene, backbone, config, video, where, checkpoint)
                record = TrainingCurves()
                made = host.follow(stream, cls.hidden.unique_id, record=record)
        host.free()
        host.say(cls.hidden.unique_id, summary(made))
        return io.NodeOutput(made, ui=pictures.curves(record))


class DeltaEdit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_DeltaEdit",
            display_name="Delta Edit in Latent Space",
            category="4dgs/edit",
            description="Edits a latent field by what two prompts disagree about; what both describe stays. Cancel keeps "
            "what was done: queue again to go on.",
            search_aliases=["ed-nerf", "dds", "delta denoising score", "sds", "prompt", "text edit"],
            inputs=[
                LatentFieldSocket.Input(
                    "field", display_name="latent field", tooltip="From Train Latent Field."
                ),
                GuidanceSocket.Input("guidance", tooltip=MODEL_TIP),
                *fields.inputs(
                    delta_edit.Config,
                    DELTA_FIELDS,
                    ADVANCED_DELTA_FIELDS,
                    labels={"originals": "originals are"},
                ),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
                SelectionSocket.Input("selection", optional=True, tooltip=SELECTION_TIP),
                MultiViewVideoSocket.Input(
                    "video",
                    optional=True,
                    tooltip="The capture that the scene was trained on, where the model is to look at its pictures.",
                ),
                *fields.inputs(delta_edit.Config, ("force",), later=("force",)),
            ],
            outputs=[
                LatentFieldSocket.Output(
                    "field_out",
                    display_name="latent field",
                    tooltip="The edited field, for Latent Field to Scene or Decode Latent Views.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        field: Any,
        guidance: Guidance,
        device: str,
        selection: Any = None,
        video: Any = None,
        **numbers: Any,
    ) -> Any:
        with host.node_context():
            config = fields.config_from(delta_edit.Config, numbers)
            where = host.device(device, 1500, config.rasterizer)
            with guidance.in_use() as backbone:
                checkpoint = folders.checkpoint(
                    "delta edit",
                    fields.identity(config),
                    str(where),
                    backbone.fingerprint,
                    field_content(field),
                    *input_fingerprint(field.scene, selection, video),
                )
                stream = delta_edit.run(field, backbone, config, selection, video, where, checkpoint)
                record = TrainingCurves()
                made = host.follow(stream, cls.hidden.unique_id, record=record)
        host.free()
        host.say(cls.hidden.unique_id, summary(made))
        return io.NodeOutput(made, ui=pictures.curves(record))


class DecodeLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_DecodeLatents",
            display_name="Decode Latent Views",
            category="4dgs/edit",
            description="Turns a latent field's views into pictures, to look at, to measure, or to fit a scene to.",
            search_aliases=["ed-nerf", "vae decode", "latent field"],
            inputs=[
                LatentFieldSocket.Input(
                    "field", display_name="latent field", tooltip="Trained or edited, as you like."
                ),
                GuidanceSocket.Input("guidance", tooltip=MODEL_TIP),
                *fields.inputs(
                    decode_latents.Config,
                    DECODE_FIELDS,
                    ("rasterizer",),
                    labels={"originals": "put beside"},
                ),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
                MultiViewVideoSocket.Input(
                    "video",
                    optional=True,
                    tooltip="The capture that the scene was trained on, to put its pictures beside.",
                ),
            ],
            outputs=[
                ViewsSocket.Output(
                    "views_out",
                    display_name="views",
                    tooltip="For Fit Scene to Edited Views or Evaluate Edit.",
                ),
                io.Image.Output("images", display_name="images", tooltip="The decoded pictures, as a batch."),
                io.Image.Output(
                    "originals_out",
                    display_name="originals",
                    tooltip="The scene before the edit, in the same views.",
                ),
            ],
        )

    @classmethod
    def execute(cls, field: Any, guidance: Guidance, device: str, video: Any = None, **numbers: Any) -> Any:
        with host.node_context():
            config = fields.config_from(decode_latents.Config, numbers)
            where = host.device(device, 500, config.rasterizer)
            with guidance.in_use() as backbone:
                stream = decode_latents.run(field, backbone, config, video, where)
                made = host.follow(stream, cls.hidden.unique_id)
        host.say(cls.hidden.unique_id, decoded(made))
        return io.NodeOutput(made, made.images, made.originals, ui=pictures.before_and_after(made))


class LatentsToScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_LatentsToScene",
            display_name="Latent Field to Scene",
            category="4dgs/edit",
            description="Gives the moving scene the look of its edited latents: an ordinary scene that plays and exports. "
            "Cancel keeps what was done: queue again to go on.",
            search_aliases=["ed-nerf", "distill", "decode", "latent field"],
            inputs=[
                LatentFieldSocket.Input(
                    "field", display_name="latent field", tooltip="From Delta Edit in Latent Space."
                ),
                GuidanceSocket.Input("guidance", tooltip=MODEL_TIP),
                *fields.inputs(latents_to_scene.Config, SCENE_FIELDS, ADVANCED_SCENE_FIELDS),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
                SelectionSocket.Input("selection", optional=True, tooltip=SELECTION_TIP),
            ],
            outputs=[SceneSocket.Output("scene_out", display_name="scene")],
        )

    @classmethod
    def execute(
        cls, field: Any, guidance: Guidance, device: str, selection: Any = None, **numbers: Any
    ) -> Any:
        with host.node_context():
            config = fields.config_from(latents_to_scene.Config, numbers)
            where = host.device(device, 1500, config.rasterizer)
            with guidance.in_use() as backbone:
                checkpoint = folders.checkpoint(
                    "latents to scene",
                    asdict(config),
                    str(where),
                    backbone.fingerprint,
                    field_content(field),
                    *input_fingerprint(field.scene, selection),
                )
                stream = latents_to_scene.run(field, backbone, config, selection, where, checkpoint)
                record = TrainingCurves()
                made = host.follow(stream, cls.hidden.unique_id, record=record)
        host.free()
        host.say(cls.hidden.unique_id, describe(made))
        return io.NodeOutput(made, ui=pictures.curves(record))


def field_content(field: Any) -> list[Any]:
    """What a checkpoint's name needs of a wired latent field: its content, in plain JSON."""
    from ..engine.train.latents import fingerprint

    return fingerprint(field)


def summary(field: Any) -> str:
    """One or two lines on what a latent field is."""
    (width, height), vae = field.size, field.vae
    shape = None if field.refiner is None else field.refiner.shape
    lines = [
        f"{len(field.scene.canonical)} Gaussians with {vae.channels} latent channels of {vae.name}",
        f"{width // vae.factor}×{height // vae.factor} latents for pictures of {width}×{height}, "
        + ("no refinement layer" if shape is None else f"refinement layer {shape.width} wide"),
    ]
    trained = next((e for e in field.scene.history if e.get("step") == "train_latents"), {})
    doubt = train_latents.mismatch_warning(float(trained.get("noise_missed", 0)))
    return "\n".join([*lines, *filter(None, (doubt, *notes(field.scene)))])


def decoded(views: Any) -> str:
    """One line on the pictures that were decoded."""
    width, height = views.size
    edit = views.edit or {}
    return f"{len(views)} pictures of {width}×{height}, latents {edit.get('latents')}, detail {edit.get('detail')}"
