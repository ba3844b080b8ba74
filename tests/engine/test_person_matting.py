"""The person matting network against LiteRT on an image drawn in code, and masks of small people in a video."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.masks.person import people_mask, person_masks
from engine.models.person_matting import BUNDLED, PIXELS, WEIGHTS, load_person_matting
from training.matting.convert import drawn

WALKER = Path(__file__).resolve().parents[2] / "assets" / "clips" / "walker"

# means of an 8 × 8 grid of what LiteRT 2.3.0 makes of the figure: training/matting/convert.py PACKAGE --check
EXPECTED = """
    0 0 0 0 0 0 0 0
    0 0 0.05381 0.71416 0.72627 0.06479 0 0
    0 0 0.42264 1 1 0.4556 0 0
    0 0 0.44833 1 1 0.48141 0 0
    0 0 0.08393 0.85538 0.88129 0.10012 0 0
    0 0.00137 0.4126 0.90341 0.91578 0.43183 0.00348 0
    0 0.41424 1 1 1 1 0.44676 0
    0 0.80591 1 1 1 1 0.84006 0
"""


def test_the_network_gives_what_the_published_file_gives():
    image = torch.from_numpy(drawn("figure")).permute(2, 0, 1)[None]
    with torch.no_grad():
        made = load_person_matting()(image)
    assert made.shape == (1, PIXELS, PIXELS)
    grid = made.reshape(8, 32, 8, 32).mean((1, 3))
    wanted = torch.tensor([float(word) for word in EXPECTED.split()]).reshape(8, 8)
    torch.testing.assert_close(grid, wanted, atol=2e-5, rtol=0)
    # where the network is unsure, small errors of a layer would show
    assert int(((made > 0.1) & (made < 0.9)).sum()) > 400


def test_the_card_names_the_source_and_its_license():
    config = json.loads((BUNDLED / "config.json").read_text())
    assert config["parameters"] == sum(p.numel() for p in load_person_matting().parameters())
    assert config["source"]["license"] == "Apache-2.0" and config["source"]["sha256"]
    assert "Apache License" in (BUNDLED / "LICENSE").read_text()


def test_a_missing_or_wrong_file_is_named(tmp_path):
    from safetensors.torch import save_file

    save_file({"other": torch.zeros(1)}, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match="does not hold the weights of the person matting network"):
        load_person_matting(tmp_path)


def masks_of(images: torch.Tensor, follows_one: bool = True) -> torch.Tensor:
    work, done = person_masks(images, follows_one=follows_one), []
    while True:
        try:
            done.append(next(work))
        except StopIteration as end:
            assert done == sorted(done)
            return end.value


def frames_of(path: Path, count: int) -> torch.Tensor:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames[:: len(frames) // count][:count])).float() / 255


def test_a_small_person_that_walks_through_the_image_is_looked_at_alone():
    person = frames_of(WALKER / "videos" / "cam03.mp4", 5)
    cover = frames_of(WALKER / "masks" / "cam03.mp4", 5)[..., :1]
    images, wanted = torch.full((5, 360, 640, 3), 0.7), torch.zeros(5, 360, 640)
    for i in range(5):
        place = slice(140, 348), slice(60 + 90 * i, 220 + 90 * i)
        images[i][place] = person[i] * cover[i] + (1 - cover[i]) * 0.7
        wanted[i][place] = cover[i, ..., 0]
    error, once = ((masks_of(images, one) - wanted).abs().mean() for one in (True, False))
    assert float(error) < 0.004
    assert float(error) < 0.6 * float(once)


def test_nobody_is_an_empty_mask():
    assert float(masks_of(torch.from_numpy(drawn("ramp"))[None].expand(2, -1, -1, -1)).max()) < 0.01


def test_everybody_in_an_image_is_in_its_mask():
    """The walker beside itself: both are found, without looking at one alone."""
    person, cover = (frames_of(WALKER / kind / "cam03.mp4", 1)[0] for kind in ("videos", "masks"))
    image = torch.full((240, 400, 3), 0.7)
    wanted = torch.zeros(240, 400, dtype=torch.bool)
    for left in (20, 220):
        place = slice(20, 228), slice(left, left + 160)
        image[place] = person * cover[..., :1] + (1 - cover[..., :1]) * image[place]
        wanted[place] |= cover[..., 0] > 0.5
    made = people_mask(load_person_matting(), (image * 255).byte().numpy())
    assert set(np.unique(made)) <= {0, 255}
    found = torch.from_numpy(made) > 127
    for half in (slice(0, 200), slice(200, 400)):
        both = (found & wanted)[:, half].sum()
        assert float(both / wanted[:, half].sum()) > 0.6
    assert float((found & ~wanted).float().mean()) < 0.1
