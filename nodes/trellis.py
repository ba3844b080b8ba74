"""The node that chooses the models of Canonical Gaussians from Image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..engine.errors import InputError
from . import host, model_folders
from .checks import about, checked
from .compat import combo, io, schema
from .staged_models import StagedModels
from .types import TrellisSocket

# activations of the largest network
WORKING_MEGABYTES = 3000
# the lists' only entries while nothing is there
NO_TRELLIS = "no TRELLIS folder in models/gs4d"
NO_ENCODER = "no DINOv2 folder in models/gs4d"


def _paths(trellis: str, image_encoder: str, decoder: str) -> Any:
    """TRELLIS' folder; all three must exist."""
    with about("trellis"):
        if trellis == NO_TRELLIS:
            raise InputError(
                "NOD-034",
                "A TRELLIS model was not found; put the folder of TRELLIS-image-large (pipeline.json and ckpts) into models/gs4d "
                "and refresh.",
            )
        found = model_folders.generation_model(trellis)
    with about("image_encoder"):
        if image_encoder == NO_ENCODER:
            raise InputError(
                "NOD-035",
                "An image encoder was not found; put the folder of dinov2-with-registers-large into models/gs4d and refresh.",
            )
        model_folders.generation_model(image_encoder)
    with about("decoder"):
        model_folders.canonical_decoder(decoder)
    return found


@checked(_paths, "trellis", "image_encoder", "decoder", watches=True)
class LoadTrellis(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_LoadTrellis",
            display_name="Load TRELLIS Models",
            category="4dgs/generate",
            description="Loads TRELLIS and its image encoder from folders in models/gs4d, for Canonical Gaussians from Image. "
            "Nothing is downloaded.",
            search_aliases=["image to 3d", "dinov2", "gvfdiffusion"],
            inputs=[
                combo(
                    "trellis",
                    model_folders.trellis_models() or [NO_TRELLIS],
                    display_name="TRELLIS folder",
                    tooltip="The folder of TRELLIS-image-large in models/gs4d, with pipeline.json and ckpts.",
                ),
                combo(
                    "image_encoder",
                    model_folders.image_encoders() or [NO_ENCODER],
                    tooltip="The folder of dinov2-with-registers-large in models/gs4d.",
                ),
                combo(
                    "decoder",
                    model_folders.canonical_decoders(),
                    model_folders.OWN_DECODER,
                    tooltip="TRELLIS' own decoder makes 32 Gaussians per voxel, for stills. GVFDiffusion's canonical VAE "
                    "(ema_static_vae…) makes 8, which its variation field needs.",
                ),
                combo(
                    "device",
                    host.DEVICES,
                    "auto",
                    tooltip="Device of the models, which run one after the other. auto uses the GPU if there is one.",
                ),
            ],
            outputs=[
                TrellisSocket.Output(
                    "models",
                    display_name="models",
                    tooltip="The loaded models, for Canonical Gaussians from Image.",
                )
            ],
        )

    @classmethod
    def execute(cls, trellis: str, image_encoder: str, decoder: str, device: str) -> Any:
        from ..engine.generation.trellis import TrellisModels

        with host.node_context():
            where = host.diffusion_device(device)
            folder: Path = _paths(trellis, image_encoder, decoder)
            encoder = model_folders.generation_model(image_encoder)
            models = TrellisModels(folder, encoder, model_folders.canonical_decoder(decoder), where)
        return host.output(StagedModels(models, WORKING_MEGABYTES), notes=f"{models.name} on {where}")
