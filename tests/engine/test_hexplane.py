"""The HexPlane field against a plain evaluation of its definition, and what it promises to files and to training."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from engine.deform import KINDS, PRESETS, Deformation, HexPlane, HexPlaneConfig, hexplane
from engine.deform.hexplane import HEADS, PAIRS
from engine.errors import InputError
from engine.losses import hexplane_regularizer, plane_smoothness, second_difference, time_l1, time_smoothness
from engine.scene import Gaussians, rotations
from engine.train.hexplane_motion import HexPlaneMotion
from tests.memory import cost_of, needs_linux

BOX = torch.tensor([[1.0, 0.8, 1.2], [-0.9, -1.0, -0.7]])
TINY = HexPlaneConfig(
    features=4, resolution=(5, 6, 7, 8), multires=(1, 2), depth=2, width=16, heads=tuple(HEADS), time_range=(1.0, 3.0)
)  # fmt: skip


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussians(count=40, seed=1, bases=16, spread=1.5):
    g = generator(seed)
    parts = ((count, 3), (count, 3), (count, 4), (count,), (count, bases, 3))
    return Gaussians(*((torch.rand(shape, generator=g) * 2 - 1) * spread for shape in parts))


def field_with_random_planes(config=TINY, seed=0):
    field = HexPlane.create(config, BOX, generator(seed), zero_init=False)
    with torch.no_grad():
        for level in field.planes():
            for plane in level:
                plane.copy_(torch.rand(plane.shape, generator=generator(seed + 1)) + 0.5)
    return field


def plain_features(field, means, seconds):
    """Paper, equation 5, straight from its definition: six two-dimensional look-ups at (x, y, z, t)."""
    start, end = field.settings.time_range
    t = (seconds - start) / (end - start)
    t = t if field.settings.time_mapping == "raw01" else 2 * t - 1
    p = (means - field.aabb[0]) * 2 / (field.aabb[1] - field.aabb[0]) - 1
    p = torch.cat([p, torch.full_like(p[:, :1], t)], dim=1)
    levels = []
    for planes in field.planes():
        product = 1
        for plane, (a, b) in zip(planes, PAIRS, strict=True):
            grid = p[None, None, :, [a, b]]
            product = product * F.grid_sample(plane, grid, padding_mode="border", align_corners=True)[0, :, 0]
        levels.append(product)
    return torch.cat(levels)


@pytest.mark.parametrize("mapping", ["raw01", "symmetric"])
@pytest.mark.parametrize("resolution", [(5, 6, 7, 8), (6, 6, 6, 9), (4, 4, 4, 1), (1, 1, 1, 2)])
@pytest.mark.parametrize("seconds", [1.0, 1.7, 2.0, 3.0, 0.2, 5.0])
def test_features_and_their_gradients_equal_six_plain_lookups(mapping, resolution, seconds):
    field = field_with_random_planes(replace(TINY, time_mapping=mapping, resolution=resolution))
    means = gaussians().means.requires_grad_()
    weight = torch.rand(8, 40, generator=generator(9))
    ours, plain = field.features(means, [seconds]), plain_features(field, means, seconds)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    inputs = [means, field.grids]
    got = torch.autograd.grad((ours * weight).sum(), inputs)
    want = torch.autograd.grad((plain * weight).sum(), inputs)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_new_field_is_the_identity():
    for rotation in (False, True):
        field = HexPlane.create(replace(TINY, apply_rotation=rotation), BOX, generator())
        g = gaussians()
        moved = field.deform(g, 1.3)
        quats = rotations.normalise(g.quats) if rotation else g.quats
        torch.testing.assert_close(moved.quats, quats)
        for name in ("means", "log_scales", "logit_opacities", "sh"):
            assert torch.equal(getattr(moved, name), getattr(g, name))
    started_as_the_paper = HexPlane.create(TINY, BOX, generator(), zero_init=False)
    assert not torch.equal(started_as_the_paper.deform(g, 1.3).means, g.means)


def test_a_new_field_learns_from_the_first_step():
    field = HexPlane.create(TINY, BOX, generator())
    g = gaussians()
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2)
    target = g.means + torch.tensor([0.3, 0.0, -0.1])
    losses = []
    for _ in range(60):
        loss = (field.deform(g, 2.0).means - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 20


def test_time_planes_of_ones_make_the_output_independent_of_time():
    field = HexPlane.create(TINY, BOX, generator(), zero_init=False)
    a, b = (field.deform(gaussians(), t) for t in (1.0, 2.6))
    assert torch.equal(a.means, b.means)
    assert torch.equal(a.sh, b.sh)


def test_raw_time_reads_the_upper_half_of_the_time_axis_alone():
    for mapping, reads_low_rows in (("raw01", False), ("symmetric", True)):
        field = field_with_random_planes(replace(TINY, time_mapping=mapping))
        before = [field.deform(gaussians(), t).means for t in (1.0, 1.4, 2.0)]
        with torch.no_grad():
            for level in field.planes():
                for index in (2, 4, 5):
                    level[index][:, :, :3] += 1.0  # rows 0..2 of 8; the middle lies at 3.5
        after = [field.deform(gaussians(), t).means for t in (1.0, 1.4, 2.0)]
        assert any(not torch.equal(x, y) for x, y in zip(before, after, strict=True)) == reads_low_rows


def test_the_box_is_maximum_first_as_in_imported_scenes():
    field = field_with_random_planes()
    corner = field.features(BOX[:1].clone(), [1.0])[
        :4, 0
    ]  # the maximum corner → grid coordinate −1 on each axis
    planes, row = field.planes()[0], (8 - 1) / 2
    product = torch.ones(4)
    for index in (0, 1, 3):
        product = product * planes[index][0, :, 0, 0]
    for index in (2, 4, 5):
        product = product * (planes[index][0, :, int(row), 0] + planes[index][0, :, int(row) + 1, 0]) / 2
    torch.testing.assert_close(corner, product)


@pytest.mark.parametrize("head", HEADS)
def test_only_enabled_heads_change_anything(head):
    field = field_with_random_planes(replace(TINY, heads=(head,)))
    g, names = (
        gaussians(),
        dict(zip(HEADS, ("means", "log_scales", "quats", "logit_opacities", "sh"), strict=True)),
    )
    moved = field.deform(g, 1.5)
    for other, name in names.items():
        assert (getattr(moved, name) is getattr(g, name)) == (other != head)


@pytest.mark.parametrize("bases", [1, 4, 9, 16])
def test_scenes_of_every_harmonic_degree_can_be_moved(bases):
    g = gaussians(bases=bases)
    moved = field_with_random_planes().deform(g, 1.5)
    full = field_with_random_planes().deform(g.with_(sh=F.pad(g.sh, (0, 0, 0, 16 - bases))), 1.5)
    assert torch.equal(moved.sh, full.sh[:, :bases])


def test_applied_rotation_is_the_quaternion_product():
    field = field_with_random_planes(replace(TINY, heads=("rotation",), apply_rotation=True))
    g = gaussians()
    delta = field.deltas(g.means, [1.5])["rotation"][0]
    want = rotations.quats_to_matrices(g.quats) @ rotations.quats_to_matrices(delta)
    torch.testing.assert_close(
        rotations.quats_to_matrices(field.deform(g, 1.5).quats), want, atol=1e-5, rtol=0
    )


@given(st.lists(st.floats(-1, 5, allow_nan=False), max_size=5), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_many_times_at_once_equal_one_at_a_time(seconds, count):
    field, g = field_with_random_planes(), gaussians(count)
    together = field.deform_many(g, torch.tensor(seconds, dtype=torch.float64))
    assert len(together) == len(seconds)
    for t, moved in zip(seconds, together, strict=True):
        alone = field.deform(g, t).tensors()
        for name, tensor in moved.tensors().items():
            torch.testing.assert_close(tensor, alone[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seconds", [[1.5], [1.2, 2.5, 2.9]])
@pytest.mark.parametrize("width", [16, 64])
def test_gaussians_in_parts_move_as_all_at_once(seconds, width, monkeypatch):
    field, g = field_with_random_planes(replace(TINY, features=16, width=width)), gaussians(1000)
    with torch.no_grad():
        whole = field.deform_many(g, seconds)
        monkeypatch.setattr(hexplane, "_at_once", lambda device, times: 192)
        parts = field.deform_many(g, seconds)
    for a, b in zip(whole, parts, strict=True):
        for name, tensor in a.tensors().items():
            torch.testing.assert_close(b.tensors()[name], tensor, rtol=1e-6, atol=1e-6)


def test_the_message_about_positions_counts_all_parts(monkeypatch):
    monkeypatch.setattr(hexplane, "_at_once", lambda device, times: 16)
    field, g = field_with_random_planes(), gaussians(40)
    g.means[[3, 39], 0] = torch.nan
    with torch.no_grad(), pytest.raises(InputError, match="2 of 40 Gaussians"):
        field.deform(g, 1.5)


@needs_linux
def test_the_memory_of_moving_gaussians_is_hardly_more_than_the_result():
    """The network's buffers of all 200,000 at once take 200 MB."""
    field = HexPlane.create(PRESETS["dynerf"], BOX, generator())
    g = gaussians(200_000, bases=1)
    with torch.no_grad():
        field.deform(gaussians(100, bases=1), 1.5)

        def move() -> None:
            with torch.no_grad():
                field.deform(g, 1.5)

        cost = cost_of(move)
    assert cost.said == "value" and cost.megabytes < 130


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_inactive_gaussians_keep_their_bits_and_get_the_plain_gradient(share):
    field = field_with_random_planes()
    g = gaussians().map(lambda t: t.requires_grad_())
    active = torch.rand(40, generator=generator(3)) < share
    moved, everywhere = field.deform_active(g, 1.5, active), field.deform(g, 1.5)
    for name, tensor in moved.tensors().items():
        assert torch.equal(tensor[~active], getattr(g, name)[~active])
        torch.testing.assert_close(tensor[active], getattr(everywhere, name)[active], rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(moved.means.sum(), g.means)
    assert torch.equal(gradient[~active], torch.ones_like(gradient[~active]))
    assert torch.equal(field.deform_active(g, 1.5, None).means, everywhere.means)


def test_parts_rebuild_the_same_field_bit_for_bit():
    field, g = field_with_random_planes(), gaussians()
    state = torch.get_rng_state()
    again = KINDS[field.kind].from_parts(json.loads(json.dumps(field.config())), field.tensors())
    assert torch.equal(state, torch.get_rng_state()), (
        "loading a scene does not disturb other people's randomness"
    )
    assert again.settings == field.settings
    for t in (0.0, 1.5, 2.9):
        a, b = field.deform(g, t).tensors(), again.deform(g, t).tensors()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert isinstance(field, Deformation)


def test_a_moved_field_is_a_copy():
    field = field_with_random_planes()
    copy = field.to("cpu")
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert all(bool(p.any()) for p in field.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_field(name):
    small = replace(PRESETS[name], resolution=(4, 4, 4, 5))
    field = HexPlane.create(small, BOX, generator())
    assert set(field.tensors()) == set(small.tensor_shapes())
    assert all(tuple(t.shape) == small.tensor_shapes()[key] for key, t in field.tensors().items())
    assert HexPlaneConfig.from_json(json.loads(json.dumps(small.to_json()))) == small
    # no number of a parameter is without a name
    named = sum(tensor.numel() for key, tensor in field.tensors().items() if key != "aabb")
    assert sum(p.numel() for p in field.parameters()) == named


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": ("position", "colour")},
        {"heads": ("position", "position")},
        {"time_mapping": "log"},
        {"resolution": (4, 4, 4)},
        {"resolution": (0, 4, 4, 4)},
        {"resolution": (60000, 60000, 4, 4)},
        {"time_range": (2.0, 1.0)},
        {"time_range": (0.0, float("nan"))},
        {"multires": ()},
        {"width": 10**9},
    ],
)
def test_impossible_configurations_are_refused(wrong):
    with pytest.raises(InputError):
        replace(TINY, **wrong)


