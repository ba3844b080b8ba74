"""Measure an edited scene against ground truth, its edited views and its prompt, and its consistency over time.

PSNR, SSIM and LPIPS follow 3DGS; "to edits" is the protocol of Instruct-4DGS (Kwon et al., CVPR 2025): the render of
each edited view against the edited image. CLIP similarity also follows Instruct-4DGS, CLIP direction InstructPix2Pix
(Brooks et al., CVPR 2023); CLIP consistency is given in both definitions that papers use. Every metric names its network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import flag, number, text, validate
from ..figures.color_maps import padded, spread
from ..losses.means import Number
from ..losses.perceptual import load_clip, load_lpips
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render import choose, rasterizer_field
from ..scene import MultiViewVideo, Scene4D
from ..scene.view_set import ViewSet
from ..train.edit_measures import EditMeasures, MeasureSettings, Networks
from .step import Comparison, Figure, Input, Kind, Output, Step

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

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class EditEvaluation:
    numbers: tuple[Number, ...]
    missing: tuple[str, ...]  # sentences: what was skipped, and what it needs
    pictures: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 1, 3))  # [K, H, W', 3]
    titles: tuple[str, ...] = ()  # K: view and time of each image

    def __getitem__(self, name: str) -> float:
        """The value of that name; KeyError where it was not measured."""
        return {n.name: n.value for n in self.numbers}[name]

    @property
    def summary(self) -> dict[str, Any]:
        """Plain JSON: each number with its model, how many images, how many undefined; and what is missing."""
        rows = {
            n.name: {"value": n.value, "pictures": n.pictures, "model": n.model or None, "skipped": n.skipped}
            for n in self.numbers
        }
        return {"numbers": rows, "missing": list(self.missing)}

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
        width = max((len(n.name) for n in self.numbers), default=0)
        lines = []
        for n in self.numbers:
            notes = [n.model] if n.model else []
            notes += [f"{n.pictures} compared"] + ([f"{n.skipped} undefined"] if n.skipped else [])
            lines.append(f"{n.name:{width}}  {n.value:10.4f}  ({', '.join(notes)})")
        return "\n".join([*lines, *self.missing])


def run(
    scene: Scene4D,
    original: Scene4D | None = None,
    views: ViewSet | None = None,
    truth: MultiViewVideo | None = None,
    config: Config = Config(),
    device: torch.device | str = "cpu",
    clip: Path | None = None,
    lpips_weights: Path | None = None,
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

    Yields:
        Started, Progress, Preview, and Finished with an `EditEvaluation`.

    Raises:
        InputError: `truth` or `original` does not belong to this scene, or the files of a network cannot be used.
    """
    if truth is not None:
        _check_truth(scene, truth)
    if original is not None:
        _check_original(scene, original)
    networks = Networks(
        load_clip(clip, device) if clip is not None else None,
        load_lpips(lpips_weights, device) if lpips_weights is not None else None,
    )
    rasterizer = choose(config.rasterizer, device)
    moments = list(range(0, len(scene.times), config.every))
    total = len(scene.rig) * len(moments) + (len(views) if views is not None else 0)
    yield Started(total, f"measuring {total} images with the {rasterizer.name} rasterizer")
    settings = MeasureSettings(
        config.every, config.wants_temporal, config.source_caption, config.target_caption
    )
    measuring = EditMeasures(scene, original, truth, settings, device, rasterizer, networks)
    shown = set(spread(total, config.pictures))
    done, pictures, titles = 0, list[Tensor](), list[str]()
    with torch.no_grad():
        for view in range(len(scene.rig)):
            measuring.start_view()
            for i, moment in enumerate(moments):
                row = measuring.moment(view, moment, moments[i + 1] if i + 1 < len(moments) else None)
                if done in shown:
                    pictures.append(row.cpu())
                    titles.append(f"{scene.rig.names[view]} · {float(scene.times[moment]):.2f} s")
                    yield Preview(pictures[-1], done + 1)
                done += 1
                yield Progress(done)
            measuring.finish_view(_prompt(scene, views, config))
        for f in range(0 if views is None else len(views)):
            assert views is not None
            row = measuring.edited_view(views, f)
            if done in shown:
                pictures.append(row.cpu())
                titles.append(f"{views.caption(f)} · against its edited image")
                yield Preview(pictures[-1], done + 1)
            done += 1
            yield Progress(done)
    numbers = (*measuring.means.numbers(), *_invariants(scene, original))
    missing = _missing(networks, original, _prompt(scene, views, config), config)
    yield Finished(EditEvaluation(numbers, missing, padded(pictures), tuple(titles)))


def _check_original(scene: Scene4D, original: Scene4D) -> None:
    if len(original.rig) != len(scene.rig) or len(original.times) != len(scene.times):
        raise InputError(
            "STP-007",
            f"The original scene has {len(original.rig)} views and {len(original.times)} frames, the edited scene "
            f"{len(scene.rig)} and {len(scene.times)}. Connect the scene that this one was edited from.",
        )


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
    if config.prompt:
        return config.prompt
    if views is not None and views.edit and views.edit.get("prompt"):
        return str(views.edit["prompt"])
    return next((str(entry["prompt"]) for entry in reversed(scene.history) if entry.get("prompt")), "")


def _invariants(scene: Scene4D, original: Scene4D | None) -> tuple[Number, ...]:
    """Exact checks: 1 where the deformation equals the original's bit for bit, and the change of the Gaussian count."""
    if original is None:
        return ()
    a, b = scene.deformation.tensors(), original.deformation.tensors()
    same = a.keys() == b.keys() and all(torch.equal(a[name].cpu(), b[name].cpu()) for name in a)
    return (
        Number("deformation_equal", float(same), 1),
        Number("gaussian_count_delta", float(len(scene.canonical) - len(original.canonical)), 1),
    )


def _missing(networks: Networks, original: Scene4D | None, prompt: str, config: Config) -> tuple[str, ...]:
    """A sentence for each metric that was skipped."""
    missing: list[str] = []
    if networks.lpips is None:
        missing.append("LPIPS was skipped; it needs torchvision's VGG16 or AlexNet weights.")
    if networks.clip is None:
        missing.append("CLIP metrics were skipped; they need the folder of a CLIP model.")
        return tuple(missing)
    if not prompt:
        missing.append("CLIP similarity was skipped; enter the prompt of the edit.")
    if original is None:
        missing.append("CLIP direction was skipped; it needs the scene before the edit.")
    elif not (config.source_caption and config.target_caption):
        missing.append(
            "CLIP direction was skipped; it needs captions of the scene before and after the edit."
        )
    return tuple(missing)


STEP = Step(
    name="evaluate_edit",
    node="EvaluateEdit",
    label="Evaluate Edit",
    category="4dgs/measure",
    description="Measures an edited scene: against the views it was fitted to, against the true edit if there is one, and "
    "its temporal consistency.",
    search=("psnr", "ssim", "lpips", "clip similarity", "clip direction", "metrics"),
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
    ),
    outputs=(
        Output(
            "comparison",
            Kind.IMAGES,
            "Original, edited, target and difference, side by side.",
            "images",
            of=lambda e: e.pictures,
        ),
        Output("report", Kind.REPORT, "The metrics as text, for Preview as Text."),
        Output(
            "json",
            Kind.TEXT,
            "The same metrics for other programs.",
            "JSON",
            of=lambda e: json.dumps(e.summary, indent=2),
        ),
    ),
    verb="evaluate-edit",
    figure=Figure.COMPARISON,
    note=EditEvaluation.text,
    is_output=True,
)
