"""Square crops around a subject: the published rule, what lies outside of the image, and masks that cannot be used."""

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import InputError
from engine.masks.foreground import Square, alphas_of, foreground_square, square_crops


def subject(height: int = 60, width: int = 80) -> torch.Tensor:
    """RGBA noise whose alpha is 1 in rows 10 to 30 and columns 50 to 79, with a soft edge below."""
    image = torch.rand(height, width, 4, generator=torch.Generator().manual_seed(0))
    image[..., 3] = 0
    image[10:31, 50:80, 3] = 1
    image[31:36, 50:80, 3] = 0.5
    return image


def test_the_square_is_the_published_one():
    # 1.2 times the longer side, from 50 to 79, around the middle of both
    square = foreground_square(subject()[..., 3])
    assert square == Square(left=round(64.5 - 17), top=20 - 17, side=34)


@pytest.mark.parametrize("pixels", [17, 34, 77])
def test_a_crop_is_pillows_of_the_same_square(pixels: int):
    image = subject()
    square = foreground_square(image[..., 3])
    got = square_crops(image[None], alphas_of(image[None]), square, pixels, background=(0, 0, 0))
    picture = Image.fromarray((image * 255).round().byte().numpy())
    left, top, side = square
    cut = picture.crop((left, top, left + side, top + side)).resize(
        (pixels, pixels), Image.Resampling.LANCZOS
    )
    want = torch.from_numpy(np.array(cut)).float() / 255
    # Pillow rounds to bytes between two passes, and once more to divide by alpha
    assert float((got.alphas[0] - want[..., 3]).abs().max()) < 3 / 255
    assert float((got.images[0] - want[..., :3] * want[..., 3:]).abs().max()) < 4 / 255


def test_what_lies_outside_of_the_image_is_background():
    image = subject()
    crops = square_crops(image[None], alphas_of(image[None]), Square(70, 0, 20), 20)
    assert torch.equal(crops.images[0, :, 10:], torch.ones(20, 10, 3))
    assert float(crops.alphas[0, :, 10:].max()) == 0
    assert torch.equal(crops.images[0, 12:18, :10], image[12:18, 70:, :3])


def test_a_canvas_surrounds_the_square_and_all_frames_share_it():
    image = subject()
    frames = torch.stack([image, image.roll(3, dims=0)])
    square = foreground_square(frames[0, ..., 3])
    crops = square_crops(frames, alphas_of(frames), square, 380, 512)
    assert crops.images.shape == (2, 512, 512, 3)
    assert crops.alphas.shape == (2, 512, 512)
    outside = crops.alphas.clone()
    outside[:, 66:446, 66:446] = 0
    assert float(outside.max()) == 0
    rows = (crops.alphas > 0.9).any(2).float().argmax(1)
    # three pixels of the image are 3 · 380 / 34 of the crop
    assert abs(float(rows[1] - rows[0]) - 3 * 380 / 34) <= 1


def test_masks_replace_alpha_and_follow_the_size_of_the_images():
    images = torch.rand(3, 40, 20, 3)
    half = torch.zeros(1, 20, 10)
    half[:, 5:10, 2:6] = 1
    alphas = alphas_of(images, half)
    assert alphas.shape == (3, 40, 20)
    assert float(alphas[:, 11:19, 5:11].min()) > 0.99
    assert float(alphas[:, 22:].max()) < 0.01


@pytest.mark.parametrize(
    ("images", "masks", "sentence"),
    [
        (torch.zeros(1, 8, 8, 3), None, "no alpha channel"),
        (torch.zeros(3, 8, 8, 3), torch.ones(2, 8, 8), "2 masks for 3 images"),
        (torch.zeros(1, 8, 8, 3), torch.ones(1, 8, 16), "16×8 and the image 8×8"),
    ],
)
def test_masks_that_do_not_fit_are_named(images: torch.Tensor, masks: torch.Tensor | None, sentence: str):
    with pytest.raises(InputError, match=sentence):
        alphas_of(images, masks)


def test_an_image_without_foreground_and_an_inverted_mask_are_named():
    with pytest.raises(InputError, match="no foreground"):
        foreground_square(torch.full((8, 8), 0.8))
    with pytest.raises(InputError, match="all four corners"):
        foreground_square(1 - subject()[..., 3].clamp(max=1))
    with pytest.raises(InputError, match="all four corners"):
        foreground_square(torch.ones(8, 8))
