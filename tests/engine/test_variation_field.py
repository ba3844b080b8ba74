"""Variation fields do what their construction promises, at sizes and with weights that no file holds."""

import itertools

import pytest
import torch

from engine.deform import PerFrame
from engine.errors import InputError
from engine.models import variation_field as gvf
from engine.models.trellis import RawGaussians

SMALL_VAE = gvf.VariationVaeShape(depth=2, dim=48, num_latents=16, latent_dim=8, heads=4)
SMALL_DIT = gvf.VariationDitShape(8, 8, 48, 14, 10, num_blocks=2, num_heads=4)
FRAMES, COUNT, POINTS = 5, 70, 120


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


def awake(model, generator):
    """All weights random, those that start at zero too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2, generator=generator)
    return model.eval().requires_grad_(False)


def raw_gaussians(generator, count=COUNT):
    def normal(*size):
        return torch.randn(*size, generator=generator)

    means = torch.rand(count, 3, generator=generator) - 0.5
    return RawGaussians(means, normal(count, 3), normal(count, 3), 0.3 * normal(count, 4), normal(count))


# -- anchors and mesh motion ------------------------------------------------------------------------------------------


def test_farthest_points_start_at_the_first_and_spread(random):
    points = torch.rand(300, 3, generator=random)
    chosen = gvf.farthest_points(points, 40)
    assert int(chosen[0]) == 0 and len(set(chosen.tolist())) == 40
    assert torch.equal(chosen, gvf.farthest_points(points, 40))
    assert torch.equal(chosen[:17], gvf.farthest_points(points, 17)), "fewer are the first of more"
    # each was the farthest from those before it, so the distances to earlier ones never grow
    gaps = [float((points[chosen[:i]] - points[chosen[i]]).norm(dim=-1).min()) for i in range(1, 40)]
    assert all(a >= b for a, b in itertools.pairwise(gaps))
    others = torch.cdist(points, points[chosen]).amin(dim=1)
    assert float(others.max()) <= gaps[-1]


def test_farthest_points_ignore_the_order_of_the_others(random):
    points = torch.rand(100, 3, generator=random)
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(99, generator=random)])
    assert torch.equal(
        points[gvf.farthest_points(points, 30)], points[order][gvf.farthest_points(points[order], 30)]
    )


def test_too_few_gaussians_are_an_error():
    with pytest.raises(InputError, match="MOD-021"):
        gvf.farthest_points(torch.zeros(3, 3), 4)


def test_a_shifted_mesh_moves_every_gaussian_by_exactly_that(random):
    points, at = torch.rand(POINTS, 3, generator=random), torch.rand(COUNT, 3, generator=random)
    shift = torch.tensor([[0.0, 0.0, 0.0], [0.3, -0.2, 0.1], [-1.0, 0.5, 2.0]])
    moved = gvf.interpolate_displacements(shift[:, None].expand(-1, POINTS, -1), points, at)
    assert torch.equal(moved[0], torch.zeros(COUNT, 3)), "no motion is none"
    # the weights' sum misses 1 by the 1e-8 in their denominator, at most 1.1e-5 of it
    assert bool(((moved - shift[:, None]).abs() <= 1.2e-5 * shift[:, None].abs() + 1e-12).all())


def test_mesh_motion_is_interpolated_as_one_loop_over_neighbors_would(random):
    points, at = torch.rand(30, 3, generator=random).double(), torch.rand(9, 3, generator=random).double()
    displacements = torch.randn(2, 30, 3, generator=random).double()
    moved = gvf.interpolate_displacements(displacements, points, at)
    for place, got in zip(at, moved.unbind(1), strict=True):
        squared = (points - place).square().sum(-1)
        near = squared.argsort()[:8]
        r2 = (squared[near].mean().sqrt() + 1e-6) ** 2
        weights = [float(torch.exp(-7 * d / r2)) if d <= r2 else 0.0 for d in squared[near]]
        assert 0 < sum(w > 0 for w in weights) < 8
        want = sum(w * displacements[:, n] for w, n in zip(weights, near, strict=True)) / (
            sum(weights) + 1e-8
        )
        torch.testing.assert_close(got, want)


# -- the VAE ----------------------------------------------------------------------------------------------------------


def test_a_new_decoder_leaves_the_canonical_gaussians_as_they_are(random):
    raw = raw_gaussians(random)
    vae = gvf.VariationVae(SMALL_VAE).eval()
    with torch.no_grad():
        deltas = vae.decode(torch.randn(1, FRAMES, 16, 8, generator=random), raw.vector()[None])
    book = PerFrame(torch.arange(FRAMES, dtype=torch.float64), gvf.canonical_changes(raw, deltas[0]))
    canonical = raw.to_gaussians().tensors()
    for t in (0.0, 1.5, 4.0):
        now = book.deform(raw.to_gaussians(), t).tensors()
        assert all(torch.equal(now[name], canonical[name]) for name in canonical)


def test_decoding_in_chunks_equals_decoding_at_once_and_padding_changes_nothing(random):
    vae = awake(gvf.VariationVae(SMALL_VAE), random)
    vector = raw_gaussians(random).vector()
    latents = torch.randn(1, FRAMES, 16, 8, generator=random)
    whole = vae.decode(latents, vector[None])
    torch.testing.assert_close(vae.decode(latents, vector[None], chunk=9), whole, rtol=0, atol=1e-5)
    batch = gvf.padded([vector, vector[:20]])
    both = vae.decode(latents.expand(2, -1, -1, -1), batch)
    torch.testing.assert_close(both[0], whole[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(both[1, :, :20], whole[0, :, :20], rtol=0, atol=1e-5)


def test_the_decoder_does_not_care_about_the_order_of_anchors_and_follows_that_of_frames(random):
    vae = awake(gvf.VariationVae(SMALL_VAE), random)
    vector = raw_gaussians(random).vector()[None]
    latents = torch.randn(1, FRAMES, 16, 8, generator=random)
    whole = vae.decode(latents, vector)
    anchors, frames = torch.randperm(16, generator=random), torch.randperm(FRAMES, generator=random)
    torch.testing.assert_close(vae.decode(latents[:, :, anchors], vector), whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(vae.decode(latents[:, frames], vector), whole[:, frames], rtol=0, atol=1e-5)


def test_an_encoded_motion_depends_on_its_own_frame_alone(random):
    vae = awake(gvf.VariationVae(SMALL_VAE), random)
    vector, points = raw_gaussians(random).vector(), torch.rand(1, POINTS, 3, generator=random) - 0.5
    motion = 0.1 * torch.randn(1, FRAMES, POINTS, 3, generator=random)
    whole = vae.encode(points, motion, [vector])
    order = torch.tensor([3, 1, 4])
    part = vae.encode(points, motion[:, order], [vector])
    torch.testing.assert_close(part.mean, whole.mean[:, order], rtol=0, atol=1e-5)
    assert whole.mean.shape == (1, FRAMES, 16, 8) and whole.kl().shape == (1, FRAMES)


def test_kl_is_zero_for_the_standard_normal_distribution_alone():
    zero = torch.zeros(1, 1, 4, 8)
    assert float(gvf.Posterior(zero, zero, zero.long()).kl()) == 0
    assert float(gvf.Posterior(zero + 0.1, zero, zero.long()).kl()) == pytest.approx(0.005)
    wild = gvf.Posterior(zero, zero + 1000, zero.long())
    assert bool(wild.kl().isfinite()) and bool(wild.sample(zero + 1).isfinite().all())


# -- the transformer --------------------------------------------------------------------------------------------------


def conditions_of(generator, frames=FRAMES, anchors=6, batch=1):
    return gvf.Conditions(
        torch.randn(batch, frames, 7, 10, generator=generator),
        torch.randn(batch, 9, 14, generator=generator),
        torch.rand(batch, anchors, 3, generator=generator) - 0.5,
    )


def test_a_new_transformer_predicts_zero_for_any_number_of_frames(random):
    dit = gvf.VariationDit(SMALL_DIT).eval()
    for frames in (1, 3, 32):
        x = torch.randn(1, frames, 6, 8, generator=random)
        with torch.no_grad():
            v = dit(x, torch.tensor([500.0]), conditions_of(random, frames))
        assert torch.equal(v, torch.zeros_like(x))


def test_frames_and_anchors_may_be_permuted_with_their_conditions(random):
    dit, conditions = awake(gvf.VariationDit(SMALL_DIT), random), conditions_of(random)
    x, t = torch.randn(1, FRAMES, 6, 8, generator=random), torch.tensor([300.0])
    whole = dit(x, t, conditions)
    frames, anchors = torch.tensor([4, 0, 3, 1, 2]), torch.tensor([5, 2, 0, 1, 4, 3])
    image, canonical, where = conditions.image_tokens, conditions.canonical_tokens, conditions.anchors
    moved = dit(x[:, frames], t, gvf.Conditions(image[:, frames], canonical, where))
    torch.testing.assert_close(moved, whole[:, frames], rtol=0, atol=1e-5)
    moved = dit(x[:, :, anchors], t, gvf.Conditions(image, canonical, where[:, anchors]))
    torch.testing.assert_close(moved, whole[:, :, anchors], rtol=0, atol=1e-5)
    # and each of them matters
    assert float((dit(x, t, gvf.Conditions(image[:, frames], canonical, where)) - whole).abs().max()) > 1e-3
    assert float((dit(x, t, gvf.Conditions(image, canonical, where[:, anchors])) - whole).abs().max()) > 1e-3


def test_frames_see_each_other_only_through_the_temporal_attention(random):
    dit, conditions = awake(gvf.VariationDit(SMALL_DIT), random), conditions_of(random)
    x, t = torch.randn(1, FRAMES, 6, 8, generator=random), torch.tensor([300.0])
    changed = x.clone()
    changed[:, 0] += 1
    whole, other = dit(x, t, conditions), dit(changed, t, conditions)
    assert float((whole - other)[:, 1:].abs().max()) > 1e-4
    for block in dit.blocks:
        block.adaLN_modulation_temporal[1].weight.zero_()
        block.adaLN_modulation_temporal[1].bias.zero_()
    assert torch.equal(dit(x, t, conditions)[:, 1:], dit(changed, t, conditions)[:, 1:])


def test_both_conventions_of_anchor_positions(random):
    mean, std = torch.linspace(-0.1, 0.3, 14), torch.linspace(0.2, 0.5, 14)
    statistics = gvf.Statistics(mean, std, torch.ones(8), torch.full((8,), 2.0))
    at = torch.rand(1, 6, 3, generator=random) - 0.5
    assert torch.equal(statistics.anchors(at), at), "as the released inference has it"
    torch.testing.assert_close(statistics.anchors(at, standardized=True), (at - mean[:3]) / std[:3])
    latents = torch.randn(2, 8, generator=random)
    torch.testing.assert_close(statistics.latents(latents), 2 * latents + 1)
    torch.testing.assert_close(statistics.standardized(statistics.latents(latents)), latents)
    vectors = raw_gaussians(random).vector()
    tokens = statistics.canonical_tokens(vectors, 10)
    torch.testing.assert_close(tokens * std + mean, vectors[gvf.farthest_points(vectors[:, :3], 10)])
    assert len(statistics.canonical_tokens(vectors)) == COUNT, "all of a small splat"


# -- guidance ---------------------------------------------------------------------------------------------------------


class Counted:
    """A transformer that counts its calls and the samples in them."""

    def __init__(self, model):
        self.model, self.sizes = model, []

    def __call__(self, x, t, conditions):
        self.sizes.append(len(x))
        return self.model(x, t, conditions)


def test_guidance_combines_its_branches_by_the_published_formulas(random):
    dit, conditions = Counted(awake(gvf.VariationDit(SMALL_DIT), random)), conditions_of(random, batch=2)
    x, t = torch.randn(2, FRAMES, 6, 8, generator=random), torch.tensor([300.0, 300.0])
    both, static, none = (dit(x, t, c) for c in (conditions, conditions.without_images(), conditions.empty()))
    dit.sizes.clear()

    def same(predict, want, *sizes):
        torch.testing.assert_close(predict(x, 300.0), want, rtol=1e-4, atol=1e-4)
        assert dit.sizes == list(sizes)
        dit.sizes.clear()

    same(gvf.guided(dit, conditions), both, 2)
    same(gvf.guided(dit, conditions, 3.0), static + 3 * (both - static), 4)
    same(gvf.guided(dit, conditions, 3.0, at_once=False), static + 3 * (both - static), 2, 2)
    want = none + 1.5 * (static - none) + 3 * (both - static)
    same(gvf.guided_twice(dit, conditions, 1.5, 3.0), want, 6)
    same(gvf.guided_twice(dit, conditions, 1.5, 3.0, at_once=False), want, 2, 2, 2)
    same(gvf.guided_twice(dit, conditions, 1.0, 1.0), both, 2)
    # image tokens of zero are not what the branch without images would be for another video
    assert float((static - both).abs().max()) > 1e-3 and float((static - none).abs().max()) > 1e-3


def test_the_transformer_runs_with_blocks_in_half_precision(random):
    dit, conditions = awake(gvf.VariationDit(SMALL_DIT), random), conditions_of(random)
    x, t = torch.randn(1, FRAMES, 6, 8, generator=random), torch.tensor([300.0])
    whole = dit(x, t, conditions)
    dit.cast_torso(torch.bfloat16)
    rough = dit(x, t, conditions)
    assert rough.dtype == torch.float32
    assert float((rough - whole).norm() / whole.norm()) < 0.05
