"""Train a 4D scene from a multi-view video (4D Gaussian Splatting, Wu et al., CVPR 2024; see engine/train/fit.py)."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import InputError
from ..messages import Stream
from ..scene import MultiViewVideo
from ..train.config import FitConfig as Config
from ..train.fit import fit

__all__ = ["Config", "run"]


def run(
    video: MultiViewVideo,
    config: Config = Config(),
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
) -> Stream:
    """Started, Progress, Preview, Saved …, Finished(Scene4D). Closing it writes `checkpoint`; the same call resumes.

    Raises InputError before training where the video is one still view, or has nothing to train on.
    """
    views = len(video.views_to_train()) if config.keeps_test_views_out else video.views
    if views < 2 and config.initialisation != "points":
        raise InputError(
            f"{video.name} has {views} view to train on; a scene needs at least two views, "
            "or a camera that moves: add cameras, or allow test views to be trained on."
        )
    return fit(video, config, device, checkpoint)
