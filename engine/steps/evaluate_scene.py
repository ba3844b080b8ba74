"""Measure a 4D scene against the images of a capture: PSNR, SSIM and an error map, per view and per frame."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import choice, number, validate
from ..figures.color_maps import depth_picture, error_picture, padded, spread
from ..losses.metrics import decibels, psnr
from ..losses.photometric import ssim
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render import Rasterizer, choose, rasterizer_field, render_gaussians
from ..scene import MultiViewVideo, Scene4D
from ..scene.origins import in_coordinates_of
from ..train.feeding import FRAMES, Feed
from ..train.targets import Targets
from ..train.threads import on_one_thread
from ..train.verdict import IMAGES, gap_advice
from .step import Comparison, Figure, Input, Kind, Output, Step, report_outputs

__all__ = ["STEP", "Config", "Evaluation", "run"]


HELD_FRAMES = "held-out frames"
KEY = "held_out_frames"  # in the summary


@dataclass(frozen=True)
class Config:
    views: str = choice(
        "held out",
        ("held out", "trained", "all"),
        "Images to compare: held-out test views and held-out frames (all images if there are none), training images, or all.",
    )
    every: int = number(1, 1, 1000, "Compares every n-th frame. More is faster and less accurate.")
    offset: int = number(0, 0, 1000, "First frame to compare.", label="first frame", advanced=True)
    pictures: int = number(
        4,
        0,
        64,
        "Number of comparison rows (captured, render, depth, error) to show.",
        label="comparison rows",
    )
    rasterizer: str = rasterizer_field()

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Row:
    view: str
    moment: int
    seconds: float
    psnr: float  # dB, over the whole image
    ssim: float
    psnr_subject: float | None  # dB, inside the mask; None without masks
    is_held_out_frame: bool = False  # held out in every view

    @property
    def caption(self) -> str:
        """For people."""
        held = " · held-out frame" if self.is_held_out_frame else ""
        return f"{self.view} · {self.seconds:.2f} s{held} · {self.psnr:.1f} dB"


@dataclass(frozen=True, eq=False)
class Evaluation:
    rows: tuple[Row, ...]
    # means over images: psnr, ssim, psnr_subject, and the counts pictures and views; held-out frames are not among them
    # but under "held_out_frames", unless nothing else was compared; "note" says where nothing was held out; "trained" has the
    # means over a few images of trained views, where held-out views were compared
    summary: dict[str, Any]
    # [K, H, 4W, 3]: captured, render, depth, error
    pictures: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 1, 3))
    # K: the rows that the images belong to
    shown: tuple[Row, ...] = ()

    @property
    def comparison(self) -> Comparison:
        """The rows that are shown, with their captions."""
        captions = [row.caption for row in self.shown]
        columns = ("captured", "render", "depth", "error")
        return Comparison(self.pictures, captions, columns, self.text().splitlines()[0])

    def to_json(self) -> dict[str, Any]:
        """The means, as plain JSON."""
        return self.summary

    def text(self) -> str:
        """A few lines of text."""
        s = self.summary
        held = _lines(s[KEY], f"views, {HELD_FRAMES}") if s[KEY] is not None else []
        lines = held if s["which"] == HELD_FRAMES else [*_lines(s, f"{s['which']} views"), *held]
        by_view: dict[str, list[float]] = {}
        for row in self.rows:
            name = f"{row.view}, {HELD_FRAMES}" if row.is_held_out_frame else row.view
            by_view.setdefault(name, []).append(row.psnr)
        if s["trained"] is not None:
            lines += _gap(s["trained"], s)
        if s["note"]:
            lines.append(s["note"])
        lines += [f"  {view}: {sum(values) / len(values):.2f} dB" for view, values in by_view.items()]
        return "\n".join(lines)


def _lines(figures: dict[str, Any], what: str) -> list[str]:
    """The figures of a group of images as text."""
    f = figures
    lines = [
        f"{f['pictures']} images of {len(f['views'])} {what}: PSNR {f['psnr']:.2f} dB, SSIM {f['ssim']:.4f}"
    ]
    if f["psnr_subject"] is not None:
        lines.append(f"inside the masks: PSNR {f['psnr_subject']:.2f} dB")
    return lines


def _gap(trained: dict[str, Any], held_out: dict[str, Any]) -> list[str]:
    """How much better trained views are, and what it means if it is much."""
    gap = trained["psnr"] - held_out["psnr"]
    line = f"trained views: PSNR {trained['psnr']:.2f} dB ({trained['pictures']} images), {gap:+.2f} dB"
    return [line, *gap_advice(gap)]


def _samples(video: MultiViewVideo, views: str) -> list[tuple[int, int]]:
    """The (view, frame) pairs of a choice of views."""
    tests, held = set(video.test_views), set(video.test_moments)
    every = video.samples(tuple(range(video.views)))
    if views == "held out" and (tests or held):
        return [(v, m) for v, m in every if v in tests or m in held]
    if views == "trained":
        return [(v, m) for v, m in video.samples(video.views_to_train()) if m not in held]
    return every


@on_one_thread
def run(
    scene: Scene4D, video: MultiViewVideo, config: Config = Config(), device: torch.device | str = "cpu"
) -> Stream:
    """Compare a scene with the images of a capture.

    Args:
        scene: The trained scene.
        video: The capture to compare with.
        config: Which views and frames are compared.
        device: Device to render on.

    Yields:
        Started, Progress, Preview, and Finished with an `Evaluation`. Frames that the capture holds out in every view are
        measured too, and have figures of their own; so do a few images of trained views, where held-out views are compared.

    Raises:
        InputError: No image is left to compare.

    Example:
        psnr = messages.result(evaluate_scene.run(scene, video)).summary["psnr"]
    """
    samples = [
        (v, m)
        for v, m in _samples(video, config.views)
        if m >= config.offset and (m - config.offset) % config.every == 0
    ]
    if not samples:
        raise InputError(
            "STP-010", f"No image of {video.name} is left to compare; lower 'every' or 'offset'."
        )
    note = ""
    if config.views == "held out" and not video.test_views and not video.test_moments:
        note = (
            f"{video.name} holds no view and no frame out: these images were trained on, so the figures say nothing of new "
            "views. Hold a view out in the capture (hold_out) and train again."
        )
    measuring = _Measuring(scene, video, choose(config.rasterizer, device), torch.device(device))
    seen = _trained(video, config, samples)
    pairs = [*samples, *seen]
    yield Started(
        len(pairs), f"comparing {len(pairs)} images with the {measuring.rasterizer.name} rasterizer"
    )
    shown = set(spread(len(samples), config.pictures))
    rows: list[Row] = []
    pictures: list[Tensor] = []
    with closing(measuring.feed):
        for i, (view, moment) in enumerate(pairs):
            measuring.feed.expect(pairs[i : i + FRAMES])
            row, picture = measuring.compare(view, moment, i in shown)
            rows.append(row)
            yield Progress(i + 1, {"psnr": row.psnr})
            if picture is not None:
                pictures.append(picture)
                yield Preview(picture, i + 1)
    rows, trained = rows[: len(samples)], rows[len(samples) :]
    which = config.views if video.test_views or config.views == "trained" else "all"
    yield Finished(
        Evaluation(
            tuple(rows),
            _summary(rows, which) | {"note": note, "trained": _means(trained) if trained else None},
            padded(pictures),
            tuple(rows[i] for i in sorted(shown)),
        )
    )


def _trained(video: MultiViewVideo, config: Config, samples: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """A few images of trained views at the frames of `samples`, to compare held-out views with; none without such views."""
    if config.views != "held out" or not video.test_views:
        return []
    moments = {moment for _, moment in samples}
    trained = [(v, m) for v, m in _samples(video, "trained") if m in moments]
    return [trained[i] for i in spread(len(trained), IMAGES)]


class _Measuring:
    """Compares images of a scene with a capture's, one by one."""

    def __init__(
        self, scene: Scene4D, video: MultiViewVideo, rasterizer: Rasterizer, device: torch.device
    ) -> None:
        self.scene, self.video, self.rasterizer = scene.to(device), video, rasterizer
        self.background = scene.background.to(device)
        # images are compared in the order of their files, so one pass over them is as good as preparing them
        self.feed = Feed(video, device)
        self.targets = Targets(self.feed.video or video, self.background)
        self.cameras = in_coordinates_of(scene, video.cameras)

    @torch.no_grad()
    def compare(self, view: int, moment: int, with_picture: bool) -> tuple[Row, Tensor | None]:
        """The figures of an image, and its comparison (see `comparison`) on the CPU if it is wanted."""
        seconds = float(self.video.times[moment])
        drawn = render_gaussians(
            self.scene.at(seconds), self.cameras[view], self.rasterizer, self.background, want_depth=True
        )
        target = self.targets.get(view, moment)
        ours = drawn.rgb[0].clamp(0, 1)
        a, b = ours.permute(2, 0, 1)[None], target.image.permute(2, 0, 1)[None]
        inside = None
        if target.mask is not None and bool((target.mask > 0.5).any()):
            inside = decibels(float((ours - target.image)[target.mask > 0.5].square().mean()))
        row = Row(
            self.video.cameras.names[view],
            moment,
            seconds,
            float(psnr(a, b).mean()),
            float(ssim(a, b).mean()),
            inside,
            moment in self.video.test_moments,
        )
        if not with_picture:
            return row, None
        depth = drawn.depth[0] if drawn.depth is not None else torch.zeros_like(drawn.alpha[0])
        return row, comparison(target.image, ours, depth, drawn.alpha[0]).cpu()


