"""Train a 4D scene from a multi-view video (4D Gaussian Splatting, Wu et al., CVPR 2024; see engine/train/fit.py)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..backends import is_out_of_memory
from ..errors import InputError
from ..heads import Head
from ..messages import Stream
from ..scene import MultiViewVideo, Scene4D
from ..train.config import FitConfig as Config
from ..train.fit import Fit
from ..train.memory_use import training
from ..train.presets import preset_text, resolved
from ..train.ranks import current
from ..train.verdict import verdict_of, verdict_text
from .step import Figure, Input, Kind, Output, Settings, Step

__all__ = ["STEP", "Config", "run"]


class FitScene(Fit):
    step_name = "fit_scene"

    def __init__(
        self,
        video: MultiViewVideo,
        config: Config,
        device: torch.device | str,
        head: Head | None = None,
        start: Scene4D | None = None,
    ) -> None:
        config, self.preset = resolved(config, device, video, start)
        if not current().leads and not current().is_sharded:
            # previews are made by one process
            config = replace(config, preview_every=0)
        super().__init__(video, config, device, head, start)

    def metadata(self) -> dict[str, Any]:
        return {**super().metadata(), **({"quality": self.preset} if self.preset else {})}

    def result(self) -> Scene4D:
        """The scene, with a verdict on it in its history: None where memory runs out."""
        scene = super().result()
        if not self.ranks.leads:
            return scene
        trained = [(view, moment) for moment, views in self.samples.items() for view in views]
        held_out = sorted(set(self.video.samples()) - set(trained))
        try:
            found = verdict_of(
                scene.to(self.device), self.video, trained, held_out, self.rasterizer
            ).to_json()
        except (MemoryError, RuntimeError) as error:
            # must not cost what was trained: a GPU that holds a part of the Gaussians may not hold all
            if not is_out_of_memory(error):
                raise
            found = None
        *before, last = scene.history
        return replace(scene, history=(*before, {**last, "verdict": found}))


def summary(scene: Scene4D) -> str:
    """One line about the scene, its preset, and the verdict on the training."""
    entry = scene.history[-1] if scene.history else {}
    verdict = verdict_text(entry["verdict"]) if "verdict" in entry else ""
    return "\n".join(filter(None, [scene.summary(), preset_text(entry.get("quality", {}), Config), verdict]))


def run(
    video: MultiViewVideo,
    config: Config = Config(),
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
    head: Head | None = None,
    start: Scene4D | None = None,
) -> Stream:
    """Train a 4D scene from a multi-view video.

    Args:
        video: The capture.
        config: Training parameters; its `quality` may be a preset, which is resolved first (see engine/train/presets.py).
        device: Device to train on.
        checkpoint: File for unfinished work: written at intervals and when the generator is closed. The same call resumes
            from it, on the CPU with the same bits. None keeps none.
        head: A head model with its motion: the Gaussians are bound to its mesh. None trains a deformation field.
        start: A scene to start from: its Gaussians and its motion are trained on instead of new ones.
        clock: Seconds; the limits and intervals of `config` count on it.

    Yields:
        Started, Progress, Preview, Saved, and Finished with a `Scene4D` on the CPU.

    Raises:
        InputError: Before training, where the video has a single static view or nothing to train on, or the start scene
            has another kind of motion, other frame times or too many Gaussians; during training, where a step produces NaN
            or infinite values.

    Example:
        scene = messages.result(fit_scene.run(video, fit_scene.Config(iterations=1000), "cuda"))

    Source:
        4D Gaussian Splatting, Wu et al., CVPR 2024; changes are listed in engine/train/fit.py.
    """
    views = len(video.views_to_train()) if config.keeps_test_views_out else video.views
    if views < 2 and config.initialization != "points" and head is None and start is None:
        raise InputError(
            "STP-015",
            f"{video.name} has {views} view to train on, and a scene needs at least two, or a moving camera. Add cameras, or "
            "turn off 'hold out test views'.",
        )
    return _train(video, config, device, checkpoint, clock, head, start)


def _train(
    video: MultiViewVideo,
    config: Config,
    device: torch.device | str,
    checkpoint: Path | None,
    clock: Callable[[], float],
    head: Head | None,
    start: Scene4D | None,
) -> Stream:
    begun = clock()
    work = FitScene(video, config, device, head, start)
    note = "\n".join(filter(None, (preset_text(work.preset, Config), work.sharing.note)))
    at_start = "; ".join(filter(None, (f"initialized from {work.origin}", work.support.note)))
    yield from work.stream(note, checkpoint, clock, begun, at_start)


STEP = Step(
    name="fit_scene",
    node="Train4DScene",
    label="Train 4D Scene",
    category="4dgs/train",
    description="Trains a 4D scene (canonical Gaussians and a deformation field) from a multi-view video.",
    search=("4d gaussian splatting", "fit", "reconstruct", "train"),
    config=Config,
    run=run,
    inputs=(
        Input("video", Kind.CAPTURE, "The capture, from Load Multi-View Video."),
        Input(
            "settings",
            Kind.SETTINGS,
            "Advanced parameters from Training Settings; without it the defaults are used.",
            optional=True,
        ),
        Input(
            "head",
            Kind.HEAD,
            "A head with its motion, from Load Head: Gaussians are bound to its mesh. Without it a deformation field is "
            "trained.",
            optional=True,
            since="0.2",
        ),
        Input(
            "start",
            Kind.SCENE,
            "A scene to start from, such as a generated one: its Gaussians and motion are trained on. Set motion to the kind "
            "that it has, per_frame for generated scenes.",
            label="start scene",
            optional=True,
            since="0.2",
        ),
    ),
    outputs=(Output("scene", Kind.SCENE, "The trained scene: Gaussians and their motion."),),
    verb="fit-scene",
    aliases=("fit_scene",),
    resumes="training",
    shares_views=True,
    memory=training,
    lowers=("budget", "views_per_step", "sh_degree", "the capture's scale"),
    figure=Figure.CURVES,
    note=summary,
    settings=Settings(
        "TrainingSettings",
        "Training Settings",
        "Advanced training parameters: learning rates, loss weights, schedules. The defaults suit most captures.",
        visible="density initial_count coarse_fraction views_per_step time_resolution ssim_weight mask_weight "
        "hold_out_every head_lr depth_weight",
    ),
)
