"""Prepare a video for image-to-4D models: its frames are chosen, cut out, cropped to one square and put on a plain background.

As GVFDiffusion (Zhang et al., ICCV 2025) prepares its videos. What differs: the square is around the subject of all frames
unless the first one's is chosen, so that nothing leaves it, and without a mask there is one of a plain background or a person.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import choice, number, validate
from ..figures.color_maps import marked, spread
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..finite import is_finite
from ..masks.foreground import MARGIN, THRESHOLD, Square, foreground, square_around, square_crops
from ..masks.person import UNITS
from ..masks.subjects import INSIDE
from ..masks.video_matte import MATTES, one_subject, video_matte
from ..messages import Finished, Preview, Progress, Started, Stream
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "gray": (0.5, 0.5, 0.5)}
# frames of a result: more take hours and gigabytes in the steps after this one, fewer show little motion
MOST_FRAMES, FEW_FRAMES = 500, 16
# frames that are cropped at once, shown in the preview, and listed in a note
BATCH, MOST_SHOWN, MOST_LISTED = 16, 8, 12


class Prepared(NamedTuple):
    """Square frames of the subject."""

    images: Tensor  # [F, S, S, 3] in 0..1, over the background
    masks: Tensor  # [F, S, S] in 0..1
    fps: float
    note: str


@dataclass(frozen=True)
class Config:
    matte: str = choice(
        "auto",
        MATTES,
        "What tells the subject from the background. auto uses the mask if one is connected, else the images' alpha, else a "
        "plain background's color, else the bundled network for people.",
    )
    first_frame: int = number(0, 0, 1_000_000, "First frame to use.", step=1)
    frame_count: int = number(
        0,
        0,
        MOST_FRAMES,
        "Number of frames to use. 0 uses all to the end.",
        step=1,
        words={0: "all"},
    )
    frame_step: int = number(
        0,
        0,
        1000,
        "Uses every n-th frame. More makes motion coarser. 0 uses every frame, or of a long video as many as stay within "
        f"{MOST_FRAMES}.",
        step=1,
        words={0: "auto"},
    )
    frames_per_second: float = number(
        24.0,
        0.1,
        1000.0,
        "Frame rate of the video, such as that of Get Video Components. The result's is an output.",
    )
    size: int = number(
        512, 64, 1024, "Width and height of the result in pixels. GVFDiffusion uses 512.", step=2
    )
    margin: float = number(
        MARGIN,
        1.0,
        4.0,
        "Side of the square as a multiple of the subject's longer side. More leaves more space around it; typical 1.1 to 1.4.",
        0.05,
    )
    crop: str = choice(
        "all frames",
        ("all frames", "first frame"),
        "The square, the same for all frames: around the subject of all frames, so that it never leaves the image, or of the "
        "first frame, as GVFDiffusion does.",
    )
    background: str = choice("white", tuple(BACKGROUNDS), "Background color. The models here expect white.")
    subjects: str = choice(
        "largest",
        ("largest", "all"),
        "If there are several separate subjects: keep the largest and follow it, or keep all.",
    )

    def __post_init__(self) -> None:
        validate(self)


def run(images: Tensor, masks: Tensor | None = None, config: Config = Config()) -> Stream:
    """Prepare a video.

    Args:
        images: Frames [F, H, W, 3], or with alpha [F, H, W, 4], in 0..1.
        masks: 1 on the subject, [F, H, W] or [1, H, W]; None: see `Config.matte`.
        config: Frames, matte, crop and background.

    Yields:
        Started, Progress, a Preview of some frames with the mask's outline, and Finished with a `Prepared`.

    Raises:
        InputError: One frame or too many, NaN, a mask that does not fit, or no subject.

    Example:
        made = result(prepare_video.run(images, config=Config(matte="person")))
    """
    chosen, step = _chosen(len(images), config)
    if not is_finite(images[chosen]):
        raise InputError("STP-060", "The video contains NaN or infinite values; load or make it again.")
    if masks is not None and len(masks) not in (1, len(images)):
        raise InputError(
            "STP-061",
            f"There are {len(masks)} masks for {len(images)} frames. Make the mask from the same frames, or connect a single "
            "one.",
        )
    frames = images[chosen].detach().cpu().float().clamp(0, 1)
    count = len(frames)
    given = None if masks is None else (masks if len(masks) == 1 else masks[chosen]).detach().cpu()
    yield Started((UNITS + 1) * count, f"{count} frames of {frames.shape[2]}×{frames.shape[1]}")
    # closed at once where the run is canceled
    with closing(video_matte(frames, given, config.matte, config.subjects == "largest")) as work:
        alphas, colors, source = yield from work
    lines = [_about_frames(chosen, step, len(images)), f"matte: {source}"]
    shown = alphas.flatten(1).amax(1) > THRESHOLD
    foreground(alphas[int(shown.float().argmax())])
    if config.subjects == "largest":
        alphas, sentence = one_subject(alphas)
        lines.append(sentence)
    square, sentence = _square(alphas, chosen, config)
    lines.append(sentence)
    done = Prepared(
        torch.zeros(count, config.size, config.size, 3), torch.zeros(count, config.size, config.size), 0, ""
    )
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        done.images[part], done.masks[part] = square_crops(
            colors[part], alphas[part], square, config.size, background=BACKGROUNDS[config.background]
        )
        yield Progress(UNITS * count + min(start + BATCH, count))
    lines += _warnings(alphas, square, chosen)
    yield Preview(_preview(done, chosen), (UNITS + 1) * count)
    fps = config.frames_per_second / step
    yield Finished(done._replace(fps=fps, note="\n".join(filter(None, lines))))


def _chosen(available: int, config: Config) -> tuple[list[int], int]:
    """Numbers of the frames to use, and their step."""
    if available < 2:
        raise InputError(
            "STP-062",
            f"The video has {available} frame; motion needs at least 2. Connect all frames of a video.",
        )
    rest = available - config.first_frame
    if rest < 2:
        raise InputError(
            "STP-063",
            f"'first frame' is {config.first_frame}, but the video has {available:,} frames, numbered from 0; choose an "
            "earlier one.",
        )
    wanted = config.frame_count or MOST_FRAMES
    step = config.frame_step or (1 if config.frame_count else -(-rest // MOST_FRAMES))
    chosen = list(range(config.first_frame, available, step))
    if len(chosen) > MOST_FRAMES and not config.frame_count:
        raise InputError(
            "STP-064",
            f"The video has {len(chosen):,} frames at a step of {step}; {MOST_FRAMES} is the limit. Raise 'frame step', or set "
            "it to 0 to spread the frames over the whole video.",
        )
    chosen = chosen[:wanted]
    if len(chosen) < 2:
        raise InputError(
            "STP-065",
            f"A frame count of {config.frame_count} with a step of {step} leaves 1 frame; motion needs at least 2. Lower 'frame "
            "step' or raise 'frame count'.",
        )
    return chosen, step


def _square(alphas: Tensor, chosen: list[int], config: Config) -> tuple[Square, str]:
    """The square of all frames, and what it is."""
    if config.crop == "first frame":
        if not bool((alphas[0] > THRESHOLD).any()):
            raise InputError(
                "STP-066",
                f"Frame {chosen[0]} does not show the subject, but 'crop' is 'first frame'. Choose another 'first frame', or "
                "'all frames'.",
            )
        inside = alphas[0] > THRESHOLD
    else:
        inside = alphas.amax(0) > THRESHOLD
    square = square_around(inside, config.margin)
    scale = config.size / square.side
    sentence = f"crop: {square.side}×{square.side} pixels at {square.left}, {square.top} for all frames"
    return square, sentence + (f", enlarged {scale:.1f} times" if scale > 1.5 else "")


def _about_frames(chosen: list[int], step: int, available: int) -> str:
    steps = "" if step == 1 else f", every {step}{'nd' if step == 2 else 'rd' if step == 3 else 'th'}"
    line = f"{len(chosen)} of {available:,} frames: {chosen[0]} to {chosen[-1]}{steps}"
    return line + (f"; fewer than {FEW_FRAMES} show little motion" if len(chosen) < FEW_FRAMES else "")


def _warnings(alphas: Tensor, square: Square, chosen: list[int]) -> list[str]:
    """Frames without the subject, and those in which the image or the square cuts it off."""
    inside = alphas > INSIDE
    height, width = alphas.shape[1:]
    empty = ~inside.flatten(1).any(1)
    ends = [inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]]
    touching = torch.stack([end.any(1) for end in ends]).any(0)
    within = torch.zeros(height, width, dtype=torch.bool)
    left, top, side = square
    within[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = True
    leaving = (inside & ~within).flatten(1).any(1)
    found = [
        (empty, "the subject is not visible in"),
        (touching, "the image's border cuts the subject off in"),
        (leaving, "the subject leaves the crop in"),
    ]
    return [f"{words} {_listed(which, chosen)}" for which, words in found if bool(which.any())]


def _listed(which: Tensor, chosen: list[int]) -> str:
    numbers = [chosen[i] for i in which.nonzero().flatten().tolist()]
    if len(numbers) == len(chosen):
        return "all frames"
    listed = ", ".join(map(str, numbers[:MOST_LISTED])) + (", …" if len(numbers) > MOST_LISTED else "")
    return f"{len(numbers)} {'frame' if len(numbers) == 1 else 'frames'} ({listed})"


def _preview(made: Prepared, chosen: list[int]) -> Tensor:
    shown = spread(len(chosen), MOST_SHOWN)
    nothing = torch.zeros(made.masks.shape[1:])
    stacks = [[marked(made.images[i], nothing, made.masks[i])] for i in shown]
    columns = min(4, len(shown))
    return as_tensor(
        sheet(stacks, [f"frame {chosen[i]}" for i in shown], columns, "yellow: outline of the mask")
    )


STEP = Step(
    name="prepare_video",
    node="PrepareVideo",
    label="Prepare Video",
    category="4dgs/generate",
    description="Prepares a video for Variation Diffusion: cuts its subject out, crops all frames to one square and puts "
    "them on a plain background.",
    search=("matting", "remove background", "crop video", "gvfdiffusion", "person mask"),
    config=Config,
    run=run,
    inputs=(
        Input(
            "images",
            Kind.FRAMES,
            "The frames of a video with one subject, such as those of Get Video Components.",
        ),
        Input(
            "masks",
            Kind.MASKS,
            "1 on the subject, one per frame, such as that of Segment by Text or SAM 3. Without it, see matte.",
            id="mask",
            optional=True,
        ),
    ),
    outputs=(
        Output(
            "frames",
            Kind.FRAMES,
            "Square frames of the subject on the background, for Variation Diffusion and Align Splat to Video.",
            label="images",
            of=lambda made: made.images,
        ),
        Output(
            "masks",
            Kind.MASKS,
            "The subject's mask, one per frame.",
            label="mask",
            of=lambda made: made.masks,
        ),
        Output(
            "fps",
            Kind.NUMBER,
            "Frame rate of the result: lower if frames were left out.",
            label="frames per second",
            of=lambda made: made.fps,
        ),
    ),
    verb="prepare-video",
    has_device=False,
    figure=Figure.PREVIEW,
    note=lambda made: made.note,
    lowers=("size", "frame_count"),
)
