"""Align Depth: scale and shift are found whatever a third of the pixels are, and what the maps mean is recognized."""

import pytest
import torch

from engine.errors import InputError
from engine.geometry.depth_alignment import align_depth as fit
from engine.steps import align_depth
from engine.steps.align_depth import Config, make

FRAMES, HEIGHT, WIDTH = 4, 24, 32


@pytest.fixture(scope="module")
def metric() -> torch.Tensor:
    """A slanted floor with a box that comes nearer, 2 to 9 units away."""
    rows = torch.linspace(9, 2, HEIGHT)[:, None].expand(HEIGHT, WIDTH)
    maps = rows.repeat(FRAMES, 1, 1).clone()
    for i in range(FRAMES):
        maps[i, 6:14, 4 + 3 * i : 14 + 3 * i] = 5 - 0.5 * i
    return maps


def spoiled(maps: torch.Tensor, share: float = 0.3) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    wrong = torch.rand(maps.shape, generator=g) < share
    return torch.where(wrong, maps * (2 + 3 * torch.rand(maps.shape, generator=g)), maps)


@pytest.mark.parametrize("fits", ["clip", "frame"])
def test_scale_and_shift_are_found_in_spite_of_outliers(metric, fits) -> None:
    made = make((metric - 1.5) / 4, spoiled(metric), Config(fits=fits))
    assert made.kind == "depth" and len(made.lines) == (1 if fits == "clip" else FRAMES)
    assert torch.allclose(made.depth, metric, rtol=1e-3)
    assert all(abs(line.scale - 4) < 0.01 and abs(line.shift - 1.5) < 0.03 for line in made.lines)


def test_scales_that_jump_need_a_fit_per_frame(metric) -> None:
    factors = torch.tensor([1.0, 2.0, 0.5, 3.0])[:, None, None]
    assert torch.allclose(
        make(metric * factors + factors, metric, Config(fits="frame")).depth, metric, rtol=1e-3
    )
    assert make(metric * factors + factors, metric).error > 0.05


@pytest.mark.parametrize(
    ("kind", "changed"), [("disparity", lambda d: 0.3 / d + 0.05), ("inverted", lambda d: 1 - d / 10)]
)
def test_what_the_maps_contain_is_recognized_and_said(metric, kind, changed) -> None:
    made = make(changed(metric), spoiled(metric))
    assert made.kind == kind and torch.allclose(made.depth, metric, rtol=5e-3)
    assert f"contain {kind}" in made.summary()
    with pytest.raises(InputError, match=r"do not fit the reference as depth: .* set 'depth is' to auto"):
        make(changed(metric), metric, Config(kind="depth"))


@pytest.mark.parametrize(
    ("seed", "ratios", "kind"),
    [(170, (0.9, 1.0), "depth"), (24, (1.0, 1.1), "depth"), (88, (1.2, 1.3), "disparity")],
)
def test_depth_wins_a_near_tie(seed, ratios, kind) -> None:
    g = torch.Generator().manual_seed(seed)
    x, y = torch.rand(1, 6, 8, generator=g), 1 + 4 * torch.rand(1, 6, 8, generator=g).square()
    known = torch.ones_like(x, dtype=torch.bool)
    depth, disparity = (fit(x, y, known, False, each).error for each in ("depth", "disparity"))
    assert ratios[0] < depth / disparity < ratios[1]
    assert fit(x, y, known, False).kind == kind


def test_unknown_depth_is_left_out_and_0(metric) -> None:
    relative = metric / 3 + 1
    hole = relative.clone()
    hole[:, :11] = 0
    masked = {"depth": relative.clone(), "mask": torch.ones_like(metric), "sky": torch.zeros_like(metric)}
    masked["depth"][:, :11] = 100 * torch.rand(FRAMES, 11, WIDTH, generator=torch.Generator().manual_seed(2))
    masked["mask"][:, :5], masked["sky"][:, 5:11] = 0, 1
    for given in (hole, masked):
        made = make(given, metric)
        assert not made.depth[:, :11].any()
        assert torch.allclose(made.depth[:, 11:], metric[:, 11:], rtol=1e-3)
        assert abs(made.lines[0].shift + 3) < 0.03
    wrong = {"depth": metric.clone(), "sky": torch.zeros_like(metric)}
    wrong["depth"][:, :13], wrong["sky"][:, :13] = 50, 1
    assert torch.allclose(make(relative, wrong).depth, metric, rtol=1e-3)


def test_the_sky_is_left_out_and_unknown(metric) -> None:
    sky = metric.clone()
    sky[:, :4] = torch.inf
    made = make(metric / 3, sky)
    assert torch.allclose(made.depth, metric, rtol=1e-3) and "(sky)" in made.text()
    assert not make(sky / 3, metric).depth[:, :4].any()


def test_another_size_is_resized_and_said_and_masks_choose(metric) -> None:
    large = metric.repeat_interleave(2, 1).repeat_interleave(2, 2)
    wrong = large.clone()
    wrong[..., :40] = 1 + 7 * torch.rand(wrong[..., :40].shape, generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(WIDTH) >= 20).float().expand(1, HEIGHT, WIDTH)
    made = make(metric / 5, wrong, Config(), mask)
    assert torch.allclose(made.depth, metric, rtol=1e-3)
    assert any("resized from 64×48 to 32×24" in note for note in made.notes)


def test_images_maps_and_dictionaries_are_one(metric) -> None:
    images = (metric / 10)[..., None].expand(-1, -1, -1, 3)
    points = torch.stack([metric * 0.1, metric * 0.2, metric], dim=-1)
    for reference in (metric, {"depth": metric, "sky": torch.zeros_like(metric)}, {"points": points}):
        assert torch.allclose(make(images, reference).depth, metric, rtol=1e-3)


@pytest.mark.parametrize(
    ("height", "width", "fits"), [(47, 64, True), (49, 64, True), (51, 64, False), (48, 48, False)]
)
def test_a_reference_may_differ_by_a_pixel_of_rounding(metric, height, width, fits) -> None:
    reference = torch.nn.functional.interpolate(metric[:, None], (height, width), mode="nearest-exact")[:, 0]
    if fits:
        assert make(metric / 3, reference).error < 0.05
        return
    with pytest.raises(InputError, match=rf"reference is {width}×{height}, but .* 32×24, .*aspect.*STP-087"):
        make(metric / 3, reference)


def test_what_cannot_be_aligned_is_refused(metric) -> None:
    with pytest.raises(InputError, match="depth is constant in the clip"):
        make(torch.ones_like(metric), metric)
    with pytest.raises(InputError, match="reference is constant in frame 0"):
        make(metric, torch.ones_like(metric), Config(fits="frame"))
    with pytest.raises(InputError, match="reference has 3 frames, but there are 4 depth maps"):
        make(metric, metric[:3])
    with pytest.raises(InputError, match="Only 0 pixels"):
        make(metric, metric, Config(), torch.zeros(1, HEIGHT, WIDTH))
    with pytest.raises(InputError, match="neither 'depth' nor 'points', only mode"):
        make({"mode": "mono"}, metric)
    with pytest.raises(InputError, match=r"reference is .*not depth maps"):
        make(metric, metric[0])
    assert align_depth.STEP.verb == "align-depth"
