"""Training curves from a step's messages, in as few points as an image can show."""

from __future__ import annotations

import math

from PIL import Image
from torch import Tensor

from ..messages import Message, Preview, Progress, Started
from .charts import Curve, beneath, curves_picture
from .drawing import as_picture

# points of a curve
MOST_POINTS = 400
# quantities that are drawn, in this order; others (a step's noise level, a part of the loss) would distract
SHOWN = {
    "loss": ("loss", ""),
    "latent_error": ("latent error", ""),
    "refined_error": ("refined error", ""),
    "score": ("score", ""),
    "kept": ("kept outside the mask", ""),
    "psnr": ("PSNR", "dB"),
}
GAUSSIANS = "Gaussians"
# width, height of the curves below an image: small enough to be shown unscaled in a narrow panel, so that letters stay legible
STRIP = (420, 80)
FINISHED_STRIP = (420, 112)
# size of curves without an image
CHART_WIDTH, PANEL_HEIGHT = 512, 128


class TrainingCurves:
    """Collects curves from a step's messages. Each point is the mean of several steps, of more and more as needed.

    The number of Gaussians is drawn if it changes; with `counts`, always.
    """

    def __init__(self, counts: bool = False) -> None:
        self.counts = counts
        self.total = 1
        # the latest preview
        self.image: Tensor | None = None
        # (step, value): means of complete groups of steps
        self._points: dict[str, list[tuple[float, float]]] = {}
        # values of the group that is not complete yet
        self._open: dict[str, list[tuple[float, float]]] = {}
        self._stretch: dict[str, int] = {}

    def hear(self, message: Message) -> None:
        if isinstance(message, Started):
            self.total = max(message.total, 1)
        elif isinstance(message, Preview):
            self.image = message.image
        elif isinstance(message, Progress):
            for name, value in message.losses.items():
                if name in SHOWN and math.isfinite(value):
                    self._add(name, message.done, value)
            if message.count and message.losses:
                self._add(GAUSSIANS, message.done, message.count)

    def _add(self, name: str, step: float, value: float) -> None:
        pending = self._open.setdefault(name, [])
        pending.append((step, value))
        if len(pending) < self._stretch.setdefault(name, 1):
            return
        points = self._points.setdefault(name, [])
        points.append(_mean(pending))
        pending.clear()
        if len(points) >= 2 * MOST_POINTS:
            self._points[name] = [_mean(points[i : i + 2]) for i in range(0, len(points), 2)]
            self._stretch[name] *= 2

    def curves(self) -> list[Curve]:
        """The curves in the order of SHOWN, the number of Gaussians last."""
        made: list[Curve] = []
        for name, (title, unit) in SHOWN.items():
            points = self._all(name)
            if points:
                made.append(Curve(title, tuple(s for s, _ in points), tuple(v for _, v in points), unit))
        counts = self._all(GAUSSIANS)
        if counts and (self.counts or len({value for _, value in counts}) > 1 or not made):
            made.append(Curve(GAUSSIANS, tuple(s for s, _ in counts), tuple(v for _, v in counts)))
        return made

    def _all(self, name: str) -> list[tuple[float, float]]:
        pending = self._open.get(name)
        return self._points.get(name, []) + ([_mean(pending)] if pending else [])

    def live(self, image: Tensor) -> Image.Image:
        """A preview image [H, W, 3] with the curves so far below it."""
        curves = self.curves()
        picture = as_picture(image)
        if not curves:
            return picture
        return beneath(picture, curves_picture(curves, STRIP, len(curves), total=self.total))

    def finished(self, title: str = "") -> Image.Image | None:
        """All curves below the latest preview, or only the curves if there was none; None without measurements."""
        curves = self.curves()
        if not curves:
            return None
        if self.image is not None:
            return beneath(as_picture(self.image), curves_picture(curves, FINISHED_STRIP, len(curves)))
        height = PANEL_HEIGHT * len(curves) + (30 if title else 0)
        return curves_picture(curves, (CHART_WIDTH, height), title=title)


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(s for s, _ in points) / len(points), sum(v for _, v in points) / len(points)
