"""Transfer an edited latent field to colors: decode views of several frames and fit the scene's Gaussians to them.

ED-NeRF decodes every view on its own, which flickers. Here one set of colors is fitted to all decoded views, so views and
frames agree, and the result is an ordinary moving scene that plays and exports. Where the edit moved Gaussians, the scene
takes over their positions. Hues that drifted while latents were edited are corrected by the model's own edit of three images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..diffusion import Backbone
from ..fields import choice, number, text, validate
from ..latent import LatentField
from ..messages import Preview, Progress, Started, Stream
from ..scene import Scene4D, Selection
from ..train.latent_views import Decoding, DecodingConfig
from ..train.memory_use import decoding_latents
from ..train.own_colors import MATCHINGS, OwnEdit, own_colors
from ..train.view_fit import ViewFit, ViewFitConfig
from . import EDITS
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


@dataclass(frozen=True)
class Config(ViewFitConfig, DecodingConfig):
    iterations: int = number(
        600, 1, 1_000_000, "Number of optimization steps. More follows the decoded views more closely."
    )
    position_lr: float = number(
        0.0,
        0.0,
        1.0,
        "Learning rate of positions, relative to the scene's extent; 0 keeps the field's geometry.",
        1e-6,
        id="position_rate",
        advanced=True,
    )
    views: str = text(
        "", "Indices of the views to decode, such as '0 2 5-8'. Empty decodes all training views."
    )
    moments: str = text(
        "",
        "Indices of the frames to decode, such as '0 10 20'; 'all' decodes every frame, empty four evenly spaced ones.",
        label="frames",
    )
    matching: str = choice(
        "auto",
        MATCHINGS,
        "Matches the decoded colors to the model's own edit of three images, which corrects hues that drifted in the delta edit; "
        "an edit that was stopped halfway becomes a full one. auto does so for models of one to four steps.",
        label="match colors",
        since="0.3",
    )

    def __post_init__(self) -> None:
        validate(self)


class LatentsToScene(ViewFit):
    step_name = "latents_to_scene"


class DeltaEditAgain(OwnEdit):
    step_name = "latents_to_scene"
    edits = EDITS
    after = "delta_edit"


def run(
    field: LatentField,
    backbone: Backbone,
    config: Config = Config(),
    selection: Selection | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
) -> Stream:
    """Transfer an edited latent field to the colors of its scene.

    Args:
        field: The edited latent field.
        backbone: The diffusion model that the field was trained with.
        config: Which views are decoded, and the parameters of the fit.
        selection: Gaussians that may change; None allows all.
        device: Device to render and optimize on.
        checkpoint: File for unfinished work: written at intervals and when the generator is closed. The same call resumes
            from it, on the CPU with the same bits. None keeps none.

    Yields:
        Started, Progress, Preview, Saved, and Finished with a `Scene4D` on the field's device.

    Raises:
        InputError: A field trained with another autoencoder, views or frames that do not exist, a selection of another
            scene, or `matching` "own edits" where the model's own edit does not show the same.
    """
    decoding = Decoding(
        field,
        backbone,
        config,
        config.views,
        config.moments or spread(len(field.scene.times)),
        device=device,
        edits=EDITS,
        prompt=str((field.scene.last_entry("delta_edit") or {}).get("prompt", "")),
    )
    if selection is not None:
        selection.check(len(field.scene.canonical))
    colors, note = own_colors(
        decoding, config.matching if config.strength else "none", selection, DeltaEditAgain
    )
    decoded = len(decoding.pairs)
    total = decoded + (colors.total if colors else 0)
    for message in decoding.stream():
        if isinstance(message, Started):
            yield Started(total + config.iterations, message.note)
        else:
            yield message
    views = decoding.made()
    if colors:
        yield from colors.stream(decoded)
        views = colors.matched(views)
        note = colors.note
    work = LatentsToScene(field.scene, views, config, selection, device)
    work.prompt_note = note
    for message in work.stream(f"{decoded} decoded views, {config.preset} preset", checkpoint):
        if isinstance(message, Progress):
            end = total + message.total if message.total else 0
            yield Progress(total + message.done, message.losses, message.count, end)
        elif isinstance(message, Preview):
            yield Preview(message.image, total + message.done)
        elif isinstance(message, Started):
            yield Started(total + config.iterations, message.note)
        else:
            yield message


def spread(moments: int, count: int = 4) -> str:
    """`count` frame indices from the first to the last, as text: "0 10 19 29"."""
    chosen = torch.linspace(0, moments - 1, min(count, moments)).round().long().tolist()
    return " ".join(str(i) for i in sorted(set(chosen)))


def summary(scene: Scene4D) -> str:
    """A line about the scene, and one about its colors."""
    note = (scene.last_entry("latents_to_scene") or {}).get("note")
    return "\n".join([scene.summary(), note] if note else [scene.summary()])


STEP = Step(
    name="latents_to_scene",
    node="LatentsToScene",
    label="Latent Field to Scene",
    category="4dgs/edit",
    description="Transfers an edited latent field to the scene's colors: an ordinary scene that plays and exports.",
    search=("ed-nerf", "distill", "decode", "latent field"),
    config=Config,
    run=run,
    inputs=(
        Input("field", Kind.LATENTS, "From Delta Edit in Latent Space.", "latent field"),
        Input(
            "backbone",
            Kind.GUIDANCE,
            "The model whose autoencoder the latent field was trained with.",
            id="guidance",
        ),
        Input(
            "selection",
            Kind.SELECTION,
            "Restricts the edit to these Gaussians. From Lift Mask to Gaussians; without it everything may change.",
            optional=True,
        ),
    ),
    outputs=(
        Output("scene_out", Kind.SCENE, "The scene with the colors of the decoded latent field.", "scene"),
    ),
    order="views moments iterations detail background strength preset mutes_appearance max_seconds "
    "preview_every seed views_per_step ssim_weight position_rate color_rate opacity_rate scale_rate "
    "rotation_rate densifies trains_deformation rasterizer checkpoint_seconds",
    verb="latents-to-scene",
    resumes="fitting",
    memory=decoding_latents,
    lowers=("views_per_step", "views", "moments"),
    figure=Figure.CURVES,
    note=summary,
)