def test_parts_that_do_not_fit_are_refused_before_anything_is_made():
    field = field_with_random_planes()
    parts = field.tensors()
    for change in (
        {"aabb": parts["aabb"][0]},
        {"grids.0.2": torch.zeros(1, 4, 8, 9)},
        {"surplus": torch.zeros(1)},
    ):
        with pytest.raises(InputError, match=next(iter(change))):
            HexPlane.from_parts(field.config(), parts | change)
    with pytest.raises(InputError, match=r"trunk\.0\.bias"):
        HexPlane.from_parts(field.config(), {k: v for k, v in parts.items() if k != "trunk.0.bias"})
    with pytest.raises(InputError, match="newer"):
        HexPlane.from_parts(field.config() | {"warp": 1}, parts)
    huge = field.config() | {"resolution": [2000, 2000, 20, 20], "multires": [1]}
    with pytest.raises(InputError, match="grids"):
        HexPlane.from_parts(huge, parts)
    with pytest.raises(InputError, match="differ on every axis"):
        HexPlane.from_parts(field.config(), parts | {"aabb": torch.zeros(2, 3)})


def test_a_flat_cloud_gets_a_box_with_some_extent():
    flat = torch.tensor([[1.0, 1.0, 0.5], [-1.0, -1.0, 0.5]])
    moved = HexPlane.create(TINY, flat, generator(), zero_init=False).deform(gaussians(), 1.0)
    assert bool(torch.isfinite(moved.means).all())


