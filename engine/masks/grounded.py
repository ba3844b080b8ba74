"""Segment what a text names: Grounding DINO finds boxes, SAM 2 turns them into masks.

The masks of Edit3DGS (arXiv 2606.17432) and of others that edit parts of a scene by name. The two models run one after the
other, so that only one of them is on the GPU. Both come from transformers and from local folders.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..wording import brief
from .detector import Found, TextDetector
from .prompts import ImagePrompts
from .sam2 import MaskPredictor

PICKS = ("union", "largest", "best")
MODES = ("every image", "propagate through frames")


@dataclass(frozen=True)
class SegmentRequest:
    """What to segment.

    Args:
        phrases: What to find, lower case; may be empty where there are points or boxes.
        box_threshold: Score that a box must exceed.
        text_threshold: Score that a word of its phrase must exceed.
        pick: One of PICKS: all boxes of a phrase, the largest or the best.
        mode: One of MODES: find and segment in every image, or find in the first frame of a camera in which there is
            something and follow it through the others.

    Raises:
        InputError: An unknown pick or mode.
    """

    phrases: tuple[str, ...]
    box_threshold: float = 0.35
    text_threshold: float = 0.25
    pick: str = "union"
    mode: str = "every image"

    def __post_init__(self) -> None:
        for value, options, what in ((self.pick, PICKS, "boxes"), (self.mode, MODES, "mode")):
            if value not in options:
                raise InputError("MSK-017", f"{what} is '{value}'; choose one of {', '.join(options)}.")


@dataclass(frozen=True, eq=False)
class Segmented:
    """Masks of F images and the boxes that they came from."""

    masks: Tensor  # [F, H, W] of 0 and 1
    found: dict[int, Found]  # the boxes of the images that the detector looked at

    @property
    def empty(self) -> list[int]:
        """Images without a mask."""
        return [i for i, mask in enumerate(self.masks) if not bool(mask.any())]


class Segmentation:
    """The two models, and the device that they run on, one after the other.

    Args:
        segmenter: Folder of a SAM 2 model.
        detector: Folder of a Grounding DINO model; None: only points and boxes can be segmented.
        device: Where they run; they rest on the CPU.

    Raises:
        InputError: A folder holds another model or none, or transformers is missing or too old.

    Example:
        models = Segmentation("sam2.1-hiera-tiny", "grounding-dino-tiny")
        masks = result(segment_text.run(models, images=images, config=Config("left eye. mouth")))
    """

    def __init__(
        self,
        segmenter: Path | str,
        detector: Path | str | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.segmenter = MaskPredictor(segmenter)
        self.detector = None if detector is None else TextDetector(detector)
        self.device = torch.device(device)

    @property
    def name(self) -> str:
        detector = [] if self.detector is None else [self.detector.folder.name]
        return " + ".join([*detector, self.segmenter.folder.name])

    @property
    def megabytes(self) -> int:
        """Size of the larger model's weights."""
        detector = 0 if self.detector is None else self.detector.folder.megabytes
        return max(detector, self.segmenter.folder.megabytes)


def segment(
    models: Segmentation,
    images: Tensor,
    request: SegmentRequest,
    extra: dict[int, ImagePrompts] | None = None,
    tracks: Sequence[Sequence[int]] = (),
) -> Generator[int, None, Segmented]:
    """Segment what a text, points and boxes name.

    Args:
        models: The models.
        images: [F, H, W, 3] in 0..1.
        request: Phrases and thresholds.
        extra: Points and boxes by image index.
        tracks: Image indices of each camera in the order of time, for "propagate through frames".

    Yields:
        Finished units: one per image for the detector, one per image for SAM 2 (see `units`).

    Returns:
        The masks; an image in which nothing was found has an empty one.

    Raises:
        InputError: Neither phrases nor points and boxes, no detector for phrases, or nothing found in any image.
    """
    extra = extra or {}
    if not request.phrases and not any(len(prompts) for prompts in extra.values()):
        raise InputError(
            "MSK-018",
            "There is nothing to segment; write a text such as 'left eye. mouth', or add a point or a box.",
        )
    is_tracked = request.mode != MODES[0]
    groups = [list(track) for track in tracks] if is_tracked else [[i] for i in range(len(images))]
    found: dict[int, Found] = {}
    if request.phrases:
        yield from _detect(models, images, request, groups, found)
    prompts = {i: extra[i] for i in extra}
    for i, boxes in found.items():
        prompts[i] = prompts.get(i, ImagePrompts()).with_boxes(boxes.chosen(request.pick).boxes)
    if not any(len(each) for each in prompts.values()):
        named = "' or '".join(map(brief, request.phrases))
        raise InputError(
            "MSK-019",
            f"'{named}' was not found in any of the {len(images)} images; lower the box threshold, use simpler words, or "
            "add a point or a box.",
        )
    masks = torch.zeros(images.shape[:3])
    done = len(images)
    videos = [group for group in groups if len(group) > 1]
    singles = [group[0] for group in groups if len(group) == 1]
    if singles:
        with models.segmenter.on(models.device, is_video=False):
            for i in singles:
                masks[i] = models.segmenter.masks(images[i], prompts.get(i, ImagePrompts()))
                done += 1
                yield done
    if any(len(prompts.get(i, ())) for group in videos for i in group):
        with models.segmenter.on(models.device, is_video=True):
            for group in videos:
                yield from _track(models.segmenter, images, group, prompts, masks, done)
                done += len(group)
    if not bool(masks.any()):
        raise InputError(
            "MSK-021",
            "SAM 2 made an empty mask for everything that was found; add a point inside of it, or choose another SAM 2 "
            "model.",
        )
    return Segmented(masks, found)


def units(count: int) -> int:
    """Units of progress of `segment` for that many images."""
    return 2 * count


def _detect(
    models: Segmentation,
    images: Tensor,
    request: SegmentRequest,
    groups: Sequence[Sequence[int]],
    found: dict[int, Found],
) -> Generator[int, None, None]:
    """Fill `found`: every image of a group, up to the first in which there is something."""
    detector = models.detector
    if detector is None:
        raise InputError(
            "MSK-020",
            "A text was given, but no Grounding DINO model; choose one in Load Segmentation Models, or use points and "
            "boxes.",
        )
    seen = 0
    with detector.on(models.device):
        for group in groups:
            for i in group:
                boxes = detector.detect(
                    images[i], request.phrases, request.box_threshold, request.text_threshold
                )
                found[i] = boxes
                seen += 1
                yield seen
                if len(boxes):
                    break


def _track(
    segmenter: MaskPredictor,
    images: Tensor,
    group: Sequence[int],
    prompts: dict[int, ImagePrompts],
    masks: Tensor,
    before: int,
) -> Generator[int, None, None]:
    """Add to `masks` what is prompted in any frame of a camera, followed through all of its frames."""
    starts = [k for k, i in enumerate(group) if len(prompts.get(i, ()))]
    for run, start in enumerate(starts):
        # objects of another frame get a session of their own: SAM 2 cannot track what has no memory yet
        tracked = segmenter.track(lambda k: images[group[k]], len(group), start, prompts[group[start]])
        for number, (k, mask) in enumerate(tracked):
            masks[group[k]] = torch.maximum(masks[group[k]], mask)
            yield before + (run * len(group) + number + 1) // len(starts)
