"""Motion stored per frame is trained like any other: chosen by name, resumed with the same bits, smooth and near rigid."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.deform import PerFrame
from engine.losses.rigidity import rigidity
from engine.scene import Gaussians, rotations
from engine.steps import evaluate_scene, fit_edits, fit_scene
from engine.train.per_frame_motion import PerFrameMotion
from tests.edit_scenes import edited_views, field_scene
from tests.scenes import capture_of, moving_scene

QUICK = fit_scene.Config(
    iterations=60,
    budget=170,
    initial_count=150,
    preview_every=0,
    sh_degree=0,
    coarse_fraction=0.2,
    background="white",
    motion="per_frame",
)


@pytest.fixture(scope="module")
def video():
    return capture_of(moving_scene())


def tensors_of(scene):
    return {**scene.canonical.tensors(), **scene.deformation.tensors()}


def assert_same(a, b):
    first, second = tensors_of(a), tensors_of(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(t, second[name]) for name, t in first.items())


# -- rigidity ---------------------------------------------------------------------------------------------------------


def points(count=40):
    g = torch.Generator().manual_seed(0)
    means, quats = torch.randn(count, 3, generator=g).double(), torch.randn(count, 4, generator=g).double()
    near = torch.cdist(means, means).topk(9, largest=False).indices[:, 1:]
    return means, quats, near


def test_rigid_motion_costs_nothing_in_any_unit():
    means, quats, near = points()
    turn = rotations.normalise(torch.tensor([0.3, -0.8, 0.2, 0.5], dtype=torch.float64))
    moved = rotations.rotate(turn.expand(40, 4), means) + 3
    torch.testing.assert_close(moved - 3, means @ rotations.quats_to_matrices(turn).T)
    turned = 2 * rotations.multiply(turn.expand(40, 4), quats)
    assert float(rigidity(means, quats, moved, turned, near)) < 1e-12
    bent = moved + 0.1 * means.square()
    energy = float(rigidity(means, quats, bent, turned, near))
    assert energy > 1e-3
    assert float(rigidity(100 * means, quats, 100 * bent, turned, near)) == pytest.approx(energy, rel=1e-9)
    assert float(rigidity(means, quats, moved, quats, near)) > 1e-2, "positions turn but rotations do not"


def test_rigidity_pulls_a_stray_gaussian_back_with_its_neighborhood():
    means, quats, near = points()
    stray = means.clone()
    stray[7] += 1.0
    moved = stray.requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=0.05)
    for _ in range(200):
        loss = rigidity(means, quats, moved, quats, near)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    offsets = moved.detach() - means
    assert float((offsets - offsets.mean(dim=0)).norm(dim=-1).max()) < 0.1


# -- training ---------------------------------------------------------------------------------------------------------


def test_it_learns_motion_that_a_static_scene_cannot_show(video):
    config = replace(QUICK, iterations=150, density="none", initial_count=200, position_lr=1e-3)
    scores = {}
    for motion in ("none", "per_frame"):
        scene = m.result(fit_scene.run(video, replace(config, motion=motion)))
        scores[motion] = m.result(evaluate_scene.run(scene, video)).summary["psnr"]
    assert isinstance(scene.deformation, PerFrame) and set(scene.deformation.changes) == {"means", "quats"}
    assert scores["per_frame"] > scores["none"] + 2.0, scores


def test_it_is_resumed_with_the_same_bits(video, tmp_path):
    config = replace(QUICK, density="adaptive", budget=400)
    whole = m.result(fit_scene.run(video, config))
    assert whole.deformation.changes["means"].shape[:2] == (len(video.times), len(whole.canonical))
    checkpoint = tmp_path / "training.safetensors"
    stream = fit_scene.run(video, config, checkpoint=checkpoint)
    next(x for x in stream if isinstance(x, m.Progress) and x.done == 41)
    stream.close()
    messages = list(fit_scene.run(video, config, checkpoint=checkpoint))
    assert next(x for x in messages if isinstance(x, m.Progress)).done == 42
    assert_same(whole, messages[-1].value)


def gaussians(count=30):
    g = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.randn(count, 3, generator=g),
        torch.full((count, 3), -3.0),
        torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        torch.zeros(count),
        torch.zeros(count, 1, 3),
    )


def motion_of(frames=5, count=30, weight=1.0):
    offsets = {"means": torch.zeros(frames, count, 3), "quats": torch.zeros(frames, count, 4)}
    return PerFrameMotion(torch.arange(frames).double(), offsets, {"means": 1e-2, "quats": 1e-2}, weight)


def test_a_new_frame_starts_where_its_trained_neighbor_is():
    motion, canonical = motion_of(), gaussians()
    motion.deform(canonical, 1.0)
    with torch.no_grad():
        motion.offsets["means"][1] = 0.5
        assert torch.equal(motion.deform(canonical, 3.0).means, canonical.means), "looking does not train"
    assert torch.equal(motion.deform(canonical, 2.0).means, canonical.means + 0.5)
    motion.deform(canonical, 4.0)
    assert motion.seen.tolist() == [False, True, True, False, True]


def test_checkpoints_of_the_optimizer_before_go_on():
    """Those of the unfused Adam that offsets had before: same state, other rounding."""

    def steps(motion, count):
        for i in range(count):
            for k, parameter in enumerate(motion.offsets.values()):
                pattern = torch.arange(parameter.numel()).view_as(parameter).float()
                parameter.grad = torch.sin(pattern + i + k)
            motion.step(0.5)

    old, now = motion_of(), motion_of()
    old.optimizer = torch.optim.Adam(
        [{"params": [p], "lr": 0.0} for p in old.offsets.values()], eps=1e-15, fused=False
    )
    steps(old, 3)
    now.load_state({name: t.clone() for name, t in old.state().items()})
    steps(old, 4), steps(now, 4)
    for name, offset in now.offsets.items():
        assert float(offset.detach().abs().max()) > 0.01
        torch.testing.assert_close(offset, old.offsets[name], rtol=1e-5, atol=1e-7)


def test_smoothness_draws_a_frame_to_the_line_between_its_neighbors():
    motion, canonical = motion_of(frames=3), gaussians()
    for seconds in (0.0, 1.0, 2.0):
        motion.deform(canonical, seconds)
    with torch.no_grad():
        motion.offsets["means"][2] = 1.0
    values = []
    for _ in range(150):
        motion.deform(canonical, 1.0)
        loss = motion.loss()
        assert loss is not None
        values.append(float(loss.detach()))
        loss.backward()
        motion.step(0.0)
    assert values[-1] < 1e-3 * values[0]
    offsets = motion.offsets["means"].detach()
    torch.testing.assert_close(offsets[1], (offsets[0] + offsets[2]) / 2, rtol=0, atol=0.02)
    assert motion_of(weight=0.0).loss() is None


def test_held_out_frames_lie_between_their_neighbors_when_finished():
    class World:
        scale = 2.0

    motion, canonical = motion_of(), gaussians()
    for seconds in (1.0, 4.0):
        motion.deform(canonical, seconds)
    with torch.no_grad():
        motion.offsets["means"][1], motion.offsets["means"][4] = 0.3, 0.9
    made = motion.finished(World())
    shifts = made.changes["means"][:, 0, 0]
    torch.testing.assert_close(shifts, 2 * torch.tensor([0.3, 0.3, 0.5, 0.7, 0.9]))
    assert not any(t.requires_grad for t in made.tensors().values())


@pytest.mark.parametrize("half", [False, True])
def test_an_edit_trains_a_finished_flip_book_and_leaves_the_input_alone(half):
    base = field_scene()
    with torch.no_grad():
        book = PerFrame.of([base.at(t) for t in (0.0, 0.5)], torch.tensor([0.0, 0.5]))
    book = book.in_half() if half else book
    before = {name: t.clone() for name, t in book.tensors().items()}
    scene = base.with_(deformation=book)
    views = edited_views(scene, (1, 2, 3, 5, 6, 7), moments=(2,))
    config = fit_edits.Config(iterations=110, preview_every=0, densifies=True, trains_deformation=True)
    made = m.result(fit_edits.run(scene, views, config))
    assert all(torch.equal(t, before[name]) for name, t in scene.deformation.tensors().items())
    changes = made.deformation.tensors()["means"]
    assert changes.shape[1] == len(made.canonical) > len(base.canonical)
    assert not torch.equal(changes[:, : len(base.canonical)], before["means"].float())
    still = m.result(fit_edits.run(scene, views, replace(config, trains_deformation=False, iterations=3)))
    assert not any(t.requires_grad for t in still.deformation.tensors().values())
