"""The node that chooses the models of Variation Diffusion."""

from __future__ import annotations

from typing import Any

from ..engine.errors import InputError
from . import host, model_folders
from .checks import about, checked
from .compat import combo, io, schema
from .staged_models import StagedModels
from .types import VariationSocket

# activations of the transformer for 24 frames
WORKING_MEGABYTES = 4000
# the list's only entry while nothing is there
NO_VARIATION = "no variation models in models/gs4d"


def _folders(model: str, image_encoder: str) -> Any:
    """The model's folder; both must exist."""
    with about("model"):
        if model == NO_VARIATION:
            raise InputError(
                "NOD-040",
                "Variation models were not found; put the files of BwZhang/GaussianVariationFieldDiffusion into a folder in "
                "models/gs4d and refresh.",
            )
        found = model_folders.variation_model(model)
    with about("image_encoder"):
        if image_encoder != model_folders.OWN_ENCODER:
            model_folders.generation_model(image_encoder)
    return found


@checked(_folders, "model", "image_encoder", watches=True)
class LoadVariation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_LoadVariation",
            display_name="Load Variation Models",
            category="4dgs/generate",
            description="Loads the networks that animate a splat with a video, for Variation Diffusion: GVFDiffusion or a "
            "smaller model from models/gs4d. Nothing is downloaded.",
            search_aliases=["gvfdiffusion", "video to 4d", "dinov2"],
            inputs=[
                combo(
                    "model",
                    model_folders.variation_models() or [NO_VARIATION],
                    display_name="model folder",
                    tooltip="GVFDiffusion's folder in models/gs4d, with its .pt or .safetensors files, or a smaller model that "
                    "describes itself in gs4d.json.",
                ),
                combo(
                    "image_encoder",
                    [model_folders.OWN_ENCODER, *model_folders.image_encoders()],
                    tooltip="The folder of dinov2-with-registers-large in models/gs4d, which GVFDiffusion needs. Smaller models "
                    "contain their own image encoder.",
                ),
                combo(
                    "device",
                    host.DEVICES,
                    "auto",
                    tooltip="Device of the models. auto uses the GPU if there is one.",
                ),
            ],
            outputs=[
                VariationSocket.Output(
                    "models",
                    display_name="models",
                    tooltip="The loaded models, for Variation Diffusion and Encode Mesh Animation.",
                )
            ],
        )

    @classmethod
    def execute(cls, model: str, image_encoder: str, device: str) -> Any:
        from ..engine.generation.variation import VariationModels

        with host.node_context():
            where = host.diffusion_device(device)
            folder = _folders(model, image_encoder)
            own = image_encoder == model_folders.OWN_ENCODER
            models = VariationModels(
                folder, None if own else model_folders.generation_model(image_encoder), where
            )
        return host.output(StagedModels(models, WORKING_MEGABYTES), notes=f"{models.name} on {where}")
