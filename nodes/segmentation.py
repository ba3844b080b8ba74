"""The node that chooses the models of Segment by Text."""

from __future__ import annotations

from typing import Any

from ..engine.errors import InputError
from . import host, model_folders
from .checks import about, checked
from .compat import combo, io, schema
from .staged_models import StagedModels
from .types import SegmentationSocket

# activations of one image
WORKING_MEGABYTES = 3000
# the list's only entry while the folder is empty
NO_MODEL = "no model in models/gs4d/segmentation"


def _folders(segmenter: str, detector: str) -> Any:
    """The segmenter's folder; both must exist."""
    with about("segmenter"):
        if segmenter == NO_MODEL:
            raise InputError(
                "NOD-031",
                "There is no SAM 2 model; put the folder of a checkpoint such as sam2.1-hiera-tiny into "
                "models/gs4d/segmentation and refresh.",
            )
        found = model_folders.segmentation_model(segmenter)
    with about("detector"):
        if detector != model_folders.NO_DETECTOR:
            model_folders.segmentation_model(detector)
    return found


@checked(_folders, "segmenter", "detector", watches=True)
class LoadSegmentation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        found = model_folders.segmentation_models()
        return schema(
            node_id="GS4D_LoadSegmentation",
            display_name="Load Segmentation Models",
            category="4dgs/edit",
            description="Loads SAM 2 and Grounding DINO from folders in models/gs4d/segmentation, for Segment by Text. "
            "Nothing is downloaded.",
            search_aliases=["grounding dino", "sam 2", "segment anything", "grounded sam"],
            inputs=[
                combo(
                    "segmenter",
                    found or [NO_MODEL],
                    tooltip="SAM 2 model that makes the masks: a folder in models/gs4d/segmentation, such as "
                    "sam2.1-hiera-tiny. Larger models cut finer and are slower.",
                ),
                combo(
                    "detector",
                    [model_folders.NO_DETECTOR, *found],
                    tooltip="Grounding DINO model that finds what the text names: a folder in models/gs4d/segmentation, "
                    "such as grounding-dino-tiny.",
                ),
                combo(
                    "device",
                    host.DEVICES,
                    "auto",
                    tooltip="Device of the models, which run one after the other. auto uses the GPU if there is one.",
                ),
            ],
            outputs=[
                SegmentationSocket.Output(
                    "models", display_name="models", tooltip="The loaded models, for Segment by Text."
                )
            ],
        )

    @classmethod
    def execute(cls, segmenter: str, detector: str, device: str) -> Any:
        from ..engine.masks.grounded import Segmentation

        with host.node_context():
            where = host.diffusion_device(device)
            finder = (
                None if detector == model_folders.NO_DETECTOR else model_folders.segmentation_model(detector)
            )
            models = Segmentation(_folders(segmenter, detector), finder, where)
        return host.output(StagedModels(models, WORKING_MEGABYTES), notes=f"{models.name} on {where}")
