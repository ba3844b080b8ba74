"""Decode a latent field's views to images, to inspect, to measure, or to fit a scene to (ED-NeRF, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..diffusion import Backbone
from ..fields import choice, flag, text, validate
from ..latent import LatentField
from ..messages import Finished, Stream
from ..scene import MultiViewVideo, ViewSet
from ..train.latent_views import Decoding, DecodingConfig
from ..train.memory_use import decoding_latents
from ..train.originals import SOURCES
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


@dataclass(frozen=True)
class Config(DecodingConfig):
    views: str = text("", "Indices of the views, such as '0 2 5-8'. Empty uses all training views.")
    moments: str = text(
        "0", "Indices of the frames, such as '0' or '0 10 20'; 'all' uses every frame.", label="frames"
    )

    is_refined: bool = flag(
        True, "Decodes through the refinement layer; off shows what it adds.", label="use refinement layer"
    )
    originals: str = choice(
        "rendered",
        SOURCES,
        "Original images to output next to the decoded ones: renders of the scene, or captured images.",
        label="original source",
    )

    def __post_init__(self) -> None:
        validate(self)


def run(
    field: LatentField,
    backbone: Backbone,
    config: Config = Config(),
    video: MultiViewVideo | None = None,
    device: torch.device | str = "cpu",
) -> Stream:
    """Decode views of a latent field to images.

    Args:
        field: A trained or edited latent field.
        backbone: The diffusion model that the field was trained with.
        config: Which views and frames, and how they are decoded.
        video: The capture that the scene was trained on, for captured originals.
        device: Device to render on; the model decodes on its own.

    Yields:
        Started, Progress and Preview for each image, and Finished with a `ViewSet` on the CPU: the decoded images, and the
        scene before the edit as originals.

    Raises:
        InputError: A field trained with another autoencoder, or views or frames that do not exist.
    """
    decoding = Decoding(
        field,
        backbone,
        config,
        config.views,
        config.moments,
        config.originals,
        video,
        device,
        config.is_refined,
        EDITS,
        str((field.scene.last_entry("delta_edit") or {}).get("prompt", "")),
    )
    yield from decoding.stream()
    yield Finished(decoding.made())


def summary(views: ViewSet) -> str:
    """One line about the decoded images."""
    width, height = views.size
    edit = views.edit or {}
    return (
        f"{len(views)} images, {width}×{height}, latents {edit.get('latents')}, detail {edit.get('detail')}"
    )


STEP = Step(
    name="decode_latents",
    node="DecodeLatents",
    label="Decode Latent Views",
    category="4dgs/edit",
    description="Decodes views of a latent field to images, to look at, to measure, or to fit a scene to.",
    search=("ed-nerf", "vae decode", "latent field"),
    config=Config,
    run=run,
    inputs=(
        Input("field", Kind.LATENTS, "A trained or edited latent field.", "latent field"),
        Input(
            "backbone",
            Kind.GUIDANCE,
            "The model whose autoencoder the latent field was trained with.",
            id="guidance",
        ),
        Input(
            "video",
            Kind.CAPTURE,
            "The capture that the scene was trained on, for captured originals.",
            optional=True,
        ),
    ),
    outputs=(
        Output("views_out", Kind.VIEWS, "Views for Fit Scene to Edited Views or Evaluate Edit.", "views"),
        Output("images", Kind.IMAGES, "The decoded images, as a batch.", of=lambda views: views.images),
        Output(
            "originals_out",
            Kind.IMAGES,
            "The scene before the edit, in the same views.",
            "originals",
            of=lambda views: views.originals,
        ),
    ),
    order="views moments is_refined detail background originals rasterizer",
    verb="decode-latents",
    figure=Figure.BEFORE_AFTER,
    note=summary,
    memory=decoding_latents,
    lowers=("views", "moments"),
)
