"""Prepare Video: sources of the mask, one crop for all frames, the choice of frames, several subjects, and bad input."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from engine.cli import main
from engine.errors import InputError
from engine.masks.subjects import largest_subject
from engine.messages import Finished, Preview, Progress, Started, result
from engine.steps import prepare_video as step
from engine.steps.prepare_video import Config

WALKER = Path(__file__).resolve().parents[2] / "assets" / "clips" / "walker"


def disks(
    *tracks: tuple[float, float, float], count: int = 6, height: int = 60, width: int = 90
) -> torch.Tensor:
    """Masks [F, H, W] of disks: x at the first frame, pixels per frame, radius; all at half the height."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    masks = torch.zeros(count, height, width)
    for at, speed, radius in tracks:
        for i in range(count):
            masks[i][(x - at - speed * i) ** 2 + (y - height / 2) ** 2 < radius**2] = 1
    return masks


def noisy(masks: torch.Tensor) -> torch.Tensor:
    """Images of noise that is red on the subject, brighter from frame to frame."""
    images = torch.rand(*masks.shape, 3, generator=torch.Generator().manual_seed(0))
    red = torch.linspace(0.3, 1, len(masks))[:, None, None, None] * torch.tensor([1.0, 0, 0])
    return torch.where(masks[..., None] > 0, red, images)


def prepared(images: torch.Tensor, masks: torch.Tensor | None = None, **fields: Any):
    return result(step.run(images, masks, Config(size=64, **fields)))


