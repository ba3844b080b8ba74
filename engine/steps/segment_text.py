"""Masks of what a text names, in images of any scene or capture: Grounding DINO and SAM 2."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import torch
from PIL import ImageDraw
from torch import Tensor

from ..errors import InputError
from ..fields import choice, number, text, validate
from ..figures.color_maps import marked, spread
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_picture, as_tensor, write
from ..masks.edges import dilated, feathered
from ..masks.grounded import MODES, PICKS, Segmentation, Segmented, SegmentRequest, segment, units
from ..masks.prompts import phrases_of, prompts_of
from ..messages import Finished, Preview, Started, Stream, progress_of
from ..scene import MultiViewVideo, ViewSet
from ..train.originals import captured_pairs, check_one_size
from ..train.targets import composite
from ..wording import brief
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

# images in the preview, and image numbers listed in a note
MOST_SHOWN, MOST_LISTED = 6, 12
YELLOW = (255, 230, 26)
# characters of a phrase beside its box
MOST_DRAWN = 24


class TextMasks(NamedTuple):
    """Masks of the images, and the images with masks and boxes drawn over them."""

    masks: Tensor  # [F, H, W] in 0..1
    overlay: Tensor  # [F, H, W, 3] in 0..1
    note: str


@dataclass(frozen=True)
class Config:
    prompt: str = text(
        "",
        "What to segment, in plain words. Separate several things by a period or comma, such as 'left eye. right eye. "
        "mouth'.",
        multiline=True,
    )
    box_threshold: float = number(
        0.35,
        0.0,
        1.0,
        "Score that a box must exceed. Higher finds less and makes fewer mistakes; typical 0.25 to 0.4.",
        0.01,
    )
    text_threshold: float = number(
        0.25,
        0.0,
        1.0,
        "Score that a word of the text must exceed for a box to count. Higher drops boxes that match the text only "
        "vaguely; typical 0.2 to 0.3.",
        0.01,
        advanced=True,
    )
    pick: str = choice(
        "union",
        PICKS,
        "Which boxes are masked if a phrase matches several: all of them (union), the largest, or the best score.",
        label="boxes per phrase",
    )
    mode: str = choice(
        MODES[0],
        MODES,
        "Search every image, or search only until something is found and follow it through the other frames of the same "
        "camera (SAM 2 video).",
    )
    grow: int = number(
        0,
        -64,
        64,
        "Pixels by which the masks are dilated. Higher covers more; negative erodes. Typical 3 to 8.",
    )
    feather: int = number(
        0,
        0,
        256,
        "Width of the masks' soft edge in pixels. Higher is softer; typical 4 to 12; 0 is a hard edge.",
    )
    points: str = text(
        "",
        "Extra points as x y in pixels, separated by semicolons. A minus sign excludes, a number selects the image: "
        "'120 80; -40 60; 3: 200 90'.",
        advanced=True,
    )
    boxes: str = text(
        "",
        "Extra boxes as left top right bottom in pixels, separated by semicolons: '40 30 200 180; 3: 50 30 210 180'.",
        advanced=True,
    )
    view_numbers: str = text(
        "all", "Views of the capture, if neither views nor images are connected: all, or numbers."
    )
    frame_numbers: str = text(
        "0", "Frames of the capture, if neither views nor images are connected: all, or numbers."
    )

    def __post_init__(self) -> None:
        validate(self)


def run(
    models: Segmentation,
    views: ViewSet | None = None,
    images: Tensor | None = None,
    video: MultiViewVideo | None = None,
    config: Config = Config(),
) -> Stream:
    """Mask what a text names in images.

    Args:
        models: Grounding DINO and SAM 2.
        views: Images of a scene; the masks are of them where they are given.
        images: Else these images [F, H, W, 3] in 0..1, the frames of one camera.
        video: Else a capture, of which `config` names views and frames.
        config: The text, thresholds, points and boxes, and the masks' edge.

    Yields:
        Started, Progress, a Preview with masks in red and boxes in yellow, and Finished with masks [F, H, W], the images
        with both drawn over them, and a note. Masks have the order of the images.

    Raises:
        InputError: No images, nothing to segment, or nothing found in any image.

    Example:
        made = result(segment_text.run(Segmentation(sam2, dino), views, config=Config("mouth")))
    """
    given, tracks = _images(views, images, video, config)
    count, height, width = given.shape[:3]
    request = SegmentRequest(
        phrases_of(config.prompt), config.box_threshold, config.text_threshold, config.pick, config.mode
    )
    extra = prompts_of(config.points, config.boxes, count, (width, height))
    yield Started(units(count), f"{count} images of {width}×{height} with {models.name} on {models.device}")
    # closed at once where the run is canceled, which takes the model off the device
    with closing(segment(models, given, request, extra, tracks)) as work:
        made = yield from progress_of(work)
    masks = feathered(dilated(made.masks, config.grow), config.feather)
    overlay = torch.stack([_drawn(given[i], masks[i], made, request, i) for i in range(count)])
    chosen = spread(count, MOST_SHOWN)
    captions = [f"image {i}" if views is None else views.caption(i) for i in chosen]
    title = "red: mask   yellow: boxes found"
    yield Preview(as_tensor(sheet([[overlay[i]] for i in chosen], captions, title=title)), units(count))
    yield Finished(TextMasks(masks, overlay, _note(made, request)))


def _images(
    views: ViewSet | None, images: Tensor | None, video: MultiViewVideo | None, config: Config
) -> tuple[Tensor, list[list[int]]]:
    """Images [F, H, W, 3] on the CPU, and the indices of each camera's in the order of time."""
    if views is not None:
        return views.images[..., :3].detach().cpu().float(), _by_camera(views.views, views.seconds)
    if images is not None:
        return images[..., :3].detach().cpu().float(), [list(range(len(images)))]
    if video is None:
        raise InputError(
            "STP-034", "There are no images to segment; connect views, images or a multi-view video."
        )
    pairs = captured_pairs(video, config.view_numbers, config.frame_numbers)
    check_one_size(video, pairs)
    black = torch.zeros(3)
    frames = [composite(video.source.read(v, m), black).image for v, m in pairs]
    return torch.stack(frames), _by_camera([v for v, _ in pairs], [m for _, m in pairs])


