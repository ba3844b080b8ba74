"""Keying of a plain background: against exact coverage, in compressed video, and where there is none."""

import pytest
import torch

from engine.errors import InputError
from engine.masks.background_key import background_of, keyed
from engine.messages import progress_of, returned


def run(images: torch.Tensor):
    return returned(keyed(images))


def drawn(color: tuple[float, float, float], noise: float = 0.0, frames: int = 2, pixels: int = 96):
    """Frames of a striped disk, a bar and two hairs over a color, exact coverage, and the subject's own colors.

    Eight by eight samples per pixel.
    """
    fine = 8 * pixels
    y, x = torch.meshgrid(*[torch.arange(fine) / fine] * 2, indexing="ij")
    images, alphas, owns = [], [], []
    generator = torch.Generator().manual_seed(0)
    for i in range(frames):
        cx = 0.45 + 0.05 * i
        inside = (x - cx) ** 2 + (y - 0.4) ** 2 < 0.06
        inside |= ((x - cx).abs() < 0.08) & (y > 0.5) & (y < 0.9)
        # one and a half pixels wide
        inside |= ((x - y - 0.02 - cx + 0.4).abs() < 0.011) & (y > 0.05) & (y < 0.95)
        stripes = ((12 * x + 5 * y).floor() % 2)[..., None]
        own = stripes * torch.tensor([0.8, 0.25, 0.2]) + (1 - stripes) * torch.tensor([0.15, 0.3, 0.6])
        cover = inside.float()[..., None]

        def mean(t: torch.Tensor) -> torch.Tensor:
            return t.reshape(pixels, 8, pixels, 8, -1).mean((1, 3))

        alpha, premultiplied = mean(cover), mean(cover * own)
        image = premultiplied + (1 - alpha) * torch.tensor(color)
        image = image + noise * torch.randn(image.shape, generator=generator)
        images.append(image.clamp(0, 1))
        alphas.append(alpha[..., 0])
        owns.append(premultiplied)
    return torch.stack(images), torch.stack(alphas), torch.stack(owns)


@pytest.mark.parametrize(
    ("color", "noise", "edge", "over"),
    [
        ((1.0, 1.0, 1.0), 0.0, 0.035, 0.001),
        ((1.0, 1.0, 1.0), 0.02, 0.06, 0.006),
        ((0.1, 0.8, 0.2), 0.0, 0.075, 0.0035),
        ((0.5, 0.5, 0.5), 0.01, 0.15, 0.0065),
        ((0.0, 0.0, 0.0), 0.01, 0.1, 0.006),
    ],
)
def test_coverage_and_colors_are_those_of_the_subject(
    color: tuple[float, float, float], noise: float, edge: float, over: float
):
    images, alphas, premultiplied = drawn(color, noise)
    got, cleaned = run(images)
    mixed = (alphas > 0.02) & (alphas < 0.98)
    assert float((got - alphas)[mixed].abs().mean()) < edge
    hard = ((images - torch.tensor(color)).abs().amax(-1) > 0.06).float()
    assert float((got - alphas)[mixed].abs().mean()) < 0.5 * float((hard - alphas)[mixed].abs().mean())
    assert float((got - alphas)[~mixed].abs().mean()) < 0.006
    # over another background nothing of the first one is left
    other = torch.tensor([0.9, 0.1, 0.9])
    want = premultiplied + (1 - alphas[..., None]) * other
    made = cleaned * got[..., None] + (1 - got[..., None]) * other
    kept = images * got[..., None] + (1 - got[..., None]) * other
    error, without = ((t - want)[mixed].abs().mean() for t in (made, kept))
    assert float((made - want).abs().mean()) < over
    assert float(error) < 0.75 * float(without)


def test_the_color_is_found_where_the_subject_reaches_the_border():
    images, _, _ = drawn((0.2, 0.7, 0.3), 0.01)
    images[:, 60:, 20:80] = torch.tensor([0.6, 0.1, 0.1])
    found = background_of(images)
    assert found.is_plain and found.hex in ("#33b24c", "#33b24d", "#33b34c", "#33b34d")
    got, _ = run(images)
    assert float(got[:, 65:, 25:75].min()) == 1
    assert float(got[:, :3].max()) == 0


def test_small_holes_are_filled_and_large_ones_are_holes():
    images, _, _ = drawn((1.0, 1.0, 1.0))
    images[:, 30:60, 30:60] = 0.3
    images[:, 40:42, 40:42] = 1
    images[:, 46:56, 46:56] = 1
    got, _ = run(images)
    assert float(got[:, 40:42, 40:42].min()) == 1
    assert float(got[:, 48:54, 48:54].max()) == 0


def test_a_gradient_and_a_busy_background_are_refused():
    ramp = torch.linspace(0, 1, 64)[None, None, :, None].expand(3, 48, 64, 3)
    for images in (ramp, torch.rand(3, 48, 64, 3, generator=torch.Generator().manual_seed(0))):
        assert not background_of(images).is_plain
        with pytest.raises(InputError, match=r"not plain: only \d+% .* #[0-9a-f]{6}"):
            run(images)


def test_progress_counts_frames():
    images, _, _ = drawn((1.0, 1.0, 1.0), frames=3)
    assert [m.done for m in progress_of(keyed(images))] == [1, 2, 3]
