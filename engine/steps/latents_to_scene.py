"""Bring an edited latent field back to colours: decode views of several moments, refit the scene's Gaussians to them.

ED-NeRF decodes every view on its own, which flickers; here what was decoded is fitted by one set of colours, so views and
moments agree, and the result is an ordinary moving scene that plays and exports. Where the edit moved Gaussians, the
scene's are where the field's are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..diffusion import Backbone
from ..latent import LatentField
from ..messages import Preview, Progress, Started, Stream
from ..scene import Selection
from ..train.latent_views import Decoding, DecodingConfig
from ..train.view_fit import ViewFit, ViewFitConfig
from .step import number, validate, words

__all__ = ["Config", "run"]


@dataclass(frozen=True)
class Config(ViewFitConfig, DecodingConfig):
    iterations: int = number(
        600, 1, 1_000_000, "Optimisation steps. More follows the decoded views more closely."
    )
    position_rate: float = number(
        0.0,
        0.0,
        1.0,
        "Learning rate of positions, times the scene's extent; 0 keeps the field's own geometry.",
        1e-6,
    )
    views: str = words(
        "", "Numbers of the views to decode, such as 0 2 5-8; empty = all that are trained on."
    )
    moments: str = words(
        "",
        "Numbers of the moments to decode, such as 0 10 20; all = every one, empty = four spread over the clip.",
    )

    def __post_init__(self) -> None:
        validate(self)


class LatentsToScene(ViewFit):
    step_name = "latents_to_scene"


def run(
    field: LatentField,
    backbone: Backbone,
    config: Config = Config(),
    selection: Selection | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
) -> Stream:
    """Started, Progress, Preview, Saved …, Finished(Scene4D) where the field is. Closing it writes `checkpoint`; the same
    call resumes the fit.

    Raises InputError where the field was trained with another autoencoder, views are not there, or the mask is of
    another scene.
    """
    decoding = Decoding(
        field, backbone, config, config.views, config.moments or spread(len(field.scene.times)), device=device
    )
    total = len(decoding.pairs)
    for message in decoding.stream():
        if isinstance(message, Started):
            yield Started(total + config.iterations, message.note)
        else:
            yield message
    work = LatentsToScene(field.scene, decoding.made(), config, selection, device)
    for message in work.stream(f"{total} decoded views, {config.preset} preset", checkpoint):
        if isinstance(message, Progress):
            yield Progress(total + message.done, message.losses, message.count)
        elif isinstance(message, Preview):
            yield Preview(message.image, total + message.done)
        elif isinstance(message, Started):
            yield Started(total + config.iterations, message.note)
        else:
            yield message


def spread(moments: int, count: int = 4) -> str:
    """`count` moments from the first to the last, as one writes them: "0 10 19 29"."""
    chosen = torch.linspace(0, moments - 1, min(count, moments)).round().long().tolist()
    return " ".join(str(i) for i in sorted(set(chosen)))