def _by_camera(cameras: Sequence[int], times: Sequence[float]) -> list[list[int]]:
    order = sorted(range(len(cameras)), key=lambda i: (cameras[i], times[i]))
    return [[i for i in order if cameras[i] == camera] for camera in sorted(set(cameras))]


def _drawn(image: Tensor, mask: Tensor, made: Segmented, request: SegmentRequest, i: int) -> Tensor:
    """An image with its mask in red and the boxes that the detector found, with phrase and score."""
    picture = as_picture(marked(image, mask))
    boxes = made.found.get(i)
    if boxes is None or not len(boxes):
        return as_tensor(picture)
    pen, size = ImageDraw.Draw(picture), max(10, picture.height // 40)
    for box, score, phrase in zip(boxes.boxes.tolist(), boxes.scores, boxes.phrases, strict=True):
        pen.rectangle(box, outline=YELLOW)
        write(
            pen,
            (box[0] + 2, box[1] + 1),
            f"{brief(request.phrases[phrase], MOST_DRAWN)} {score:.2f}",
            size,
            YELLOW,
        )
    return as_tensor(picture)


def _note(made: Segmented, request: SegmentRequest) -> str:
    """What was found in how many images, and in which images nothing was found."""
    count = len(made.masks)
    lines = [
        f"{count - len(made.empty)} of {count} images masked; {float(made.masks.mean()):.1%} of the pixels"
    ]
    for which, phrase in enumerate(request.phrases):
        images = sum(which in boxes.phrases for boxes in made.found.values())
        lines.append(f"{brief(phrase)}: found in {images} of {len(made.found)} searched images")
    if made.empty:
        listed = ", ".join(str(i) for i in made.empty[:MOST_LISTED])
        listed += ", …" if len(made.empty) > MOST_LISTED else ""
        lines.append(f"nothing found in {'image' if len(made.empty) == 1 else 'images'} {listed}")
    return "\n".join(lines)


STEP = Step(
    name="segment_text",
    node="SegmentByText",
    label="Segment by Text",
    category="4dgs/edit",
    description="Makes masks of what a text names, in images of any scene or capture (Grounding DINO and SAM 2).",
    search=("grounding dino", "sam 2", "segment anything", "text mask", "grounded sam", "prompt mask"),
    config=Config,
    run=run,
    inputs=(
        Input("models", Kind.SEGMENTATION, "Grounding DINO and SAM 2, from Load Segmentation Models."),
        Input(
            "views", Kind.VIEWS, "The images to make masks for, from Scene Views or an edit.", optional=True
        ),
        Input(
            "images",
            Kind.IMAGES,
            "Any images instead of views. Their order is that of the masks; for propagation they are one camera's frames.",
            optional=True,
        ),
        Input("video", Kind.CAPTURE, "A capture instead of views or images.", optional=True),
    ),
    outputs=(
        Output("mask", Kind.MASKS, "One mask per image, in their order.", of=lambda made: made.masks),
        Output(
            "overlay",
            Kind.IMAGES,
            "The images with the masks in red and the boxes in yellow.",
            of=lambda made: made.overlay,
        ),
    ),
    verb="segment",
    has_device=False,
    figure=Figure.PREVIEW,
    note=lambda made: made.note,
    lowers=("the size of the images",),
)
