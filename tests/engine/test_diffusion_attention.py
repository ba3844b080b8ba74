"""Coherent attention keeps the invariants of Instruct-4DGS that need no trained weights. Random weights."""

from typing import Any

import pytest
import torch

from engine.diffusion import MODES, CrossFrameAttention
from engine.diffusion.cross_frame_attention import SharedAttention, attend, gather, shared
from engine.diffusion.stable_diffusion import StableDiffusion
from engine.errors import InputError
from tests.tiny_diffusion import tiny_backbone

F = 3


@pytest.fixture(scope="module")
def backbone() -> StableDiffusion:
    return tiny_backbone()


def _inputs(backbone: StableDiffusion, frames: int = F, branches: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    noisy, condition = torch.randn(2, branches * frames, 4, 8, 6, generator=generator)
    text = backbone.encode_text(["make it gold", "", "make it red"][:branches])
    return noisy, text.repeat_interleave(frames, dim=0), condition


@pytest.mark.parametrize("mode", ["keyframe", "sparse_causal", "keyframe+self", "full3d"])
def test_4_identical_frames_are_vanilla(backbone: StableDiffusion, mode: str) -> None:
    """Every copy of one token is as good as another: softmax over repeated keys is softmax over one of each."""
    noisy, text, condition = (x[:1].expand(F, *x.shape[1:]) for x in _inputs(backbone))
    vanilla = backbone.predict(noisy, 400, text, condition)
    torch.testing.assert_close(
        backbone.predict(noisy, 400, text, condition, CrossFrameAttention(mode, F, key=1)),
        vanilla,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("mode", MODES)
def test_4_one_frame_is_vanilla(backbone: StableDiffusion, mode: str) -> None:
    noisy, text, condition = _inputs(backbone, frames=1)
    vanilla = backbone.predict(noisy, 400, text, condition)
    torch.testing.assert_close(
        backbone.predict(noisy, 400, text, condition, CrossFrameAttention(mode, 1)),
        vanilla,
        rtol=1e-4,
        atol=1e-5,
    )


def test_4_permuted_views_permute_outputs_in_full3d(backbone: StableDiffusion) -> None:
    noisy, text, condition = _inputs(backbone)
    order = [2, 0, 1]
    straight = backbone.predict(noisy, 400, text, condition, CrossFrameAttention("full3d", F))
    permuted = backbone.predict(
        noisy[order], 400, text[order], condition[order], CrossFrameAttention("full3d", F)
    )
    torch.testing.assert_close(permuted, straight[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_4_frames_see_exactly_what_the_mode_says(backbone: StableDiffusion, mode: str) -> None:
    """Change one frame and see which outputs move: the others' only where the mode lets them look at it."""
    seen_by = {  # frame that is changed → frames whose output moves; the key is frame 0
        "vanilla": {0: {0}, 1: {1}, 2: {2}},
        "keyframe": {0: {0, 1, 2}, 1: {1}, 2: {2}},
        "sparse_causal": {0: {0, 1, 2}, 1: {1, 2}, 2: {2}},
        "keyframe+self": {0: {0, 1, 2}, 1: {1}, 2: {2}},
        "full3d": {0: {0, 1, 2}, 1: {0, 1, 2}, 2: {0, 1, 2}},
    }[mode]
    noisy, text, condition = _inputs(backbone)
    before = backbone.predict(noisy, 400, text, condition, CrossFrameAttention(mode, F))
    for changed, expected in seen_by.items():
        other = noisy.clone()
        other[changed] += torch.randn(other[changed].shape, generator=torch.Generator().manual_seed(5))
        after = backbone.predict(other, 400, text, condition, CrossFrameAttention(mode, F))
        moved = {i for i in range(F) if float((after[i] - before[i]).abs().max()) > 1e-4}
        assert moved == expected


@pytest.mark.parametrize("mode", MODES)
def test_7_branches_never_leak_into_each_other(backbone: StableDiffusion, mode: str) -> None:
    noisy, text, condition = _inputs(backbone, branches=3)
    before = backbone.predict(noisy, 400, text, condition, CrossFrameAttention(mode, F))
    other_noisy, other_condition = noisy.clone(), condition.clone()
    other_noisy[2 * F :] += 1.0
    other_condition[2 * F :] = 0.0
    after = backbone.predict(other_noisy, 400, text, other_condition, CrossFrameAttention(mode, F))
    torch.testing.assert_close(after[: 2 * F], before[: 2 * F], rtol=0, atol=2e-6)
    assert float((after[2 * F :] - before[2 * F :]).abs().max()) > 1e-3
    for branch in range(3):  # all branches at once are the branches one by one
        rows = slice(branch * F, (branch + 1) * F)
        alone = backbone.predict(noisy[rows], 400, text[rows], condition[rows], CrossFrameAttention(mode, F))
        torch.testing.assert_close(alone, before[rows], rtol=1e-4, atol=1e-5)


def test_text_attention_is_left_alone(backbone: StableDiffusion) -> None:
    with shared(backbone.unet, CrossFrameAttention("full3d", F)):
        inside = dict(backbone.unet.attn_processors)
    assert {name for name, it in inside.items() if isinstance(it, SharedAttention)} == {
        name for name in inside if name.endswith("attn1.processor")
    }
    assert any(name.endswith("attn2.processor") for name in inside)


def test_processors_come_back_after_an_exception(backbone: StableDiffusion) -> None:
    before = dict(backbone.unet.attn_processors)
    assert before
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        shared(backbone.unet, CrossFrameAttention("keyframe", F)),
    ):
        raise RuntimeError("in the middle")
    assert backbone.unet.attn_processors == before
    noisy, text, condition = _inputs(backbone)
    with pytest.raises(ValueError, match="not a multiple of 4 frames per branch"):
        backbone.predict(noisy, 400, text, condition, CrossFrameAttention("full3d", F + 1))
    assert backbone.unet.attn_processors == before


@pytest.mark.parametrize("mode", MODES)
def test_joined_queries_are_gathered_keys(mode: str) -> None:
    """`attend` copies no keys where frames see the same ones; it must be what gathering them for each frame gives."""
    heads, sharing = 2, CrossFrameAttention(mode, F, key=2)
    query, key, value = torch.randn(
        3, 2 * F, 5, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    scores = split(query) @ split(gather(key, sharing)).transpose(-1, -2) / 2.0  # √(8 / 2)
    expected = (scores.softmax(-1) @ split(gather(value, sharing))).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attend(query, key, value, heads, sharing), expected)


@pytest.mark.parametrize(
    "arguments", [("epipolar", 3, 0), ("keyframe", 3, 3), ("keyframe", 3, -1), ("keyframe", 0, 0)]
)
def test_impossible_sharing_is_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InputError):
        CrossFrameAttention(*arguments)
