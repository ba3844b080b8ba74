"""Take pictures of a scene from its own cameras, captured or rendered: to look at, to mask, to edit by hand."""

from __future__ import annotations

from dataclasses import dataclass

from ..diffusion.sizes import nearest_size
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render import choose
from ..scene import MultiViewVideo, Scene4D
from ..train.originals import SOURCES, Originals, choose_pairs, choose_source, collect
from .step import choice, number, validate, words

__all__ = ["Config", "run"]


@dataclass(frozen=True)
class Config:
    views: str = words("", "Numbers of the views, such as 0 2 5-8; empty = all that are trained on.")
    moments: str = words("0", "Numbers of the moments, such as 0 or 0 10 20; all = every one.")
    resolution: int = number(
        0, 0, 4096, "Long side of the pictures in pixels; 0 = as captured. More shows more detail."
    )
    originals: str = choice(
        "auto",
        SOURCES,
        "Captured pictures or renders; auto takes captured ones of a scene that was not edited yet.",
    )
    rasterizer: str = choice(
        "auto", ("auto", "gsplat", "numba", "torch"), "What draws the scene; auto takes the fastest here."
    )

    def __post_init__(self) -> None:
        validate(self)


def run(scene: Scene4D, config: Config = Config(), video: MultiViewVideo | None = None) -> Stream:
    """Started, Progress, a Preview of the first picture, Finished(ViewSet on the CPU whose images are the originals).

    Renders on the scene's device. Raises InputError for views or moments that are not there, or of unlike shapes.
    """
    pairs = choose_pairs(scene, config.views, config.moments, video)
    source, pairs = choose_source(config.originals, scene, video, pairs)
    width, height = scene.rig.sizes[pairs[0][0]]
    size = nearest_size(width, height, config.resolution or max(width, height), 1)
    rasterizer = choose(config.rasterizer, scene.device)
    yield Started(1, f"{len(pairs)} {source} pictures of {size[0]}×{size[1]}")
    views = collect(Originals(scene, rasterizer, size, video if source == "captured" else None), pairs)
    yield Progress(1)
    yield Preview(views.images[0], 1)
    yield Finished(views)
