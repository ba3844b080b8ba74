"""Epipolar constraints and injection of key views: geometry, memory, and what a call of the network makes of them."""

import itertools
import math

import pytest
import torch

from engine.diffusion import CrossFrameAttention
from engine.diffusion.epipolar import (
    Epipolar,
    Source,
    by_angle,
    forbidden,
    fundamental,
    inject,
    match,
    unpacked,
)
from engine.diffusion.key_views import Injection, KeyViews, Recording, level
from engine.scene import Cameras
from engine.scene.cameras import look_at
from tests.tiny_diffusion import tiny_backbone

SIZE = (8, 6)  # rows, columns of latents


def ring(count: int = 4, spread: float = 0.3, off_center: bool = True) -> Cameras:
    """Cameras on an arc that look at the origin, principal points off center."""
    positions = [
        (4 * math.sin(a), -0.4 + 0.2 * i, 4 * math.cos(a)) for i, a in enumerate(angles(count, spread))
    ]
    poses = [look_at(torch.tensor(p), torch.zeros(3), torch.tensor([0.0, -1.0, 0.0])) for p in positions]
    K = torch.tensor([[70.0, 0, 26.5 if off_center else 24], [0, 72, 30.0 if off_center else 32], [0, 0, 1]])
    names = tuple(f"cam{i}" for i in range(count))
    return Cameras(torch.stack(poses), K.double().expand(count, 3, 3), ((48, 64),) * count, names)


def angles(count: int, spread: float) -> list[float]:
    return [spread * (i - (count - 1) / 2) for i in range(count)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(8, 6), (4, 3)])
def test_projections_of_one_point_lie_on_each_others_line(size):
    cameras = ring().resized(((size[1], size[0]),) * 4)
    F = fundamental(cameras.K[0], cameras.world_to_camera[0], cameras.K[3], cameras.world_to_camera[3])
    points = draw(200, 3).double() * 0.5
    p, q = (torch.cat([cameras.project(points, i)[0], torch.ones(200, 1)], -1) for i in (0, 3))
    lines = p.double() @ F
    distance = (lines * q.double()).sum(-1).abs() / lines[:, :2].norm(dim=-1)
    assert float(distance.max()) < 1e-3
    assert float(F.norm()) == pytest.approx(1)


def test_the_token_that_sees_the_same_point_is_allowed():
    epipolar = Epipolar(ring())
    small = epipolar.cameras.resized(((6, 8),) * 4)
    refused = unpacked(epipolar(1, 2, *SIZE), 48)
    assert 0.3 < float(refused.float().mean()) < 0.95
    points = draw(300, 3, seed=4).double() * 0.2
    (p, _), (q, _) = small.project(points, 1), small.project(points, 2)
    inside = ((p >= 0) & (q >= 0) & (p < torch.tensor([6, 8])) & (q < torch.tensor([6, 8]))).all(-1)
    tokens = [(x.floor().long() @ torch.tensor([1, 6]))[inside] for x in (p, q)]
    # the point may be half a token's diagonal from either center
    assert float(refused[tokens[0], tokens[1]].float().mean()) < 0.05 and int(inside.sum()) > 100


def test_packed_bits_are_numpys():
    F = fundamental(
        torch.eye(3), torch.eye(4), torch.eye(3), look_at(draw(3), draw(3, seed=1), draw(3, seed=2))
    )
    bits = forbidden(F, 3, 5)
    assert bits.shape == (15, 2) and bits.dtype == torch.uint8
    rows = unpacked(bits, 15)
    packed = torch.nn.functional.pad(rows, (0, 1)).unflatten(1, (2, 8)) * (2 ** torch.arange(7, -1, -1))
    assert torch.equal(packed.sum(-1), bits.long())


def test_constraints_are_made_once_and_kept_as_bits():
    epipolar = Epipolar(ring())
    first = epipolar(0, 1, 16, 12)
    assert first is epipolar(0, 1, 16, 12)
    assert first.numel() * first.element_size() == (16 * 12) ** 2 // 8
    assert epipolar(0, 1, 8, 6).shape == (48, 6)


def test_frames_of_one_rig_share_their_constraints():
    rig = ring(3)
    twice = Cameras.concatenate([rig, Cameras(rig.world_to_camera, rig.K, rig.sizes, ("a", "b", "c"))])
    epipolar = Epipolar(twice)
    assert epipolar(0, 1, *SIZE) is epipolar(3, 4, *SIZE) is not epipolar(3, 5, *SIZE)


