"""What an artist may choose when a multi-view video is loaded, whatever its layout."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import choice, number, validate, words

LAYOUTS = ("dynerf", "dnerf", "nerfstudio", "colmap", "hypernerf", "folder")
BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "grey": (0.5, 0.5, 0.5), "black": (0.0, 0.0, 0.0)}


@dataclass(frozen=True)
class LoadOptions:
    """How a data set is read; every field has a default that suits most data sets."""

    layout: str = choice(
        "auto", ("auto", *LAYOUTS), "The data set's layout; auto recognises it by its files."
    )
    scale: float = number(
        1.0,
        0.05,
        1.0,
        "Pictures are read at this fraction of their size and cameras follow: larger is sharper and slower.",
        step=0.05,
    )
    first_frame: int = number(
        0, 0, 1_000_000, "The first frame to use: larger skips more of the beginning.", step=1
    )
    frame_count: int = number(
        0, 0, 1_000_000, "How many frames to use: more makes a longer scene; 0 uses all.", step=1
    )
    frame_step: int = number(
        1, 1, 1000, "Use every n-th frame: larger makes motion coarser and training shorter.", step=1
    )
    frames_per_second: float = number(
        0.0,
        0.0,
        1000.0,
        "Frame rate for layouts that store none (0 = as stored): larger makes the same clip play faster.",
    )
    cache_megabytes: int = number(
        512, 16, 65536, "Memory for decoded frames: more means fewer are decoded again.", step=16
    )
    background: str = choice(
        "auto",
        ("auto", "keep", *BACKGROUNDS),
        "What stands behind a masked subject: auto takes the layout's own (white for D-NeRF), keep leaves pictures as "
        "they are and uses no masks.",
    )
    hold_out: str = words(
        "auto",
        "Views kept out of training to measure on: names with commas between; auto takes the layout's own, empty none.",
    )

    def __post_init__(self) -> None:
        validate(self)
