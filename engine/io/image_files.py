"""One image, or a folder of images, as a batch; and a batch as a folder."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..backends import free_memory
from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.images import (
    has_alpha,
    has_one_channel,
    image_size,
    images_in,
    read_gray,
    read_image,
    white_of_images,
)

log = logging.getLogger("gs4d")

# numbers of a batch: 4 GB
MOST_NUMBERS = 1_000_000_000


def load_images(path: Path | str) -> Tensor:
    """Read an image file, or all images of a folder in the order of their names, 2 before 10.

    Args:
        path: The file or folder.

    Returns:
        [F, H, W, 3] in 0..1 at the size of the first, or [F, H, W, 4] where one of them has alpha.

    Raises:
        InputError: No image was found, one is damaged, aspect ratios differ, or there are too many.
    """
    files, (width, height) = _checked(Path(path))
    white, note = white_of_images([(file, file.name) for file in files])
    if note:
        log.info(note)
    channels = 4 if any(has_alpha(file, file.name) for file in files) else 3
    # written image by image: no other copy of floating-point numbers is made
    batch = torch.empty(len(files), height, width, channels)
    for frame, file in zip(batch, files, strict=True):
        rgb, alpha = read_image(file, file.name, (width, height), white)
        frame[..., :3] = torch.from_numpy(rgb)
        if channels == 4:
            frame[..., 3] = 255 if alpha is None else torch.from_numpy(alpha)
        frame /= 255
    has_any = channels == 4 and bool((batch[..., 3] < 1).any())
    return batch if has_any or channels == 3 else batch[..., :3].contiguous()


def load_depth_images(path: Path | str, unit: float) -> Tensor:
    """Read an image file, or all images of a folder, as depth.

    Args:
        path: The file or folder.
        unit: World units per stored unit of images of one channel.

    Returns:
        [F, H, W] at full precision and at the size of the first, or what `load_images` gives where one has several channels.

    Raises:
        InputError: As `load_images`.
    """
    files, (width, height) = _checked(Path(path))
    if not all(has_one_channel(file, file.name) for file in files):
        return load_images(path)
    maps = torch.empty(len(files), height, width)
    for one, file in zip(maps, files, strict=True):
        values = torch.from_numpy(read_gray(file, file.name).astype(np.float32))
        if values.shape != one.shape:
            # means of depths across an edge lie between its two sides
            values = torch.nn.functional.interpolate(
                values[None, None], (height, width), mode="nearest-exact"
            )[0, 0]
        one.copy_(values)
    return maps.mul_(unit)


def _checked(path: Path) -> tuple[list[Path], tuple[int, int]]:
    """The files of a batch, in the order of their names, and the first one's width and height."""
    files = [path]
    if path.is_dir():
        files = images_in(path)
    if not files or not files[0].is_file():
        raise InputError("IO-062", f"{path.name} is not an image or a folder of images; check the path.")
    width, height = image_size(files[0], files[0].name)
    check_batch(len(files), (width, height), 4, path.name, MOST_NUMBERS)
    for file in files:
        wide, high = image_size(file, file.name)
        if abs(wide / high / (width / height) - 1) > 0.05:
            raise InputError(
                "IO-064",
                f"{file.name} is {wide}×{high} and {files[0].name} {width}×{height}; give images of one size.",
            )
    return files, (width, height)


def check_batch(
    count: int, size: tuple[int, int], channels: int, name: str, most: float = float("inf")
) -> None:
    """Raise InputError where `count` images (width, height) of float32 have more numbers than `most`, or than memory holds."""
    numbers = count * size[0] * size[1] * channels
    if min(most, free_memory() / 4) < numbers:
        raise InputError(
            "IO-063",
            f"{name} holds {count} images of {size[0]}×{size[1]} ({4e-9 * numbers:.1f} GB in memory), too many to read at once; "
            "make them smaller or leave some out.",
        )


def save_images(images: Tensor, folder: Path | str) -> Path:
    """Save images [F, H, W, 3] in 0..1 as a folder of PNG files, in their order.

    Returns:
        The folder.

    Raises:
        InputError: The folder cannot be written.
    """
    folder = Path(folder)
    for i, image in enumerate(images):
        pixels = (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        with write_atomically(folder / f"{i:05}.png") as partial:
            Image.fromarray(pixels).save(partial, format="PNG", compress_level=4)
    return folder
