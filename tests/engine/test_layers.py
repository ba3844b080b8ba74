"""Shared transformer layers: their names, their formulas and what they leave unchanged."""

import math

import pytest
import torch

from engine.models import layers


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_attention_of_both_layouts_gives_the_same_numbers():
    fused = layers.Attention(24, heads=3, qk_rms_norm=True)
    split = layers.Attention(24, heads=3, context_channels=24, qk_rms_norm=True)
    state = fused.state_dict()
    for kind in ("weight", "bias"):
        qkv = state.pop(f"to_qkv.{kind}")
        state[f"to_q.{kind}"], state[f"to_kv.{kind}"] = qkv[:24], qkv[24:]
    split.load_state_dict(state)
    x = torch.randn(2, 5, 24, generator=generator())
    torch.testing.assert_close(fused(x), split(x))
    torch.testing.assert_close(split(x), split(x, x))


def test_attention_is_the_softmax_of_normalized_queries_and_keys():
    layer = layers.Attention(8, heads=2, qk_rms_norm=True, qkv_bias=False)
    assert set(layer.state_dict()) == {
        "to_qkv.weight",
        "to_out.weight",
        "to_out.bias",
        "q_rms_norm.gamma",
        "k_rms_norm.gamma",
    }
    with torch.no_grad():
        layer.q_rms_norm.gamma.uniform_(0.5, 2, generator=generator(1))
    x = torch.randn(7, 8, generator=generator())
    q, k, v = (x @ w.T for w in layer.to_qkv.weight.chunk(3))
    mixed = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        unit_q = q[:, part] / q[:, part].norm(dim=1, keepdim=True) * layer.q_rms_norm.gamma[head] * 2
        unit_k = k[:, part] / k[:, part].norm(dim=1, keepdim=True) * 2
        mixed.append(torch.softmax(unit_q @ unit_k.T / 2, dim=1) @ v[:, part])
    torch.testing.assert_close(layer(x), layer.to_out(torch.cat(mixed, dim=1)))


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="heads"):
        layers.Attention(10, heads=3)


def test_a_block_starts_as_the_identity_because_its_gates_are_zero():
    assert not layers.adaptive_modulation(6, 3)(torch.randn(2, 6, generator=generator())).any()


def test_norms_stay_accurate_in_half_precision():
    x = 1000 + torch.randn(4, 64, generator=generator())
    norm = layers.LayerNorm(64)
    assert norm(x.half()).dtype == torch.float16
    torch.testing.assert_close(norm(x.half()).float(), norm(x.half().float()), atol=2e-3, rtol=0)
    assert not norm.state_dict()


def test_prenorm_normalizes_tokens_and_context():
    layer = layers.PreNorm(layers.Attention(8, 2, context_channels=4, qkv_bias=False), 8, context_channels=4)
    x, context = torch.randn(3, 8, generator=generator()), torch.randn(5, 4, generator=generator(1))
    torch.testing.assert_close(layer(3 * x + 1, 2 * context - 1), layer(x, context), atol=1e-4, rtol=1e-4)
    assert set(layer.state_dict()) == {
        "fn.to_q.weight",
        "fn.to_kv.weight",
        "fn.to_out.weight",
        "fn.to_out.bias",
    }


def test_geglu_gates_the_first_half_with_the_second():
    value, gate = torch.randn(2, 3, 4, generator=generator()).unbind()
    got = layers.Geglu()(torch.cat([value, gate], dim=-1))
    torch.testing.assert_close(got, value * gate * (1 + torch.erf(gate / math.sqrt(2))) / 2)


def test_position_codes_keep_sines_and_cosines_of_an_axis_together():
    point = torch.tensor([[3.0, 0.0, 5.0]])
    code = layers.position_code(point, 20)
    assert code.shape == (1, 20)
    expected = [
        f(x * 10000 ** (-i / 3)) for x in point[0].tolist() for f in (math.sin, math.cos) for i in range(3)
    ]
    torch.testing.assert_close(code[0, :18], torch.tensor(expected))
    assert not code[0, 18:].any()
    points = layers.PointPositionCode(12)
    expected = [f(x * 10000.0**-i) for x in point[0].tolist() for f in (math.sin, math.cos) for i in range(2)]
    torch.testing.assert_close(points(point)[0], torch.tensor(expected))
    assert points.state_dict()["omega"].dtype == torch.float64


def test_timestep_code_starts_with_cosines():
    code = layers.timestep_code(torch.tensor([0.0, 2.0]), 4)
    torch.testing.assert_close(code[0], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    expected = [math.cos(2), math.cos(0.02), math.sin(2), math.sin(0.02)]
    torch.testing.assert_close(code[1], torch.tensor(expected))
