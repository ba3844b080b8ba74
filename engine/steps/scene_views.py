"""Take images of a scene from its own cameras, captured or rendered, to inspect, mask or edit them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..diffusion.editor_sizes import AS_RENDERED, SIZES_FOR, editor_size, fixed_sizes
from ..fields import choice, number, text, validate
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render import choose, rasterizer_field
from ..scene import MultiViewVideo, Scene4D, ViewSet
from ..scene.framing import Framing, edge_shift
from ..train.image_choice import images_to_edit
from ..train.memory_use import MemoryUse, of_scene
from ..train.originals import SOURCES, Originals, choose_source, collect
from . import EDITS
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]


@dataclass(frozen=True)
class Config:
    views: str = text("", "Indices of the views, such as '0 2 5-8'. Empty uses all training views.")
    moments: str = text(
        "0",
        "Indices of the frames, such as '0' or '0 10 20'; 'all' uses every frame. auto takes as many images as there are views, "
        "chosen over all frames so that together they show the most of the scene.",
        label="frames",
    )

    resolution: int = number(
        0,
        0,
        4096,
        "Longer side of the images in pixels. More shows more detail. 0 uses the captured size.",
        words={0: "captured"},
    )
    originals: str = choice(
        "auto",
        SOURCES,
        "Captured images or renders. auto uses captured images if the scene has not been edited.",
        label="original source",
    )
    rasterizer: str = rasterizer_field()
    size_for: str = choice(
        AS_RENDERED,
        SIZES_FOR,
        "Image size for a model that edits single images. Images are then not stretched: renders show more, captured images "
        "are cropped, and their cameras follow. Flux Kontext and Qwen-Image-Edit choose the size themselves.",
        label="size for",
        since="0.2",
    )

    def __post_init__(self) -> None:
        validate(self)


def run(
    scene: Scene4D,
    config: Config = Config(),
    video: MultiViewVideo | None = None,
    device: torch.device | str | None = None,
) -> Stream:
    """Take images of a scene from its own cameras, captured or rendered.

    Args:
        scene: The scene.
        config: Which views and frames, and at what size.
        video: The capture that the scene was trained on, for captured images.
        device: Device to render on; None uses the scene's.

    Yields:
        Started, Progress, a Preview of the first image, and Finished with a `ViewSet` on the CPU whose images are the
        originals.

    Raises:
        InputError: Views or frames that do not exist, or views of different aspect ratios.
    """
    scene = scene if device is None else scene.to(device)
    rasterizer = choose(config.rasterizer, scene.device)
    pairs, choice = images_to_edit(scene, config.views, config.moments, video, rasterizer)
    source, pairs = choose_source(config.originals, scene, video, pairs, EDITS)
    width, height = scene.rig.sizes[pairs[0][0]]
    size = editor_size(config.size_for, width, height, config.resolution)
    yield Started(
        1, "\n".join(filter(None, (f"{len(pairs)} {source} images of {size[0]}×{size[1]}", choice)))
    )
    is_framed = config.size_for != AS_RENDERED
    originals = Originals(scene, rasterizer, size, video if source == "captured" else None, is_framed)
    views = collect(originals, pairs)
    if is_framed:
        note = _framing_note(config, [originals.framings[view] for view, _ in pairs])
        views = replace(views, edit={"size_for": config.size_for, "note": note})
    yield Progress(1)
    yield Preview(views.images[0], 1)
    yield Finished(views)


def _memory(config: Config, given: Mapping[str, Any]) -> MemoryUse:
    """Renders at the size of the editor, which may be larger than the rig's."""
    scene = given["scene"]
    sizes = {editor_size(config.size_for, w, h, config.resolution) for w, h in scene.rig.sizes}
    return MemoryUse(of_scene(scene, max(sizes, key=lambda size: size[0] * size[1])))


def _framing_note(config: Config, framings: list[Framing]) -> str:
    """What the chosen size crops or adds; of views of different sizes, where that is most."""
    most = max(framings, key=lambda framing: edge_shift(framing.size, framing.source))
    lines = [f"for {config.size_for}: {most.note()}"]
    if config.resolution and fixed_sizes(config.size_for):
        lines.append(f"resolution {config.resolution} is not used, since {config.size_for} has fixed sizes")
    return "\n".join(lines)


def coverage(views: ViewSet) -> Tensor:
    """[F, H, W]: how much of each pixel the scene covers; ones where the views do not say."""
    return torch.ones(views.images.shape[:3]) if views.alphas is None else views.alphas


def summary(views: ViewSet) -> str:
    """One line about the images, and what their size crops or adds."""
    width, height = views.size
    note = (views.edit or {}).get("note", "")
    return "\n".join(filter(None, (f"{len(views)} images of {width}×{height}", note)))


STEP = Step(
    name="scene_views",
    node="SceneViews",
    label="Scene Views",
    category="4dgs/edit",
    description="Captured or rendered images of a scene from its own cameras, to mask them or to edit them with any other "
    "node.",
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The scene to take images of."),
        Input(
            "video",
            Kind.CAPTURE,
            "The capture that the scene was trained on, for its captured images.",
            optional=True,
        ),
    ),
    outputs=(
        Output("views_out", Kind.VIEWS, "Views for Fit Scene to Edited Views.", "views"),
        Output("images", Kind.IMAGES, "The images, as a batch.", of=lambda views: views.images),
        Output("mask", Kind.MASKS, "Coverage of the scene in each image.", of=coverage),
    ),
    verb="scene-views",
    note=summary,
    memory=_memory,
    lowers=("resolution", "views", "moments"),
)
