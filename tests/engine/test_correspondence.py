"""Which Gaussians of two frames are the same: any motion in order is known as such, other orders are not taken for motion."""

import math
from collections.abc import Callable

import pytest
import torch

from engine.deform.correspondence import is_same_order, matching_rows
from engine.scene import Gaussians
from tests.scenes import moving_scene

COUNT = 3000


def trained() -> Gaussians:
    """Gaussians that differ in size, color and opacity."""
    g = torch.Generator().manual_seed(5)
    first = moving_scene(COUNT, views=2).canonical
    scales = first.log_scales + torch.randn(COUNT, 3, generator=g)
    return first.with_(log_scales=scales, logit_opacities=2 * torch.randn(COUNT, generator=g))


def sampled() -> Gaussians:
    """Points of a mesh: of one size and opacity, in three colors that lie together."""
    first = moving_scene(COUNT, views=2).canonical
    palette = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.2, 0.2, 0.9]])
    stripes = ((first.means[:, 2] + 0.8) * 1.8).long().clamp(0, 2)
    sh = torch.zeros(COUNT, 1, 3)
    sh[:, 0] = palette[stripes]
    flat = first.map(lambda t: t[:1].expand_as(t).clone())
    return flat.with_(means=first.means, sh=sh)


def turned(g: Gaussians, degrees: float) -> Gaussians:
    a = math.radians(degrees)
    turn = torch.tensor([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    return g.with_(means=g.means @ turn.T)


def bent(g: Gaussians, reach: float) -> Gaussians:
    return g.with_(means=g.means + reach * torch.sin(4 * g.means).roll(1, 1))


def faded(g: Gaussians) -> Gaussians:
    return g.with_(sh=0.8 * g.sh - 0.1, logit_opacities=g.logit_opacities - 0.7)


def flickering(g: Gaussians) -> Gaussians:
    seed = torch.Generator().manual_seed(7)
    noise = {name: torch.randn(t.shape, generator=seed) for name, t in g.tensors().items()}
    return g.with_(
        sh=g.sh + 0.1 * noise["sh"],
        log_scales=g.log_scales + 0.1 * noise["log_scales"],
        logit_opacities=g.logit_opacities + 0.3 * noise["logit_opacities"],
    )


MOTIONS: dict[str, Callable[[Gaussians], Gaussians]] = {
    "turned": lambda g: turned(g, 5),
    "turned far": lambda g: turned(g, 90),
    "moved far": lambda g: g.with_(means=g.means + 10),
    "bent": lambda g: bent(g, 0.1),
    "faded": faded,
    "turned and faded": lambda g: faded(turned(g, 5)),
    "turned and flickering": lambda g: flickering(turned(g, 5)),
    "at rest": lambda g: g,
}


def by_place(g: Gaussians) -> tuple[Gaussians, torch.Tensor]:
    """In Morton order, and the rows in that order."""
    cells = ((g.means - g.means.amin(0)) / (g.means.amax(0) - g.means.amin(0)) * 1023).long()
    bits = [(cells[:, axis] >> bit & 1) << (3 * bit + axis) for bit in range(10) for axis in range(3)]
    order = torch.stack(bits).sum(0).argsort(stable=True)
    return g.map(lambda t: t[order]), order


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("subject", [trained, sampled])
def test_motion_in_order_is_known_whatever_moves(subject: Callable[[], Gaussians], motion: str) -> None:
    first = subject()
    assert is_same_order(first, MOTIONS[motion](first))


@pytest.mark.parametrize(
    "motion", ["turned", "turned far", "bent", "turned and faded", "turned and flickering"]
)
@pytest.mark.parametrize("subject", [trained, sampled])
def test_frames_that_were_sorted_by_place_are_not_taken_for_motion(
    subject: Callable[[], Gaussians], motion: str
) -> None:
    first = subject()
    before, rows = by_place(first)
    after, moved_rows = by_place(MOTIONS[motion](first))
    assert not is_same_order(before, after)
    found = matching_rows(before, after)
    # where they cannot be told apart nothing is matched, rather than something wrong
    if found is not None:
        assert len(found.unique()) == COUNT
        assert float((moved_rows[found] == rows).float().mean()) > 0.95


@pytest.mark.parametrize("motion", ["turned", "turned far", "at rest"])
def test_shuffled_gaussians_that_keep_their_looks_are_found(motion: str) -> None:
    first, g = trained(), torch.Generator().manual_seed(1)
    shuffle = torch.randperm(COUNT, generator=g)
    after = MOTIONS[motion](first).map(lambda t: t[shuffle])
    assert not is_same_order(first, after)
    found = matching_rows(first, after)
    if motion == "turned far" and found is None:
        return
    assert found is not None and float((shuffle[found] == torch.arange(COUNT)).float().mean()) > 0.99


def test_unrelated_frames_are_neither() -> None:
    first, other = trained(), moving_scene(COUNT, seed=9, views=2).canonical
    assert not is_same_order(first, other) and matching_rows(first, other) is None
    first, g = sampled(), torch.Generator().manual_seed(4)
    other = first.with_(means=first.means[torch.randperm(COUNT, generator=g)], sh=first.sh.flip(0))
    assert not is_same_order(first, other) and matching_rows(first, other) is None