def walker(count: int = 4) -> torch.Tensor:
    with av.open(str(WALKER / "videos" / "cam03.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames[:: len(frames) // count][:count])).float() / 255


def test_all_frames_share_one_crop_and_keep_their_order():
    masks = disks((20, 8, 6))
    made = prepared(noisy(masks), masks)
    assert made.images.shape == (6, 64, 64, 3) and made.masks.shape == (6, 64, 64)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    area = made.masks.sum((1, 2))
    x = (made.masks * columns).sum((1, 2)) / area
    y = (made.masks * rows).sum((1, 2)) / area
    # the same size, on one line, at equal distances: 8 pixels of a square of 1.2 times 50
    assert float(area.max() / area.min()) < 1.05
    assert float(y.max() - y.min()) < 0.5
    torch.testing.assert_close(x.diff(), torch.full((5,), 8 * 64 / 60), atol=0.3, rtol=0)
    assert float(x.mean()) == pytest.approx(31.5, abs=0.6)
    # frames become brighter, the background is white
    red = [
        float(image[mask > 0.99][:, 0].mean()) for image, mask in zip(made.images, made.masks, strict=True)
    ]
    assert red == sorted(red) and red[-1] - red[0] > 0.5
    assert torch.equal(made.images[0][made.masks[0] == 0].unique(), torch.ones(1))
    assert "crop: 60×60 pixels at 10, 0 for all frames" in made.note


def test_the_first_frames_square_cuts_off_what_leaves_it_and_says_so():
    masks = disks((20, 8, 6))
    made = prepared(noisy(masks), masks, crop="first frame", background="black")
    assert float(made.masks[-1].max()) == 0 and float(made.images[-1].max()) == 0
    assert float(made.masks[0].sum()) > 1500
    assert "the subject leaves the crop in 5 frames (1, 2, 3, 4, 5)" in made.note


def test_auto_takes_mask_then_alpha_then_plain_background_then_person():
    masks = disks((40, 1, 12))
    busy, plain = noisy(masks), torch.where(masks[..., None] > 0, 0.2, torch.tensor([0.2, 0.8, 0.3]))
    rgba = torch.cat([busy, masks[..., None]], dim=-1)
    assert "matte: the connected mask" in prepared(rgba, masks).note
    assert "matte: the images' alpha" in prepared(rgba).note
    keyed = prepared(plain)
    assert "matte: plain background of color #33cc4d (100% of the border)" in keyed.note
    torch.testing.assert_close(keyed.masks, prepared(busy, masks).masks, atol=0.02, rtol=0)
    frames = walker() * 0.7 + 0.3 * torch.rand(1, 208, 160, 3, generator=torch.Generator().manual_seed(0))
    person = prepared(frames)
    assert "matte: the network for people" in person.note
    # the walker covers 16.6 % of these images, which is 12 % of a square of 212 pixels
    assert 0.1 < float(person.masks.mean()) < 0.18


def test_nothing_to_go_by_says_what_to_connect():
    with pytest.raises(
        InputError, match=r"a person was found in 0 of 6 frames, the background is not plain, .* Segment"
    ):
        prepared(torch.rand(6, 60, 90, 3, generator=torch.Generator().manual_seed(0)))


def test_the_larger_of_two_subjects_is_followed():
    both = disks((20, 1, 12), (75, -1, 8))
    made = prepared(noisy(both), both)
    assert "2 subjects in 6 of 6 frames: the largest is kept (frame 0: left, " in made.note
    alone = prepared(noisy(both), disks((20, 1, 12)))
    torch.testing.assert_close(made.masks, alone.masks)
    everything = prepared(noisy(both), both, subjects="all")
    assert "subjects" not in everything.note and float(everything.masks.mean()) < float(made.masks.mean())
    # the larger one is hidden at first: it is followed back to where it is the smaller one
    masks = disks((20, 0, 12), (70, 0, 8))
    masks[0, :, :40] = disks((20, 0, 5))[0, :, :40]
    kept = largest_subject(masks).masks
    assert float(kept[0, :, 50:].max()) == 0 and float(kept[0, :, :40].sum()) > 50


def test_a_long_video_is_spread_over_the_limit_and_a_step_of_ones_own_is_respected():
    masks = disks((8, 0, 3), count=1, height=16, width=16).expand(1200, -1, -1)
    images = torch.zeros(1200, 16, 16, 3)
    made = prepared(images, masks, frames_per_second=30)
    assert made.images.shape[0] == 400 and made.fps == 10
    assert "400 of 1,200 frames: 0 to 1197, every 3rd" in made.note
    made = prepared(images, masks, first_frame=100, frame_count=20, frame_step=2)
    assert made.images.shape[0] == 20 and made.fps == 12
    assert "20 of 1,200 frames: 100 to 138, every 2nd" in made.note
    with pytest.raises(InputError, match=r"1,200 frames at a step of 1; 500 is the limit.*set it to 0"):
        prepared(images, masks, frame_step=1)
    assert "fewer than 16 show little motion" in prepared(images, masks, frame_count=5).note


@pytest.mark.parametrize(
    ("images", "masks", "fields", "sentence"),
    [
        (torch.zeros(1, 8, 8, 3), None, {}, "1 frame; motion needs at least 2"),
        (torch.zeros(6, 60, 90, 3), torch.ones(4, 60, 90), {}, "4 masks for 6 frames"),
        (torch.zeros(6, 60, 90, 3), torch.zeros(6, 60, 90), {}, "no foreground"),
        (torch.zeros(6, 60, 90, 3), torch.ones(6, 60, 90), {}, "all four corners"),
        (torch.zeros(6, 60, 90, 3), None, {}, "no foreground"),
        (torch.full((6, 60, 90, 3), torch.nan), None, {}, "NaN"),
        (torch.zeros(6, 60, 90, 3), None, {"matte": "mask"}, "no mask is connected"),
        (torch.zeros(6, 60, 90, 3), None, {"matte": "alpha"}, "no alpha channel"),
        (torch.rand(6, 60, 90, 3), None, {"matte": "plain background"}, "not plain"),
        (torch.zeros(6, 60, 90, 3), None, {"matte": "person"}, "found in 0 of 6 frames. Connect"),
        (torch.zeros(6, 60, 90, 3), None, {"first_frame": 5}, "has 6 frames, numbered from 0"),
        (torch.zeros(6, 60, 90, 3), None, {"frame_step": 9}, "leaves 1 frame"),
        (
            torch.zeros(6, 60, 90, 3),
            disks((-90, 30, 9)),
            {"crop": "first frame"},
            "Frame 0 does not show the subject",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    images: torch.Tensor, masks: torch.Tensor | None, fields: dict[str, Any], sentence: str
):
    with pytest.raises(InputError, match=sentence):
        prepared(images, masks, **fields)


def test_frames_without_the_subject_or_with_a_part_of_it_are_listed():
    masks = disks((-40, 20, 9))
    made = prepared(noisy(masks), masks)
    assert "the subject is not visible in 2 frames (0, 1)" in made.note
    assert "the image's border cuts the subject off in 1 frame (2)" in made.note


def test_progress_and_a_preview():
    masks = disks((40, 1, 12))
    images = noisy(masks)
    before = images.clone()
    messages = list(step.run(images, masks, Config(size=64)))
    assert isinstance(messages[0], Started) and isinstance(messages[-1], Finished)
    done = [m.done for m in messages if isinstance(m, Progress)]
    assert done == sorted(done) and done[-1] == messages[0].total
    assert len([m for m in messages if isinstance(m, Preview)]) == 1
    assert torch.equal(images, before)


def test_the_command_line_reads_a_video_and_writes_frames_and_masks(tmp_path: Path):
    video = WALKER / "videos" / "cam00.mp4"
    words = ["prepare-video", "--images", video, "--frame-count", 3, "--size", 96, "-o", tmp_path / "frames"]
    assert main([str(word) for word in [*words, "--masks-out", tmp_path / "masks"]]) == 0
    frames, masks = (sorted((tmp_path / name).iterdir()) for name in ("frames", "masks"))
    assert [path.name for path in frames] == ["00000.png", "00001.png", "00002.png"]
    image, mask = (np.array(Image.open(files[0])) for files in (frames, masks))
    assert image.shape == (96, 96, 3) and mask.shape == (96, 96)
    assert (image[mask == 0] == 255).all() and 0.1 < (mask > 127).mean() < 0.5
