"""The node that chooses the models of Generate 4D from Image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..engine.errors import InputError
from . import host, model_folders
from .checks import about, checked
from .compat import combo, io, schema
from .guidance import PRECISIONS
from .staged_models import StagedModels
from .types import ImageTo4DSocket

# activations of the transformer at the published sizes
WORKING_MEGABYTES = 8000
# the list's only entry while nothing is there
NO_MODEL = "no image-to-4D models in models/gs4d"


def _sources(model: str, video_model: str) -> tuple[Path, Path | None]:
    """The model's folder, and that of another video model; both must exist."""
    with about("model"):
        if model == NO_MODEL:
            raise InputError(
                "NOD-060",
                "Image-to-4D models were not found; put a folder with ldrm.safetensors into models/gs4d and refresh.",
            )
        found = model_folders.image_model(model)
    with about("video_model"):
        video = None if video_model == model_folders.OWN_VIDEO else model_folders.video_model(video_model)
    return found, video


@checked(_sources, "model", "video_model", watches=True)
class LoadImageTo4D(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_LoadImageTo4D",
            display_name="Load Image-to-4D Models",
            category="4dgs/generate",
            description="Loads the networks that make a moving scene of one image, for Generate 4D from Image: a video model "
            "with a camera condition and its reconstruction model. Nothing is downloaded.",
            search_aliases=["diff4splat", "image to 4d", "cogvideox", "ldrm"],
            inputs=[
                combo(
                    "model",
                    model_folders.image_models() or [NO_MODEL],
                    display_name="model folder",
                    tooltip="A folder in models/gs4d with the reconstruction model (ldrm.safetensors) and perhaps its own small "
                    "video model (video.safetensors).",
                ),
                combo(
                    "video_model",
                    [model_folders.OWN_VIDEO, *model_folders.video_models()],
                    tooltip="The folder of CogVideoX in models/diffusers that the reconstruction model was trained with. Small "
                    "models contain their own.",
                ),
                combo(
                    "precision",
                    PRECISIONS,
                    "auto",
                    tooltip="Precision of CogVideoX. auto is fp32 on the CPU and bf16 on a GPU.",
                ),
                combo(
                    "device",
                    host.DEVICES,
                    "auto",
                    tooltip="Device of the models. auto uses the GPU if there is one.",
                ),
            ],
            outputs=[
                ImageTo4DSocket.Output(
                    "models", display_name="models", tooltip="The loaded models, for Generate 4D from Image."
                )
            ],
        )

    @classmethod
    def execute(cls, model: str, video_model: str, precision: str, device: str) -> Any:
        from ..engine.generation.image_models import ImageTo4DModels

        with host.node_context():
            where = host.diffusion_device(device)
            models = ImageTo4DModels(*_sources(model, video_model), where, precision)
        return host.output(
            StagedModels(models, WORKING_MEGABYTES), notes=f"{models.name} on {where}\n{models.text()}"
        )
