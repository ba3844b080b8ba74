"""Decode a latent field's views to pictures: to look at, to measure, or to fit a scene to (ED-NeRF, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..diffusion import Backbone
from ..latent import LatentField
from ..messages import Finished, Stream
from ..scene import MultiViewVideo
from ..train.latent_views import Decoding, DecodingConfig
from ..train.originals import SOURCES
from .step import choice, flag, validate, words

__all__ = ["Config", "run"]


@dataclass(frozen=True)
class Config(DecodingConfig):
    views: str = words("", "Numbers of the views, such as 0 2 5-8; empty = all that are trained on.")
    moments: str = words("0", "Numbers of the moments, such as 0 or 0 10 20; all = every one.")
    is_refined: bool = flag(True, "Through the refinement layer; off shows what it adds.")
    originals: str = choice(
        "rendered",
        SOURCES,
        "What the decoded pictures are put beside: renders of the scene, or captured pictures.",
    )

    def __post_init__(self) -> None:
        validate(self)


def run(
    field: LatentField,
    backbone: Backbone,
    config: Config = Config(),
    video: MultiViewVideo | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,  # decoding is quick: nothing is kept
) -> Stream:
    """Started, Progress and Preview for each picture, Finished(ViewSet on the CPU: decoded images, originals beside).

    Raises InputError where the field was trained with another autoencoder, or views are not there.
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
    )
    yield from decoding.stream()
    yield Finished(decoding.made())
