"""Nodes that train a scene from a capture."""

from __future__ import annotations

from typing import Any

from ..engine.figures.training_curves import TrainingCurves
from ..engine.steps import fit_scene as step
from . import fields, folders, host, pictures
from .compat import combo, io, schema
from .load import describe
from .types import MultiViewVideoSocket, SceneSocket, TrainingSettingsSocket

# What an artist turns first stands on the node, the rest on Training Settings. Append only: workflows store
# positions.
TRAIN_FIELDS = (
    "iterations", "budget", "motion", "initialisation", "sh_degree", "background", "max_seconds",
    "preview_every", "seed",
)  # fmt: skip
SETTINGS_FIELDS = (
    "density", "initial_count", "coarse_fraction", "views_per_step", "time_resolution", "ssim_weight", "mask_weight",
    "plane_weight", "start_scale", "full_size_at", "still_threshold", "hold_out_every", "keeps_test_views_out",
    "bounds", "position_rate", "scale_rate", "rotation_rate", "opacity_rate", "color_rate", "grid_rate", "network_rate",
    "checkpoint_seconds", "rasterizer", "order", "outwards_until",
)  # fmt: skip
BYTES_PER_GAUSSIAN = 4 * 60 * 8  # 60 floats with gradient, two moments and working copies
WORKING_MEGABYTES = 1500


class Train4DScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_Train4DScene",
            display_name="Train 4D Scene",
            category="4dgs/train",
            description="Trains a moving scene of Gaussians from a multi-view video. Cancel keeps what was "
            "trained: queue again "
            "to go on.",
            search_aliases=["4d gaussian splatting", "fit", "reconstruct", "train"],
            inputs=[
                MultiViewVideoSocket.Input("video", tooltip="The capture, from Load Multi-View Video."),
                *fields.inputs(step.Config, TRAIN_FIELDS),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
                TrainingSettingsSocket.Input(
                    "settings",
                    optional=True,
                    tooltip="Expert numbers from Training Settings; without it the defaults are used.",
                ),
            ],
            outputs=[SceneSocket.Output("scene", display_name="scene")],
        )

    @classmethod
    def execute(cls, video: Any, device: str, settings: dict[str, Any] | None = None, **numbers: Any) -> Any:
        with host.node_context():
            config = fields.config_from(step.Config, {**(settings or {}), **numbers})
            needed = (config.budget * BYTES_PER_GAUSSIAN >> 20) + WORKING_MEGABYTES
            where = host.device(device, needed, config.rasterizer)
            checkpoint = folders.checkpoint(
                config.shaping(),
                str(where),
                video.source.fingerprint(),
                video.cameras.to_json(),
                video.times.tolist(),
                video.available.tolist(),
                video.train_views,
                video.test_views,
                None if video.background is None else video.background.tolist(),
            )
            record = TrainingCurves(counts=True)
            stream = step.run(video, config, where, checkpoint)
            scene = host.follow(stream, cls.hidden.unique_id, record=record)
        host.free()
        host.say(cls.hidden.unique_id, describe(scene))
        return io.NodeOutput(scene, ui=pictures.curves(record))


class TrainingSettings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_TrainingSettings",
            display_name="Training Settings",
            category="4dgs/train",
            description="The finer numbers of a training: learning rates, weights, schedules. The defaults "
            "suit most captures.",
            inputs=fields.inputs(step.Config, SETTINGS_FIELDS),
            outputs=[TrainingSettingsSocket.Output("settings", display_name="settings")],
        )

    @classmethod
    def execute(cls, **numbers: Any) -> Any:
        with host.node_context():
            fields.config_from(step.Config, numbers)  # says at once which number is out of range
        return io.NodeOutput(numbers)
