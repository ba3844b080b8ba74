"""What the stored values of a capture mean, found over all its views: of images, mask files, mask videos, and alpha."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files.images import has_alpha, white_of_images
from ..files.mask_layers import ALIKE, alpha_varies, layers_of_pixels, load_layers
from ..files.masks import WHITE_ON_BLACK, MaskEncoding, encoding_of_files, find_encoding
from ..files.samples import LOOKED_AT, spread_first
from .description import Array, View, ViewVideo
from .video_file import VideoFacts, VideoFile
from .video_pixels import to_mask_pixels, to_pixels
from .view_images import ImageFile

# videos of which the first frame is looked at in any case
VIDEOS_LOOKED_AT = 8


@dataclass
class ValueReading:
    """How images and masks of a capture are read, and what is said about it."""

    # stored value, where the images' type does not say it
    white: float | None = None
    uses_masks: bool = True
    mask_files: MaskEncoding = WHITE_ON_BLACK
    mask_videos: MaskEncoding = WHITE_ON_BLACK
    # whether an alpha channel of the images is their mask
    uses_alpha: bool = False
    notes: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])

    def has_masks(self, view: View) -> bool:
        """Whether frames of `view` have masks."""
        if not self.uses_masks:
            return False
        if isinstance(view.images, ViewVideo):
            return view.images.mask is not None or (self.uses_alpha and view.images.facts.has_alpha)
        return any(image.mask is not None for image in view.images.values()) or (
            self.uses_alpha and _has_own_alpha(view)
        )


def survey_values(views: Sequence[View], uses_masks: bool) -> ValueReading:
    """Look at some images and masks of all views.

    Args:
        views: All views of a capture; their files exist.
        uses_masks: Whether masks are read at all.

    Raises:
        InputError: All masks are empty, or all cover their whole image, or nothing says which value of the images is white.
    """
    reading = ValueReading(uses_masks=uses_masks)
    images = [image for v in views if not isinstance(v.images, ViewVideo) for image in v.images.values()]
    reading.white, note = white_of_images([(image.path, image.name) for image in images])
    reading.notes += [note] if note else []
    if uses_masks:
        _look_at_masks(views, images, reading)
    return reading


def _look_at_masks(views: Sequence[View], images: Sequence[ImageFile], reading: ValueReading) -> None:
    files = dict.fromkeys((image.mask, image.mask_name) for image in images if image.mask)
    videos = [view.images for view in views if isinstance(view.images, ViewVideo)]
    masks = [(v.mask, v.mask_name, v.mask_facts) for v in videos if v.mask and v.mask_facts]
    if files:
        reading.mask_files = encoding_of_files([(path, name) for path, name in files if path])
    if masks:
        count = sum(facts.frames for _, _, facts in masks)
        layers = (layers_of_pixels(pixels) for pixels in _frames(masks, alpha=False))
        reading.mask_videos = find_encoding(layers, count, masks[0][1], min(len(masks), VIDEOS_LOOKED_AT))
    for encoding in (reading.mask_files, reading.mask_videos):
        reading.notes += [encoding.note] if encoding.note else []
        reading.warnings += [encoding.doubt] if encoding.doubt else []
    _look_at_alpha(views, videos, reading)


def _look_at_alpha(views: Sequence[View], videos: list[ViewVideo], reading: ValueReading) -> None:
    """Whether alpha in the images differs anywhere: many programs save opaque images with an alpha channel."""
    own = [
        image
        for view in views
        if not isinstance(view.images, ViewVideo) and _has_own_alpha(view)
        for image in view.images.values()
        if image.mask is None
    ]
    clear = [(v.path, v.name, v.facts) for v in videos if v.mask is None and v.facts.has_alpha]
    layers = (load_layers(own[i].path, own[i].name) for i in spread_first(len(own)))
    in_images = _any_varies((each.alpha for each in layers if each.alpha is not None), LOOKED_AT)
    in_videos = _any_varies((pixels[..., 3] for pixels in _frames(clear, alpha=True)), VIDEOS_LOOKED_AT)
    reading.uses_alpha = in_images or in_videos
    if (own or clear) and not reading.uses_alpha:
        reading.notes.append("The images' alpha channel is constant, so it is not used as a mask.")


def _any_varies(alphas: Iterable[Array], looked_at: int) -> bool:
    """Whether alpha channels tell subjects from their background. Where the first ones are all transparent, more are asked."""
    lowest, highest = 255, 0
    for i, alpha in enumerate(alphas):
        lowest, highest = min(lowest, int(alpha.min())), max(highest, int(alpha.max()))
        if alpha_varies(alpha):
            return True
        if i + 1 >= looked_at and highest > 0:
            break
    return highest - lowest > ALIKE


def _frames(videos: Sequence[tuple[Path, str, VideoFacts]], alpha: bool) -> Iterator[Array]:
    """Frames [H, W, 3 or 4] as they are asked for: the first of some videos, then all, video by video."""
    some = spread_first(len(videos), VIDEOS_LOOKED_AT)[:VIDEOS_LOOKED_AT]
    wanted = [(i, range(1)) for i in some] + [
        (i, range(facts.frames)) for i, (_, _, facts) in enumerate(videos)
    ]
    for i, numbers in wanted:
        path, name, facts = videos[i]
        video = VideoFile(path, name, facts)
        try:
            for number in numbers:
                frame = video.read(number)
                yield to_pixels(frame, facts, alpha=True) if alpha else to_mask_pixels(frame, facts)
        finally:
            video.close()


def _has_own_alpha(view: View) -> bool:
    """Whether the first image of `view` has an alpha channel and no mask file."""
    assert not isinstance(view.images, ViewVideo)
    first = next(iter(view.images.values()))
    return first.mask is None and has_alpha(first.path, first.name)
