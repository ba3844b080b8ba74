"""What an artist may choose when a multi-view video is loaded, whatever its layout."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import choice, number, text, validate

LAYOUTS = ("dynerf", "dnerf", "nerfstudio", "colmap", "hypernerf", "folder", "avatar", "technicolor")
BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "grey": (0.5, 0.5, 0.5), "black": (0.0, 0.0, 0.0)}


@dataclass(frozen=True)
class LoadOptions:
    """How a dataset is read; every field has a default that suits most datasets."""

    layout: str = choice(
        "auto", ("auto", *LAYOUTS), "Dataset layout; auto detects it from the files.", label="layout"
    )
    scale: float = number(
        1.0, 0.05, 1.0, "Image scale; cameras follow. Higher is sharper and slower.", step=0.05, label="scale"
    )
    first_frame: int = number(0, 0, 1_000_000, "First frame to use.", step=1)
    frame_count: int = number(
        0,
        0,
        1_000_000,
        "Number of frames to use. More makes a longer scene; 0 uses all.",
        step=1,
        words={0: "all"},
    )
    frame_step: int = number(
        1, 1, 1000, "Uses every n-th frame. More makes motion coarser and training faster.", step=1
    )
    frames_per_second: float = number(
        0.0,
        0.0,
        1000.0,
        "Frame rate for layouts that store none. More plays faster; 0 uses the stored rate.",
        words={0: "as stored"},
        advanced=True,
    )
    background: str = choice(
        "auto",
        ("auto", "keep", *BACKGROUNDS),
        "Background behind a masked subject. auto uses the layout's own (white for D-NeRF); keep leaves images as they are "
        "and ignores masks.",
    )
    hold_out: str = text(
        "auto",
        "Names of the views to hold out for evaluation, separated by commas. auto uses the layout's own; empty holds out "
        "none.",
        label="hold out",
    )
    cache_megabytes: int = number(
        512,
        16,
        65536,
        "Memory for decoded frames, in MB. More decodes fewer frames twice.",
        step=16,
        label="cache (MB)",
        advanced=True,
    )
    prepared_gigabytes: float = number(
        64.0,
        0.0,
        100_000.0,
        "Disk space for prepared frames, in GB. Training decodes a capture that does not fit into the cache once and keeps its "
        "frames in a temporary folder; typical 3 GB per 1000 frames of 1000×1000. 0 decodes frames whenever they are needed.",
        step=1,
        label="prepared frames (GB)",
        advanced=True,
        since="0.2",
    )

    def __post_init__(self) -> None:
        validate(self)
