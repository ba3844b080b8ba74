"""Splats from elsewhere become canonical Gaussians: upright, in the box, without floaters, in raw parameters."""

import math

import pytest
import torch
from torch import Tensor

from engine.errors import InputError
from engine.geometry.placement import (
    MOST,
    BoxSides,
    about_z,
    canonical,
    checked,
    floaters,
    moved,
    turned,
    upright,
)
from engine.models.trellis import RawGaussians
from engine.render import choose, render_gaussians
from engine.scene import ActivatedGaussians, Gaussians, harmonics, rotations
from engine.scene.rigs import orbit_cameras


def cloud(count: int = 300, bases: int = 1, side: float = 0.8) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    box = torch.tensor([side, 0.6 * side, 0.4 * side])
    return Gaussians(
        (torch.rand(count, 3, generator=g) - 0.5) * box,
        torch.full((count, 3), -4.0) + 0.5 * torch.rand(count, 3, generator=g),
        torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1),
        torch.randn(count, generator=g),
        0.3 * torch.randn(count, bases, 3, generator=g),
    )


def rendered(gaussians: Gaussians, azimuth: float, elevation: float = 20.0) -> Tensor:
    cameras = orbit_cameras([azimuth], elevation, 48)
    return render_gaussians(gaussians, cameras, choose("torch"), torch.ones(3)).rgb[0]


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_turning_the_object_is_turning_the_camera_the_other_way(degree: int):
    gaussians = cloud(bases=harmonics.bases(degree))
    got, want = rendered(turned(gaussians, about_z(-35.0)), 10.0), rendered(gaussians, 45.0)
    torch.testing.assert_close(got, want, atol=2e-5, rtol=0)


def test_the_front_is_at_negative_y_and_azimuths_go_counterclockwise():
    cameras = orbit_cameras([0.0, 90.0], 0.0, 32)
    torch.testing.assert_close(
        cameras.centers, torch.tensor([[0, -2.0, 0], [2.0, 0, 0]], dtype=torch.float64), atol=1e-12, rtol=0
    )
    # x is right and z is up in the image of the front
    pixels, _ = cameras.project(torch.tensor([[0.1, 0, 0.2]], dtype=torch.float64), 0)
    assert float(pixels[0, 0]) > 16 > float(pixels[0, 1])


@pytest.mark.parametrize(("up", "axis"), [("z up", 2), ("y up", 1), ("y down", 1)])
def test_every_up_axis_becomes_z(up: str, axis: int):
    gaussians = cloud()
    height = gaussians.means[:, axis] * (-1 if up == "y down" else 1)
    torch.testing.assert_close(upright(gaussians, up).means[:, 2], height)


def test_a_splat_that_is_in_place_keeps_its_values():
    gaussians = cloud()
    gaussians = gaussians.with_(quats=gaussians.quats * gaussians.quats[:, :1].sign())
    placed = canonical(gaussians)
    assert placed.note == ""
    assert all(torch.equal(t, placed.gaussians.tensors()[name]) for name, t in gaussians.tensors().items())


def test_another_size_and_place_is_brought_into_the_box():
    gaussians = cloud()
    big = moved(gaussians, 7.0, torch.tensor([3.0, -2.0, 1.0]))
    placed = canonical(big)
    means = placed.gaussians.means
    assert float((means.amax(0) - means.amin(0)).max()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(means.amax(0) + means.amin(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert "scaled by" in placed.note
    back = moved(big, placed.scale, placed.shift)
    torch.testing.assert_close(back.means, means)
    # sizes follow
    torch.testing.assert_close(
        placed.gaussians.log_scales - big.log_scales, torch.full((300, 3), math.log(placed.scale))
    )


def test_a_model_names_the_sizes_that_it_knows():
    gaussians = moved(cloud(), 1.0, torch.tensor([0.15, 0.0, 0.0]))
    assert canonical(gaussians, sides=BoxSides(most=1.4)).scale == 1
    small = canonical(moved(gaussians, 0.1, torch.zeros(3)), sides=BoxSides(0.4, 1.4, 0.8))
    means = small.gaussians.means
    assert float((means.amax(0) - means.amin(0)).max()) == pytest.approx(0.8, abs=1e-5)
    assert small.note.endswith("to fit a box of side 0.8")


def test_floaters_are_left_out_and_do_not_shrink_the_object():
    gaussians = cloud()
    far = gaussians.map(lambda t: t[:2]).with_(means=torch.tensor([[9.0, 0, 0], [0, 0, -4.0]]))
    huge = gaussians.map(lambda t: t[2:3]).with_(log_scales=torch.tensor([[-4.0, 0.0, -4.0]]))
    found = floaters(Gaussians.concatenate([gaussians, far, huge]))
    assert found.nonzero().flatten().tolist() == [300, 301, 302]
    placed = canonical(Gaussians.concatenate([gaussians, far, huge]))
    assert (len(placed.gaussians), placed.floaters, placed.scale) == (300, 3, 1.0)
    kept = canonical(Gaussians.concatenate([gaussians, far, huge]), removes_floaters=False)
    assert len(kept.gaussians) == 303


def test_activated_values_become_raw_ones_and_back():
    a = cloud().activated()
    # scenes and other nodes give unit quaternions of either sign
    splat = Gaussians.from_activated(
        ActivatedGaussians(a.means, -a.quats * a.quats[:, :1].sign(), a.scales, a.opacities, a.sh)
    )
    raw = RawGaussians.from_gaussians(canonical(splat).gaussians)
    b = raw.activated()
    for name in ("means", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(b, name), getattr(a, name), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(rotations.quats_to_matrices(b.quats), rotations.quats_to_matrices(a.quats))
    # relative to the identity: near 0, not near −2
    assert float(raw.rotations[:, 0].min()) >= -1


def with_nan(name: str) -> Gaussians:
    gaussians = cloud()
    values = gaussians.tensors()[name].clone()
    values[7] = torch.nan
    return gaussians.with_(**{name: values})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: cloud(0), "does not contain Gaussians"),
        (lambda: cloud(1).map(lambda t: t.expand(MOST + 1, *t.shape[1:])), "2,000,001 Gaussians, more than"),
        (lambda: with_nan("means"), "The means of 1 of 300 Gaussians"),
        (lambda: with_nan("logit_opacities"), "The logit opacities of 1 of 300"),
        (lambda: cloud().with_(means=torch.zeros(300, 3)), "in one point"),
    ],
)
def test_splats_that_cannot_be_used_are_named(make, sentence: str):
    with pytest.raises(InputError, match=sentence):
        canonical(checked(make()))
