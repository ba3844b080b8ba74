"""Lift masks of a few views to the scene: the Gaussians that an edit may change (see engine/masks/lift.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from ..diffusion.sizes import nearest_size
from ..errors import InputError
from ..fields import flag, number, validate
from ..figures.color_maps import marked, spread
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..masks.lift import hardened, lift, render_selection
from ..masks.painted import view_of
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render import Rasterizer, choose, rasterizer_field
from ..scene import Scene4D, Selection, ViewSet
from ..scene.origins import in_coordinates_of
from ..train.originals import Originals, choose_pairs, collect
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

# views in the preview
MOST_SHOWN = 4


@dataclass(frozen=True)
class Config:
    threshold: float = number(
        0.5,
        0.0,
        1.0,
        "Fraction of a Gaussian that must lie inside the masks. Higher selects fewer Gaussians.",
        step=0.01,
    )
    softness: float = number(
        0.0,
        0.0,
        1.0,
        "Width of the ramp around the threshold. Higher includes Gaussians at the edge with partial weight.",
        step=0.01,
    )
    fills_unseen: bool = flag(
        True,
        "Gaussians that are hidden in all masked views follow their nearest visible neighbor.",
        label="fill unseen",
    )
    rasterizer: str = rasterizer_field()
    view: int = number(
        0, 0, 9999, "View that the mask was painted on; ignored if views are connected.", label="view"
    )
    moment: int = number(
        0, 0, 1_000_000, "Frame that the mask was painted on; ignored if views are connected.", label="frame"
    )

    def __post_init__(self) -> None:
        validate(self)


def run(
    scene: Scene4D,
    views: ViewSet | None,
    masks: Tensor,
    config: Config = Config(),
    device: torch.device | str = "cpu",
    painted: Tensor | None = None,
) -> Stream:
    """Select the Gaussians behind painted masks.

    Args:
        scene: The scene that the images show.
        views: The masked images; None where a single mask belongs to the view and frame that `config` names.
        masks: Masks [F, h, w] in 0..1, one per view or a single one for all; without views, [h, w] or the first of
            [F, h, w].
        config: Threshold, softness, and the view of a single mask.
        device: Device to render on.
        painted: The image [F, h, w, 3] that the first mask was painted on, if that is one of the views: the first of a batch.

    Yields:
        Started, Progress, a Preview of the views with the selection in red, and Finished with a `Selection`.

    Raises:
        InputError: Masks and views do not match, or the masks do not select any Gaussian.
    """
    rasterizer = choose(config.rasterizer, device)
    masks = masks[None] if masks.ndim == 2 else masks
    if painted is not None:
        if views is None:
            raise InputError(
                "STP-114",
                "A painted image is connected without views; connect those of Scene Views that it is one of.",
            )
        views, masks = _only(views, view_of(painted[0], views.images)), masks[:1]
    if views is None:
        masks = masks[:1]
        views = _one_view(scene.to(device), config, max(masks.shape[1:]), rasterizer)
    elif len(masks) == 1:
        masks = masks.expand(len(views), -1, -1)
    views = replace(views, cameras=in_coordinates_of(scene, views.cameras))
    yield Started(2, f"{len(views)} masks to {len(scene.canonical)} Gaussians; {rasterizer.name} rasterizer")
    moving = scene.to(device)
    soft = lift(moving, views.cameras, masks, views.seconds, rasterizer, config.fills_unseen)
    selection = hardened(soft, config.threshold, config.softness)
    yield Progress(1, count=int((selection.weights > 0).sum()))
    if bool((masks > 0).any()) and not bool((selection.weights > 0).any()):
        raise InputError(
            "STP-022",
            f"No Gaussian lies {config.threshold:.0%} inside the masks (at most {float(soft.weights.max()):.0%}); "
            "lower the threshold, or mask more of the subject.",
        )
    yield Preview(as_tensor(_overlays(moving, selection, views, masks, rasterizer)), 2)
    yield Progress(2, count=int((selection.weights > 0).sum()))
    yield Finished(selection)


def _only(views: ViewSet, i: int) -> ViewSet:
    """One of the views."""
    return replace(
        views,
        images=views.images[i : i + 1],
        originals=views.originals[i : i + 1],
        cameras=views.cameras[i],
        views=views.views[i : i + 1],
        moments=views.moments[i : i + 1],
        seconds=views.seconds[i : i + 1],
        alphas=None if views.alphas is None else views.alphas[i : i + 1],
        sheet=None,
    )


def _one_view(scene: Scene4D, config: Config, long_side: int, rasterizer: Rasterizer) -> ViewSet:
    """A render of the view and frame that the config names, with `long_side` pixels on its longer side."""
    pairs = choose_pairs(scene, str(config.view), str(config.moment), None)
    size = nearest_size(*scene.rig.sizes[config.view], long_side, 1)
    return collect(Originals(scene, rasterizer, size, None), pairs)


def _overlays(
    scene: Scene4D, selection: Selection, views: ViewSet, masks: Tensor, rasterizer: Rasterizer
) -> Image.Image:
    """Up to MOST_SHOWN views with what is selected in red, and the line of the mask that was painted."""
    chosen = spread(len(views), MOST_SHOWN)
    seconds = [views.seconds[i] for i in chosen]
    drawn = render_selection(scene, selection, views.cameras[chosen], seconds, rasterizer).cpu()
    painted = torch.nn.functional.interpolate(masks[chosen, None].float().cpu(), drawn.shape[1:])[:, 0]
    pictures = [
        [marked(views.originals[i].detach().cpu()[..., :3], weight, mask)]
        for i, weight, mask in zip(chosen, drawn, painted, strict=True)
    ]
    return sheet(pictures, [views.caption(i) for i in chosen], title="red: selected   yellow: painted mask")


def summary(selection: Selection) -> str:
    """How many Gaussians are selected."""
    return f"{int((selection.weights > 0).sum())} of {len(selection.weights)} Gaussians selected"


STEP = Step(
    name="lift_mask",
    node="LiftMask",
    label="Lift Mask to Gaussians",
    category="4dgs/edit",
    description="Selects the Gaussians behind masks painted on images of the scene, so that an edit changes only them.",
    search=("select", "segment", "local edit", "inpaint mask"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The scene that the images show."),
        Input(
            "masks",
            Kind.MASKS,
            "One mask per view, in their order, or one for all; without views, a mask of the view and frame below. From "
            "Segment by Text, Head Region Mask or any mask node.",
            id="mask",
        ),
        Input(
            "views",
            Kind.VIEWS,
            "The images that were masked, from Scene Views; one mask for each.",
            optional=True,
        ),
        Input(
            "painted",
            Kind.FRAMES,
            "The image that a mask was painted on by hand, one of the views: it finds its view and frame by itself.",
            label="painted image",
            optional=True,
            since="0.2",
        ),
    ),
    outputs=(Output("selection", Kind.SELECTION, "The selected Gaussians, to limit an edit to them."),),
    verb="lift-mask",
    figure=Figure.PREVIEW,
    note=summary,
    lowers=("the size of the views",),
)
