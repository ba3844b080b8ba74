"""Nodes for a diffusion model: from a file, or from a connected ComfyUI model."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ..engine.backends import explains_memory
from ..engine.diffusion import Backbone
from ..engine.diffusion.backbone import describe
from . import host, model_folders
from .checks import checked
from .compat import combo, io, schema
from .types import GuidanceSocket

PRECISIONS = ["auto", "fp32", "fp16", "bf16"]
GUIDES = "The diffusion model, for Edit Views with Prompt and the other nodes that edit with one."


class Guidance:
    """The value of a GS4D_GUIDANCE socket: a backbone that occupies its device only while it is in use.

    Without a device, ComfyUI moves the weights itself.
    """

    def __init__(self, backbone: Any, device: Any = None) -> None:
        self.backbone, self.device = backbone, device

    @contextmanager
    def in_use(self, working_megabytes: int = 0) -> Generator[Backbone, None, None]:
        """Inside, the weights are on the chosen device, with room for so much besides them."""
        if self.device is not None and self.device.type == "cpu":
            yield self.backbone
            return
        try:
            if self.device is not None:
                host.make_room(self.backbone.megabytes + working_megabytes, self.device)
                with explains_memory(f"moving {self.backbone.name} to the GPU", self.device, TOO_LARGE):
                    self.backbone.move(self.device)
            yield self.backbone
        finally:
            if self.device is None:
                self.backbone.release()
            else:
                self.backbone.move("cpu")
            host.free()


TOO_LARGE = "Choose precision fp16, or device cpu, in Load Diffusion Guidance."


@checked(model_folders.diffusion_model, "model", watches=True)
class LoadGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_LoadGuidance",
            display_name="Load Diffusion Guidance",
            category="4dgs/edit",
            description="Loads the diffusion model for editing: the bundled small model, or InstructPix2Pix or Stable "
            "Diffusion 1.x / 2.x from models/diffusers or models/checkpoints.",
            search_aliases=["instruct pix2pix", "ip2p", "instruct-4dgs", "stable diffusion"],
            inputs=[
                combo(
                    "model",
                    model_folders.diffusion_models(),
                    model_folders.EMBEDDED_MODEL,
                    tooltip="The bundled model knows a few edits (see its help page). Editing views needs an "
                    "InstructPix2Pix model; score distillation and delta edits also take Stable Diffusion 1.x and "
                    "2.x.",
                ),
                combo(
                    "precision",
                    PRECISIONS,
                    "auto",
                    tooltip="Precision of the weights. auto is fp32 on the CPU and fp16 on a GPU; choose bf16 or fp32 if "
                    "fp16 overflows.",
                ),
                combo(
                    "device",
                    host.DEVICES,
                    "auto",
                    tooltip="Device of the model. auto uses the GPU if there is one.",
                ),
            ],
            outputs=[GuidanceSocket.Output("guidance", display_name="guidance", tooltip=GUIDES)],
        )

    @classmethod
    def execute(cls, model: str, precision: str, device: str) -> Any:
        from ..engine.diffusion.loading import load

        with host.node_context():
            where = host.diffusion_device(device)
            # moved to the device when a step makes room there
            backbone = load(model_folders.diffusion_model(model), "cpu", precision, runs_on=where)
        return host.output(Guidance(backbone, where), notes=describe(backbone, where))


class GuidanceFromModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_GuidanceFromModel",
            display_name="Diffusion Guidance from Model",
            category="4dgs/edit",
            description="Uses a model loaded by ComfyUI, with its LoRAs: an InstructPix2Pix checkpoint for editing "
            "views, or Stable Diffusion 1.x / 2.x for score distillation and delta edits.",
            search_aliases=["instruct pix2pix", "ip2p", "lora", "checkpoint"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From Load Checkpoint, optionally with LoRAs. Editing views needs InstructPix2Pix.",
                ),
                io.Clip.Input("clip", tooltip="The text encoder of the model."),
                io.Vae.Input("vae", tooltip="The VAE of the model."),
            ],
            outputs=[GuidanceSocket.Output("guidance", display_name="guidance", tooltip=GUIDES)],
        )

    @classmethod
    def execute(cls, model: Any, clip: Any, vae: Any) -> Any:
        from .comfy_backbone import ComfyBackbone

        with host.node_context():
            backbone = ComfyBackbone(model, clip, vae)
        return host.output(Guidance(backbone), notes=describe(backbone))
