"""Nodes that check a capture before training and measure a scene after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..engine.steps import evaluate_edit, evaluate_scene, preflight
from . import fields, folders, host, pictures
from .compat import combo, io, make, schema
from .types import MultiViewVideoSocket, SceneSocket, ViewsSocket

EVALUATE_FIELDS = ("views", "every", "offset", "pictures", "rasterizer")
ADVANCED_EVALUATE_FIELDS = ("offset", "rasterizer")
EDIT_FIELDS = (
    "every",
    "prompt",
    "source_caption",
    "target_caption",
    "wants_temporal",
    "pictures",
    "rasterizer",
)
ADVANCED_EDIT_FIELDS = ("wants_temporal", "rasterizer")
# above the columns of the pictures
SCENE_WORDS = ("captured", "render", "depth", "error")
EDIT_WORDS = ("original", "edited", "target", "difference")
PREFLIGHT_FIELDS = ("moments", "tile", "every_frame")


class PreflightCheck(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_PreflightCheck",
            display_name="Pre-flight Check",
            category="4dgs/load",
            description="Looks at a capture before you spend time on it, and says what to do about what it finds.",
            inputs=[
                MultiViewVideoSocket.Input("video", tooltip="The capture to check."),
                *fields.inputs(preflight.Config, PREFLIGHT_FIELDS),
            ],
            outputs=[
                io.String.Output(
                    "report", display_name="report", tooltip="The findings, for Preview as Text."
                ),
                io.Image.Output("sheet", display_name="contact sheet", tooltip="Each view's first picture."),
                io.Boolean.Output(
                    "ready", display_name="can be trained", tooltip="False where an error was found."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, video: Any, **numbers: Any) -> Any:
        with host.node_context():
            config = fields.config_from(preflight.Config, numbers)
            seen: list[torch.Tensor] = []
            report = host.follow(preflight.run(video, config), cls.hidden.unique_id, seen)
            sheet = seen[-1][None] if seen else torch.zeros(1, 8, 8, 3)
        host.say(cls.hidden.unique_id, summary(report))
        return io.NodeOutput(report.text(), sheet, report.can_train, ui=pictures.preview(seen))


class EvaluateScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_EvaluateScene",
            display_name="Evaluate Scene",
            category="4dgs/measure",
            description="Compares a scene with the pictures of a capture: PSNR, SSIM, and rows of input, "
            "render, depth and error.",
            search_aliases=["psnr", "ssim", "metrics"],
            inputs=[
                SceneSocket.Input("scene", tooltip="The trained scene."),
                MultiViewVideoSocket.Input("video", tooltip="The capture it is compared with."),
                *fields.inputs(evaluate_scene.Config, EVALUATE_FIELDS, ADVANCED_EVALUATE_FIELDS),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
            ],
            outputs=[
                io.Image.Output(
                    "comparison",
                    display_name="pictures",
                    tooltip="Input, render, depth and error, side by side.",
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="The figures, for Preview as Text."
                ),
                io.Float.Output(
                    "psnr", display_name="PSNR", tooltip="Mean over all pictures, in dB; larger is closer."
                ),
                io.Float.Output(
                    "ssim", display_name="SSIM", tooltip="Mean over all pictures; 1 is identical."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, scene: Any, video: Any, device: str, **numbers: Any) -> Any:
        with host.node_context():
            config = fields.config_from(evaluate_scene.Config, numbers)
            where = host.device(device, 500, config.rasterizer)
            made = host.follow(evaluate_scene.run(scene, video, config, where), cls.hidden.unique_id)
        host.free()
        host.say(cls.hidden.unique_id, made.text())
        rows = made.pictures if len(made.pictures) else torch.zeros(1, 8, 8, 3)
        captions = [f"{row.view} · {row.seconds:.2f} s · {row.psnr:.1f} dB" for row in made.shown]
        shown = pictures.compared(made.pictures, captions, SCENE_WORDS, made.text().splitlines()[0])
        return io.NodeOutput(rows, made.text(), made.summary["psnr"], made.summary["ssim"], ui=shown)


class EvaluateEdit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_EvaluateEdit",
            display_name="Evaluate Edit",
            category="4dgs/measure",
            description="Measures an edited scene: against the pictures it was fitted to, against a true edited video where "
            "there is one, and how steady it is over time.",
            search_aliases=["psnr", "ssim", "lpips", "clip similarity", "clip direction", "metrics"],
            inputs=[
                SceneSocket.Input("scene", tooltip="The edited scene."),
                *fields.inputs(evaluate_edit.Config, EDIT_FIELDS, ADVANCED_EDIT_FIELDS),
                make(
                    io.String.Input,
                    "clip_folder",
                    default="",
                    display_name="CLIP folder",
                    tooltip="Path of a CLIP model (a transformers folder) inside input, output or models/gs4d, for CLIP "
                    "similarity and direction; empty leaves them out.",
                ),
                make(
                    io.String.Input,
                    "lpips_weights",
                    default="",
                    display_name="LPIPS weights",
                    tooltip="Path of torchvision's VGG16 or AlexNet weights inside input, output or models/gs4d, for LPIPS; "
                    "empty leaves it out.",
                ),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
                SceneSocket.Input("original", optional=True, tooltip="The scene before the edit."),
                ViewsSocket.Input(
                    "views", optional=True, tooltip="The edited pictures that it was fitted to."
                ),
                MultiViewVideoSocket.Input(
                    "truth",
                    optional=True,
                    tooltip="A video of how the edited scene should look, from the same cameras.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "comparison",
                    display_name="pictures",
                    tooltip="Original, edited, target and difference, side by side.",
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="The figures, for Preview as Text."
                ),
                io.String.Output("json", display_name="JSON", tooltip="The same figures for other programs."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, clip_folder: str | None, lpips_weights: str | None) -> bool | str:
        return host.validation_message(
            lambda *paths: [optional(path) for path in paths], clip_folder, lpips_weights
        )

    @classmethod
    def execute(
        cls,
        scene: Any,
        clip_folder: str,
        lpips_weights: str,
        device: str,
        original: Any = None,
        views: Any = None,
        truth: Any = None,
        **numbers: Any,
    ) -> Any:
        with host.node_context():
            config = fields.config_from(evaluate_edit.Config, numbers)
            where = host.device(device, 500, config.rasterizer)
            stream = evaluate_edit.run(
                scene, original, views, truth, config, where, optional(clip_folder), optional(lpips_weights)
            )
            made = host.follow(stream, cls.hidden.unique_id)
        host.free()
        host.say(cls.hidden.unique_id, made.text())
        rows = made.pictures if len(made.pictures) else torch.zeros(1, 8, 8, 3)
        shown = pictures.compared(made.pictures, list(made.titles), EDIT_WORDS, "the edited scene")
        return io.NodeOutput(rows, made.text(), json.dumps(made.summary, indent=2), ui=shown)


def optional(path: str) -> Path | None:
    """A readable path; None where nothing is written."""
    return folders.readable(path) if path.strip() else None


def summary(report: Any) -> str:
    """The end of the report, and the worst finding if there is one: what fits on a node."""
    worst = next((row for row in report.rows if row.severity in ("error", "warning")), None)
    lines = [report.text().splitlines()[-1]]
    if worst is not None:
        lines.append(f"{worst.severity}: {worst.finding}")
    return "\n".join(lines)
