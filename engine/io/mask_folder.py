"""A folder with one mask image for each view."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.images import image_size, images_in
from ..files.masks import encoding_of_files, read_mask
from ..scene import ViewSet
from .image_files import check_batch

log = logging.getLogger("gs4d")


def load_masks(folder: Path | str, views: ViewSet | None, any_number: bool = False) -> Tensor:
    """Mask images of a folder in the order of their names, 2 before 10: [F, H, W] in 0..1, resampled to the views' size.

    A single mask is for all views. Without views there is one, or with `any_number` as many as the folder holds, at the size
    of the first. Their encoding is found over all of them (engine/files/masks.py); any other than white on black is logged.
    Raises InputError for another number of masks, one of another shape, or masks that are all empty or all full.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            "CLI-004", f"{folder.name} is not a folder; select the folder with one mask image per view."
        )
    files = images_in(folder)
    count = 1 if views is None else len(views)
    if len(files) not in (count, 1) and not (any_number and files):
        raise InputError(
            "CLI-005",
            f"{folder.name} contains {len(files)} mask images for {count} views. Provide one per view, named like the "
            "view's image.",
        )
    size = image_size(files[0], files[0].name) if views is None else views.size
    for file in files:
        width, height = image_size(file, file.name)
        if abs(width / height / (size[0] / size[1]) - 1) > 0.05:
            raise InputError(
                "CLI-006",
                f"{file.name} is {width}×{height}, its view {size[0]}×{size[1]}: their shapes differ, so it cannot be "
                "its mask; resize without cropping.",
            )
    check_batch(len(files), size, 1, folder.name)
    encoding = encoding_of_files([(file, file.name) for file in files])
    for sentence in filter(None, (encoding.note, encoding.doubt)):
        log.info(sentence)
    masks = torch.empty(len(files), size[1], size[0])
    for mask, file in zip(masks, files, strict=True):
        mask.copy_(torch.tensor(read_mask(file, file.name, size, encoding)))
    return masks.div_(255)


def save_masks(masks: Tensor, folder: Path | str) -> Path:
    """Save masks [F, H, W] in 0..1 as a folder of PNG images, in their order.

    Returns:
        The folder.

    Raises:
        InputError: The folder cannot be written.
    """
    folder = Path(folder)
    pixels = (masks.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    for i, mask in enumerate(pixels):
        with write_atomically(folder / f"{i:05}.png") as partial:
            Image.fromarray(mask).save(partial, format="PNG", compress_level=4)
    return folder
