"""Motion stored per frame: half precision within its bound, and variation fields that leave alone what they do not change."""

import math

import pytest
import torch

from engine.deform import PerFrame
from engine.errors import InputError
from engine.io.scene_file import load_scene, save_scene
from engine.models.trellis import RawGaussians
from engine.models.variation_field.deltas import canonical_changes, rotated
from engine.scene import rotations
from tests.scenes import moving_scene

COUNT, FRAMES = 50, 4


def random_raw(count: int = COUNT) -> RawGaussians:
    g = torch.Generator().manual_seed(0)
    means, colors, scales = (torch.rand(3, count, 3, generator=g) - 0.5).unbind()
    rotation, opacity = 0.3 * torch.randn(count, 4, generator=g), torch.randn(count, generator=g)
    return RawGaussians(means, colors, scales * 4, rotation, opacity)


def random_deltas(size: float = 0.3) -> torch.Tensor:
    return size * torch.randn(FRAMES, COUNT, 14, generator=torch.Generator().manual_seed(1))


def book_of(raw: RawGaussians, deltas: torch.Tensor) -> PerFrame:
    return PerFrame(torch.arange(len(deltas), dtype=torch.float64) / 10, canonical_changes(raw, deltas))


def test_deltas_of_zero_are_the_canonical_gaussians_bit_for_bit():
    raw = random_raw()
    canonical = raw.to_gaussians()
    moved = book_of(raw, torch.zeros(FRAMES, COUNT, 14)).deform(canonical, 0.13)
    assert all(torch.equal(t, canonical.tensors()[name]) for name, t in moved.tensors().items())


def test_the_first_frame_of_a_variation_field_moves_too():
    raw = random_raw()
    deltas = random_deltas()
    moved = book_of(raw, deltas).deform(raw.to_gaussians(), 0.0)
    assert torch.equal(moved.means, raw.means + deltas[0, :, :3])


def test_half_precision_stays_within_its_bound():
    raw = random_raw()
    # tiny changes are below half precision's normal numbers, large ones near its end
    deltas = random_deltas() * torch.logspace(-9, 4, COUNT)[:, None]
    whole = book_of(raw, deltas)
    half = whole.in_half()
    for name, change in whole.changes.items():
        stored = half.changes[name]
        assert stored.dtype == torch.float16
        assert bool(((stored.float() - change).abs() <= change.abs() / 2048 + 2**-25).all()), name
        assert bool((stored[change == 0] == 0).all())
    with pytest.raises(InputError, match="DEF-030"):
        book_of(raw, deltas * 1e3).in_half()


def test_half_precision_blends_in_full_precision():
    raw = random_raw()
    half = book_of(raw, random_deltas()).in_half()
    canonical = raw.to_gaussians()
    now, (a, b) = half.deform(canonical, 0.17), half.changes["means"][1:3].float()
    assert now.means.dtype == torch.float32
    torch.testing.assert_close(now.means, canonical.means + 0.3 * a + 0.7 * b, rtol=0, atol=1e-6)
    index = torch.tensor([3, 3, 0])
    part = half.take(index)
    assert part.changes["means"].dtype == torch.float16
    assert torch.equal(part.deform(canonical.map(lambda t: t[index]), 0.17).means, now.means[index])


def test_a_scene_in_half_precision_is_saved_and_loaded_bit_for_bit(tmp_path):
    raw = random_raw()
    base = moving_scene(count=COUNT, views=2, moments=2)
    half = book_of(raw, random_deltas()).in_half()
    scene = base.with_(canonical=raw.to_gaussians(), deformation=half, times=half.seconds)
    again = load_scene(save_scene(scene, tmp_path / "scene.safetensors"))
    assert again.deformation.changes["quats"].dtype == torch.float16
    for seconds in (0.0, 0.17, 0.3):
        a, b = scene.at(seconds).tensors(), again.at(seconds).tensors()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_raw_values_come_back_from_a_scene():
    raw = random_raw()
    again = RawGaussians.from_gaussians(raw.to_gaussians())
    for name in ("means", "colors", "rotations", "opacities", "scales"):
        torch.testing.assert_close(getattr(again, name), getattr(raw, name), rtol=1e-5, atol=1e-5)


def test_a_turned_canonical_keeps_its_shape():
    raw, half_turn = random_raw(), torch.tensor([math.cos(0.4), 0, 0, math.sin(0.4)])
    turned = rotated(raw, half_turn).activated()
    matrix = rotations.quats_to_matrices(half_turn)
    torch.testing.assert_close(turned.means, raw.means @ matrix.T)
    whole = matrix @ rotations.quats_to_matrices(raw.activated().quats)
    torch.testing.assert_close(rotations.quats_to_matrices(turned.quats), whole, rtol=0, atol=1e-5)
    assert torch.equal(turned.scales, raw.activated().scales)
