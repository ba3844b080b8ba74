"""Measure an edited scene against ground truth, its edited views and its prompt, and its consistency over time.

PSNR, SSIM and LPIPS follow 3DGS; "to edits" is the protocol of Instruct-4DGS (Kwon et al., CVPR 2025): the render of
each edited view against the edited image. CLIP similarity also follows Instruct-4DGS, CLIP direction InstructPix2Pix
(Brooks et al., CVPR 2023); CLIP consistency is given in both definitions that papers use. Every metric names its network.
Heads are also measured in novel views and reenactment (engine/train/edit_settings.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import flag, number, text, validate
from ..figures.color_maps import padded, spread
from ..heads import Head
from ..losses.means import Number, as_json, as_lines
from ..losses.perceptual import load_clip, load_lpips
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render import choose, rasterizer_field
from ..scene import MultiViewVideo, Scene4D, Selection
from ..scene.view_set import ViewSet
from ..train.edit_measures import EditMeasures, MeasureSettings, Networks, invariants, missing_networks
from ..train.edit_settings import SettingInputs
from ..train.originals import check_original
from ..train.setting_table import SettingsWork, SettingTable
from .step import Comparison, Figure, Input, Kind, Step, report_outputs

__all__ = ["STEP", "Config", "EditEvaluation", "Number", "run"]


@dataclass(frozen=True)
class Config:
    every: int = number(1, 1, 1000, "Compares every n-th frame. More is faster and less accurate.")
    prompt: str = text(
        "",
        "Prompt of the edit, for CLIP similarity. Empty takes it from the edited views or the scene's history.",
        multiline=True,
    )
    source_caption: str = text(
        "", "What the unedited scene shows, such as 'a photo of a man', for CLIP direction."
    )
    target_caption: str = text("", "What the edited scene should show, such as 'a bronze statue of a man'.")
    wants_temporal: bool = flag(
        True,
        "Also measures temporal consistency (flow-warped error), at three renders per image instead of one.",
        label="measure temporal consistency",
        advanced=True,
    )
    pictures: int = number(
        4,
        0,
        64,
        "Number of comparison rows (original, edited, target, difference) to show.",
        label="comparison rows",
    )
    rasterizer: str = rasterizer_field()
    relative: bool = flag(
        True,
        "Transfers the driver's change since its most neutral frame, as Drive Head does. Off uses the driver's values as "
        "they are, as GaussianAvatars does.",
        label="relative to neutral",
        since="0.2",
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class EditEvaluation:
    numbers: tuple[Number, ...]
    missing: tuple[str, ...]  # sentences: what was skipped, and what it needs
    pictures: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 1, 3))  # [K, H, W', 3]
    titles: tuple[str, ...] = ()  # K: view and time of each image
    settings: SettingTable = field(default_factory=SettingTable)  # empty unless an input for it is given

    def __getitem__(self, name: str) -> float:
        """The value of that name; KeyError where it was not measured."""
        return {n.name: n.value for n in self.numbers}[name]

    @property
    def summary(self) -> dict[str, Any]:
        """Plain JSON: each number with its model, how many images, how many undefined; and what is missing."""
        table = {"settings": self.settings.to_json()} if len(self.settings) else {}
        return {"numbers": as_json(self.numbers), **table, "missing": list(self.missing)}

    @property
    def comparison(self) -> Comparison:
        """The rows that are shown, with their captions."""
        columns = ("original", "edited", "target", "difference")
        return Comparison(self.pictures, list(self.titles), columns, "the edited scene")

    def to_json(self) -> dict[str, Any]:
        """`summary`."""
        return self.summary

    def text(self) -> str:
        """A table as text."""
        table = ["", self.settings.text(), ""] if len(self.settings) else []
        return "\n".join([*as_lines(self.numbers), *table, *self.missing])


@torch.no_grad()
def run(
    scene: Scene4D,
    original: Scene4D | None = None,
    views: ViewSet | None = None,
    truth: MultiViewVideo | None = None,
    config: Config = Config(),
    device: torch.device | str = "cpu",
    clip: Path | None = None,
    lpips_weights: Path | None = None,
    head: Head | None = None,
    capture: MultiViewVideo | None = None,
    driver: Head | None = None,
    region: Selection | None = None,
) -> Stream:
    """Measure an edited scene; each optional input adds its metrics.

    Args:
        scene: The edited scene.
        original: The scene before the edit.
        views: The edited views that the scene was fitted to.
        truth: Video of how the edited scene should look, from this scene's cameras at its times.
        config: Prompts, captions, and which frames are measured.
        device: Device to render on.
        clip: Folder of a CLIP model.
        lpips_weights: File with torchvision's VGG16 or AlexNet weights.
        head: The head model that the scene was trained with; its motion is not used. It and the three below add a table
            with one row per setting.
        capture: The capture that the scene was trained on: its held-out cameras are the novel view, its held-out frames
            self-reenactment.
        driver: Another person's motion, for the same head model.
        region: Gaussians that the edit was limited to.

    Yields:
        Started, Progress, Preview, and Finished with an `EditEvaluation`.

    Raises:
        InputError: `truth`, `capture`, `original`, `head` or `region` does not belong to this scene, the driver's
            parameters are another model's, or the files of a network cannot be used.
    """
    if truth is not None:
        _check_truth(scene, truth)
    if original is not None:
        check_original(scene, original)
    if capture is not None:
        _check_truth(scene, capture)
    networks = Networks(
        load_clip(clip, device) if clip is not None else None,
        load_lpips(lpips_weights, device) if lpips_weights is not None else None,
    )
    rasterizer, prompt = choose(config.rasterizer, device), _prompt(scene, views, config)
    wanted = MeasureSettings(
        config.wants_temporal, config.source_caption.strip(), config.target_caption.strip()
    )
    inputs = SettingInputs(head, capture, driver, region, config.relative)
    table = SettingsWork(scene, original, inputs, config.every, wanted, prompt, device, rasterizer, networks)
    moments = list(range(0, len(scene.times), config.every))
    total = len(scene.rig) * len(moments) + (len(views) if views is not None else 0)
    yield Started(
        total + len(table), f"measuring {total + len(table)} images with the {rasterizer.name} rasterizer"
    )
    measuring = EditMeasures(scene, original, truth, wanted, device, rasterizer, networks)
    shown = set(spread(total, config.pictures))
    pictures, titles = list[Tensor](), list[str]()
    rows = chain(_rows(measuring, views, moments, prompt), table.rows())
    for done, (row, title) in enumerate(rows, 1):
        if done - 1 in shown or (done > total and title and config.pictures):
            pictures.append(row.cpu())
            titles.append(title)
            yield Preview(pictures[-1], done)
        yield Progress(done)
    numbers = (*measuring.means.numbers(), *invariants(scene, original))
    missing = (*missing_networks(networks, original, prompt, wanted), *table.missing)
    yield Finished(EditEvaluation(numbers, missing, padded(pictures), tuple(titles), table.table))


def _rows(
    measuring: EditMeasures, views: ViewSet | None, moments: list[int], prompt: str
) -> Iterator[tuple[Tensor, str]]:
    """Measure image by image: the comparison row of each, and its title."""
    scene = measuring.scene
    for view in range(len(scene.rig)):
        measuring.start_view()
        for i, moment in enumerate(moments):
            row = measuring.moment(view, moment, moments[i + 1] if i + 1 < len(moments) else None)
            yield row, f"{scene.rig.names[view]} · {float(scene.times[moment]):.2f} s"
        measuring.finish_view(prompt)
    for f in range(0 if views is None else len(views)):
        assert views is not None
        yield measuring.edited_view(views, f), f"{views.caption(f)} · against its edited image"


def _check_truth(scene: Scene4D, truth: MultiViewVideo) -> None:
    if truth.views != len(scene.rig) or truth.moments != len(scene.times):
        raise InputError(
            "STP-008",
            f"{truth.name} has {truth.views} views and {truth.moments} frames, the scene {len(scene.rig)} and "
            f"{len(scene.times)}. Connect a video from the same cameras at the same times.",
        )
    apart = (truth.times.double() - scene.times.double()).abs().max()
    if float(apart) > 1e-3 * max(scene.duration, 1e-6):
        raise InputError(
            "STP-009",
            f"{truth.name} was recorded at other times than the scene (up to {float(apart):.3f} s apart). "
            "Load it with the same frame rate and first frame.",
        )


def _prompt(scene: Scene4D, views: ViewSet | None, config: Config) -> str:
    if config.prompt.strip():
        return config.prompt
    if views is not None and views.edit and views.edit.get("prompt"):
        return str(views.edit["prompt"])
    return next((str(entry["prompt"]) for entry in reversed(scene.history) if entry.get("prompt")), "")


STEP = Step(
    name="evaluate_edit",
    node="EvaluateEdit",
    label="Evaluate Edit",
    category="4dgs/measure",
    description="Measures an edited scene: against the views it was fitted to, against the true edit if there is one, its "
    "temporal consistency, and heads in novel views and reenactment.",
    search=(
        "psnr",
        "ssim",
        "lpips",
        "clip similarity",
        "clip direction",
        "metrics",
        "edit3dgs",
        "reenactment",
    ),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The edited scene."),
        Input(
            "clip",
            Kind.PATH,
            "Path of a CLIP model (a transformers folder) in input, output or models/gs4d, for CLIP similarity and "
            "direction. Empty skips them.",
            "CLIP folder",
            id="clip_folder",
        ),
        Input(
            "lpips_weights",
            Kind.PATH,
            "Path of torchvision's VGG16 or AlexNet weights in input, output or models/gs4d, for LPIPS. Empty skips it.",
            "LPIPS weights",
            flag="lpips",
        ),
        Input("original", Kind.SCENE, "The scene before the edit.", optional=True),
        Input("views", Kind.VIEWS, "The edited views that the scene was fitted to.", optional=True),
        Input(
            "truth",
            Kind.CAPTURE,
            "A video of how the edited scene should look, from the same cameras.",
            optional=True,
        ),
        Input(
            "head",
            Kind.HEAD,
            "The head model that the scene was trained with: adds eyes and mouth, and lets the driver move the scene.",
            optional=True,
            since="0.2",
        ),
        Input(
            "capture",
            Kind.CAPTURE,
            "The capture that the scene was trained on: held-out cameras are the novel view, held-out frames "
            "self-reenactment.",
            flag="capture",
            optional=True,
            since="0.2",
        ),
        Input(
            "driver",
            Kind.HEAD,
            "Another person's motion, from Load Head, for cross-identity reenactment.",
            flag="driver",
            optional=True,
            since="0.2",
        ),
        Input(
            "region",
            Kind.SELECTION,
            "The Gaussians that the edit was limited to, from Head Region Mask or Lift Mask: adds the change inside and "
            "outside.",
            optional=True,
            since="0.2",
        ),
    ),
    outputs=report_outputs("Original, edited, target and difference, side by side."),
    verb="evaluate-edit",
    figure=Figure.COMPARISON,
    note=EditEvaluation.text,
    is_output=True,
    lowers=("the capture's scale", "pictures"),
)
