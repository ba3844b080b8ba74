"""One image at another size: how far its edges are off where it is stretched, and how a view is shown without stretch.

Positions are corner-origin pixels. A center crop to another aspect ratio, which is what image editors do, moves every
pixel by the same distance; `edge_shift` is that distance.
"""

from __future__ import annotations

from dataclasses import dataclass

Size = tuple[int, int]  # (width, height) in pixels
# pixels of the view: what rounding of sizes can cause
MOST_SHIFT = 0.5


def edge_shift(given: Size, size: Size) -> float:
    """How far the edges of an image of `size` are off, in its own pixels, where an image of `given` is taken for it.

    Args:
        given: Size of the image that came back.
        size: Size of the image that it stands for.

    Returns:
        Half of what a center crop to the given aspect ratio removes; 0 where the aspect ratios are equal.
    """
    (w, h), (got_w, got_h) = size, given
    if got_w * h >= w * got_h:
        return (h - w * got_h / got_w) / 2
    return (w - h * got_w / got_h) / 2


def is_whole(given: Size, size: Size) -> bool:
    """Whether an image of `given` may be resized to `size`: its edges are off by at most half a pixel."""
    return min(given) > 0 and edge_shift(given, size) <= MOST_SHIFT


def fitting_sizes(given: Size, size: Size) -> list[Size]:
    """Sizes near `given` whose images may be resized to `size`, and `size` itself, largest first."""
    (w, h), (got_w, got_h) = size, given
    near = [size, (got_w, round(got_w * h / w)), (round(got_h * w / h), got_h)]
    return sorted({each for each in near if is_whole(each, size)}, reverse=True)


def listed(sizes: list[Size]) -> str:
    """ "1352×1014 or 676×507"."""
    return " or ".join(f"{w}×{h}" for w, h in sizes)


@dataclass(frozen=True)
class Framing:
    """A view at another size: its image is scaled, then cropped, or its field of view widened."""

    source: Size  # of the view
    scaled: Size  # of the whole view at the new scale
    size: Size  # that is wanted

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(left, top, width, height) of the result in the scaled view; negative where the field of view is wider."""
        (w, h), (width, height) = self.scaled, self.size
        return (w - width) // 2, (h - height) // 2, width, height

    def note(self) -> str:
        """What of the view is lost or added, in its own pixels."""
        words: list[str] = []
        for new, scaled, source, sides in zip(
            self.size, self.scaled, self.source, ("left and right", "top and bottom"), strict=True
        ):
            if new != scaled:
                pixels = abs(scaled - new) * source / scaled
                change = "cropped" if new < scaled else "added"
                words.append(f"{pixels:.1f} pixels ({pixels / source:.1%}) are {change}, {sides} together")
        scale = f"scaled from {self.source[0]}×{self.source[1]} to {self.scaled[0]}×{self.scaled[1]}"
        same = self.source == self.scaled
        return ", ".join([*([] if same else [scale]), *(words or ["nothing is cropped or added"])])


def framed(source: Size, size: Size, widens: bool) -> Framing:
    """How a view is shown at another size with the same scale in both directions (to within rounding).

    Args:
        source: Size of the view.
        size: Size that is wanted.
        widens: Show more than the view where the aspect ratios differ; else the middle of the view is shown.
    """
    (w, h), (width, height) = source, size
    scale = min(width / w, height / h) if widens else max(width / w, height / h)
    scaled = (max(round(w * scale), 1), max(round(h * scale), 1))
    return Framing(source, scaled, size)
