"""Sparse networks of TRELLIS: what they must equal on a dense grid, and what samples, order and precision may change."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from engine.models import trellis
from engine.models.layers import attend_all
from engine.models.trellis.blocks import SubmanifoldConv
from engine.models.trellis.raw_gaussians import decode_features, offset_perturbation
from engine.models.trellis.voxels import Groups

FLOW = trellis.LatentFlowShape(
    resolution=16,
    in_channels=4,
    out_channels=4,
    model_channels=48,
    cond_channels=20,
    num_blocks=1,
    num_heads=3,
    io_block_channels=(16,),
)
# two levels of residual blocks, coarse cells of four
DEEP_FLOW = replace(FLOW, io_block_channels=(8, 16))
DECODER = trellis.GaussianDecoderShape(
    resolution=16,
    model_channels=48,
    latent_channels=4,
    num_blocks=2,
    num_heads=3,
    window_size=4,
    gaussians=trellis.GaussianFormat(count=3),
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mask(share: float, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def randomized(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Fill layers that start as zero too, so that every path counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_sparse_convolution_is_the_dense_one_with_empty_cells_at_zero(share):
    occupied = mask(share, 2, 5, 6, 4)
    coords = torch.nonzero(occupied)
    voxels = trellis.Voxels(coords)
    conv = randomized(SubmanifoldConv(3, 7))
    features = random(len(coords), 3)
    dense = torch.zeros(2, 5, 6, 4, 3)
    dense[occupied] = features
    expected = F.conv3d(
        dense.permute(0, 4, 1, 2, 3), conv.conv.weight.permute(0, 4, 1, 2, 3), conv.conv.bias, padding=1
    )
    torch.testing.assert_close(
        conv(features, voxels), expected.permute(0, 2, 3, 4, 1)[occupied], atol=1e-5, rtol=1e-5
    )


def test_gradients_of_the_sparse_convolution_are_right():
    voxels = trellis.Voxels(torch.nonzero(mask(0.5, 1, 3, 3, 3)))
    conv = SubmanifoldConv(2, 2)
    features = random(len(voxels), 2, seed=1).requires_grad_()
    conv(features, voxels).square().sum().backward()
    step = torch.zeros_like(features)
    step[3, 1] = 1e-2
    with torch.no_grad():
        ahead, behind = (conv(features + sign * step, voxels).square().sum() for sign in (1, -1))
    assert float(features.grad[3, 1]) == pytest.approx(float(ahead - behind) / 2e-2, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("shape", [FLOW, DEEP_FLOW], ids=["one level", "two levels"])
def test_order_of_the_voxels_of_a_sample_does_not_matter(shape):
    coords = torch.nonzero(mask(0.3, 1, 6, 6, 6))
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(1))
    flow, decoder = randomized(trellis.LatentFlow(shape)), randomized(trellis.GaussianDecoder(DECODER))
    x, cond, t = random(len(coords), 4), random(1, 5, 20), torch.tensor([300.0])
    straight, shuffled = trellis.Voxels(coords), trellis.Voxels(coords[order])
    with torch.no_grad():
        torch.testing.assert_close(
            flow(x, t, cond, straight)[order], flow(x[order], t, cond, shuffled), atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(
            decoder.features(x, straight)[order], decoder.features(x[order], shuffled), atol=1e-4, rtol=1e-4
        )


def test_samples_of_a_batch_do_not_see_each_other():
    # equal numbers, and different ones
    for share in (1.0, 0.4):
        coords = torch.nonzero(mask(share, 2, 4, 4, 4))
        flow, decoder = randomized(trellis.LatentFlow(FLOW)), randomized(trellis.GaussianDecoder(DECODER))
        x, cond, t = random(len(coords), 4), random(2, 5, 20), torch.tensor([900.0, 40.0])
        voxels = trellis.Voxels(coords)
        with torch.no_grad():
            together, decoded = flow(x, t, cond, voxels), decoder(x, voxels)
            for b in range(2):
                own = coords[:, 0] == b
                alone = trellis.Voxels(coords[own] * torch.tensor([0, 1, 1, 1]))
                part = flow(x[own], t[b : b + 1], cond[b : b + 1], alone)
                torch.testing.assert_close(together[own], part, atol=1e-4, rtol=1e-4)
                torch.testing.assert_close(
                    decoded[b].vector(), decoder(x[own], alone)[0].vector(), atol=1e-4, rtol=1e-4
                )


@pytest.mark.parametrize("shift", [0, 2])
def test_window_attention_is_full_attention_with_a_mask(shift):
    voxels = trellis.Voxels(torch.nonzero(mask(0.4, 2, 7, 9, 6)))
    q, k, v = random(3, len(voxels), 2, 8).unbind()
    ids = voxels.window_ids(4, shift)
    allowed = ids[:, None] == ids
    cells = torch.cat([voxels.coords[:, :1], (voxels.coords[:, 1:] + shift) // 4], dim=1)
    assert torch.equal(allowed, (cells[:, None] == cells).all(-1))
    heads = (x.transpose(0, 1) for x in (q, k, v))
    expected = F.scaled_dot_product_attention(*heads, attn_mask=allowed).transpose(0, 1)
    torch.testing.assert_close(voxels.windows(4, shift).within(q, k, v), expected, atol=1e-5, rtol=1e-5)
    assert voxels.windows(4, shift) is voxels.windows(4, shift)


def test_one_group_is_plain_attention_without_a_mask():
    groups = Groups(torch.zeros(9, dtype=torch.long), pad=True)
    q, k, v = random(3, 9, 2, 8).unbind()
    torch.testing.assert_close(groups.within(q, k, v), attend_all(q, k, v))
    assert groups.buckets[0].valid is None


def test_pooling_counts_one_more_child_than_there_is():
    voxels = trellis.Voxels(torch.tensor([[0, 2, 2, 2], [0, 3, 2, 2], [0, 0, 0, 0]]))
    coarse = voxels.coarse
    assert coarse.voxels.coords.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1]]
    assert coarse.parent.tolist() == [1, 1, 0]
    pooled = coarse.pool(torch.tensor([[1.0], [2.0], [8.0]]))
    torch.testing.assert_close(pooled, torch.tensor([[8 / 2], [3 / 3]]))


@pytest.mark.parametrize(
    "coords",
    [
        [[0, 1, 1, 1], [0, 1, 1, 1]],
        [[1, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [2, 0, 0, 0]],
        [[0, -1, 0, 0]],
        [[0, 70000, 0, 0]],
    ],
    ids=["twice", "order of samples", "empty sample", "negative", "too large"],
)
def test_voxels_that_would_be_confused_are_refused(coords):
    with pytest.raises(ValueError, match=r"voxel|sample"):
        trellis.Voxels(torch.tensor(coords))


def test_attributes_of_features_come_one_after_the_other():
    form = trellis.GaussianFormat(count=2)
    columns = torch.arange(28.0)[None]
    got = decode_features(columns, torch.tensor([[1, 2, 3]]), 16, torch.zeros(2, 3), form)
    assert got.colors.tolist() == [[6, 7, 8], [9, 10, 11]]
    assert got.scales.tolist() == [[12, 13, 14], [15, 16, 17]]
    torch.testing.assert_close(got.rotations, torch.arange(18.0, 26).view(2, 4) / 10)
    assert got.opacities.tolist() == [26, 27]


def test_gaussians_of_a_voxel_start_at_a_hammersley_sequence():
    # n / 4, and the digits of n mirrored in base 2 and 3
    points = torch.tensor([[0, 0, 0], [1 / 4, 1 / 2, 1 / 3], [2 / 4, 1 / 4, 2 / 3], [3 / 4, 3 / 4, 1 / 9]])
    torch.testing.assert_close((torch.tanh(offset_perturbation(4, 1.5)) * 1.5 + 1) / 2, points)


def test_gaussians_of_zero_features_lie_in_their_voxel_with_the_published_size_and_opacity():
    form = trellis.GaussianFormat()
    zeros = torch.zeros(1, 14 * 32)
    start = offset_perturbation(form.count, form.voxel_size)
    got = decode_features(zeros, torch.tensor([[63, 0, 31]]), 64, start, form)
    center = (torch.tensor([63.5, 0.5, 31.5])) / 64 - 0.5
    assert float((got.means - center).abs().max()) <= 0.5 / 64 + 1e-6
    assert len(got.means.unique(dim=0)) == 32
    a = got.activated()
    torch.testing.assert_close(a.scales, torch.full((32, 3), (0.004**2 + 0.0009**2) ** 0.5))
    torch.testing.assert_close(a.opacities, torch.full((32,), 0.1))
    torch.testing.assert_close(got.to_gaussians().activated().scales, a.scales)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_blocks_stay_close_to_float32(dtype):
    coords = torch.nonzero(mask(0.4, 1, 4, 4, 4))
    voxels, x, cond = trellis.Voxels(coords), random(len(coords), 4), random(1, 5, 20)
    for build, call in (
        (lambda: trellis.LatentFlow(FLOW), lambda m: m(x, torch.tensor([500.0]), cond, voxels)),
        (lambda: trellis.GaussianDecoder(DECODER), lambda m: m.features(x, voxels)),
    ):
        torch.manual_seed(0)
        model = build()
        torch.nn.init.normal_(model.out_layer.weight, std=0.05)
        with torch.no_grad():
            exact = call(model)
            model.cast_torso(dtype)
            half = call(model)
        assert half.dtype == torch.float32
        assert float((half - exact).norm() / exact.norm()) < 0.03


def test_dense_networks_run_in_half_precision():
    flow = trellis.StructureFlow(trellis.StructureFlowShape(4, 4, 4, 48, 20, 1, 3))
    decoder = trellis.StructureDecoder(trellis.StructureDecoderShape(1, 4, 1, 1, (16, 8)))
    for model in (flow, decoder):
        model.cast_torso(torch.bfloat16)
    x = random(2, 4, 4, 4, 4)
    with torch.no_grad():
        velocity = flow(x, torch.tensor([10.0, 900.0]), random(2, 3, 20))
        logits = decoder(x)
    # the last layer of a new flow is zero
    assert velocity.shape == x.shape and not velocity.any()
    assert logits.shape == (2, 1, 8, 8, 8) and logits.dtype == torch.float32
    assert trellis.occupied(torch.where(mask(0.2, 2, 1, 8, 8, 8), 1.0, -1.0)).shape[1] == 4
