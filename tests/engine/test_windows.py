"""Windows over a long sequence: their weights sum to one, and blending them is seamless and exact where it must be."""

import itertools

import pytest
import torch

from engine.diffusion.cosine_schedule import CosineSchedule
from engine.diffusion.dpm_solver import adaptive, multistep, singlestep
from engine.diffusion.windows import blended, plan
from engine.errors import InputError
from engine.losses.motion_quality import jerk, seam_ratio


@pytest.mark.parametrize(
    "total, length, overlap", [(96, 24, 11), (25, 24, 3), (40, 16, 0), (97, 13, 10), (7, 6, 2)]
)
@pytest.mark.parametrize("shared", [(0,), (), (0, 5)])
def test_weights_are_a_partition_of_unity(total, length, overlap, shared):
    if overlap >= length - len(shared):
        overlap = length - len(shared) - 1
    windows = plan(total, length, overlap, shared)
    sums = torch.zeros(total)
    for window in windows:
        assert len(window.frames) <= length and bool((window.frames.diff() > 0).all())
        assert set(shared) <= set(window.frames.tolist())
        assert bool((window.weights >= 0).all())
        sums.index_add_(0, window.frames, window.weights)
    torch.testing.assert_close(sums, torch.ones(total), atol=1e-6, rtol=0)
    runs = [set(w.frames[w.weights > 0].tolist()) for w in windows]
    assert set().union(*runs) == set(range(total))
    for a, b in itertools.pairwise(runs):
        assert len(a & b) >= overlap


def test_a_short_sequence_is_one_window():
    (window,) = plan(24, 24, 12)
    assert window.frames.tolist() == list(range(24)) and bool((window.weights == 1).all())
    calls = []
    predict = blended([lambda x, t: calls.append(t) or 2 * x], [window])
    x = torch.randn(1, 24, 3, 2)
    assert torch.equal(predict(x, 5.0), 2 * x) and calls == [5.0]


def test_windows_that_do_not_advance_are_refused():
    for length, overlap in ((8, 7), (1, 0), (4, 9)):
        with pytest.raises(InputError, match="DIF-070"):
            plan(30, length, overlap)


def test_blending_predictions_that_agree_changes_nothing():
    windows, x = plan(50, 12, 5), torch.randn(2, 50, 3, 2)
    predict = blended([lambda x, t: x * t + 1] * len(windows), windows)
    torch.testing.assert_close(predict(x, 3.0), x * 3 + 1, atol=1e-5, rtol=1e-5)


def test_windows_that_disagree_meet_without_a_seam():
    """Each window adds an offset of its own: joined hard, they jump; blended, the jerk of a joint is that of the inside."""
    total = 96
    windows = plan(total, 24, 11)
    starts = [int(w.frames[w.weights > 0][0]) for w in windows]
    t = torch.arange(total, dtype=torch.float64)
    motion = torch.stack([torch.sin(0.35 * t), torch.cos(0.3 * t), 0.1 * t], dim=-1)[:, None]
    offsets = 0.02 * torch.randn(
        len(windows), 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    predict = blended(
        [lambda x, _, w=w, o=o: x + o for w, o in zip(windows, offsets, strict=True)], windows, axis=0
    )
    soft = predict(motion, 0.0)
    hard = motion.clone()
    for start, offset in zip(starts, offsets, strict=True):
        hard[start:] = motion[start:] + offset
    joints = starts[1:]
    assert seam_ratio(jerk(soft), joints) < 1.2
    assert seam_ratio(jerk(hard), joints) > 2


@pytest.mark.parametrize("method", ["multistep", "singlestep", "adaptive"])
def test_a_run_goes_on_from_any_state_with_the_same_bits(method):
    schedule, noise = CosineSchedule(), torch.randn(2, 5, generator=torch.Generator().manual_seed(1))

    def predict(x, t):
        return 0.3 * x + torch.sin(x * (1 + t / 1000))

    def run(begun=None):
        if method == "adaptive":
            return list(adaptive(predict, noise, schedule, 1.0, begun))
        return list(
            {"multistep": multistep, "singlestep": singlestep}[method](predict, noise, schedule, 6, begun)
        )

    whole = run()
    for i, state in enumerate(whole):
        rest = run(state)
        assert len(rest) == len(whole) - i - 1
        assert all(
            torch.equal(a.latents, b.latents) and a.t == b.t
            for a, b in zip(rest, whole[i + 1 :], strict=True)
        )
