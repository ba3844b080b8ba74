"""The network of a HexPlane field: the kernel against its twin of PyTorch's operators."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.deform import HexPlane, HexPlaneConfig
from engine.deform.hexplane_config import HEADS
from engine.deform.hexplane_layout import NetworkLayout
from engine.deform.network import PIECES, SOME_BLOCKS, head_outputs, head_outputs_reference
from engine.kernels.threads import fixed_threads

pytest.importorskip("numba", reason="numba is not installed")

# features, width, layers of the trunk, heads
NETWORKS = (
    (32, 48, 1, ("position", "scale", "rotation")),
    (16, 8, 3, ("position",)),
    (40, 24, 2, tuple(HEADS)),
)
# of Gaussians: less than a block, blocks with a part of one, several pieces
COUNTS = (1, 100, 16 * SOME_BLOCKS * 3 + 5)


def network(
    features: int, width: int, depth: int, heads: tuple[str, ...], dtype: torch.dtype = torch.float64
) -> tuple[Tensor, NetworkLayout]:
    generator = torch.Generator().manual_seed(0)
    layout = NetworkLayout(features, width, depth, tuple(HEADS[head] for head in heads))
    parts: list[Tensor] = []
    for outputs, given in layout.layer_shapes:
        weight = torch.randn(outputs * given, generator=generator, dtype=torch.float64) / given**0.5
        parts += [weight, torch.randn(outputs, generator=generator, dtype=torch.float64) / 4]
    return torch.cat(parts).to(dtype).requires_grad_(), layout


def outputs_of(network: Tensor, layout: NetworkLayout, features: Tensor) -> list[Tensor]:
    """The twin, of flat weights."""
    return head_outputs_reference(layout.layers(network), features)


def inputs(channels: int, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(channels, count, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def gradients(outputs: list[Tensor], wanted: list[Tensor]) -> tuple[Tensor | None, ...]:
    total = sum((out * torch.linspace(-1, 2, out.numel()).to(out).view_as(out)).sum() for out in outputs)
    assert isinstance(total, Tensor)
    return torch.autograd.grad(total, wanted, allow_unused=True)


@pytest.mark.parametrize("shape", NETWORKS, ids=lambda shape: f"{shape[0]}-{shape[1]}")
@pytest.mark.parametrize("count", COUNTS)
def test_the_kernel_equals_its_twin(shape: tuple[int, int, int, tuple[str, ...]], count: int) -> None:
    (weights, layout), features = network(*shape), inputs(shape[0], count)
    found, expected = (f(weights, layout, features) for f in (head_outputs, outputs_of))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    wanted = [features, weights]
    slopes = zip(gradients(found, wanted), gradients(expected, wanted), strict=True)
    for i, (a, b) in enumerate(slopes):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, msg=f"gradient {i}")


def test_float32_is_as_close_to_float64_as_the_twin_is() -> None:
    shape, count = NETWORKS[0], 3000
    (exact, layout), exact_features = network(*shape), inputs(shape[0], count)
    slopes = gradients(outputs_of(exact, layout, exact_features), [exact_features, exact])
    (weights, _), features = network(*shape, torch.float32), inputs(shape[0], count, torch.float32)
    for function in (head_outputs, outputs_of):
        found = gradients(function(weights, layout, features), [features, weights])
        for a, b in zip(found, slopes, strict=True):
            assert a is not None and b is not None
            # a ReLU whose input is almost zero may be on or off
            assert (a - b).norm() < 2e-5 * b.norm(), function


def test_bits_do_not_depend_on_threads() -> None:
    (weights, layout), features = network(*NETWORKS[0], torch.float32), inputs(32, 9000, torch.float32)
    assert 9000 / 16 / SOME_BLOCKS > PIECES, "several pieces"
    results = []
    for threads in (1, 3):
        with fixed_threads(threads):
            outputs = head_outputs(weights, layout, features)
            results.append((*outputs, *gradients(outputs, [features, weights])))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_activations_that_are_computed_again_have_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in NETWORKS:
        (weights, layout), features = (
            network(*shape, torch.float32),
            inputs(shape[0], COUNTS[-1], torch.float32),
        )
        wanted = [features, weights]
        kept = gradients(head_outputs(weights, layout, features), wanted)
        with monkeypatch.context() as patch:
            patch.setattr("engine.deform.network.KEPT", 0)
            again = gradients(head_outputs(weights, layout, features), wanted)
        assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))  # pyright: ignore


def test_a_head_that_nothing_depends_on_gets_zeros() -> None:
    (weights, layout), features = network(*NETWORKS[2]), inputs(40, 50)
    wanted = [features, weights]
    expected = gradients(outputs_of(weights, layout, features)[1:2], wanted)
    found = gradients(head_outputs(weights, layout, features)[1:2], wanted)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    assert found[1] is not None
    used = [bool(slope.any()) for pair in layout.layers(found[1]).heads for layer in pair for slope in layer]
    assert used == [False] * 4 + [True] * 4 + [False] * (len(used) - 8)


def test_a_flat_network_is_its_layers() -> None:
    weights, layout = network(*NETWORKS[1])
    layers = layout.layers(weights)
    assert torch.equal(NetworkLayout.pack(layers), weights)
    shapes = [tuple(weight.shape) for weight in layers.tensors()[::2]]
    assert shapes == [(8, 16), (8, 8), (8, 8), (8, 8), (3, 8)]


def test_a_frozen_network_passes_gradients_on() -> None:
    (weights, layout), features = network(*NETWORKS[0]), inputs(32, 700)
    exact = gradients(head_outputs(weights, layout, features), [features])[0]
    weights.requires_grad_(False)
    assert torch.equal(gradients(head_outputs(weights, layout, features), [features])[0], exact)  # pyright: ignore
    assert not any(out.requires_grad for out in head_outputs(weights, layout, features.detach()))


def test_nan_stays() -> None:
    (weights, layout), features = network(*NETWORKS[0]), inputs(32, 40).detach().clone()
    features[3, 7] = float("nan")
    for out in head_outputs(weights, layout, features):
        assert bool(out[7].isnan().all()) and not bool(out[8].isnan().any())


def test_what_the_kernel_does_not_take_goes_to_the_twin() -> None:
    for channels, width, count in ((30, 48, 20), (32, 30, 20), (32, 48, 0)):
        (weights, layout), features = (
            network(channels, width, 1, ("position", "scale")),
            inputs(channels, count),
        )
        found, expected = (f(weights, layout, features) for f in (head_outputs, outputs_of))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_field_trains_alike_with_kernel_and_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred Adam steps toward a motion end within 1e-5."""

    def trained() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        field = HexPlane.create(
            HexPlaneConfig(16, (8, 8, 8, 6), (1, 2), 2, 48, ("position", "opacity")),
            torch.tensor([[1.0] * 3, [-1.0] * 3]),
            generator,
        ).double()
        points = torch.rand(300, 3, generator=generator, dtype=torch.float64) * 2 - 1
        optimizer = torch.optim.Adam(field.parameters(), 1e-2)
        for step in range(100):
            seconds = step % 7 / 6
            wanted = 0.3 * torch.sin(3 * points.roll(1, 1) + 5 * seconds)
            found = field.deltas(points, [seconds])
            loss = (found["position"][0] - wanted).square().mean()
            loss = loss + (found["opacity"][0] - wanted[:, :1]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return field.deltas(points, [0.4])["position"].detach()

    fused = trained()
    monkeypatch.setattr("engine.deform.hexplane.head_outputs", outputs_of)
    twin = trained()
    assert float(twin.abs().max()) > 0.1, "it learned to move"
    torch.testing.assert_close(fused, twin, rtol=0, atol=1e-5)
