"""What can be wrong with a clip before it is lifted: cuts, and letterbox bars."""

from __future__ import annotations

from torch import Tensor

from ...errors import InputError
from ...tracking.tracks import ClipFlow

# of a letterbox bar: brightest value, and the largest share of a side that bars may take
DARK, MOST_BARS = 0.06, 0.45
# share of pixels whose flow agrees both ways, below which two frames are not of one shot
ONE_SHOT = 0.3


def picture_box(images: Tensor) -> tuple[int, int, int, int]:
    """The part (left, top, width, height) of frames [T, H, W, 3] that is not letterbox bars, which are dark in all frames."""
    brightest = images.amax((0, 3))
    top, bottom = _bars(brightest.amax(1))
    left, right = _bars(brightest.amax(0))
    height, width = brightest.shape
    return left, top, width - left - right, height - top - bottom


def _bars(line: Tensor) -> tuple[int, int]:
    """Dark entries at the start and the end of `line`; none where hardly anything is bright."""
    bright = (line > DARK).nonzero().flatten()
    if not len(bright):
        return 0, 0
    first, last = int(bright[0]), len(line) - 1 - int(bright[-1])
    return (first, last) if first + last < MOST_BARS * len(line) else (0, 0)


def check_cuts(flow: ClipFlow, first: int, step: int) -> None:
    """Raises InputError where two neighboring frames are not of one shot; frames are named by their number in the video."""
    share = flow.forward_agrees.float().mean((1, 2))
    typical = float(share.median())
    for t, value in enumerate(share.tolist()):
        if value < min(ONE_SHOT, 0.5 * typical):
            number = first + (t + 1) * step
            raise InputError(
                "GEN-035",
                f"There is a cut before frame {number}: only {value:.0%} of the pixels continue. Use the frames before it "
                f"('frame count' {t + 1}) or after it ('first frame' {number}).",
            )