def test_cameras_at_one_place_are_unconstrained():
    cameras = ring(2)
    turned = cameras.world_to_camera.clone()
    turned[1] = turned[0]
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    for rotation in (torch.eye(3, dtype=torch.float64), turn):
        turned[1, :3] = rotation @ turned[0, :3]
        epipolar = Epipolar(Cameras(turned, cameras.K, cameras.sizes, cameras.names))
        assert epipolar.is_same_place(0, 1) and epipolar(0, 1, *SIZE) is None
        order, weights = epipolar.nearest(0, [0, 1])
        assert order == [0, 1] and all(math.isfinite(w) for w in weights) and sum(weights) == pytest.approx(1)
    assert not Epipolar(cameras).is_same_place(0, 1)
    assert not bool(unpacked(forbidden(torch.zeros(3, 3, dtype=torch.float64), 4, 4), 16).any())


def test_rows_without_an_allowed_token_are_unconstrained():
    # lines y = 20, far below every token
    F = torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, 1, -20]], dtype=torch.float64)
    assert not bool(unpacked(forbidden(F, 4, 4), 16).any())
    F[2] = torch.tensor([0.0, 1, -2])
    rows = unpacked(forbidden(F, 4, 4), 16)
    assert rows[0].reshape(4, 4)[:, 0].tolist() == [True, False, False, True]


def test_forbidden_tokens_never_win_unless_the_reference_is_asked_for():
    hidden, keys = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.1], [-1.0, 1.0], [1.0, 0.0]])
    bits = torch.tensor([[0b00100000]], dtype=torch.uint8)
    assert match(hidden, keys).tolist() == [2]
    assert match(hidden, keys, bits).tolist() == [1]
    assert match(hidden, keys, bits, reference=True).tolist() == [2]


def test_weights_of_two_keys_lie_in_the_papers_range():
    epipolar = Epipolar(ring(6))
    for view in range(6):
        order, (near, far) = epipolar.nearest(view, [0, 2, 5])
        assert 0.62 < near < 0.7311 and near + far == pytest.approx(1) and len(set(order)) == 2
        assert epipolar.nearest(view, [0, 2, 5], 1) == (order[:1], [1.0])
    assert epipolar.nearest(3, [1]) == ([0], [1.0])


@pytest.mark.parametrize("up", [(0.0, -1.0, 0.0), (0.0, 0.0, 1.0)])
def test_views_are_ordered_by_angle(up):
    order = [3, 0, 4, 1, 2]
    across = torch.linalg.cross(torch.tensor(up), torch.tensor([0.3, 0.2, 1.0]))
    ahead = torch.linalg.cross(across, torch.tensor(up))
    poses = [
        look_at(4 * (across * math.sin(a) - ahead * math.cos(a)), torch.zeros(3), torch.tensor(up))
        for a in angles(5, 0.4)
    ]
    K = torch.eye(3).expand(5, 3, 3)
    cameras = Cameras(torch.stack(poses)[order], K, ((4, 4),) * 5, tuple("abcde"))
    found = [order[i] for i in by_angle(cameras, range(5))]
    assert found in (list(range(5)), list(range(5))[::-1])
    assert by_angle(cameras, [2, 0]) == [2, 0]


def test_a_full_circle_has_neighbors_next_to_each_other():
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1)).tolist()
    whole = ring(8, 2 * math.pi / 8)[order]
    found = [order[i] for i in by_angle(whole, range(8))]
    steps = {(b - a) % 8 for a, b in itertools.pairwise(found)}
    assert steps in ({1}, {7})


def test_a_key_gathers_its_own_tokens():
    hidden, output = draw(3, 20, 8), draw(2, 3, 20, 5, seed=1)
    sources = [[Source(i, 1.0)] for i in range(3)]
    assert torch.equal(inject(hidden, hidden, output, sources), output)


def test_indices_of_one_branch_serve_all():
    hidden = draw(2, 20, 8)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    output = draw(3, 1, 20, 5)
    got = inject(hidden[:1, order], hidden[:1], output, [[Source(0, 1.0)]])
    assert torch.equal(got, output[:, :, order])


