"""Lift masks of a few views to the scene: the Gaussians that an edit may change (see engine/masks/lift.py)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..figures.color_maps import marked, spread
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..masks.lift import hardened, lift, render_selection
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render import Rasterizer, choose
from ..scene import Scene4D, Selection, ViewSet
from .step import choice, flag, number, validate

__all__ = ["Config", "run"]

MOST_SHOWN = 4  # views with what is selected


@dataclass(frozen=True)
class Config:
    threshold: float = number(
        0.5, 0.0, 1.0, "Share of a Gaussian that must lie inside the masks. More selects less.", step=0.01
    )
    softness: float = number(
        0.0,
        0.0,
        1.0,
        "Width of the ramp round the threshold; more lets Gaussians at the rim take part a little.",
        step=0.01,
    )
    fills_unseen: bool = flag(
        True, "Gaussians that no masked view shows follow their nearest neighbour that is seen."
    )
    rasterizer: str = choice(
        "auto", ("auto", "gsplat", "numba", "torch"), "What draws; auto takes the fastest here."
    )

    def __post_init__(self) -> None:
        validate(self)


def run(
    scene: Scene4D,
    views: ViewSet,
    masks: Tensor,  # [F, h, w] in 0..1, one for each view
    config: Config = Config(),
    device: torch.device | str = "cpu",
) -> Stream:
    """Started, Progress, a Preview of the views with what is selected in red, Finished(Selection).

    Raises InputError where masks and views do not belong together, or where the masks select nothing.
    """
    rasterizer = choose(config.rasterizer, device)
    yield Started(2, f"{len(views)} masks to {len(scene.canonical)} Gaussians; {rasterizer.name} rasterizer")
    moving = scene.to(device)
    soft = lift(moving, views.cameras, masks, views.seconds, rasterizer, config.fills_unseen)
    selection = hardened(soft, config.threshold, config.softness)
    yield Progress(1, count=int((selection.weights > 0).sum()))
    if bool((masks > 0).any()) and not bool((selection.weights > 0).any()):
        raise InputError(
            f"No Gaussian lies to {config.threshold:.0%} inside the masks (the most is {float(soft.weights.max()):.0%}): "
            "lower the threshold, or mask more of the subject."
        )
    yield Preview(as_tensor(_overlays(moving, selection, views, masks, rasterizer)), 2)
    yield Progress(2, count=int((selection.weights > 0).sum()))
    yield Finished(selection)


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
    return sheet(pictures, [views.caption(i) for i in chosen], title="red: chosen   yellow: the painted mask")