def test_regularisers_ignore_ramps_and_see_bends():
    ramp = torch.linspace(0, 3, 9)[None, None, :, None].expand(1, 2, 9, 4).contiguous()
    assert float(second_difference(ramp)) < 1e-10
    assert float(second_difference(ramp.square())) > 1e-4
    assert float(second_difference(ramp.transpose(2, 3).contiguous())) == 0.0, "along the height alone"
    assert float(second_difference(torch.rand(1, 2, 2, 4))) == 0.0
    field = HexPlane.create(TINY, BOX, generator())
    assert float(time_smoothness(field.planes())) == 0.0
    assert float(time_l1(field.planes())) == 0.0
    assert float(plane_smoothness(field.planes())) > 0


def test_regulariser_gradients_agree_with_finite_differences():
    plane = torch.rand(1, 2, 6, 3, dtype=torch.float64, generator=generator()).requires_grad_()
    assert torch.autograd.gradcheck(second_difference, (plane,))
    layout = HexPlaneConfig(1, (3, 4, 5, 4), (1,)).grid_layout()
    grids = torch.rand(sum(layout.sizes), dtype=torch.float64, generator=generator(), requires_grad=True)
    assert torch.autograd.gradcheck(lambda flat: hexplane_regularizer(flat, layout, 0.3, 0.2, 0.1), (grids,))


def test_memory_of_optimizers_that_had_one_for_each_plane_is_refused():
    motion = HexPlaneMotion.adopt(field_with_random_planes(), torch.linspace(1, 3, 5))
    state = motion.state() | {"adam.0.step": torch.tensor(3.0)}
    with pytest.raises(ValueError, match="earlier version"):
        motion.load_state(state)