def test_layers_are_told_by_their_number_of_tokens():
    assert [level((9, 7), n) for n in (63, 20, 6)] == [(9, 7), (5, 4), (3, 2)]
    with pytest.raises(ValueError, match="21 tokens"):
        level((9, 7), 21)


# -- in a network --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def ask(backbone, noisy, sharing=None):
    branches = 3
    text = backbone.encode_text(["make it gold", "", ""]).repeat_interleave(len(noisy), dim=0)
    condition = torch.cat([draw(len(noisy), 4, *SIZE, seed=7)] * 2 + [torch.zeros(len(noisy), 4, *SIZE)])
    return backbone.predict(noisy.repeat(branches, 1, 1, 1), 400, text, condition, sharing)


def test_one_key_is_plain_attention(backbone):
    noisy = draw(1, 4, *SIZE)
    plain = ask(backbone, noisy)
    views = KeyViews(1, branch=1)
    torch.testing.assert_close(ask(backbone, noisy, Recording(views)), plain, rtol=1e-4, atol=1e-5)
    injection = Injection(views, Epipolar(ring()), [2], [2], SIZE)
    torch.testing.assert_close(ask(backbone, noisy, injection), plain, rtol=1e-4, atol=1e-5)


def test_a_key_pass_is_full_attention_and_every_layer_is_recorded(backbone):
    noisy, views = draw(3, 4, *SIZE), KeyViews(3, branch=1)
    full = ask(backbone, noisy, CrossFrameAttention("full3d", 3))
    torch.testing.assert_close(ask(backbone, noisy, Recording(views)), full, rtol=1e-4, atol=1e-5)
    layers = {name for name in backbone.unet.attn_processors if name.endswith("attn1.processor")}
    assert set(views.hidden) == set(views.output) == layers and not views.tokens
    for name in layers:
        assert views.output[name].shape[:2] == (3, 3) and len(views.hidden[name]) == 3


def test_keys_injected_from_themselves_become_what_they_were(backbone):
    noisy, views = draw(3, 4, *SIZE), KeyViews(3, branch=1)
    recorded = ask(backbone, noisy, Recording(views))
    injection = Injection(views, Epipolar(ring()), [0, 1, 3], [0, 1, 3], SIZE, nearest=1)
    torch.testing.assert_close(ask(backbone, noisy, injection), recorded, rtol=1e-4, atol=1e-5)


def test_other_views_depend_on_the_keys_and_are_finite(backbone):
    keys, others = draw(2, 4, *SIZE), draw(3, 4, *SIZE, seed=3)
    results = []
    for noisy in (keys, keys + 0.5):
        views = KeyViews(2, branch=1)
        ask(backbone, noisy, Recording(views))
        results.append(ask(backbone, others, Injection(views, Epipolar(ring(5)), [0, 2, 4], [1, 3], SIZE)))
    assert all(bool(r.isfinite().all()) for r in results)
    assert float((results[0] - results[1]).abs().max()) > 1e-3
    assert float((results[0] - ask(backbone, others)).abs().max()) > 1e-3


def test_key_views_of_another_frame_attend_to_the_reference_frame(backbone):
    here, there = draw(2, 4, *SIZE), draw(2, 4, *SIZE, seed=3)

    def other(reference):
        views = KeyViews(2, branch=1, is_reference=True)
        ask(backbone, reference, Recording(views))
        return ask(backbone, here, Recording(KeyViews(2, branch=1, reference=views)))

    apart = ask(backbone, here, Recording(KeyViews(2, branch=1)))
    assert float((other(there) - apart).abs().max()) > 1e-3
    assert float((other(there) - other(there + 1)).abs().max()) > 1e-3
    # a reference that is the frame itself adds no token that was not there
    torch.testing.assert_close(other(here), apart, rtol=1e-4, atol=1e-5)


def test_the_networks_own_attention_comes_back(backbone):
    noisy = draw(2, 4, *SIZE)
    before = ask(backbone, noisy)
    views = KeyViews(2)
    ask(backbone, noisy, Recording(views))
    with pytest.raises(ValueError, match="do not belong"):
        ask(backbone, noisy, Injection(views, Epipolar(ring()), [0, 1], [0, 1], (9, 7)))
    assert torch.equal(ask(backbone, noisy), before)
