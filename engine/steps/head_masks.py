"""Masks of a head's parts (eyes, mouth, skin, …), drawn from the mesh that its Gaussians are bound to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import choice, number, text, validate
from ..figures.color_maps import marked, spread
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..heads import Head
from ..masks.head_regions import NAMES, draw_part, select_part
from ..messages import Finished, Preview, Started, Stream
from ..render import choose, rasterizer_field
from ..scene import Scene4D, Selection, ViewSet
from ..train.originals import Originals, choose_pairs, collect
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

# views in the preview
MOST_SHOWN = 6


class HeadMasks(NamedTuple):
    """Masks of the views, and the Gaussians of the part."""

    masks: Tensor  # [F, H, W] of 0 and 1
    selection: Selection


@dataclass(frozen=True)
class Config:
    part: str = choice(
        "expression",
        NAMES,
        "Part of the head. expression is eyes and mouth together: what must stay when a head is edited.",
    )
    grow: int = number(
        0,
        -64,
        64,
        "Pixels by which the masks are dilated. Higher covers more; negative erodes. Typical 3 to 8.",
    )
    view_numbers: str = text(
        "all",
        "Views to draw if no views are connected: all, or numbers separated by commas.",
    )
    frame_numbers: str = text(
        "0",
        "Frames to draw if no views are connected: all, or numbers separated by commas.",
    )
    rasterizer: str = rasterizer_field()

    def __post_init__(self) -> None:
        validate(self)


def run(
    scene: Scene4D,
    head: Head,
    views: ViewSet | None = None,
    config: Config = Config(),
    device: torch.device | str = "cpu",
) -> Stream:
    """Draw where a part of the head is visible.

    Args:
        scene: A scene whose Gaussians are bound to a head.
        head: The head model that it was trained with; its motion is not used.
        views: The images to make masks for; None where `config` names views and frames.
        config: The part and how far the masks grow.
        device: Device to render the preview on.

    Yields:
        Started, a Preview with the part in red, and Finished with (masks [F, H, W], `Selection`).

    Raises:
        InputError: The scene has no head or another one, or the model does not name the part.
    """
    if views is None:
        size = scene.rig.sizes[0]
        pairs = choose_pairs(scene, config.view_numbers, config.frame_numbers, None)
        views = collect(Originals(scene.to(device), choose(config.rasterizer, device), size, None), pairs)
    yield Started(1, f"{config.part} in {len(views)} views")
    selection = select_part(scene, head.model, config.part)
    masks = draw_part(scene, head.model, config.part, views.cameras, views.seconds, config.grow)
    if not bool(masks.any()):
        raise InputError(
            "STP-032",
            f"'{config.part}' is visible in none of the {len(views)} views; choose views that show the face, or another "
            "part.",
        )
    chosen = spread(len(views), MOST_SHOWN)
    images = [[marked(views.originals[i].cpu()[..., :3], masks[i], masks[i])] for i in chosen]
    captions = [views.caption(i) for i in chosen]
    yield Preview(as_tensor(sheet(images, captions, title=f"red: {config.part}")), 1)
    yield Finished(HeadMasks(masks, selection))


def summary(made: HeadMasks) -> str:
    """How much of the images and of the Gaussians the part is."""
    count, share = int((made.selection.weights > 0).sum()), float(made.masks.mean())
    return f"{count} of {len(made.selection.weights)} Gaussians; {share:.1%} of the pixels of {len(made.masks)} views"


STEP = Step(
    name="head_masks",
    node="HeadRegionMask",
    label="Head Region Mask",
    category="4dgs/heads",
    description="Makes masks and a selection of a part of a head (eyes, mouth, skin, …) from its mesh, without a model.",
    search=("eye mask", "mouth mask", "face parts", "flame mask", "segment face"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "A scene trained with a head."),
        Input("head", Kind.HEAD, "The head model that the scene was trained with."),
        Input("views", Kind.VIEWS, "The images to make masks for, from Scene Views.", optional=True),
    ),
    outputs=(
        Output("mask", Kind.MASKS, "One mask per view.", of=lambda made: made.masks),
        Output("selection", Kind.SELECTION, "The Gaussians of the part.", of=lambda made: made.selection),
    ),
    verb="head-mask",
    figure=Figure.PREVIEW,
    note=summary,
    lowers=("the size of the views",),
)