def comparison(truth: Tensor, ours: Tensor, depth: Tensor, alpha: Tensor) -> Tensor:
    """[H, 4W, 3]: input, render, depth, and the error (black = none, white = a fifth of full scale or more)."""
    return torch.cat([truth, ours, depth_picture(depth, alpha), error_picture(ours, truth)], dim=1)


def _summary(rows: list[Row], which: str) -> dict[str, Any]:
    held = [row for row in rows if row.is_held_out_frame]
    others = [row for row in rows if not row.is_held_out_frame]
    return {
        **_means(others or held),
        "which": which if others else HELD_FRAMES,
        KEY: _means(held) if held else None,
    }


def _means(rows: list[Row]) -> dict[str, Any]:
    inside = [row.psnr_subject for row in rows if row.psnr_subject is not None]
    return {
        "psnr": sum(row.psnr for row in rows) / len(rows),
        "ssim": sum(row.ssim for row in rows) / len(rows),
        "psnr_subject": sum(inside) / len(inside) if inside else None,
        "pictures": len(rows),
        "views": sorted({row.view for row in rows}),
    }


STEP = Step(
    name="evaluate_scene",
    node="EvaluateScene",
    label="Evaluate Scene",
    category="4dgs/measure",
    description="Compares a scene with the images of a capture: PSNR, SSIM, and rows of captured image, render, depth and "
    "error.",
    search=("psnr", "ssim", "metrics"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The trained scene."),
        Input("video", Kind.CAPTURE, "The capture to compare with."),
    ),
    outputs=(
        *report_outputs("Captured image, render, depth and error, side by side.")[:2],
        Output(
            "psnr",
            Kind.NUMBER,
            "Mean over the compared images in dB, without held-out frames; higher is better.",
            "PSNR",
            of=lambda e: e.summary["psnr"],
        ),
        Output(
            "ssim",
            Kind.NUMBER,
            "Mean over the compared images, without held-out frames; 1 is identical.",
            "SSIM",
            of=lambda e: e.summary["ssim"],
        ),
    ),
    verb="evaluate",
    figure=Figure.COMPARISON,
    note=Evaluation.text,
    is_output=True,
    lowers=("the capture's scale", "pictures"),
)
